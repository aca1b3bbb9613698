"""Files of reconstructed faces: meshes, texture, coefficients, ARKit curves, landmarks, pose.

`FILES` maps the words of `facemodels reconstruct --write` to functions that write a face of a photograph, or a face of
a video over all its frames.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facemodels.core.drawing import to_bytes
from facemodels.core.errors import InputError
from facemodels.export import mesh_of, write
from facemodels.export.obj import texture_files
from facemodels.io.files import write_atomically
from facemodels.models.arkit import arkit_curves, has_arkit
from facemodels.models.builtin.expressions import NAMES as ARKIT
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.overlays import PICTURES
from facemodels.reconstruction.texture import UNLIT
from facerender._checks import brief_repr


@brief_repr
class Output(NamedTuple):
    """What is written of one person.

    Attributes:
        stem: Folder of the files and beginning of their names.
        faces: A face a frame; of a photograph, one.
        frames: Numbers of the frames.
        texture: Makes `photo_texture` of the first face, where it is needed.
        model: The morphable model.
        times: Seconds of the frames from the beginning of the video; None for a photograph.
    """

    stem: Path
    faces: Sequence[Face]
    frames: Sequence[int]
    texture: Callable[[], Tensor]
    model: MorphableModel
    times: Sequence[float] | None = None

    def path(self, suffix: str) -> Path:
        """The file with a suffix."""
        return self.stem.with_name(self.stem.name + suffix)


Writer = Callable[[Output], list[Path]]  # returns the files written


def _mesh_writer(suffix: str) -> Writer:
    def save(output: Output) -> list[Path]:
        path, face = output.path(suffix), output.faces[0]
        mesh = mesh_of(output.model, face.identity, face.expression, face.albedo, name=output.stem.name)
        textured = output.model.uv is not None
        write(path, replace(mesh, texture=UNLIT * output.texture().numpy()) if textured else mesh)
        return [path, *texture_files(path)] if textured and suffix == ".obj" else [path]

    return save


def save_texture(output: Output) -> list[Path]:
    """Write the texture as a PNG, sRGB."""
    path, out = output.path("_texture.png"), io.BytesIO()
    Image.fromarray(to_bytes(output.texture())).save(out, "PNG")
    write_atomically({path: out.getvalue()})
    return [path]


def save_coefficients(output: Output) -> list[Path]:
    """Write coefficients, pose, landmarks and crops as arrays over the frames (.npz), and readable (.json).

    Identity and albedo, which belong to the person, are written once.
    """
    tensors = {
        "identity": output.faces[0].identity[None],
        "expression": torch.stack([f.expression for f in output.faces]),
        "rotation": torch.stack([f.rotation for f in output.faces]),
        "scale": torch.tensor([f.scale for f in output.faces]),
        "translation": torch.stack([f.translation for f in output.faces]),
        "landmarks": torch.stack([f.landmarks for f in output.faces]),
        "crop": torch.tensor([f.crop for f in output.faces]),
    }
    if output.faces[0].albedo is not None:
        tensors["albedo"] = output.faces[0].albedo[None]
    if output.faces[0].light is not None:
        tensors["light"] = torch.stack([f.light for f in output.faces if f.light is not None])
    arrays = {k: v.numpy() for k, v in tensors.items()} | {"frame": np.array(output.frames)}
    if output.times is not None:
        arrays["time"] = np.array(output.times)
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type] # the arrays are keywords, and none is named allow_pickle
    readable = {"model": output.model.name, "score": round(output.faces[0].score, 4)}
    readable |= {k: np.round(v.astype(float), 5).tolist() for k, v in arrays.items()}
    readable["expression_names"] = list(output.model.expression_names)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in readable.items())
    paths = [output.path(suffix) for suffix in (".npz", ".json")]
    write_atomically({paths[0]: packed.getvalue(), paths[1]: f"{{\n{lines}\n}}\n".encode()})
    return paths


def write_curves(
    path: Path,
    names: Sequence[str],
    values: np.ndarray,
    frames: Sequence[int] | None = None,
    times: Sequence[float] | None = None,
) -> None:
    """Write expression curves as CSV: a header, then the number of the frame, its time, and the values.

    Args:
        path: The file.
        names: [E] names of the columns.
        values: [N,E], 0..1.
        frames: [N] numbers of the frames; None counts from 0.
        times: [N] seconds from the beginning of the video; None leaves the column out.
    """
    numbers = range(len(values)) if frames is None else frames
    lead = [f"{k}" for k in numbers] if times is None else [f"{k},{t:.6f}" for k, t in zip(numbers, times)]
    rows = ["frame," + ("" if times is None else "time_s,") + ",".join(names)]
    rows += [f"{k}," + ",".join(f"{v:.5f}" for v in row) for k, row in zip(lead, values)]
    write_atomically({path: ("\n".join(rows) + "\n").encode()})


def save_arkit(output: Output) -> list[Path]:
    """Write ARKit's 52 curves as CSV, a row a frame: `Face.arkit`."""
    path = output.path("_arkit.csv")
    values = [list(face.arkit.values()) for face in output.faces]
    write_curves(path, ARKIT, np.array(values), output.frames, output.times)
    return [path]


