"""reconstruction.files: TODO."""

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


def _written(suffix):
    def save(
        stem: Path, faces: list[Face], frames: list[int], texture: Callable[[], Tensor], model: MorphableModel
    ) -> list[Path]:
        """faces: of the frames, in order, of one person. texture: `photo_texture` of the first, asked for where it is needed. Returns what was written."""
        path, face = stem.with_name(stem.name + suffix), faces[0]
        mesh = mesh_of(model, face.identity, face.expression, face.albedo, name=stem.name)
        write(path, mesh if model.uv is None else replace(mesh, texture=UNLIT * texture().numpy()))
        return [path]

    return save


def save_texture(stem, faces, frames, texture, model):
    path = stem.with_name(stem.name + "_texture.png")
    write_atomically({path: _png(to_bytes(texture()))})
    return [path]


def _png(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def save_coefficients(stem, faces, frames, texture, model):
    """As arrays over the frames, and as text; identity and albedo once."""
    arrays = {
        "identity": faces[0].identity[None],
        "expression": torch.stack([f.expression for f in faces]),
        "rotation": torch.stack([f.rotation for f in faces]),
        "scale": torch.tensor([f.scale for f in faces]),
        "translation": torch.stack([f.translation for f in faces]),
        "landmarks": torch.stack([f.landmarks for f in faces]),
        "crop": torch.tensor([f.crop for f in faces]),
    }
    if faces[0].albedo is not None:
        arrays["albedo"] = faces[0].albedo[None]
    if faces[0].light is not None:
        arrays["light"] = torch.stack([f.light for f in faces])
    arrays = {k: v.numpy() for k, v in arrays.items()} | {"frame": np.array(frames)}
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    readable = {"model": model.name, "score": round(faces[0].score, 4)}
    readable |= {k: np.round(v.astype(float), 5).tolist() for k, v in arrays.items()}
    readable["expression_names"] = list(model.expression_names)
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in readable.items())
    paths = [stem.with_name(stem.name + s) for s in (".npz", ".json")]
    write_atomically({paths[0]: packed.getvalue(), paths[1]: f"{{\n{lines}\n}}\n".encode()})
    return paths


def write_curves(path: Path, names, values: np.ndarray, frames: Sequence[int] | None = None) -> None:
    """A table of curves [N,E], 0..1: a header with their names, then frame number (counted from 0 for None) and values."""
    numbers = range(len(values)) if frames is None else frames
    rows = ["frame," + ",".join(names)] + [
        f"{k}," + ",".join(f"{v:.5f}" for v in row) for k, row in zip(numbers, values)
    ]
    write_atomically({path: ("\n".join(rows) + "\n").encode()})


def save_arkit(stem, faces, frames, texture, model):
    path = stem.with_name(stem.name + "_arkit.csv")
    write_curves(path, model.expression_names, torch.stack([f.expression for f in faces]).numpy(), frames)
    return [path]


def save_landmarks(stem, faces, frames, texture, model):
    """A photograph: 68 lines "x y z"; a video: an array [T,68,3]."""
    if len(frames) == 1:
        path = stem.with_name(stem.name + "_landmarks.txt")
        write_atomically(
            {path: "".join(f"{x:.2f} {y:.2f} {z:.2f}\n" for x, y, z in faces[0].landmarks.tolist()).encode()}
        )
        return [path]
    path, packed = stem.with_name(stem.name + "_landmarks.npy"), io.BytesIO()
    np.save(packed, torch.stack([f.landmarks for f in faces]).numpy())
    write_atomically({path: packed.getvalue()})
    return [path]


def save_pose(stem, faces, frames, texture, model):
    path, out = stem.with_name(stem.name + "_pose.csv"), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["frame", "pitch_deg", "yaw_deg", "roll_deg", "x_px", "y_px", "scale_px_per_mm"])
    for frame, f in zip(frames, faces):
        writer.writerow(
            [frame, *(f"{v:.3f}" for v in f.degrees), *(f"{v:.3f}" for v in f.translation.tolist()), f"{f.scale:.5f}"]
        )
    write_atomically({path: out.getvalue().encode()})
    return [path]


FILES = {
    "obj": _written(".obj"),
    "ply": _written(".ply"),
    "glb": _written(".glb"),
    "viewer": _written(".html"),
    "texture": save_texture,
    "coefficients": save_coefficients,
    "arkit": save_arkit,
    "landmarks": save_landmarks,
    "pose": save_pose,
}


def check_words(words: Sequence[str], model: MorphableModel) -> None:
    """Raises InputError where a word is none, or the model lacks what it takes."""
    if wrong := [w for w in words if w not in WORDS]:
        raise InputError(f"--write {wrong[0]}: there are {', '.join(WORDS)}")
    if not words:
        raise InputError(f"--write: nothing to write; there are {', '.join(WORDS)}")
    if "arkit" in words and not model.blendshapes:
        raise InputError(
            f"--write arkit: the expressions of the model {model.name} are not ARKit's; --model builtin carries faces over to the built-in model"
        )
    if "texture" in words and model.uv is None:
        raise InputError(f"--write texture: the model {model.name} has no texture coordinates")


WORDS = tuple(dict.fromkeys([*PICTURES, *FILES]))


DEFAULT = ("overlay", "glb", "coefficients")
