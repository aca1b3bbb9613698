"""facemodels evaluate: scores a method by a protocol of the field."""

import argparse
import json
import textwrap
from importlib import import_module
from pathlib import Path

from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.evaluation.report import Report, table, write_curve
from facemodels.methods import registry
from facemodels.methods.registry import load_method
from facemodels.reconstruction.refine import ITERATIONS, Refined

# name -> (module in facemodels.evaluation, one line of help); only the one that is asked for is imported.
PROTOCOLS = {
    "aflw2000": ("aflw2000", "68 landmarks on AFLW2000-3D"),
    "aflw2000-dense": ("aflw2000_dense", "all vertices on AFLW2000-3D, with its Basel model"),
    "pose": ("pose", "head pose on AFLW2000-3D: yaw, pitch and roll"),
    "aflw21": ("aflw21", "the visible ones of 21 landmarks on AFLW"),
    "now": ("now", "NoW: neutral faces against scans"),
    "florence": ("florence", "MICC Florence: faces against scans within 95 mm of the nose tip"),
    "facewarehouse": ("facewarehouse", "FaceWarehouse: faces with expressions against registered meshes"),
    "realy": ("realy", "REALY: four regions of the face against scans"),
    "e2far-shape": ("e2far_shape", "neutral shape, as UH-E2FAR measures it"),
    "synthetic-scans": ("synthetic_scans", "faces of a model that no network saw, rendered and scanned"),
}


def configure(parser):
    parser.epilog = """examples:
  facemodels evaluate aflw2000 --data AFLW2000-3D.zip --json results.json --curve curve.png
  facemodels evaluate pose --method dasl --data AFLW2000-3D.zip
  facemodels evaluate aflw21 --checkpoint runs/dasl/checkpoints/step-000010000 --data aflw_crops.zip

Each protocol has a help of its own: facemodels evaluate PROTOCOL --help. It prints what was measured, the published table with our row in it, and
its exclusions. Published numbers that were recalled and not found in public material are marked."""
    protocols = parser.add_subparsers(dest="protocol", required=True, metavar="PROTOCOL", parser_class=_ProtocolParser)
    for name, (_, line) in PROTOCOLS.items():
        protocols.add_parser(
            name,
            help=line,
            description=line[0].upper() + line[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        ).protocol = name


class _ProtocolParser(argparse.ArgumentParser):
    """Has its arguments once it is the one that reads: the other protocols are not imported."""

    protocol = None

    def parse_known_args(self, *args, **kwargs):
        if self.protocol is not None:
            module = _module(self.protocol)
            self.protocol = None
            _shared_arguments(self, needs_data=getattr(module, "NEEDS_DATA", True))
            module.configure(self)
        return super().parse_known_args(*args, **kwargs)


def _module(protocol):
    return import_module(f"facemodels.evaluation.{PROTOCOLS[protocol][0]}")


def _shared_arguments(parser, needs_data):
    parser.add_argument(
        "--method",
        help="a method, or weights that ship, by name; with --checkpoint, to be sure that it is the one meant (default: the best weights that ship)",
    )
    parser.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FOLDER",
        help="with weights.safetensors and config.json, as facemodels train writes them",
    )
    parser.add_argument(
        "--refine",
        action="store_const",
        const=ITERATIONS,
        default=0,
        help="fit each face to its crop from what the method says, about a second a face",
    )
    parser.add_argument(
        "--data", type=Path, required=needs_data, metavar="PATH", help="folder or zip in the data set's own layout"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, flat, with units in their names")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="write the cumulative error curve, .png or .jpg")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto (default: auto)")


def run(options) -> int:
    for file in (options.json, options.curve):
        if file and not file.parent.is_dir():
            raise InputError(f"{file}: cannot be written, there is no folder {file.parent}")
    if options.curve and options.curve.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{options.curve}: expected a .png or .jpg file for the curve")
    method, name, source = _loaded(options)
    if options.refine:
        method, name, source = (
            Refined(method, options.refine),
            f"{name}, refined",
            f"{source}, refined in {options.refine} steps",
        )
    module = _module(options.protocol)
    report = module.run(method, options.data, options)
    results = {"method": method.name, "checkpoint": source, "given": method.given} | report.results
    results.setdefault("protocol", report.protocol)
    print(f"{method.name}, {source}; given: {method.given}")
    print(f"{report.title}\n")
    print(module.table(results) if hasattr(module, "table") else listed(report.results))
    print(f"\n{table(report, name)}")
    print(noted(report))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.curve:
        write_curve(options.curve, report, name)
        print(f"\n{options.curve}  the cumulative error curve")
    return 0


def _loaded(options):
    """(the method in eval mode, what to call it, where its weights are from)."""
    device = parse_device(options.device)
    if options.checkpoint is None:
        name = options.method or registry.default_weights()
        return load_method(name, device), name, f"the weights that ship as {name}"
    method = load_method(options.checkpoint, device)
    if options.method and options.method != method.name:
        raise InputError(f"{options.checkpoint}: a checkpoint of the method {method.name}, not of {options.method}")
    return method, method.name, str(options.checkpoint)


def listed(results: dict) -> str:
    """A line for each result."""
    width = max(map(len, results))
    shown = {
        key: "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
        for key, value in results.items()
    }
    return "\n".join(f"{key:{width}}  {value}" for key, value in shown.items())


def noted(report: Report) -> str:
    """The notes, as a list of wrapped lines; nothing where there are none."""
    lines = [textwrap.fill(note, 140, initial_indent="  - ", subsequent_indent="    ") for note in report.notes]
    return "\n".join(["", *lines]) if lines else ""
