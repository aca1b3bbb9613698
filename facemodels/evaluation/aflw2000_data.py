"""AFLW2000-3D for the protocols on it: where it lies, crops in batches, labels from a file beside it, an example."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from torch import Tensor

from facemodels.core.crops import Box, cut, landmark_box
from facemodels.core.errors import InputError
from facemodels.core.rotation import head_angles
from facemodels.data.cache import load_in_threads, name_list
from facemodels.data.tddfa import AFLW2000, Photo
from facemodels.evaluation.examples import ORDER_68, SIZE, people
from facemodels.io.files import Shape, input_error, read_npz, take_arrays
from facemodels.models.builtin import builtin_data
from facemodels.models.model_data import ModelData, truncated
from facemodels.models.morphable import MorphableModel

NUM_PHOTOGRAPHS = 2000  # in the whole set
BATCH = 32  # crops that go through a network together
LAYOUT = f"""The data, as the data set comes; a zip of it will do:
  DATA/                      this folder, or one that holds it as AFLW2000*
    image00002.jpg           a photograph
    image00002.mat           labels, MATLAB 5: pt3d_68 [3,68], x and y in pixels, 1-based, y down,
                             z in pixels toward the viewer; Pose_Para [1,7]: pitch, yaw, roll in
                             radians, x, y, z in pixels, scale; Shape_Para [199,1], Exp_Para [29,1]
    ...
  DATA_labels.npz            beside DATA or DATA.zip or none: names [N], pts68_reannotated [N,2,68]
                             and roi_box [N,4] (left, top, right, bottom), pixels, 1-based;
                             yaw_aflw_deg [N], degrees

{ORDER_68}"""

# By the name of a label, by the name of a photograph.
ExtraLabels = dict[str, dict[str, np.ndarray]]

_TDDFA_FILES = {  # in 3DDFA's folder test.configs
    "reannotated": "AFLW2000-3D-Reannotated.pts68.npy",
    "aflw_yaw": "AFLW2000-3D-new.pose.npy",
    "roi_box": "AFLW2000-3D_crop.roi_box.npy",
}


def locate(path: str | Path) -> Path:
    """The data set itself: the path, or the folder or zip in it whose name begins with AFLW2000.

    Raises:
        InputError: There are several in the folder.
    """
    path = Path(path)
    if not path.is_dir() or any(path.glob("image*.mat")) or _labels_beside(path).is_file():
        return path
    inside = sorted(
        p
        for p in path.iterdir()
        if p.name.lower().startswith("aflw2000") and (p.is_dir() or p.suffix.lower() == ".zip")
    )
    if len(inside) > 1:
        raise InputError(
            f"{path}: expected one folder or zip of AFLW2000-3D, found {', '.join(p.name for p in inside)}; give the "
            "one that is meant"
        )
    return inside[0] if inside else path


def label_box(photo: Photo) -> Box:
    """The benchmark's crop of a photograph, from its labeled landmarks; see `core.crops.landmark_box`."""
    return landmark_box(photo.landmarks[:, :2])


def batches(
    photos: AFLW2000,
    names: list[str],
    size: int,
    box_of: Callable[[Photo], Box] = label_box,
    batch: int = BATCH,
) -> Iterator[tuple[list[Photo], list[Box], Tensor]]:
    """Read and crop photographs; those that cannot be read are left out, with one warning that names them.

    Args:
        photos: The data set.
        names: Which of its photographs, in this order.
        size: The side of the crops in pixels.
        box_of: The box to crop from a photograph.
        batch: Crops in a batch.

    Yields:
        Photographs, whose images keep their height but no pixels; their boxes; and the crops, float32 [N,3,size,size]
        in 0..1.

    Raises:
        InputError: None can be read.
    """

    def cropped(name: str) -> tuple[Photo, Box, np.ndarray]:
        photo = photos.read(name)
        box = box_of(photo)
        return photo._replace(image=photo.image[:, :0].copy()), box, cut(photo.image, box, size)

    def stacked(rows: list[tuple[Photo, Box, np.ndarray]]) -> tuple[list[Photo], list[Box], Tensor]:
        some, boxes, crops = zip(*rows)
        return list(some), list(boxes), torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255

    waiting: list[tuple[Photo, Box, np.ndarray]] = []
    bad: dict[str, InputError] = {}
    for name, row in load_in_threads(names, cropped, photos.path.name):
        if isinstance(row, InputError):
            bad[name] = row
            continue
        waiting.append(row)
        if len(waiting) == batch:
            yield stacked(waiting)
            waiting = []
    if waiting:
        yield stacked(waiting)
    if bad:
        some = f"{name_list([*bad])}; the first because: {next(iter(bad.values()))}"
        if len(bad) == len(names):
            raise InputError(f"{photos.path}: none of {len(bad)} photographs can be read: {some}")
        warnings.warn(f"{photos.path}: {len(bad)} of {len(names)} photographs are left out: {some}", stacklevel=3)


