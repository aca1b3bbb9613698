"""Landmarks of photos and scans from the files of the usual tools.

* `.txt`, `.csv`: a point a line, "x y", also with a number or name before it, in brackets, or under a header with x
  and y; or a face a line, 136 numbers or columns x_0, y_0 ... (OpenFace: the lines with success 1).
* `.pts`: the same between braces, under iBUG's header; 1-based.
* `.npy`: [L,2], [2,L], or with z, or [2L]. `.npz`: `landmarks`, as the commands write it.
* `.json`: a list of points, [x, y] or {"x": ..., "y": ...}; {"36": [x, y], ...} by iBUG number; the five by name;
  face_recognition's groups; OpenPose's faces; also under "landmarks", "keypoints", "people" ...
* `.xml`: dlib's (imglab), the `<part>`s of the picture's `<box>`es, whole numbers at the centers of pixels.
* `.pp`: MeshLab's PickedPoints, of a mesh.
* `.mat`: AFLW2000-3D, 300W-LP: the first of `pt3d_68`, `pts_3d`, `pts_2d`, `pt2d`, `landmarks`; 1-based.

In this library's pixel coordinates, the upper left corner of the image is (0, 0) and the center of the first pixel
(0.5, 0.5). 1-based files (MATLAB's) call that center (1, 1); 0.5 is subtracted from their coordinates.

L is 68 (iBUG), 21 (AFLW) or 5 (eyes, tip of the nose, corners of the mouth; first the eye on the left of the image).
Of MediaPipe's 468 or 478, the usual 68 are taken (`landmark_names.MEDIAPIPE_68`); where all lie within -1..2, they are
shares of the picture's size.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from facemodels.core.errors import InputError, one_line
from facemodels.io.files import no_such_file, read_npz, read_text
from facemodels.io.landmark_names import MEDIAPIPE_68, NUM_MEDIAPIPE, SIZES
from facemodels.io.landmark_tables import read_table
from facemodels.io.landmark_trees import read_json, read_xml
from facemodels.io.matfile import read_mat
from facerender._checks import brief_repr

LANDMARK_SUFFIXES = (".mat", ".pts", ".txt", ".npy", ".json", ".csv", ".xml", ".npz", ".pp")
# Arrays of .mat files in the order of preference, and what their contour is, see `Landmarks`.
_MAT_KEYS = {"pt3d_68": "static", "pts_3d": "static", "pts_2d": "moving", "pt2d": "moving", "landmarks": "moving"}
_FEWEST = 4
_LARGEST = 1e9  # of coordinates
_FARTHEST = 3  # sides of its image that a landmark may lie outside


@brief_repr
class Landmarks(NamedTuple):
    """Landmarks of a file.

    Attributes:
        points: float32 [L,2], pixels of a photo, or float64 [L,3] in a mesh's unit; NaN where a point is missing.
        contour: "static" if the contour points are fixed places of the head, "moving" if they lie on the visible
            outline; see `MorphableModel.landmarks`.
    """

    points: np.ndarray
    contour: str


def read_landmarks(
    path: str | Path, dimensions: int = 2, size: tuple[int, int] | None = None, photo: str | Path | None = None
) -> Landmarks:
    """Read a landmark file of one of the kinds in the table above, of one face.

    Args:
        path: the file.
        dimensions: 2 for a photo's landmarks; 3 for a mesh's, which `.pts` and most `.mat` files do not have. A list of
            68 vertex numbers is not accepted; the caller must look up their positions.
        size: (H, W) of the photo, for MediaPipe's, which are shares of it.
        photo: the photo, which chooses among the pictures of a file by its name.

    Raises:
        InputError: the file is missing, of another kind, damaged, holds several faces, or does not hold 68, 21 or 5
            points of which at least four are known.
    """
    faces = read_faces(path, dimensions, size, photo)
    if len(faces) > 1:
        raise InputError(
            f"{path}: landmarks of one face are needed, there are {len(faces)} faces in the file; keep one"
        )
    return faces[0]


@np.errstate(all="ignore")  # of infinity, which is refused in the end
def read_faces(
    path: str | Path, dimensions: int = 2, size: tuple[int, int] | None = None, photo: str | Path | None = None
) -> list[Landmarks]:
    """Read a landmark file that may hold several faces; see `read_landmarks`."""
    path = Path(path)
    kind = path.suffix.lower()
    if not path.is_file():
        raise no_such_file(path, "landmark file")
    if kind not in LANDMARK_SUFFIXES:
        raise InputError(
            f"{path}: landmarks are read from {', '.join(LANDMARK_SUFFIXES)} files, "
            f"this one ends in {kind or 'nothing'}"
        )
    contour, name = "moving", None if photo is None else Path(photo).name
    found: list[np.ndarray]
    if kind == ".mat":
        array, contour = _read_mat(path)
        found = [array]
    elif kind == ".npy":
        found = [_read_npy(path)]
    elif kind == ".npz":
        found = _read_npz(path)
    elif kind == ".json":
        found = read_json(path, read_text(path), name)
    elif kind in (".xml", ".pp"):
        found = read_xml(path, read_text(path), name)
    else:
        text = read_text(path)
        found = read_table(path, text, name)
        if "n_points" in text:  # iBUG's header under another suffix
            kind = ".pts"
    if not found:
        raise InputError(f"{path}: the file holds no points")
    return [_checked(path, kind, array, contour, dimensions, size) for array in found]


def _checked(
    path: Path, kind: str, found: np.ndarray, contour: str, dimensions: int, size: tuple[int, int] | None
) -> Landmarks:
    """Landmarks in this library's pixels, after checking that there are enough."""
    points = _to_rows(path, found, dimensions)
    if len(points) in NUM_MEDIAPIPE:
        points, contour = _from_mediapipe(path, points, dimensions, size), "static"
    missing = np.isnan(points).any(1)
    if kind == ".mat":  # AFLW gives hidden points coordinates that are not positive
        missing |= (points[:, :2] <= 0).any(1) & (len(points) == 21)
    points[missing] = np.nan
    if np.isinf(points).any() or (points[~missing].size and np.abs(points[~missing]).max() > _LARGEST):
        raise InputError(
            f"{path}: a landmark's coordinate is infinite or larger than 1e9; write NaN for a point that is missing"
        )
    if (~missing).sum() < _FEWEST:
        raise InputError(
            f"{path}: at least {_FEWEST} landmarks are needed, {(~missing).sum()} of {len(points)} are there"
        )
    if kind in (".pts", ".mat"):
        points = points - 0.5
    return Landmarks(points.astype(np.float32) if dimensions == 2 else points, contour)


