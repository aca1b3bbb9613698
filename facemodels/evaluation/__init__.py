"""Evaluation: the protocols of the field, one file each. No protocol knows a method.

Protocols on pictures with labels:

* `aflw2000`: 68 landmarks on AFLW2000-3D. `aflw2000_dense`: all vertices there. `pose`: head pose there.
* `aflw21`: the visible ones of AFLW's 21 landmarks.

Protocols on scans:

* `now`: NoW. `florence`: MICC Florence. `facewarehouse`: FaceWarehouse. `realy`: REALY.
* `e2far_shape`: the measure of UH-E2FAR. `synthetic_scans`: rendered people, scored as NoW does.

What they share:

* `metrics`: NME and its summaries. `report`: what a protocol returns, as a table and as a curve.
* `predictor`: how a method is called. `aflw2000_data`: the data set of three protocols.
* `scans`: files of scans. `scan_faces`: faces predicted in photographs. `scan_alignment`: a face laid on a scan.
* `nonrigid_icp`: a scan deformed onto a face, for REALY.
* `examples`: tiny data sets in the protocols' layouts, and the words that describe these layouts.

From Python, `evaluate` does what the command does:

    from facemodels.evaluation import evaluate

    print(evaluate("now", "NoW", method="pgn"))

A protocol is a module with the functions of `Protocol`. It is registered in one place, `PROTOCOLS` below, by the full
name of its module; a protocol of your own may live outside this package and register itself:

    PROTOCOLS["mine"] = ProtocolEntry("mypackage.mymodule", "one line of help")

`evaluate` and `facemodels.cli.main.main` then know it. `examples/protocol.py` is a whole one.
"""

import typing
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from facemodels.core.errors import InputError, advice

if TYPE_CHECKING:
    from facemodels.evaluation.report import Report
    from facemodels.methods.face_method import FaceMethod


class Protocol(typing.Protocol):
    """The interface of a protocol: the module of each one defines these three functions (without `self`)."""

    def configure(self, parser: ArgumentParser) -> None:
        """Add the protocol's own arguments, and in `parser.epilog` an example and the layout of its data."""

    def run(self, method: "FaceMethod", data: Path, options: Namespace) -> "Report":
        """Score a method.

        Args:
            method: A trained method, in evaluation mode. None where the options have `predictions`: a protocol with
                this argument takes faces from files in place of a method.
            data: The folder or zip of the data set.
            options: The command's arguments, those that `configure` added among them.

        Raises:
            InputError: Data are missing or damaged.
        """

    def write_example(self, folder: Path) -> None:
        """Write a tiny data set, made by this library alone, in the layout that `run` reads.

        `run(method, folder, options)` must score it as it stands. A protocol without this function has no `--example`.

        Args:
            folder: An empty folder.
        """


class ProtocolEntry(NamedTuple):
    """A protocol in the list.

    Attributes:
        module: The full name of its module.
        summary: One line of help.
    """

    module: str
    summary: str


def _own(module: str, summary: str) -> ProtocolEntry:
    return ProtocolEntry(f"facemodels.evaluation.{module}", summary)


PROTOCOLS = {
    "aflw2000": _own("aflw2000", "68 landmarks on AFLW2000-3D"),
    "aflw2000-dense": _own("aflw2000_dense", "all vertices on AFLW2000-3D, with its Basel model"),
    "pose": _own("pose", "head pose on AFLW2000-3D: yaw, pitch and roll"),
    "aflw21": _own("aflw21", "the visible ones of AFLW's 21 landmarks"),
    "now": _own("now", "NoW: neutral faces against scans"),
    "florence": _own("florence", "MICC Florence: faces against scans within 95 mm of the nose tip"),
    "facewarehouse": _own("facewarehouse", "FaceWarehouse: faces with expressions against registered meshes"),
    "realy": _own("realy", "REALY: four regions of the face against scans"),
    "e2far-shape": _own("e2far_shape", "neutral shape, as UH-E2FAR measures it"),
    "synthetic-scans": _own("synthetic_scans", "faces of a model unknown to the networks, rendered and scanned"),
}


def load_protocol(name: str) -> Protocol:
    """Import the module of a protocol; the others stay unimported.

    Raises:
        InputError: There is no protocol of this name in `PROTOCOLS`.
    """
    if name not in PROTOCOLS:
        raise InputError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return cast(Protocol, import_module(PROTOCOLS[name].module))


