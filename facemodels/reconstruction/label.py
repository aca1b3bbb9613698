"""Landmark files for photographs that have none, so that a method can be trained on them.

    python -m facemodels.reconstruction.label PHOTOS

writes photo.txt beside each photo.jpg of a folder: the 68 landmarks that a trained method predicts for its largest
face, a point a line. Such landmarks are as good as the method that found them; looking at them, and correcting them,
makes them better labels.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from facemodels.core.errors import InputError
from facemodels.core.options import number
from facemodels.core.progress import progress
from facemodels.data.cache import name_list
from facemodels.io.files import atomic_write
from facemodels.io.images import load_picture, picture_files
from facemodels.io.landmarks import sidecar
from facemodels.methods.face_method import FaceMethod
from facemodels.reconstruction.reconstructor import Reconstructor


class Labels(NamedTuple):
    """What became of the pictures of a folder.

    Attributes:
        written: Landmark files that were written.
        present: Landmark files that were there before.
        without: Pictures that have none, and why.
    """

    written: list[Path]
    present: list[Path]
    without: dict[Path, str]


def label_pictures(
    folder: str | Path, method: str | Path | FaceMethod | None = None, device: str | None = None, threshold: float = 0.5
) -> Labels:
    """Write the landmarks of the largest face of each picture of a folder beside it, where there are none yet.

    Args:
        folder: The folder; pictures of the folders in it are taken too. Or the file of one picture.
        method: What predicts them: a method, the name of shipped weights, or a checkpoint's folder. None: the best
            shipped weights.
        device: "cpu", "cuda" or "auto"; None: the method's, or the CPU.
        threshold: How likely a face that was found must be one, 0..1; see `Face.confidence`.

    Raises:
        InputError: There is no such folder, or no picture in it; two pictures would have the same landmark file; a
            file cannot be written; or no picture has landmarks now.
    """
    if not isinstance(folder, (str, Path)):
        raise InputError(
            "label_pictures takes a folder of pictures or the file of one, beside which it writes landmarks; got a "
            + type(folder).__name__
        )
    folder = Path(folder)
    if folder.is_file():
        folder, pictures = folder.parent, [folder]
    elif folder.is_dir():
        pictures = picture_files(folder)
    else:
        raise InputError(f"{folder}: there is no such folder")
    if not pictures:
        raise InputError(f"{folder}: there are no pictures")
    present = {picture: file for picture in pictures if (file := sidecar(picture)) is not None}
    missing = [picture for picture in pictures if picture not in present]
    stems = Counter(picture.with_suffix("") for picture in pictures)
    shared = [str(p.relative_to(folder)) for p in missing if stems[p.with_suffix("")] > 1]
    if shared:
        raise InputError(
            f"{folder}: pictures need names that differ in more than their suffix, which those of landmark files lack; "
            f"rename {name_list(shared)}"
        )
    written, without = [], {}
    worker = Reconstructor(method, device, threshold) if missing else None
    for picture in progress(missing, "finding landmarks"):
        assert worker is not None
        try:
            image, reduction = load_picture(picture)
            faces = worker(image)
        except InputError as error:
            without[picture] = str(error)
            continue
        if not faces:
            without[picture] = f"{picture}: no face was found"
            continue
        x0, y0, x1, y1 = np.array([face.box for face in faces], np.float64).T
        face = faces[int(np.argmax((x1 - x0) * (y1 - y0)))]
        file = picture.with_suffix(".txt")
        with atomic_write(file) as part:
            np.savetxt(part, face.landmarks[:, :2].numpy() * reduction, fmt="%.2f")
        written.append(file)
    if not written and not present:
        raise InputError(
            f"{folder}: no landmarks were found in any of {len(pictures)} pictures; the first: "
            f"{next(iter(without.values()))}"
        )
    return Labels(written, list(present.values()), without)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m facemodels.reconstruction.label` and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m facemodels.reconstruction.label",
        description="Write the landmarks of the largest face of each photograph of a folder beside it, as photo.txt, "
        "for training. Landmark files that are there already stay as they are. The exit code is 0 if every picture "
        "has landmarks now; the others are named.",
        epilog="example: python -m facemodels.reconstruction.label PHOTOS && facemodels train dasl --set wild=PHOTOS",
    )
    parser.add_argument("folder", type=Path, metavar="PHOTOS", help="a folder of photographs")
    parser.add_argument(
        "--method", metavar="METHOD", help="shipped weights or a checkpoint (default: the best shipped weights)"
    )
    parser.add_argument(
        "--threshold",
        type=number(float, 0, 1, exclusive=True),
        default=0.5,
        help="minimum confidence of a detected face, 0..1 (default: 0.5)",
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or auto (default: cpu)")
    options = parser.parse_args(arguments)
    try:
        labels = label_pictures(options.folder, options.method, options.device, options.threshold)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    for reason in labels.without.values():
        print(f"{parser.prog}: {reason}", file=sys.stderr)
    print(
        f"{options.folder}: {len(labels.written)} landmark files written, {len(labels.present)} were there, "
        f"{len(labels.without)} pictures have none"
    )
    return 1 if labels.without else 0


if __name__ == "__main__":
    sys.exit(main())