def photograph_count(count: int) -> str:
    """A number of photographs, in words for a title."""
    return f"{count:,} photographs of AFLW2000-3D"


def subset_notes(count: int, left_out: int) -> list[str]:
    """Notes on photographs that were not scored.

    Args:
        count: How many were scored.
        left_out: How many could not be read.
    """
    notes = []
    if left_out:
        notes.append(f"{left_out} photographs could not be read and are left out.")
    if count + left_out < NUM_PHOTOGRAPHS:
        notes.append(
            f"Measured on {count:,} of the {NUM_PHOTOGRAPHS:,} photographs; published numbers are of all of them."
        )
    return notes


def extra_labels(photos: AFLW2000, path: str | Path | None) -> ExtraLabels:
    """Read the labels that do not come with the data set.

    Args:
        photos: The data set.
        path: See `read_labels`. None takes DATA_labels.npz beside the data set, where there is one.

    Returns:
        See `read_labels`; empty where there is no file.
    """
    if path is not None:
        return read_labels(path, photos)
    beside = _labels_beside(photos.path)
    return read_labels(beside, photos) if beside.is_file() else {}


def read_labels(path: str | Path, photos: AFLW2000) -> ExtraLabels:
    """Read the re-annotated landmarks (LS3D-W's), AFLW's yaw and the boxes of 3DDFA's benchmark.

    Args:
        path: An .npz of names [N], pts68_reannotated [N,2,68] (1-based), yaw_aflw_deg [N] and roi_box [N,4] (1-based);
            or 3DDFA's folder test.configs, whose rows are the photographs of the whole set in the order of their names.
        photos: The data set.

    Returns:
        reannotated [68,2] in pixels with the corner at (0, 0); aflw_yaw, degrees; roi_box [4] as in the file: each by
        the name of the photograph.

    Raises:
        InputError: Files are missing or damaged, or belong to other photographs.
    """
    path = Path(path)
    if path.is_dir():
        names: list[str] | np.ndarray = photos.names
        arrays = {key: _read_npy(path / file) for key, file in _TDDFA_FILES.items()}
        shapes: dict[str, Shape]
        shapes = {"reannotated": (len(names), 2, 68), "aflw_yaw": (len(names),), "roi_box": (len(names), 4)}
        reannotated, yaw, boxes = take_arrays(
            path, arrays, shapes, f"labels of the {len(names)} photographs of {photos.path}"
        )
    else:
        expected = "labels of AFLW2000-3D"
        shapes = {"pts68_reannotated": ("N", 2, 68), "yaw_aflw_deg": ("N",), "roi_box": ("N", 4)}
        arrays = read_npz(path, expected)
        reannotated, yaw, boxes = take_arrays(path, arrays, shapes, expected)
        found = arrays.get("names")
        if found is None or found.dtype.kind != "U" or found.shape != yaw.shape:
            raise input_error(
                path,
                f"{expected} with {len(yaw)} names",
                "none" if found is None else f"{found.dtype} of {list(found.shape)}",
            )
        names = found
    rows = {name: row for row, name in enumerate(map(str, names))}
    missing = [name for name in photos.names if name not in rows]
    if missing:
        raise input_error(
            path,
            f"labels of the {len(photos.names)} photographs of {photos.path}",
            f"{len(missing)} of them missing, {missing[0]} the first",
        )
    columns = {
        "reannotated": reannotated.transpose(0, 2, 1).astype(np.float64) - 0.5,
        "aflw_yaw": yaw.astype(np.float64),
        "roi_box": boxes.astype(np.float64),
    }
    for key, column in columns.items():
        if not np.isfinite(column).all():
            raise input_error(path, f"finite numbers as {key}", "others")
    return {key: {name: column[rows[name]] for name in photos.names} for key, column in columns.items()}


def write_example(folder: Path) -> None:
    """Write a tiny data set; see `facemodels.evaluation.Protocol`."""
    example_set(folder)


