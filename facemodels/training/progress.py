"""What a run says while it works: a bar in a terminal, lines in a log file."""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from tqdm import tqdm

from facemodels.core.progress import duration

_FIRST, _SLOWEST = 5.0, 60.0  # seconds from one line in a log file to the next: at first, and at most
_NAMED = 4  # losses that are named in a line
_RECENT = 100  # steps that the rate is measured over


class Progress:
    """The progress of a run, on stderr.

    Args:
        name: Name of the method, which begins every line.
        steps: Number of steps of the run.
        batch: Pictures in a step.
        quiet: Say nothing, as processes other than the first do.
    """

    def __init__(self, name: str, steps: int, batch: int, quiet: bool = False) -> None:
        self.name, self.steps, self.batch, self.quiet = name, steps, batch, quiet
        self.step = self.begin = 0
        self._bar: tqdm | None = None
        self._began = self._said = time.monotonic()
        self._times = deque([self._began], _RECENT + 1)  # when the latest steps ended
        self._pause = _FIRST
        self._losses = ""

    def say(self, words: str) -> None:
        """Say something, above the bar."""
        if not self.quiet:
            with suppress(OSError):  # the terminal was closed: the run has to save its weights all the same
                tqdm.write(f"{self.name}: {words}", file=sys.stderr)
                sys.stderr.flush()

    @contextmanager
    def preparing(self, what: str) -> Iterator[None]:
        """Say what is being prepared, and, if it took seconds, how many."""
        self.say(f"{what} ...")
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        if seconds > 2:
            self.say(f"{what}: done in {duration(seconds)}")

    @contextmanager
    def steps_from(self, step: int) -> Iterator[None]:
        """Show the progress of the steps from `step` on."""
        self.step = self.begin = step
        self._began = self._said = time.monotonic()
        self._times = deque([self._began], _RECENT + 1)
        in_terminal = sys.stderr.isatty() and not self.quiet
        if in_terminal:
            self._bar = tqdm(total=self.steps, initial=step, desc=self.name, unit="step", dynamic_ncols=True)
        try:
            yield
        finally:
            if self._bar is not None:
                with suppress(OSError):
                    self._bar.close()
                self._bar = None

    @contextmanager
    def during(self, what: str) -> Iterator[None]:
        """Name, at the bar, what is done between two steps."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.set_postfix_str(what)
        yield

    def advance(self, losses: Mapping[str, float] | None = None) -> None:
        """Count a step.

        Args:
            losses: Its losses; None keeps those of an earlier step.
        """
        self.step += 1
        if losses is not None:
            order = sorted(losses, key=lambda k: not k.endswith("loss"))
            self._losses = ", ".join(f"{k} {losses[k]:.4g}" for k in order[:_NAMED])
        now = time.monotonic()
        first = self.step == self.begin + 1
        if self.step == self.begin + 2:
            self._times.popleft()  # the first step waits for its batch and compiles: the others tell the rate
        self._times.append(now)
        if self._bar is not None:
            with suppress(OSError):
                self._bar.set_postfix_str(f"{self._rate()}, {self._losses}", refresh=False)  # narrow ones cut the end
                self._bar.update()
        elif not self.quiet and (first or self.step == self.steps or now - self._said >= self._pause):
            self._pause = _FIRST if first else min(2 * self._pause, _SLOWEST)
            self._said = now
            if self.step == self.steps:
                more = f"{self._rate()}, {duration(now - self._began)} in all"
            elif first:
                more = f"it took {duration(self._seconds())}"
            else:
                more = f"{self._rate()}, {duration((self.steps - self.step) * self._seconds())} left"
            self.say(f"step {self.step} of {self.steps}: {self._losses}; {more}")

    def _seconds(self) -> float:
        """Seconds that a step takes, validations and checkpoints included."""
        return (self._times[-1] - self._times[0]) / (len(self._times) - 1)

    def _rate(self) -> str:
        return f"{self.batch / max(self._seconds(), 1e-9):.3g} pictures/s"
