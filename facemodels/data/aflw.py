"""AFLW (Köstinger, Wohlhart, Roth, Bischof: Annotated facial landmarks in the wild, 2011): faces in 120-pixel crops.

Two files beside each other: `NAME.zip` with the crops as jpg, and `NAME_labels.npz` with, in the order of `names` [N],

    pts21 [N,2,21]   points in pixels of the original image; a coordinate that is not positive: the point is hidden or
    not
                     labeled
    roi_box [N,4]    x0, y0, x1, y1 in the same pixels: what was cut out and resized to 120 x 120

Both count pixels as MATLAB does, and the box includes its last pixel, so it is x1 - x0 + 1 wide, and a point lies in
the crop at

    (x - x0 + 0.5) 120 / (x1 - x0 + 1)

(docs/notes/data.md has the measurement.) The boxes were square, and the crops are black where they reached out of the
image; but in the labels, boxes are clipped to it. A box that is not square is therefore extended: down where it is too
low, to the left where it is too narrow, the sides on which such boxes end at the image's border.

The points are `NAMES[21]` of `facemodels.core.landmarks`: "left" is left as seen in the picture. They are few, noisy
and in two dimensions.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from facemodels.core.crops import cut, to_crop
from facemodels.core.errors import InputError, one_line
from facemodels.data import FaceBatch
from facemodels.data.cache import Sample, Samples, collect_samples, load_in_threads
from facemodels.io.images import read_picture

CROP = 120


def aflw(path: str | Path, size: int = CROP, cache: str | Path | None = None) -> FaceBatch:
    """Read AFLW's crops.

    Damaged pictures, those without labels and labels without a picture are left out, with a warning that names them.

    Args:
        path: the zip, or the folder of `aflw_crops.zip`.
        size: side of the crops in pixels; other than 120, they are resampled.
        cache: see `collect_samples`.

    Returns:
        Images uint8 [N,3,size,size] with `landmarks` [N,21,2] in their pixels, NaN where not `visible`.

    Raises:
        InputError: a file is missing or not what it should be, or no picture can be used.
    """
    path, table = aflw_files(path)
    labels = _labels(table)

    def samples() -> Samples:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path}: not a readable zip ({error})") from None
        with archive:
            members = {
                member.rsplit("/", 1)[-1]: member for member in archive.namelist() if member.lower().endswith(".jpg")
            }
            yield from load_in_threads(
                sorted(members.keys() | labels.keys()),
                lambda name: _sample(archive, members.get(name), name, labels.get(name), size),
                "reading AFLW",
            )

    return collect_samples(str(path), (path, table), {"source": "aflw", "size": size}, samples, cache)


def aflw_files(path: str | Path) -> tuple[Path, Path]:
    """Find the zip of crops and the file of their labels.

    Raises:
        InputError: one of them is not there.
    """
    path = Path(path)
    path = path / "aflw_crops.zip" if path.is_dir() else path
    table = path.with_name(path.stem + "_labels.npz")
    for file in (path, table):
        if not file.is_file():
            raise InputError(
                f"{file}: there is no such file; AFLW is read from NAME.zip with crops and NAME_labels.npz beside it"
            )
    return path, table


def _labels(table: Path) -> dict[str, np.ndarray]:
    """Read the points float32 [21,2] of each picture, in pixels of the crop, NaN where there is none."""
    try:
        with open(table, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            names, points, box = file["names"], file["pts21"].astype(np.float64), file["roi_box"].astype(np.float64)
    except Exception as error:  # whatever numpy throws at a damaged file
        raise InputError(f"{table}: expected the arrays names, pts21 and roi_box ({one_line(error)})") from None
    if points.shape != (len(names), 2, 21) or box.shape != (len(names), 4):
        raise InputError(
            f"{table}: expected pts21 [N,2,21] and roi_box [N,4] for {len(names)} names, "
            f"found {list(points.shape)} and {list(box.shape)}"
        )
    return {str(name): p.astype(np.float32) for name, p in zip(names, points_in_crops(labeled_points(points), box))}


def labeled_points(points: np.ndarray) -> np.ndarray:
    """Set points [N,2,21] of the labels to NaN where they are hidden or not labeled."""
    return np.where((points <= 0).any(1, keepdims=True), np.nan, points)


def points_in_crops(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Convert points of the labels to pixels of the crops.

    Args:
        points: [N,2,P], pixels of the original images.
        box: [N,4], the boxes as they are stored.

    Returns:
        [N,P,2].
    """
    boxes = completed_boxes(box)
    return np.array([to_crop(p.T, b, CROP) for p, b in zip(points, boxes)]).reshape(len(points), points.shape[2], 2)


def completed_boxes(box: np.ndarray) -> np.ndarray:
    """The boxes that were cropped: square, from the first line of their first pixel to the last line of their last one.

    Args:
        box: [N,4], the boxes as they are stored.

    Returns:
        [N,4], in the same pixels, counted from 1 as the points are.
    """
    box = box.copy()
    width, height = (box[:, 2:] - box[:, :2]).T
    box[:, 3] += np.maximum(width - height, 0)
    box[:, 0] -= np.maximum(height - width, 0)
    return box + [-0.5, -0.5, 0.5, 0.5]


def _sample(archive: zipfile.ZipFile, member: str | None, name: str, points: np.ndarray | None, size: int) -> Sample:
    if member is None:
        raise InputError(f"{name}: the zip has no such picture")
    if points is None:
        raise InputError(f"{name}: there are no labels for it")
    try:
        content = archive.read(member)
    except Exception as error:  # whatever a damaged archive makes zipfile and zlib throw
        raise InputError(f"{name}: damaged in the zip ({error})") from None
    image = read_picture(io.BytesIO(content), name)
    if image.shape[:2] != (CROP, CROP):
        raise InputError(
            f"{name}: expected a crop of {CROP} x {CROP} pixels, found {image.shape[1]} x {image.shape[0]}"
        )
    if size != CROP:
        image, points = cut(image, (0, 0, CROP, CROP), size), points * np.float32(size / CROP)
    return {"image": image.transpose(2, 0, 1), "landmarks": points, "visible": ~np.isnan(points[:, 0])}