def _from_mediapipe(path: Path, points: np.ndarray, dimensions: int, size: tuple[int, int] | None) -> np.ndarray:
    """The usual 68 of MediaPipe's points, in pixels."""
    points = points[list(MEDIAPIPE_68)]
    known = points[~np.isnan(points)]
    if dimensions == 2 and known.size and known.min() > -1 and known.max() < 2:
        if size is None:
            raise InputError(f"{path}: MediaPipe's points are shares of a picture's size; give pixels")
        points = points * [size[1], size[0]]
    return points


def sidecar(photo: str | Path) -> Path | None:
    """The landmark file beside a photo, with its name but another suffix; None if there is none."""
    photo = Path(photo)
    return next((photo.with_suffix(s) for s in LANDMARK_SUFFIXES if photo.with_suffix(s).is_file()), None)


def check_inside(landmarks: np.ndarray, size: tuple[int, int], path: str | Path) -> None:
    """Check that landmarks belong to an image, not to another one or to another scale of it.

    Args:
        landmarks: [L,2] pixels, NaN where missing.
        size: (H, W) of the image.
        path: the landmark file, for the message.

    Raises:
        InputError: most of them lie outside the image, one lies further outside than three times its longer side, or
            all lie within two pixels.
    """
    x, y = landmarks[~np.isnan(landmarks).any(1)].T
    inside = (x >= 0) & (x <= size[1]) & (y >= 0) & (y <= size[0])
    if inside.mean() < 0.5:
        raise InputError(
            f"{path}: {inside.sum()} of {len(x)} landmarks lie in the image of {size[1]} x {size[0]} pixels "
            f"(x {x.min():.4g}..{x.max():.4g}, y {y.min():.4g}..{y.max():.4g}); "
            "they must be pixels of this very image, not shares of its size and not of a crop"
        )
    if max(np.ptp(x), np.ptp(y)) < 2:
        raise InputError(
            f"{path}: all {len(x)} landmarks lie within two pixels of ({x.min():.4g}, {y.min():.4g}); they must be "
            f"pixels of the image of {size[1]} x {size[0]} pixels, not shares of its size"
        )
    far = _FARTHEST * max(size)
    for number, point in enumerate(landmarks.tolist(), 1):
        if not all(np.isnan(v) or -far <= v <= side + far for v, side in zip(point, (size[1], size[0]))):
            raise InputError(
                f"{path}: landmark {number} of {len(landmarks)} lies at ({point[0]:.4g}, {point[1]:.4g}), far from the "
                f"image of {size[1]} x {size[0]} pixels; write NaN for a point that is missing"
            )


def _to_rows(path: Path, found: np.ndarray, dimensions: int) -> np.ndarray:
    """float64 [L,dimensions] of an array [L,2], [L,3], its transpose, or [2L]."""
    points = np.asarray(found, np.float64)
    if points.size in [2 * count for count in SIZES] and max(points.shape) == points.size:
        points = points.reshape(-1, 2)
    points = np.atleast_2d(points)
    if points.ndim == 2 and points.shape[0] in (2, 3) and points.shape[1] in SIZES:
        points = points.T
    if points.ndim != 2 or points.shape[0] not in SIZES or not dimensions <= points.shape[1] <= 3:
        wanted = "[L,3]" if dimensions == 3 else "[L,2] or [L,3]"
        raise InputError(
            f"{path}: landmarks must be {wanted} with L = 68 (iBUG), 21 (AFLW), 5, or 468 or 478 (MediaPipe), found "
            f"{list(points.shape)}"
        )
    return points[:, :dimensions].copy()


def _read_npz(path: Path) -> list[np.ndarray]:
    arrays = read_npz(path, "landmarks, as .npz")
    if "landmarks" not in arrays or arrays["landmarks"].dtype.kind not in "fiu":
        raise InputError(f"{path}: expected an array of numbers named landmarks, found {', '.join(arrays) or 'none'}")
    array = arrays["landmarks"]
    return list(array) if array.ndim == 3 else [array]


def _read_npy(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # whatever numpy raises on a damaged or pickled file
        raise InputError(f"{path}: not a readable .npy file of numbers ({one_line(error)})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        found = getattr(array, "dtype", type(array).__name__)
        raise InputError(f"{path}: expected an array of numbers [L,2], found {found}")
    return array[0] if array.ndim == 3 and len(array) == 1 else array


def _read_mat(path: Path) -> tuple[np.ndarray, str]:
    content = read_mat(path, "a landmark file", tuple(_MAT_KEYS))
    for key, contour in _MAT_KEYS.items():
        if key in content:
            array = content[key]
            if isinstance(array, str):
                raise InputError(f"{path}: {key} must be an array of numbers, found {array}")
            return array, contour
    raise InputError(f"{path}: none of the arrays {', '.join(_MAT_KEYS)} is in the file")
