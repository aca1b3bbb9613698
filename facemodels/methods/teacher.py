"""What a trained network sees in photographs, for another to learn from: 68 landmarks with depth, `teacher` of 2DASL's settings.

    python -m facemodels.methods.teacher CHECKPOINT PHOTOS -o FILE.npz

CHECKPOINT is any method's; one of a published network is made by `facemodels.methods.published`. PHOTOS are AFLW's crops or a folder of pictures with landmark files, and their own
landmarks judge the teacher: pictures in which it misses them are left out. The photographs must not be those that it learnt from, or its mistakes there look smaller than they are.
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from facemodels.core.errors import InputError
from facemodels.core.landmarks import center_depth, eighteen_points, mirror_order
from facemodels.data import FaceBatch
from facemodels.data.augment import warp_faces
from facemodels.data.photographs import photographs, write_teacher_labels
from facemodels.io.files import check_writable
from facemodels.methods.registry import load_method

# Scale, shift (share of the side, to the right and down) and whether mirrored: the picture as it is, then others of which a network makes other mistakes.
VIEWS = tuple(
    (*view, mirrored)
    for view in ((1, 0, 0), (0.94, 0.025, 0), (0.94, -0.025, 0), (1.05, 0, 0.025), (1.05, 0, -0.025))
    for mirrored in (False, True)
)


@torch.no_grad()
def seen_by(method, faces: FaceBatch, worst: float = 8.0, batch: int = 64, views: int = 1) -> tuple[Tensor, Tensor]:
    """(landmarks [N,68,3] that a method sees in faces, in pixels of their crops; how far the 18 points of `eighteen` are from the faces' own on average [N], percent of
    the box, whose side is that of the crop by the root of 2). Landmarks are NaN where that is more than `worst`, or nothing is known of a face. views: average over so
    many of `VIEWS` (3DDFA_V2's MobileNet of half width, in 1500 crops of AFLW: 3.90 % off with one, 3.84 with two and with ten)."""
    found, off, side = [], [], faces.image.shape[-1]
    for k in tqdm(range(0, len(faces), batch), desc="looking at photographs", disable=None, leave=False):
        image = faces.image[k : k + batch].float() / 255
        if side != method.size:
            image = F.interpolate(
                image, (method.size, method.size), mode="bilinear", antialias=True, align_corners=False
            )
        points = torch.stack([_viewed(method, image, view) for view in VIEWS[:views]]).mean(0) * (side / method.size)
        distance = (
            (eighteen_points(points[..., :2]) - eighteen_points(faces.landmarks[k : k + batch, :, :2]))
            .norm(dim=-1)
            .nanmean(1)
        )
        found.append(points)
        off.append(100 * distance / (side / 2**0.5))
    found, off = torch.cat(found).float(), torch.cat(off)
    return torch.where((off <= worst)[:, None, None], found, torch.nan), off


def _viewed(method, image, view) -> Tensor:
    """Landmarks [N,68,3] of pictures, seen in a view of them; depth about its mean."""
    scale, dx, dy, mirrored = view
    if view == VIEWS[0]:
        return center_depth(method.landmarks(image))
    every, side = image.new_ones(len(image)), image.shape[-1]
    shift = side * image.new_tensor([dx, dy])
    seen = method.landmarks(
        warp_faces(FaceBatch(image), 0 * every, scale * every, shift.expand(len(image), 2), (mirrored * every).bool()).image
    )
    xy = (seen[..., :2] - side / 2 - shift) / scale + side / 2
    if mirrored:
        xy = torch.stack([side - xy[..., 0], xy[..., 1]], -1)
    seen = center_depth(torch.cat([xy, seen[..., 2:] / scale], -1))
    return seen[:, mirror_order(seen.shape[1])] if mirrored else seen


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m facemodels.methods.teacher",
        description="Write down the landmarks that a trained network sees in photographs, for another to learn from.",
    )
    parser.add_argument("checkpoint", help="a checkpoint, or the name of weights that ship")
    parser.add_argument(
        "photos", type=Path, metavar="PHOTOS", help="AFLW's crops (.zip), or a folder of pictures with landmark files"
    )
    parser.add_argument(
        "--worst",
        type=float,
        default=8.0,
        metavar="PERCENT",
        help="leave pictures out whose own landmarks are missed by more, percent of the face's box (default: 8)",
    )
    parser.add_argument(
        "--views",
        type=int,
        choices=range(1, len(VIEWS) + 1),
        default=2,
        metavar="N",
        help="average over so many views of a picture, at most 10 (default: 2, as it is and mirrored)",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".npz to write")
    options = parser.parse_args(arguments)
    try:
        check_writable(options.output.parent)
        method, faces = load_method(options.checkpoint), photographs(options.photos)
        landmarks, off = seen_by(method, faces, options.worst, views=options.views)
        kept = landmarks.isfinite().all(-1).all(-1)
        if not kept.any():
            raise InputError(
                f"{options.photos}: the landmarks are missed by more than {options.worst:g} % of the box in all {len(faces)} pictures; give another network, or a higher --worst"
            )
        write_teacher_labels(options.output, landmarks, faces)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(
        f"{options.output}: what was seen in {int(kept.sum())} of {len(faces)} photographs, whose own landmarks are missed by {off[kept].mean():.2f} % of the box on average"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