def save_landmarks(output: Output) -> list[Path]:
    """Write the landmarks: of a photograph, 68 lines "x y z"; of a video, an array [T,68,3]. Pixels, y down."""
    if len(output.frames) == 1:
        path = output.path("_landmarks.txt")
        lines = "".join(f"{x:.2f} {y:.2f} {z:.2f}\n" for x, y, z in output.faces[0].landmarks.tolist())
        write_atomically({path: lines.encode()})
        return [path]
    path, packed = output.path("_landmarks.npy"), io.BytesIO()
    np.save(packed, torch.stack([f.landmarks for f in output.faces]).numpy())
    write_atomically({path: packed.getvalue()})
    return [path]


# The names of the angles say which direction is positive, see `core.rotation.head_angles`.
POSE_COLUMNS = (
    "frame",
    "pitch_up_deg",
    "yaw_left_deg",
    "roll_clockwise_deg",
    "x_px",
    "y_px",
    "scale_px_per_mm",
    "score",
)


def save_pose(output: Output) -> list[Path]:
    """Write the pose as CSV, a row a frame: angles in degrees, position in pixels (y down), pixels per millimeter.

    Pitch is positive up, yaw to the left of the picture, roll clockwise in the picture: `Face.degrees`.
    """
    path, out = output.path("_pose.csv"), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    timed = output.times is not None
    writer.writerow([POSE_COLUMNS[0], *(["time_s"] if timed else []), *POSE_COLUMNS[1:]])
    for k, (frame, face) in enumerate(zip(output.frames, output.faces)):
        numbers = [*face.degrees, *face.translation.tolist()]
        moment = [f"{output.times[k]:.6f}"] if output.times is not None else []
        writer.writerow([frame, *moment, *(f"{v:.3f}" for v in numbers), f"{face.scale:.5f}", f"{face.score:.4f}"])
    write_atomically({path: out.getvalue().encode()})
    return [path]


FILES: dict[str, Writer] = {
    "obj": _mesh_writer(".obj"),
    "ply": _mesh_writer(".ply"),
    "glb": _mesh_writer(".glb"),
    "viewer": _mesh_writer(".html"),
    "texture": save_texture,
    "coefficients": save_coefficients,
    "arkit": save_arkit,
    "landmarks": save_landmarks,
    "pose": save_pose,
}

OUTPUTS = tuple(dict.fromkeys([*PICTURES, *FILES]))  # the words of --write
DEFAULT_OUTPUTS = ("overlay", "glb", "coefficients")


def check_outputs(words: Sequence[str], model: MorphableModel, method: MorphableModel | None = None) -> None:
    """Check the words of --write.

    Args:
        words: The words.
        model: The model of the faces that are written.
        method: The method's model, from which faces are transferred; None: the same.

    Raises:
        InputError: A word is unknown, there is none, or the model lacks what an output needs.
    """
    if unknown := [w for w in words if w not in OUTPUTS]:
        raise InputError(f"--write {unknown[0]}: there are {', '.join(OUTPUTS)}")
    if not words:
        raise InputError(f"--write: nothing to write; there are {', '.join(OUTPUTS)}")
    if "arkit" in words and not (method is not None and has_arkit(method)):
        try:
            arkit_curves(model, torch.zeros(1, model.num_expression))
        except InputError as error:
            raise InputError(f"--write arkit: {error}") from None
    if "texture" in words and model.uv is None:
        raise InputError(f"--write texture: the model {model.name} has no texture coordinates")
