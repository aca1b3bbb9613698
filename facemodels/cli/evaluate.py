"""facemodels evaluate: score a method by a protocol of the field."""

import argparse
import json
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, cast

from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.evaluation import PROTOCOLS, load_protocol, named, write_example
from facemodels.evaluation.report import write_curve
from facemodels.io.files import check_outputs, write_atomically
from facemodels.methods import shipped
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method
from facemodels.reconstruction.refine import ITERATIONS, Refined
from facemodels.training.checkpoint import steps_of

_CURVE_SUFFIXES = (".png", ".jpg", ".jpeg")
_OUTPUTS = ("json", "curve", "pictures", "example")  # arguments that name what is written
_LISTED = 24  # files of an example that are listed


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """examples:
  facemodels evaluate aflw2000 --data AFLW2000-3D.zip --json results.json --curve curve.png
  facemodels evaluate pose --method dasl --data AFLW2000-3D.zip
  facemodels evaluate aflw21 --checkpoint runs/dasl/checkpoints/step-000010000 --data aflw_crops.zip
  facemodels evaluate now --example now_example     a tiny data set, to see the layout and to try

Each protocol has its own help, with the layout of its data, file by file, and the order of its
landmarks: facemodels evaluate PROTOCOL --help. --example DIR writes a tiny data set in it.
The command prints what was measured, the published table with the method's row in it, sorted by
the column that the field ranks by, and what was excluded. Published numbers quoted from memory are
marked."""
    protocols = parser.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL", parser_class=_ProtocolParser)
    for name, entry in PROTOCOLS.items():
        protocols.add_parser(
            name,
            help=entry.summary,
            description=entry.summary[0].upper() + entry.summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ).protocol = name


class _ProtocolParser(ArgumentParser):
    """The parser of a protocol, which gets its arguments only when it is used: other protocols are not imported."""

    protocol: str | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self.protocol is not None:
            protocol = load_protocol(self.protocol)
            self.protocol = None
            _add_shared_arguments(self)
            protocol.configure(self)
        parsed, rest = super().parse_known_args(args, namespace)
        self._check(parsed)
        return parsed, rest

    def _check(self, options: Namespace) -> None:
        """Options that exclude or need each other."""
        if options.data is None and options.example is None:
            self.error("--data PATH is required; --example DIR writes a tiny data set in the layout that it takes")
        if options.data is not None and options.example is not None:
            self.error("--example writes a data set and evaluates nothing: give either --example or --data")
        if getattr(options, "predictions", None) is not None:
            words = {"--method": options.method, "--checkpoint": options.checkpoint, "--refine": options.refine}
            for word in (word for word, value in words.items() if value):
                self.error(f"--predictions are scored in place of a method: give either --predictions or {word}")


def _add_shared_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        help="name of shipped weights (default: the best of them); with --checkpoint, the method it must be of",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FOLDER",
        help="folder with weights.safetensors and config.json, as facemodels train writes it",
    )
    parser.add_argument(
        "--refine",
        action="store_const",
        const=ITERATIONS,
        default=0,
        help="fit each predicted face to its crop, about a second per face",
    )
    parser.add_argument(
        "--data", type=Path, metavar="PATH", help="folder or zip in the data set's own layout, which is described below"
    )
    parser.add_argument(
        "--example",
        type=Path,
        metavar="DIR",
        help="write a tiny data set in this layout, rendered from the built-in model, into a new folder, and stop",
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write the results as flat JSON, with units in the names"
    )
    parser.add_argument("--curve", type=Path, metavar="FILE", help="write the cumulative error curve, .png or .jpg")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto)")


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    if options.example is not None:
        return _write_example(options.protocol, options.example)
    _check_outputs(options)
    predictions = getattr(options, "predictions", None)
    if predictions is None:
        method, name, source = _load(options)
        if options.refine:
            method, name = Refined(method, options.refine), f"{name}, refined"
            source = f"{source}, refined in {options.refine} steps"
        about = {"method": method.name, "name": name, "checkpoint": source, "given": method.given}
        heading = f"{method.name}, {source}; the network sees {method.given}"
    else:
        method, name = cast(FaceMethod, None), predictions.absolute().name
        about = {"method": name, "name": name, "predictions": str(predictions)}
        heading = f"predictions in {predictions}"
    report = named(load_protocol(options.protocol).run(method, options.data, options), name, options.data)
    results = about | report.results
    results.setdefault("protocol", report.protocol)
    print(f"{heading}\n{report}")
    if options.json or options.curve:
        print()
    if options.json:
        write_atomically({options.json: (json.dumps(results, indent=1) + "\n").encode()})
        print(f"{options.json}  the results")
    if options.curve:
        write_curve(options.curve, report, name)
        print(f"{options.curve}  the cumulative error curve")
    return 0


def _write_example(protocol: str, folder: Path) -> int:
    write_example(protocol, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files[:_LISTED]:
        print(path)
    if len(files) > _LISTED:
        print(f"... and {len(files) - _LISTED} more files")
    again = f"--data {shlex.quote(str(folder))}"
    known = PROTOCOLS[protocol].module.startswith("facemodels.")  # else only where a script registers it
    print(
        "\nRendered from the built-in model: a score on it shows that everything works, not how good a method is.\n"
        f"Next: {f'facemodels evaluate {protocol} {again}' if known else f'the same command with {again}'}"
    )
    return 0


def _check_outputs(options: Namespace) -> None:
    """Refuse, before the work, outputs that cannot be written or would overwrite what is read."""
    inputs = {
        f"--{key}": value for key, value in vars(options).items() if isinstance(value, Path) and key not in _OUTPUTS
    }
    check_outputs({"--json": options.json, "--curve": options.curve}, inputs)
    if options.curve and options.curve.suffix.lower() not in _CURVE_SUFFIXES:
        raise InputError(f"{options.curve}: expected a .png or .jpg file for the curve")


def _load(options: Namespace) -> tuple[FaceMethod, str, str]:
    """The method, its name in tables, and where its weights are from."""
    device = parse_device(options.device)
    if options.checkpoint is None:
        name = options.method or shipped.default_weights()
        return load_method(name, device), name, f"the weights that ship as {name}"
    method = load_method(options.checkpoint, device)
    if options.method and options.method != method.name:
        raise InputError(f"{options.checkpoint}: a checkpoint of the method {method.name}, not of {options.method}")
    return method, f"{method.name} ({_run_name(Path(options.checkpoint))})", str(options.checkpoint)


def _run_name(checkpoint: Path) -> str:
    """The name of a checkpoint in tables: "own, step 400" for runs/own/checkpoints/step-000000400."""
    path = checkpoint.absolute()
    step = steps_of(path)
    if path.parent.name == "checkpoints" and step >= 0:
        return f"{path.parent.parent.name}, step {step}"
    return path.name
