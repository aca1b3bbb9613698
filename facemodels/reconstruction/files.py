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

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from facemodels.core.drawing import to_bytes
from facemodels.core.errors import InputError
from facemodels.export import mesh_of, write
from facemodels.io.files import write_atomically
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.overlays import PICTURES
from facemodels.reconstruction.texture import UNLIT

# (stem, faces, frames, texture, model) -> the files written. stem: folder and beginning of their names. faces: of one
# person, a face a frame. frames: their numbers. texture: makes `photo_texture` of the first, where it is needed.
Writer = Callable[[Path, Sequence[Face], Sequence[int], Callable[[], Tensor], MorphableModel], list[Path]]


def _with_suffix(stem: Path, suffix: str) -> Path:
    return stem.with_name(stem.name + suffix)


def _mesh_writer(suffix: str) -> Writer:
    def save(
        stem: Path,
        faces: Sequence[Face],
        frames: Sequence[int],
        texture: Callable[[], Tensor],
        model: MorphableModel,
    ) -> list[Path]:
        path, face = _with_suffix(stem, suffix), faces[0]
        mesh = mesh_of(model, face.identity, face.expression, face.albedo, name=stem.name)
        write(path, mesh if model.uv is None else replace(mesh, texture=UNLIT * texture().numpy()))
        return [path]

    return save


def save_texture(
    stem: Path,
    faces: Sequence[Face],
    frames: Sequence[int],
    texture: Callable[[], Tensor],
    model: MorphableModel,
) -> list[Path]:
    """Write the texture as a PNG, sRGB."""
    path, out = _with_suffix(stem, "_texture.png"), io.BytesIO()
    Image.fromarray(to_bytes(texture())).save(out, "PNG")
    write_atomically({path: out.getvalue()})
    return [path]


def save_coefficients(
    stem: Path,
    faces: Sequence[Face],
    frames: Sequence[int],
    texture: Callable[[], Tensor],
    model: MorphableModel,
) -> list[Path]:
    """Write coefficients, pose, landmarks and crops as arrays over the frames (.npz), and readable (.json).

    Identity and albedo, which belong to the person, are written once.
    """
    tensors = {
        "identity": faces[0].identity[None],
        "expression": torch.stack([f.expression for f in faces]),
        "rotation": torch.stack([f.rotation for f in faces]),
        "scale": torch.tensor([f.scale for f in faces]),
        "translation": torch.stack([f.translation for f in faces]),
        "landmarks": torch.stack([f.landmarks for f in faces]),
        "crop": torch.tensor([f.crop for f in faces]),
    }
    if faces[0].albedo is not None:
        tensors["albedo"] = faces[0].albedo[None]
    if faces[0].light is not None:
        tensors["light"] = torch.stack([f.light for f in faces if f.light is not None])
    arrays = {k: v.numpy() for k, v in tensors.items()} | {"frame": np.array(frames)}
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type] # the arrays are keywords, and none is named allow_pickle
    readable = {"model": model.name, "score": round(faces[0].score, 4)}
    readable |= {k: np.round(v.astype(float), 5).tolist() for k, v in arrays.items()}
    readable["expression_names"] = list(model.expression_names)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in readable.items())
    paths = [_with_suffix(stem, suffix) for suffix in (".npz", ".json")]
    write_atomically({paths[0]: packed.getvalue(), paths[1]: f"{{\n{lines}\n}}\n".encode()})
    return paths


def write_curves(path: Path, names: Sequence[str], values: np.ndarray, frames: Sequence[int] | None = None) -> None:
    """Write expression curves as CSV: a header, then the number of the frame and the values.

    Args:
        path: The file.
        names: [E] names of the columns.
        values: [N,E], 0..1.
        frames: [N] numbers of the frames; None counts from 0.
    """
    numbers = range(len(values)) if frames is None else frames
    rows = ["frame," + ",".join(names)]
    rows += [f"{k}," + ",".join(f"{v:.5f}" for v in row) for k, row in zip(numbers, values)]
    write_atomically({path: ("\n".join(rows) + "\n").encode()})


def save_arkit(
    stem: Path,
    faces: Sequence[Face],
    frames: Sequence[int],
    texture: Callable[[], Tensor],
    model: MorphableModel,
) -> list[Path]:
    """Write ARKit's 52 curves as CSV, a row a frame."""
    path = _with_suffix(stem, "_arkit.csv")
    write_curves(path, model.expression_names, torch.stack([f.expression for f in faces]).numpy(), frames)
    return [path]


def save_landmarks(
    stem: Path,
    faces: Sequence[Face],
    frames: Sequence[int],
    texture: Callable[[], Tensor],
    model: MorphableModel,
) -> list[Path]:
    """Write the landmarks: of a photograph, 68 lines "x y z"; of a video, an array [T,68,3]. Pixels, y down."""
    if len(frames) == 1:
        path = _with_suffix(stem, "_landmarks.txt")
        lines = "".join(f"{x:.2f} {y:.2f} {z:.2f}\n" for x, y, z in faces[0].landmarks.tolist())
        write_atomically({path: lines.encode()})
        return [path]
    path, packed = _with_suffix(stem, "_landmarks.npy"), io.BytesIO()
    np.save(packed, torch.stack([f.landmarks for f in faces]).numpy())
    write_atomically({path: packed.getvalue()})
    return [path]


def save_pose(
    stem: Path,
    faces: Sequence[Face],
    frames: Sequence[int],
    texture: Callable[[], Tensor],
    model: MorphableModel,
) -> list[Path]:
    """Write the pose as CSV, a row a frame: angles in degrees, position in pixels (y down), pixels per millimeter."""
    path, out = _with_suffix(stem, "_pose.csv"), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["frame", "pitch_deg", "yaw_deg", "roll_deg", "x_px", "y_px", "scale_px_per_mm"])
    for frame, face in zip(frames, faces):
        numbers = [*face.degrees, *face.translation.tolist()]
        writer.writerow([frame, *(f"{v:.3f}" for v in numbers), f"{face.scale:.5f}"])
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


def check_outputs(words: Sequence[str], model: MorphableModel) -> None:
    """Check the words of --write.

    Raises:
        InputError: A word is unknown, there is none, or the model lacks what an output needs.
    """
    if unknown := [w for w in words if w not in OUTPUTS]:
        raise InputError(f"--write {unknown[0]}: there are {', '.join(OUTPUTS)}")
    if not words:
        raise InputError(f"--write: nothing to write; there are {', '.join(OUTPUTS)}")
    if "arkit" in words and not model.blendshapes:
        raise InputError(
            f"--write arkit: the expressions of the model {model.name} are not ARKit's; --model builtin carries faces"
            " over to the built-in model"
        )
    if "texture" in words and model.uv is None:
        raise InputError(f"--write texture: the model {model.name} has no texture coordinates")
