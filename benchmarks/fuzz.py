"""Damaged files through the commands: each must end in an exit code and one sentence, in bounded time and memory.

python -m benchmarks.fuzz KIND [--count 1000] [--seed 0] [--only N]

Case N of a seed is always the same file. A case fails if the command raises, hangs, ends with another exit code than 0
and 1, says nothing or more than a few lines, does not name the file, leaves unfinished files, takes more than 500 MB,
or ends the process. Cases that fail are printed, and their files are kept in --keep.
"""

import argparse
import contextlib
import functools
import gettext
import io
import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from benchmarks.fuzz_kinds import KINDS

SECONDS = 60  # of a case
MEGABYTES = 500
LINES = 4


class Case(NamedTuple):
    """A damaged file.

    Attributes:
        name: Its file name.
        content: Its bytes.
    """

    name: str
    content: bytes


def damaged(samples: list[Path], seed: int, number: int) -> Case:
    """Damage one of the sample files in one to four ways."""
    rng = random.Random(f"{seed}/{number}")
    path = rng.choice(samples)
    content = bytearray(path.read_bytes())
    ways = WAYS
    if rng.random() < 0.6 and _is_text(content):  # most of what the others make of text is no text any more
        ways = TEXT_WAYS
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = rng.choice(ways)(rng, content, samples)
    return Case(f"case{path.suffix}", bytes(content))