def evaluate(
    protocol: str,
    data: str | Path,
    method: "FaceMethod | str | Path | None" = None,
    refine: bool = False,
    device: str = "cpu",
    **options: Any,
) -> "Report":
    """Score a method by a protocol: `facemodels evaluate PROTOCOL --data DATA --method METHOD` in Python.

    Args:
        protocol: One of `PROTOCOLS`.
        data: The folder or zip of the data set; `facemodels evaluate PROTOCOL --help` has its layout, and
            `write_example` writes a tiny one.
        method: A method in evaluation mode; or the name of weights that ship, or the folder of a checkpoint; None
            takes the best weights that ship.
        refine: Whether each predicted face is fitted to its crop, about a second per face.
        device: Where a method that is loaded here runs.
        options: The protocol's own arguments, with _ for -, such as `limit=100`.

    Returns:
        The report: `report.results` is a dictionary of numbers with units in their names, `report.table()` the
        published table with the method's row, `print(report)` shows everything that the command prints.

    Raises:
        InputError: Data are missing or damaged, or there is no such protocol, method or option.
    """
    module = load_protocol(protocol)
    given = protocol_options(module, protocol, options)
    if getattr(given, "predictions", None) is not None:
        if method is not None or refine:
            raise InputError("predictions are scored in place of a method: give either predictions or a method")
        return named(module.run(cast("FaceMethod", None), Path(data), given), Path(given.predictions).name, data)
    name = method
    if not hasattr(method, "parameters"):
        from facemodels.methods.registry import load_method
        from facemodels.methods.shipped import default_weights

        name = method or default_weights()
        method = load_method(cast("str | Path", name), device)
    loaded = cast("FaceMethod", method)
    name = Path(cast("str | Path", name)).name if isinstance(name, str | Path) else loaded.name
    if refine:
        from facemodels.reconstruction.refine import Refined

        loaded, name = Refined(loaded), f"{name}, refined"
    return named(module.run(loaded, Path(data), given), name, data)


def named(report: "Report", name: str, data: str | Path) -> "Report":
    """A protocol's report with the name of what was scored.

    Where the data are an example (`write_example`), the title, the results and a note say so, and published rows are
    taken out: they are of other faces.
    """
    report.method = name
    if is_example(Path(data)):
        report.published = ()
        report.title = f"EXAMPLE DATA, rendered from the built-in model. {report.title}"
        report.results = {"example": True} | report.results
        report.notes = [
            "Example data, rendered from the built-in model: the numbers show that everything works and say nothing "
            "about the method. Published rows are left out.",
            *report.notes,
        ]
    return report


def protocol_options(module: Protocol, name: str, options: dict[str, Any]) -> Namespace:
    """The arguments that a protocol's `configure` adds, with their defaults, as `run` takes them.

    Args:
        module: The protocol.
        name: Its name, for messages.
        options: Some of the arguments by name, with _ for -; text is converted as on the command line.

    Raises:
        InputError: The protocol has no such argument, or does not take this value.
    """
    parser = ArgumentParser(add_help=False)
    module.configure(parser)
    actions = {action.dest: action for action in parser._actions}
    unknown = [key for key in options if key not in actions]
    if unknown:
        raise InputError(
            f"the protocol {name} has no option {unknown[0]}; it has {', '.join(actions) if actions else 'none'}"
        )
    values = {key: action.default for key, action in actions.items()}
    return Namespace(**values | {key: _converted(actions[key], value) for key, value in options.items()})


def _converted(action: Action, value: Any) -> Any:
    if isinstance(value, str) and callable(action.type):
        try:
            value = action.type(value)
        except (TypeError, ValueError, ArgumentTypeError) as error:
            raise InputError(f"{action.dest}={value!r}: {error}") from None
    if action.choices is not None and value not in action.choices:
        raise InputError(f"{action.dest} must be one of {', '.join(map(str, action.choices))}, got {value!r}")
    return value


def write_example(protocol: str, folder: str | Path) -> Path:
    """Write a tiny data set in the layout of a protocol: `facemodels evaluate PROTOCOL --example FOLDER` in Python.

    It holds rendered pictures and scans of the built-in model, so numbers on it say that all works and nothing else. A
    README.txt in it says so, and reports on the folder do.

    Args:
        protocol: One of `PROTOCOLS`.
        folder: The folder, which is made where there is none.

    Returns:
        The folder.

    Raises:
        InputError: The folder holds files, cannot be made, or the protocol has no example.
    """
    module, folder = load_protocol(protocol), Path(folder)
    if not hasattr(module, "write_example"):
        raise InputError(f"the protocol {protocol} has no example: its module lacks the function write_example")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a new or empty folder for the example, found a file")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"{folder}: expected a new or empty folder for the example, found files in it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be made ({error.strerror or error}){advice(error)}") from None
    module.write_example(folder)
    (folder / "README.txt").write_text(
        f"{_EXAMPLE} in the layout of {protocol}.\n\n"
        "Pictures and scans are rendered from the built-in model: a score on them shows that everything works and\n"
        "says nothing about a method. Reports on this folder say so as long as this file is in it.\n\n"
        f"facemodels evaluate {protocol} --help     describes every file\n"
        f"facemodels evaluate {protocol} --data .   scores the best shipped weights\n"
    )
    return folder


_EXAMPLE = "Example data of facemodels,"  # how README.txt begins


def is_example(data: Path) -> bool:
    """Whether a folder is one that `write_example` wrote."""
    readme = data / "README.txt"
    return readme.is_file() and readme.read_text(errors="replace").startswith(_EXAMPLE)
