"""300W-LP and AFLW2000-3D: photographs with fitted Basel faces.

Zhu, Lei, Liu, Shi, Li: Face alignment across large poses, CVPR 2016 (3DDFA). 300W-LP is the training set of 3DDFA and
its family: photographs of 300-W, rotated to larger yaws by rendering. AFLW2000-3D is its test set; it is never trained
on here, and nothing is tuned to it. Both are read from a folder or a zip in their own layout:

| set | pictures with a .mat of the same name | 68 landmarks |
|---|---|---|
| 300W-LP | AFW/, HELEN/, IBUG/, LFPW/, and mirrored: AFW_Flip/ ... | pts_3d [68,2] in landmarks/AFW/*_pts.mat ... (*) |
| AFLW2000-3D | image00002.jpg ..., in AFLW2000/ or any folder | pt3d_68 [3,68] in the picture's .mat |

(*) A mirrored picture that has no such file gets the mirrored landmarks of the other.

The pose of a .mat is Pose_Para = pitch, yaw, roll (radians), tx, ty, tz (pixels), f (pixels per micrometer). With
vertices V of the Basel face in micrometers

    P = f Rx Ry Rz V + t,   x = P_x,   y = height + 1 - P_y,   z = P_z (larger is nearer)

    Rx = [1 0 0; 0 c s; 0 -s c],   Ry = [c 0 -s; 0 1 0; s 0 c],   Rz = [c s 0; -s c 0; 0 0 1]

1-based: the center of the first pixel is (1, 1). Each of Rx, Ry, Rz is the inverse of the usual one; the product is a
proper rotation. This is `facerender.camera.weak_perspective`, whose pixels are 0 at the lower left corner, with a
translation smaller by half a pixel.

f is negative in one file, AFLW2000-3D's image04157. -f Rx Ry Rz gives the same picture as f times the rotation whose
first two rows are negated, which is what is returned; only z then runs the other way than in that file's pt3d_68, which
is returned as it is.

Shape_Para [199] and Exp_Para [29] are coefficients of unit-length components. The models that
`facemodels.models.formats` reads take standard deviations: coefficients = Shape_Para / sigma. sigma is in the model's
files; without them the raw numbers are returned, which are of the order of 1e5 for identity.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from facemodels.core.crops import Box, cut, landmark_box, to_crop
from facemodels.core.errors import InputError, one_line
from facemodels.core.landmarks import mirror_order
from facemodels.core.rotation import head_rotation
from facemodels.data import FaceBatch
from facemodels.data.cache import Sample, Samples, collect_samples, load_in_threads
from facemodels.io.files import input_error, no_such_file, take_arrays
from facemodels.io.images import read_picture
from facemodels.io.matfile import parse_mat, read_mat
from facemodels.io.pickles import read_pickle
from facemodels.models.formats.tddfa_v2 import IDENTITY, POSE
from facerender._checks import brief_repr

SETS = ("AFW", "HELEN", "IBUG", "LFPW")
_PARAMETERS: dict[str, tuple[int, ...]] = {"Pose_Para": (1, 7), "Shape_Para": (199, 1), "Exp_Para": (29, 1)}
Arrays: TypeAlias = dict[str, np.ndarray | str]  # what `facemodels.io.matfile` reads


@brief_repr
class Photo(NamedTuple):
    """A photograph and its labels.

    Attributes:
        name: name of the file, without its suffix.
        image: uint8 [h,w,3] sRGB.
        landmarks: float32 [68,2], or [68,3] where z is known: pixels of the photograph, (0, 0) its corner, z larger
            where nearer.
        pose: float32 [7], Pose_Para of the .mat: pitch, yaw, roll in radians (`pose_rotation`), translation in pixels,
            and scale.
        shape: float32 [199], Shape_Para.
        expression: float32 [29], Exp_Para.
    """

    name: str
    image: np.ndarray
    landmarks: np.ndarray
    pose: np.ndarray
    shape: np.ndarray
    expression: np.ndarray

    @property
    def yaw(self) -> float:
        """Yaw of the fitted face in degrees, positive where the face looks to the left of the picture, as in
        `Face.degrees`.
        """
        return float(np.degrees(self.pose[1]))


def aflw2000(
    path: str | Path, size: int = 120, model: str | Path | None = None, cache: str | Path | None = None
) -> FaceBatch:
    """Read AFLW2000-3D (for evaluation only).

    Single photographs that cannot be read are left out, with one warning that names them.

    Args:
        path: the folder or zip.
        size: side of the crops in pixels; they are `landmark_box` of the labeled landmarks.
        model: Model_Shape.mat (with Model_Exp.mat beside it) or 3DDFA_V2's bfm_noneck_v3.pkl: identity and expression
            are then coefficients of that model as `load_model` loads it; None leaves them raw.
        cache: see `collect_samples`.

    Returns:
        Images uint8 [N,3,size,size] with landmarks [N,68,3] in crop pixels, z in the same scale, identity, expression
        and camera.

    Raises:
        InputError: the path does not hold the data set, or none of its files can be read.
    """
    photos = AFLW2000(path)
    return collect_samples(
        f"AFLW2000-3D in {path}", photos.sources(), _settings(size, model), lambda: _samples(photos, size, model), cache
    )


def lp300w(
    path: str | Path, size: int = 120, model: str | Path | None = None, cache: str | Path | None = None
) -> FaceBatch:
    """Read 300W-LP as `aflw2000` reads its set, but with landmarks [N,68,2] (pts_3d, which has no z).

    61,225 photographs and as many mirrored ones: 5 GB at 120 pixels.
    """
    photos = LP300W(path)
    return collect_samples(
        f"300W-LP in {path}", photos.sources(), _settings(size, model), lambda: _samples(photos, size, model), cache
    )


class PhotoSet:
    """Photographs of a folder or zip; reading them is safe in threads.

    Args:
        path: the folder or zip.

    Attributes:
        about: what the data set is, for messages.
        names: names of the photographs, sorted.

    Raises:
        InputError: the path does not hold the data set.
    """

    about = ""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.zip = None
        if self.path.is_dir():
            self.files = {
                p.relative_to(self.path).as_posix() for p in self.path.rglob("*") if p.suffix in (".jpg", ".mat")
            }
        elif self.path.is_file():
            try:
                self.zip = zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise input_error(
                    self.path, self.about, f"a file that is not a readable zip ({one_line(error)})"
                ) from error
            self.files = {
                n for n in self.zip.namelist() if n.endswith((".jpg", ".mat")) and not n.startswith("__MACOSX/")
            }
        else:
            raise no_such_file(self.path, "file or folder", self.about)
        self.stems = {
            name: stem for stem in sorted({f[:-4] for f in self.files}) if (name := self.name_of(stem)) is not None
        }
        self.names = sorted(self.stems)
        if not self.names:
            raise input_error(self.path, self.about, "none of them")

    def name_of(self, stem: str) -> str | None:
        """The name of the photograph that a file belongs to, None for other files; stem is its path without suffix."""
        raise NotImplementedError

    def read(self, name: str) -> Photo:
        """Read one photograph and its labels.

        Raises:
            InputError: one of its files is missing or damaged; the message names it.
        """
        stem = self.stems[name]
        arrays = self.arrays(stem + ".mat", (*_PARAMETERS, "pt3d_68"))
        pose, shape, expression = self.checked(stem + ".mat", arrays, _PARAMETERS)
        if pose[0, 6] == 0:
            raise input_error(self.path / (stem + ".mat"), "a scale in Pose_Para", "0")
        image = read_picture(io.BytesIO(self.content(stem + ".jpg")), str(self.path / (stem + ".jpg")))
        landmarks = self.landmarks(stem, arrays, image.shape[1]).astype(np.float32)
        if not np.ptp(landmarks[:, :2], axis=0).all() or np.abs(landmarks[:, :2]).max() > 5 * max(image.shape):
            raise input_error(self.path / stem, "68 landmarks on the photograph", "points on one line or far from it")
        return Photo(name, image, landmarks, pose[0], shape[:, 0], expression[:, 0])

    def landmarks(self, stem: str, arrays: Arrays, width: int) -> np.ndarray:
        """Read the landmarks of a photograph, [68,2] or [68,3], pixels with the corner at (0, 0).

        Args:
            stem: its path without suffix.
            arrays: content of its .mat.
            width: its width in pixels.
        """
        raise NotImplementedError

    def sources(self) -> list[Path]:
        """The files that everything is read from."""
        return [self.path] if self.zip else [self.path / f for f in sorted(self.files)]

    def content(self, file: str) -> bytes:
        """Read a file of the folder or zip.

        Raises:
            InputError: it is missing or damaged.
        """
        if file not in self.files:
            raise InputError(f"{self.path / file}: there is no such file")
        try:
            return (self.path / file).read_bytes() if self.zip is None else self.zip.read(file)
        except (
            zipfile.BadZipFile,
            zlib.error,
            OSError,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:  # what zipfile throws at damage and passwords
            raise InputError(f"{self.path / file}: cannot be read ({one_line(error)})") from error

    def arrays(self, file: str, keys: Collection[str]) -> Arrays:
        """Read arrays of a .mat file of the folder or zip."""
        return parse_mat(self.content(file), self.path / file, "a MATLAB file of version 5", keys)

    def checked(self, file: str, arrays: Arrays, shapes: dict[str, tuple[int, ...]]) -> list[np.ndarray]:
        """Return the arrays of these names as float32.

        Raises:
            InputError: one is missing, of another shape, or not finite.
        """
        with np.errstate(over="ignore"):
            found = [a.astype(np.float32) for a in take_arrays(self.path / file, arrays, shapes, self.about)]
        for key, array in zip(shapes, found):
            if not np.isfinite(array).all():
                raise input_error(self.path / file, f"{key} to hold finite numbers", "one that is not")
        return found


class AFLW2000(PhotoSet):
    """AFLW2000-3D: names such as image00002; landmarks with z, the corner of the photograph at (0, 0, 0)."""

    about = "AFLW2000-3D, a folder or zip of imageNNNNN.jpg and .mat"

    def name_of(self, stem: str) -> str | None:
        """The name of the photograph that a file belongs to."""
        return Path(stem).name if re.fullmatch(r"(.*/)?image\d+", stem) else None

    def landmarks(self, stem: str, arrays: Arrays, width: int) -> np.ndarray:
        """Read the landmarks of a photograph."""
        (points,) = self.checked(stem + ".mat", arrays, {"pt3d_68": (3, 68)})
        return points.T.astype(np.float64) - (0.5, 0.5, 0)


class LP300W(PhotoSet):
    """300W-LP: names such as HELEN_Flip/HELEN_232194_1_0."""

    about = "300W-LP, a folder or zip with AFW/, HELEN/, IBUG/, LFPW/, their _Flip and landmarks/"

    def name_of(self, stem: str) -> str | None:
        """The name of the photograph that a file belongs to."""
        above, folder, name = ["", "", *stem.split("/")][-3:]
        return f"{folder}/{name}" if folder.removesuffix("_Flip") in SETS and above != "landmarks" else None

    def landmarks(self, stem: str, arrays: Arrays, width: int) -> np.ndarray:
        """Read the landmarks of a photograph."""
        *above, folder, name = stem.split("/")
        root = "/".join([*above, "landmarks"])
        file = f"{root}/{folder}/{name}_pts.mat"
        mirror = file not in self.files and folder.endswith("_Flip")
        if mirror:
            file = f"{root}/{folder.removesuffix('_Flip')}/{name}_pts.mat"
        (points,) = self.checked(file, self.arrays(file, ("pts_3d",)), {"pts_3d": (68, 2)})
        points = points.astype(np.float64) - 0.5
        return (points * (-1, 1) + (width, 0))[np.asarray(mirror_order(68))] if mirror else points


def pose_rotation(angles: np.ndarray) -> np.ndarray:
    """Convert the angles of a Pose_Para to the rotation R = Rx Ry Rz (`core.rotation.head_rotation`, in radians).

    Args:
        angles: [...,3] pitch, yaw, roll in radians.

    Returns:
        [...,3,3], proper, for column vectors.
    """
    return head_rotation(torch.from_numpy(np.degrees(np.asarray(angles, np.float64)))).numpy()


def crop_camera(pose: np.ndarray, height: int, box: Box, size: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Convert a Pose_Para to the camera of `facerender.camera.weak_perspective` in a crop.

    Args:
        pose: [7].
        height: of the photograph, pixels.
        box: what is cropped.
        size: side of the crop in pixels.

    Returns:
        rotation [3,3]; scale, pixels per mm; translation [2], pixels from the lower left corner of the crop, y up.
    """
    rotation, f, zoom = pose_rotation(pose[:3]), float(pose[6]), size / (box[2] - box[0])
    if f < 0:
        rotation = rotation * [[-1], [-1], [1]]
    lower_left = np.array([box[0], height - box[3]])
    return rotation, abs(f) * 1e3 * zoom, (pose[3:5].astype(np.float64) - 0.5 - lower_left) * zoom


