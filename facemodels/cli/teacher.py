"""facemodels teacher: landmarks of photographs by networks that were trained elsewhere, for a method to learn from."""

import math
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch

from facemodels.core.errors import InputError
from facemodels.core.options import number
from facemodels.data.photographs import photographs, write_teacher_labels
from facemodels.io.files import check_outputs
from facemodels.io.images import write_picture
from facemodels.methods.registry import load_method
from facemodels.models.load import load_model
from facemodels.teachers.check import BINS, SHOWN, draw_panel, errors_of, held_out_distances
from facemodels.teachers.combine import agreement, combine, poses_of
from facemodels.teachers.face_mesh import load_network, predict_mesh
from facemodels.teachers.network import VIEWS, predict_landmarks


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """example:
  facemodels teacher runs/published/checkpoints/step-000000000 aflw_crops.zip -o labels.npz \\
      --face-mesh package --panel labels.jpg
  facemodels train dasl --set wild=aflw_crops.zip --set teacher=labels.npz --set extra=true ...

The photographs must not be those that a teacher learned from, or its errors there look smaller than
they are. Their own landmarks judge the teachers: photographs in which these miss them are left out,
and the mean distances are printed, without what is constant in each point.

--face-mesh adds MediaPipe's 468 points (npm pack @mediapipe/face_mesh gets the package; unpack it;
pip install "facerender[teacher]"): brows, nose, eyes and lips are then means of both, the more of
it the less a head is turned. The file has a weight for how far the teachers agree."""
    parser.add_argument("network", metavar="NETWORK", help="a checkpoint, or the name of shipped weights")
    parser.add_argument(
        "photos", type=Path, metavar="PHOTOS", help="AFLW's crops (.zip), or a folder of pictures with landmark files"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz to write")
    parser.add_argument(
        "--face-mesh",
        type=Path,
        metavar="FOLDER",
        help="the unpacked npm package @mediapipe/face_mesh: a second teacher",
    )
    parser.add_argument(
        "--worst",
        type=number(float, 0),
        default=8.0,
        metavar="PERCENT",
        help="leave out photographs with a larger error at their own landmarks, percent of the face's box (default: 8)",
    )
    parser.add_argument(
        "--views",
        type=number(int, 1, len(VIEWS)),
        default=2,
        metavar="N",
        help=f"average over so many views of a photograph, at most {len(VIEWS)} (default: 2, the photograph and its "
        "mirror image)",
    )
    parser.add_argument(
        "--panel",
        type=Path,
        metavar="FILE",
        help=f"also draw the points in {SHOWN} of the photographs, frontal to profile",
    )


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    _check_outputs(options)
    mesh_network = None if options.face_mesh is None else load_network(options.face_mesh)
    method, faces = load_method(options.network), photographs(options.photos)
    model = load_model("builtin")
    landmarks, spread = predict_landmarks(method, faces.image, options.views)
    poses = poses_of(landmarks, model)
    mesh = found = None
    labels, weight = landmarks, agreement(spread / poses.scale)
    if mesh_network is not None:
        mesh = predict_mesh(mesh_network, faces.image.permute(0, 2, 3, 1).numpy(), landmarks[..., :2].numpy())
        found = combine(landmarks, mesh, poses, spread)
        labels, weight = found.landmarks, found.weight
    error = errors_of(labels, faces)
    labels = torch.where((error <= options.worst)[:, None, None], labels, torch.nan)
    kept = labels.isfinite().flatten(1).all(1)
    if not kept.any():
        raise InputError(
            f"{options.photos}: the mean error is above {options.worst:g} % of the box in all {len(faces)} photographs"
            "; look whether their landmark files are right, give another network, or a higher --worst"
        )
    write_teacher_labels(options.output, labels, faces, weight)
    print(
        f"{options.output}: landmarks of {int(kept.sum())} of {len(faces)} photographs, whose own landmarks are "
        f"{error[kept].mean():.2f} % of the box away on average"
    )
    print("\nmean distance from the photographs' own points, mm on the face, by yaw; what is constant in each point")
    print("is found in every second photograph and left out in the others, which are measured")
    print(f"{'':14}" + "".join(f"{f'{low}-{high}':>8}" for low, high in BINS))
    for name, points in [("the network", landmarks)] + ([] if found is None else [("with the mesh", found.landmarks)]):
        values = held_out_distances(points, faces, poses)
        print(f"{name:14}" + "".join(f"{'-' if math.isnan(v) else f'{v:.2f}':>8}" for v in values))
    if found is not None:
        counts = found.share > 0
        apart = found.distance[counts].mean()
        print(f"the mesh counts in {int(counts.sum())} photographs, {apart:.2f} mm from the network there")
    if options.panel is not None:
        write_picture(options.panel, draw_panel(faces, landmarks, mesh, labels, poses.angles[:, 1]))
        blue = "" if mesh is None else ", blue: the mesh"
        print(f"{options.panel}  red: the network{blue}, green: the labels")
    return 0


def _check_outputs(options: Namespace) -> None:
    """Refuse, before the work, outputs that cannot be written or would overwrite what is read."""
    inputs = {"PHOTOS": options.photos, "NETWORK": Path(options.network), "--face-mesh": options.face_mesh}
    check_outputs({"-o": options.output, "--panel": options.panel}, inputs)
    if options.output.suffix != ".npz":
        raise InputError(f"{options.output}: labels are written as .npz; give a name that ends so")
    if options.panel is not None and options.panel.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"{options.panel}: expected a .png or .jpg file for the panel")