def _flip(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    for _ in range(rng.choice((1, 1, 3, 20))):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _number(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    size = rng.choice((1, 2, 4, 8))
    # Sizes and counts stand at the beginning of most files.
    end = min(len(content), 400) if rng.random() < 0.6 else len(content)
    at = rng.randrange(max(1, end))
    value = rng.choice((0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63, rng.getrandbits(64))) % 256**size
    content[at : at + size] = value.to_bytes(size, rng.choice(("big", "little")))
    return content


def _cut(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    return content[: rng.randrange(len(content) + 1)]


def _remove(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    at = rng.randrange(len(content) + 1)
    del content[at : at + rng.choice((1, 2, 4, 16, 200))]
    return content


def _repeat(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    at = rng.randrange(len(content) + 1)
    part = content[at : at + rng.choice((1, 4, 64, 1000))]
    return content[:at] + part * rng.choice((1, 2, 8)) + content[at:]


def _zeros(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    at, length = rng.randrange(len(content) + 1), rng.choice((4, 32, 500))
    content[at : at + length] = bytes([rng.choice((0, 255, 65))]) * len(content[at : at + length])
    return content


def _splice(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    other = rng.choice(samples).read_bytes()
    at = rng.randrange(len(content) + 1)
    return content[:at] + other[rng.randrange(len(other) + 1) :][:20_000]


WAYS: tuple[Callable[[random.Random, bytearray, list[Path]], bytearray], ...] = (
    _flip, _flip, _number, _number, _cut, _remove, _repeat, _zeros, _splice,
)  # fmt: skip


def _is_text(content: bytearray) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def _word(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    """Put another number or word in the place of one, or add one."""
    places = [match.span() for match in re.finditer(rb"[\w.+-]+", content)]
    start, end = rng.choice(places) if places else (0, 0)
    if rng.random() < 0.1:
        end = start
    elif rng.random() < 0.1:
        start, end = end, min(len(content), end + 1)
    word = rng.choice((*_WORDS, bytes(content[slice(*rng.choice(places))]) if places else b""))
    return content[:start] + word + content[end:]


def _character(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    if content:
        content[rng.randrange(len(content))] = rng.randrange(32, 127)
    return content


def _line(rng: random.Random, content: bytearray, samples: list[Path]) -> bytearray:
    """Leave out a line, or repeat it elsewhere."""
    lines = content.splitlines(keepends=True)
    if lines:
        line = lines.pop(rng.randrange(len(lines)))
        for _ in range(rng.choice((0, 0, 1, 2, 300))):
            lines.insert(rng.randrange(len(lines) + 1), line)
    return bytearray().join(lines)


_WORDS = (
    b"nan", b"-inf", b"1e999", b"1e-999", b"-1", b"0", b"1", b"-0.0", b"4294967296", b"9" * 400, b"0x10", b"1_000",
    b"true", b"null", b"None", b"x", b"", b" ", b",", b";", b"#", b"{}", b"[]", b'"', b"\xc3\xa9", b"\xd9\xa3", b"\\",
)  # fmt: skip
TEXT_WAYS: tuple[Callable[[random.Random, bytearray, list[Path]], bytearray], ...] = (
    _word, _word, _word, _character, _line, _cut, _remove,
)  # fmt: skip


def verdict(code: object, said: str, name: str, left: list[str]) -> str | None:
    """What is wrong with the end of a command; None if nothing is."""
    lines = [line for line in said.splitlines() if line.strip()]
    if code not in (0, 1):
        return f"exit code {code}"
    if "Traceback" in said:
        return "a traceback"
    if code == 1 and not lines:
        return "exit code 1 without a word"
    if code == 1 and name not in said:
        return "the file is not named"
    if len(lines) > LINES or any(len(line) > 600 for line in lines):
        return f"{len(lines)} lines, the longest of {max(map(len, lines))} characters"
    if unfinished := [n for n in left if ".part" in n]:
        return f"left behind: {unfinished[0]}"
    return None


def _memory(what: str) -> int:
    """Megabytes of VmHWM (peak) or VmRSS (now)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what)) // 1024


def work(kind: str, seed: int, samples: list[Path], pipe: Connection) -> None:
    """Run the cases whose numbers come through the pipe, and send back what was wrong with each."""
    os.nice(19)
    # argparse looks for translations of each word
    gettext.find = functools.cache(gettext.find)  # type: ignore[assignment]
    command = KINDS[kind].command()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        while (number := pipe.recv()) is not None:
            case, out = damaged(samples, seed, number), folder / "out"
            (folder / case.name).write_bytes(case.content)
            out.mkdir()
            with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew
            before, text = _memory("VmRSS"), io.StringIO()
            try:
                with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(text):
                    code: object = command(folder / case.name, out)
            except SystemExit as end:
                code = end.code
            except BaseException as error:
                code = f"{type(error).__name__}: {error}"[:300]
            wrong = verdict(code, text.getvalue(), case.name, os.listdir(out))
            taken = _memory("VmHWM") - before
            if wrong is None and taken > MEGABYTES:
                wrong = f"{taken} MB"
            pipe.send((code, wrong, text.getvalue()[-500:]))
            shutil.rmtree(out)
            (folder / case.name).unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(kind: str, seed: int, numbers: range, keep: Path | None) -> int:
    """Run cases in a process of their own, which is started again where one ends it; return how many failed."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-samples-"))
    failed, codes, started = 0, {0: 0, 1: 0}, time.monotonic()
    samples = sorted(KINDS[kind].samples(folder))
    context = multiprocessing.get_context("spawn")
    process, pipe = None, None
    try:
        for done, number in enumerate(numbers, 1):
            if process is None or not process.is_alive():
                pipe, other = context.Pipe()
                process = context.Process(target=work, args=(kind, seed, samples, other), daemon=True)
                process.start()
                other.close()
                begun = time.monotonic() + 60  # it has to load the command first
            else:
                begun = time.monotonic()
            assert pipe is not None
            pipe.send(number)
            try:
                while not pipe.poll(1):
                    if time.monotonic() - begun > SECONDS:
                        raise TimeoutError
                code, wrong, said = pipe.recv()
                codes[code] = codes.get(code, 0) + 1
            except (EOFError, ConnectionError):
                process.join()
                wrong, said = f"the process ended with {process.exitcode}", ""
                process = None
            except TimeoutError:
                process.kill()
                process.join()
                wrong, said, process = f"no end in {SECONDS} s", "", None
            if wrong is not None:
                failed += 1
                case = damaged(samples, seed, number)
                print(f"{kind}, seed {seed}, case {number} ({case.name}): {wrong}\n    {said.strip()}", flush=True)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{kind}-{seed}-{number}-{case.name}").write_bytes(case.content)
            if done % 500 == 0:
                rate = done / (time.monotonic() - started)
                print(f"{done} cases, {failed} failed, exit codes {codes}, {rate:.1f} a second", flush=True)
    finally:
        if process is not None and process.is_alive() and pipe is not None:
            with contextlib.suppress(OSError):
                pipe.send(None)
            process.join(10)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{kind}: {len(numbers)} cases of seed {seed}, {failed} failed, exit codes {codes}")
    return failed


def main() -> int:
    """Run the cases, and return 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="N", help="case N alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where files of failed cases are kept")
    options = parser.parse_args()
    numbers = range(options.count) if options.only is None else range(options.only, options.only + 1)
    return 1 if run(options.kind, options.seed, numbers, options.keep) else 0


if __name__ == "__main__":
    sys.exit(main())