_YAWS = (0.0, 20.0, -40.0, 50.0, 70.0, -75.0)  # degrees, of the example's pictures: two in each bin
_COUNTS = (199, 29)  # of Shape_Para and Exp_Para


def example_set(folder: Path) -> tuple[ModelData, np.ndarray]:
    """Write a tiny AFLW2000-3D: AFLW2000-3D/ and AFLW2000-3D_labels.npz.

    Args:
        folder: An empty folder.

    Returns:
        The model that the labels are coefficients of, and the length of its identity modes in micrometers, by which
        coefficients are multiplied in Shape_Para.
    """
    from scipy.io import savemat

    data = truncated(builtin_data(), identity=20)
    lengths = np.linalg.norm(data.identity.reshape(len(data.identity), -1).astype(np.float64), axis=1) * 1e3
    (person,) = people(1, _YAWS, model=MorphableModel(data))
    photos = folder / "AFLW2000-3D"
    photos.mkdir()
    random = np.random.default_rng(0)
    points, boxes = [], []
    for k, picture in enumerate(person.pictures):
        name = photos / f"image{k + 1:05d}"
        iio.imwrite(name.with_suffix(".jpg"), picture.image, quality=95)
        angles = np.radians(head_angles(torch.from_numpy(picture.rotation)).numpy())
        pose = np.array([*angles, *picture.translation + 0.5, 0, picture.scale * 1e-3])
        shape = np.zeros((_COUNTS[0], 1))
        shape[: len(lengths), 0] = picture.identity * lengths
        points.append((picture.landmarks + (0.5, 0.5, 0)).T)
        labels = {"Pose_Para": pose[None], "Shape_Para": shape, "Exp_Para": np.zeros((_COUNTS[1], 1))}
        savemat(name.with_suffix(".mat"), labels | {"pt3d_68": points[-1]}, do_compression=True)
        boxes.append(np.clip(np.round(np.array(landmark_box(picture.landmarks[:, :2])) + 0.5), 1, SIZE))
    table = np.stack(points)[:, :2]
    np.savez_compressed(
        folder / "AFLW2000-3D_labels.npz",
        names=np.array([f"image{k + 1:05d}" for k in range(len(_YAWS))]),
        pts68_reannotated=table + random.standard_normal(table.shape),
        yaw_aflw_deg=np.array([float(head_angles(torch.from_numpy(p.rotation))[1]) for p in person.pictures]),
        roi_box=np.array(boxes),
    )
    return data, lengths


def write_example_model(folder: Path, data: ModelData, lengths: np.ndarray) -> None:
    """Write the model of `example_set` as 300W-LP's Model_Shape.mat and Model_Exp.mat."""
    from scipy.io import savemat

    rows = 3 * len(data.mean)

    def columns(modes: np.ndarray, scale: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        matrix, deviations = np.zeros((rows, count), np.float32), np.ones((count, 1))
        matrix[:, : len(modes)] = (modes.reshape(len(modes), rows) * (1e3 / scale[:, None])).T
        deviations[: len(modes), 0] = scale
        return matrix, deviations

    assert data.landmark_index is not None and data.landmark_weights is not None
    w, sigma = columns(data.identity, lengths, _COUNTS[0])
    exp = data.expression[: _COUNTS[1]]
    w_exp, sigma_exp = columns(exp, np.linalg.norm(exp.reshape(len(exp), -1), axis=1) * 1e3, _COUNTS[1])
    vertex = data.landmark_index[np.arange(68), data.landmark_weights.argmax(1)]
    mean = data.mean.reshape(rows, 1).astype(np.float64) * 1e3
    content = {"mu_shape": mean, "w": w, "sigma": sigma, "tri": data.faces.T + 1.0, "keypoints": vertex[None] + 1.0}
    savemat(folder / "Model_Shape.mat", content, do_compression=True)
    content = {"mu_exp": np.zeros((rows, 1)), "w_exp": w_exp, "sigma_exp": sigma_exp}
    savemat(folder / "Model_Exp.mat", content, do_compression=True)


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # whatever numpy raises at a missing, damaged or pickled file
        raise InputError(
            f"{path}: not a readable .npy file; labels are an .npz or 3DDFA's folder test.configs "
            f"({type(error).__name__})"
        ) from None


def _labels_beside(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(path.name.removesuffix(".zip") + "_labels.npz")
