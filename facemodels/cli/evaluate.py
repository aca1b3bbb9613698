"""facemodels evaluate: score a method by a protocol of the field."""

import argparse
import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.evaluation import PROTOCOLS, load_protocol
from facemodels.evaluation.report import (
    format_notes,
    format_results,
    format_table,
    write_curve,
)
from facemodels.methods import shipped
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method
from facemodels.reconstruction.refine import ITERATIONS, Refined

_CURVE_SUFFIXES = (".png", ".jpg", ".jpeg")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """examples:
  facemodels evaluate aflw2000 --data AFLW2000-3D.zip --json results.json --curve curve.png
  facemodels evaluate pose --method dasl --data AFLW2000-3D.zip
  facemodels evaluate aflw21 --checkpoint runs/dasl/checkpoints/step-000010000 --data aflw_crops.zip

Each protocol has its own help, with the layout of its data: facemodels evaluate PROTOCOL --help.
Printed are what was measured, the published table with the method's row in it, and what was
excluded. Published numbers that were recalled and not found again in public material are marked."""
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
        return super().parse_known_args(args, namespace)


def _add_shared_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        help="name of shipped weights (default: the best of them); with --checkpoint, the method that it must be of",
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
        help="fit each predicted face to its crop, about a second a face",
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="PATH", help="folder or zip in the data set's own layout"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, flat, with units in their names")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="write the cumulative error curve, .png or .jpg")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto)")


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    for file in (options.json, options.curve):
        if file and not file.parent.is_dir():
            raise InputError(f"{file}: cannot be written, there is no folder {file.parent}")
    if options.curve and options.curve.suffix.lower() not in _CURVE_SUFFIXES:
        raise InputError(f"{options.curve}: expected a .png or .jpg file for the curve")
    method, name, source = _load(options)
    if options.refine:
        method, name = Refined(method, options.refine), f"{name}, refined"
        source = f"{source}, refined in {options.refine} steps"
    report = load_protocol(options.protocol).run(method, options.data, options)
    results = {"method": method.name, "checkpoint": source, "given": method.given} | report.results
    results.setdefault("protocol", report.protocol)
    print(f"{method.name}, {source}; given: {method.given}")
    print(f"{report.title}\n")
    print(format_results(report.results) if report.details is None else report.details)
    print(f"\n{format_table(report, name)}")
    print(format_notes(report.notes))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.curve:
        write_curve(options.curve, report, name)
        print(f"\n{options.curve}  the cumulative error curve")
    return 0


def _load(options: Namespace) -> tuple[FaceMethod, str, str]:
    """The method, its name in tables, and where its weights are from."""
    device = parse_device(options.device)
    if options.checkpoint is None:
        name = options.method or shipped.default_weights()
        return load_method(name, device), name, f"the weights that ship as {name}"
    method = load_method(options.checkpoint, device)
    if options.method and options.method != method.name:
        raise InputError(f"{options.checkpoint}: a checkpoint of the method {method.name}, not of {options.method}")
    return method, method.name, str(options.checkpoint)
