"""Evaluation: the protocols of the field, one file each. No protocol knows a method.

Protocols on pictures with labels:

* `aflw2000`: 68 landmarks on AFLW2000-3D. `aflw2000_dense`: all vertices there. `pose`: head pose there.
* `aflw21`: the visible ones of 21 landmarks on AFLW.

Protocols on scans:

* `now`: NoW. `florence`: MICC Florence. `facewarehouse`: FaceWarehouse. `realy`: REALY.
* `e2far_shape`: the measure of UH-E2FAR. `synthetic_scans`: rendered people, scored as NoW does.

What they share:

* `metrics`: NME and its summaries. `report`: what a protocol returns, as a table and as a curve.
* `predictor`: how a method is called. `aflw2000_data`: the data set of three protocols.
* `scans`: files of scans. `scan_faces`: faces predicted in photographs. `scan_alignment`: a face laid on a scan.
"""

import typing
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from facemodels.evaluation.report import Report
    from facemodels.methods.face_method import FaceMethod


class Protocol(typing.Protocol):
    """The interface of a protocol: the module of each one defines these two functions (without `self`)."""

    def configure(self, parser: ArgumentParser) -> None:
        """Add the protocol's own arguments, and in `parser.epilog` an example and the layout of its data."""

    def run(self, method: "FaceMethod", data: Path, options: Namespace) -> "Report":
        """Score a method.

        Args:
            method: A trained method, in evaluation mode.
            data: The folder or zip of the data set.
            options: The command's arguments, those that `configure` added among them.

        Raises:
            InputError: Data are missing or damaged.
        """


class ProtocolEntry(NamedTuple):
    """A protocol in the list.

    Attributes:
        module: Its module in this package.
        summary: One line of help.
    """

    module: str
    summary: str


PROTOCOLS = {
    "aflw2000": ProtocolEntry("aflw2000", "68 landmarks on AFLW2000-3D"),
    "aflw2000-dense": ProtocolEntry("aflw2000_dense", "all vertices on AFLW2000-3D, with its Basel model"),
    "pose": ProtocolEntry("pose", "head pose on AFLW2000-3D: yaw, pitch and roll"),
    "aflw21": ProtocolEntry("aflw21", "the visible ones of 21 landmarks on AFLW"),
    "now": ProtocolEntry("now", "NoW: neutral faces against scans"),
    "florence": ProtocolEntry("florence", "MICC Florence: faces against scans within 95 mm of the nose tip"),
    "facewarehouse": ProtocolEntry("facewarehouse", "FaceWarehouse: faces with expressions against registered meshes"),
    "realy": ProtocolEntry("realy", "REALY: four regions of the face against scans"),
    "e2far-shape": ProtocolEntry("e2far_shape", "neutral shape, as UH-E2FAR measures it"),
    "synthetic-scans": ProtocolEntry(
        "synthetic_scans", "faces of a model unknown to the networks, rendered and scanned"
    ),
}


def load_protocol(name: str) -> Protocol:
    """Import the module of a protocol, one of `PROTOCOLS`; the others stay unimported."""
    return cast(Protocol, import_module(f"facemodels.evaluation.{PROTOCOLS[name].module}"))