def basel_deviations(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the standard deviations that turn Shape_Para and Exp_Para into coefficients, by division.

    Args:
        path: the model that the coefficients are for, as `load_model` loads it. Model_Shape.mat, with Model_Exp.mat or
            Model_Expression.mat beside it ([199] and [29]); or 3DDFA_V2's bfm_noneck_v3.pkl, with
            param_mean_std_62d_120x120.pkl beside it ([40] and [10]: that model has only the first ones).

    Raises:
        InputError: another file, or one of them is missing or damaged.
    """
    path = Path(path)
    if path.suffix == ".pkl":
        beside = path.with_name("param_mean_std_62d_120x120.pkl")
        content = read_pickle(beside, "3DDFA_V2's statistics of its parameters, beside its model")
        (std,) = take_arrays(
            beside,
            content if isinstance(content, dict) else {},
            {"std": (62,)},
            "3DDFA_V2's statistics of its parameters",
        )
        return std[POSE : POSE + IDENTITY].astype(np.float64), std[POSE + IDENTITY :].astype(np.float64)
    second = next(
        (p for p in (path.with_name(n) for n in ("Model_Exp.mat", "Model_Expression.mat")) if p.exists()),
        path.with_name("Model_Exp.mat"),
    )
    found = []
    for file, key, count in ((path, "sigma", 199), (second, "sigma_exp", 29)):
        (values,) = take_arrays(
            file, read_mat(file, f"300W-LP's {file.name}", [key]), {key: None}, f"300W-LP's {file.name}"
        )
        if values.size != count:
            raise input_error(file, f"{key} of {count}, those of Shape_Para and Exp_Para", f"{values.size}")
        found.append(values.ravel().astype(np.float64))
    return found[0], found[1]


def _settings(size: int, model: str | Path | None) -> dict[str, Any]:
    return {"size": size, "deviations": None if model is None else [d.tolist() for d in basel_deviations(model)]}


def _samples(photos: PhotoSet, size: int, model: str | Path | None) -> Samples:
    deviations = (None, None) if model is None else basel_deviations(model)

    def coefficients(raw: np.ndarray, deviation: np.ndarray | None) -> np.ndarray:
        return raw if deviation is None else (raw[: len(deviation)] / deviation).astype(np.float32)

    def sample(name: str) -> Sample:
        photo = photos.read(name)
        box = landmark_box(photo.landmarks[:, :2])
        points = to_crop(photo.landmarks[:, :2], box, size)
        if photo.landmarks.shape[1] == 3:
            points = np.concatenate([points, photo.landmarks[:, 2:] * (size / (box[2] - box[0]))], 1)
        rotation, scale, translation = crop_camera(photo.pose, len(photo.image), box, size)
        return {
            "image": cut(photo.image, box, size).transpose(2, 0, 1),
            "landmarks": points.astype(np.float32),
            "visible": np.ones(68, bool),
            "identity": coefficients(photo.shape, deviations[0]),
            "expression": coefficients(photo.expression, deviations[1]),
            "rotation": rotation.astype(np.float32),
            "scale": np.float32(scale),
            "translation": translation.astype(np.float32),
        }

    return load_in_threads(photos.names, sample, photos.path.name)
