"""What is made of reconstructed faces: pictures of them in their photograph, and files of each.

`PICTURES` are functions (picture uint8 [h,w,3], faces, model) -> uint8 [h,w,3], for photographs and for the frames of videos; `FILES` write a face, or a face of a video over all its
frames, to files that begin with a name. Both by the words that `facemodels reconstruct --write` takes.
"""

import csv
import functools
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from torch import Tensor

import facerender as fr
from facerender.colour import to_linear, to_srgb

from .data.crops import cut
from .drawing import CLAY, to_bytes
from .errors import InputError
from .export import mesh_of, write
from .export.files import write_whole
from .fit import face_triangles
from .morphable import MorphableModel
from .reconstruction import Face

COVER = 0.85  # of an overlay
TEXTURE = 1024  # texels a side
UNLIT = 0.7  # of a photograph's colours, for meshes: they were lit already, and whoever shows the mesh lights them again
LARGEST = 1024  # pixels a side of the piece of a photograph that a texture is taken from
# Which of the 68 landmarks are joined: contour, brows, nose, eyes, lips; closed or not.
LINES = ((range(17), False), (range(17, 22), False), (range(22, 27), False), (range(27, 31), False), (range(31, 36), False))
LINES += ((range(36, 42), True), (range(42, 48), True), (range(48, 60), True), (range(60, 68), True))


# ---------------------------------------------------------------------------------------------------------------------------- pictures


@dataclass
class Drawn:
    """A face as pixels of its picture. where: slices of rows and columns; clip [1,V,4]: for an image of these; vertices [V,3] mm, without pose."""

    where: tuple[slice, slice]
    clip: Tensor
    vertices: Tensor
    face: Face
    model: MorphableModel

    @property
    def size(self) -> tuple[int, int]:
        return tuple(s.stop - s.start for s in self.where)

    @functools.cached_property
    def fragments(self) -> fr.Fragments:
        return fr.rasterize(self.clip, self.model.topology, self.size)

    @functools.cached_property
    def face_id(self) -> np.ndarray:
        """int32 [h,w], -1 beside the head."""
        return self.fragments.face_id[0].numpy()

    def interpolate(self, values: Tensor) -> Tensor:
        """Vertex attributes [V,C] as [h,w,C]."""
        return fr.interpolate(values[None].contiguous(), self.model.topology, self.fragments)[0]

    def coloured(self, colours: Tensor) -> Tensor:
        """Colours of vertices [V,3] as [h,w,3]; that alone is drawn faster than by fragments."""
        image, face_id = fr.render_face(self.clip, None, colours[None].contiguous(), None, self.model.topology, self.size)
        self.face_id = face_id[0].numpy()
        return image[0]

    def normals(self) -> Tensor:
        """[V,3] in camera space."""
        return fr.vertex_normals(self.vertices[None], self.model.topology)[0] @ self.face.rotation.T


def drawn(face: Face, model: MorphableModel, size: tuple[int, int], whole: bool = True) -> Drawn | None:
    """A face in its picture of `size` (H, W): the piece that holds the whole head, or the part of it that `_shown` names; None where that lies outside."""
    vertices = face.vertices(model)
    clip = face.camera(size).clip(vertices[None])
    pixels = fr.camera.to_pixels(clip, size)[0]
    inside = pixels if whole else pixels[_shown(model)[1]]
    if not torch.isfinite(pixels).all():
        return None
    low, high = (inside.amin(0).floor().long() - 1).tolist(), (inside.amax(0).ceil().long() + 1).tolist()
    (x0, y0), (x1, y1) = (max(low[0], 0), max(low[1], 0)), (min(high[0], size[1]), min(high[1], size[0]))
    if x0 >= x1 or y0 >= y1:
        return None
    x, y = pixels.unbind(-1)
    clip = torch.stack([(x - x0) * (2 / (x1 - x0)) - 1, 1 - (y - y0) * (2 / (y1 - y0)), clip[0, :, 2], clip[0, :, 3]], -1)[None]  # weak perspective: w is 1
    return Drawn((slice(y0, y1), slice(x0, x1)), clip, vertices, face, model)


def _painted(picture, faces, model, colours, cover, whole=False):
    """The picture with something of each face over it. colours(Drawn) -> [h,w,3] in 0..255, or [h,w,4] with how much of it; whole: the head and not its face alone."""
    picture = picture.copy()
    shown = np.append(np.ones(len(model.faces), bool) if whole else _shown(model)[0], False)  # at its end for -1, the background
    for face in sorted(faces, key=lambda f: f.scale):  # the nearest last
        piece = drawn(face, model, picture.shape[:2], whole)
        if piece is None:
            continue
        old, new = picture[piece.where].astype(np.float32), np.asarray(colours(piece), np.float32)
        share = np.float32(cover) * shown[piece.face_id][..., None]
        if new.shape[2] == 4:
            share = share * (new[..., 3:] / 255)
        picture[piece.where] = np.rint(old + share * (new[..., :3] - old)).astype(np.uint8)
    return picture


@functools.lru_cache(4)
def _shown(model):
    """(triangles of the face, with eyes and mouth where the model has them, bool [F]; their vertices)."""
    inside = face_triangles(model)
    member = torch.zeros(model.num_vertices, dtype=torch.bool)
    for region in {"eyeballs", "mouth", "teeth", "tongue", "lips"} & model.regions.keys():
        member[model.regions[region]] = True
    inside = inside | member[model.faces.long()].all(1)
    return inside.numpy(), model.faces[inside].unique().long()


def overlay(picture: np.ndarray, faces: Sequence[Face], model: MorphableModel) -> np.ndarray:
    """The faces as clay, lit from the front, over the picture."""
    light = 1.25 * fr.lighting.studio()

    def clay(piece):  # shaded at vertices, which are a few pixels apart
        lit = fr.sh_shade(torch.tensor(CLAY).expand(1, model.num_vertices, 3).contiguous(), piece.normals()[None].contiguous(), light)[0]
        return piece.coloured(255 * to_srgb(lit.clamp(0, 1)))

    return _painted(picture, faces, model, clay, COVER)


def normals(picture: np.ndarray, faces: Sequence[Face], model: MorphableModel) -> np.ndarray:
    """Normals in camera space as colours, 127.5 (n + 1): red to the right, green up, blue towards the viewer; black elsewhere."""

    def coloured(piece):
        return (127.5 * (torch.nn.functional.normalize(piece.interpolate(piece.normals()), dim=-1) + 1)).round()

    return _painted(np.zeros_like(picture), faces, model, coloured, 1.0, whole=True)


def depth(picture: np.ndarray, faces: Sequence[Face], model: MorphableModel) -> np.ndarray:
    """Depth of each face as grey, its nearest point white and a point 200 mm behind it black, as the background."""

    def grey(piece):
        z = piece.vertices @ piece.face.rotation[2]
        return (255 + (piece.interpolate(z[:, None]) - z.max()) * (255 / 200)).clamp(1, 255).byte().expand(-1, -1, 3)

    return _painted(np.zeros_like(picture), faces, model, grey, 1.0, whole=True)


def landmarks(picture: np.ndarray, faces: Sequence[Face], model: MorphableModel) -> np.ndarray:
    """The 68 landmarks, joined."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for face in faces:
        points = face.landmarks[:, :2].tolist()
        thick = max(1, round((face.crop[2] - face.crop[0]) / 250))
        for numbers, closed in LINES:
            line = [tuple(points[k]) for k in numbers]
            draw.line(line + line[:1] if closed else line, fill=(70, 200, 255), width=thick)
        for x, y in points:
            r = 1.2 * thick
            draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))
    return np.asarray(image)


def pose(picture: np.ndarray, faces: Sequence[Face], model: MorphableModel) -> np.ndarray:
    """The head's axes (x to its left red, y up green, z out of the face blue) and its angles in degrees."""
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for face in faces:
        side = face.crop[2] - face.crop[0]
        middle = face.landmarks[27:36, :2].mean(0)
        for axis, colour in enumerate(((230, 60, 50), (70, 190, 70), (60, 110, 240))):
            tip = middle + 0.35 * side * face.rotation[:2, axis] * torch.tensor([1.0, -1.0])
            draw.line([tuple(middle.tolist()), tuple(tip.tolist())], fill=colour, width=max(2, round(side / 90)))
        text = "pitch {:.0f}  yaw {:.0f}  roll {:.0f}".format(*face.degrees)
        size = max(11, round(side / 14))
        x, y = max(face.crop[0], 2), min(face.crop[3], picture.shape[0] - size - 4)
        draw.text((x, y), text, fill=(255, 255, 255), stroke_width=max(1, size // 10), stroke_fill=(0, 0, 0), font_size=size)
    return np.asarray(image)


PICTURES = {"overlay": overlay, "landmarks": landmarks, "depth": depth, "normals": normals, "pose": pose}


# ----------------------------------------------------------------------------------------------------------------------------- texture


def photo_texture(picture: np.ndarray, face: Face, model: MorphableModel, size: int = TEXTURE) -> Tensor:
    """The face's colours in a photograph, as they are lit there, over the model's texture coordinates: linear [size,size,3], row 0 at the top.

    What the photograph does not show is taken from the other half of the face, where the model knows which that is; what shows neither, from the model's own colours, made as
    bright as what was seen.

    Raises:
        InputError: the model has no texture coordinates.
    """
    if model.uv is None:
        raise InputError(f"the model {model.name} has no texture coordinates; write meshes with vertex colours instead, or use another model")
    vertices = face.vertices(model)[None]
    x0, y0, x1, y1 = face.crop
    camera, side = face.camera(picture.shape[:2]), 1.5 * (x1 - x0)
    offset = ((x0 + x1 - side) / 2, (y0 + y1 - side) / 2)
    pixels = min(LARGEST, max(64, round(side)))
    camera = camera.resampled(pixels / side, offset, (pixels, pixels))
    cropped = cut(picture, (offset[0], offset[1], offset[0] + side, offset[1] + side), pixels)
    image = to_linear(torch.tensor(cropped).float() / 255)[None]
    clip, turned = camera.clip(vertices), fr.vertex_normals(vertices, model.topology) @ face.rotation.T
    known = torch.zeros(size, size)
    texture = torch.zeros(size, size, 3)
    halves = [slice(None)] if model.symmetry is None else [slice(None), model.symmetry.long()]
    for half in halves:  # its own colours, then those of the other half
        colours, weight = fr.texture.bake_texture(
            image, clip[:, half].contiguous(), model.topology, model.uv, model.uv_faces, (size, size), turned[:, half].contiguous(), tolerance=1e-2
        )
        weight = gaussian_filter(((weight[0].numpy() - 0.2) / 0.4).clip(0, 1), size / 256)  # what is seen at a slant is smeared; and no hard edges
        weight = torch.from_numpy(weight)
        share = weight * (1 - known)
        texture, known = texture + share[..., None] * colours[0], known + share
    fragments = fr.texture.rasterize_uv(model.uv, model.uv_faces, (size, size))
    albedo = model.albedo(None if face.albedo is None else face.albedo[None]) if model.num_albedo else torch.full((1, model.num_vertices, 3), 0.4)
    own = fr.interpolate(albedo.contiguous(), model.faces, fragments)[0]
    member = torch.zeros(model.num_vertices)
    member[model.regions["face"]] = 1.0
    skin = (fr.interpolate(member[None, :, None].contiguous(), model.faces, fragments)[0][..., 0] > 0.99) & (known > 0.9)
    if skin.any():
        own = (own * (texture[skin].median(0).values / own[skin].median(0).values.clamp(min=1e-3))).clamp(0, 1)
    texture = texture + (1 - known)[..., None] * own
    outside = (fragments.face_id[0] < 0).numpy()
    row, column = (torch.from_numpy(i).long() for i in distance_transform_edt(outside, return_distances=False, return_indices=True))
    return texture[row, column].clamp(0, 1)


def textured(picture: np.ndarray, before: Face, face: Face, model: MorphableModel, texture: Tensor) -> np.ndarray:
    """The picture with a face in its texture, which fades where it turns away from the viewer; the picture around it is moved along with the outline from where the face `before` lay."""

    def coloured(piece):
        uv = fr.interpolate(model.uv[None].contiguous(), model.uv_faces, piece.fragments)
        there = fr.vertex_normals(before.vertices(model)[None], model.topology)[0] @ before.rotation.T
        facing = torch.nn.functional.normalize(piece.interpolate(there), dim=-1)[..., 2:]
        share = ((facing - 0.3) / 0.3).clamp(0, 1) * 255
        return np.concatenate([to_bytes(fr.texture.sample_texture(texture[None], uv)[0].clamp(0, 1)), share.round().byte().numpy()], -1)

    return _painted(_pushed(picture, before, face, model), [face], model, coloured, 1.0)


def _pushed(picture, before, face, model):
    """The picture moved as the vertices at the rim of the face do, less and less with the distance from them."""
    rim = model.landmark_index[:17].long()[:, 0]
    old, new = (f.camera(picture.shape[:2]).pixels(f.vertices(model)[None, rim])[0].double().numpy() for f in (before, face))
    if np.abs(new - old).max() < 0.25:
        return picture
    reach = 0.15 * (before.crop[2] - before.crop[0])
    (x0, y0), (x1, y1) = np.maximum(new.min(0) - 4 * reach, 0).astype(int), np.minimum(new.max(0) + 4 * reach, picture.shape[1::-1]).astype(int)
    if x0 >= x1 or y0 >= y1:
        return picture
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32) + 0.5
    total, shift = np.zeros_like(x), np.zeros((2, *x.shape), np.float32)
    for (px, py), (dx, dy) in zip(new, old - new):
        weight = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * reach**2))
        total += weight
        shift += weight * np.float32([dx, dy])[:, None, None]
    shift /= np.maximum(total, 1.0)
    moved = picture.copy()
    for c in range(3):
        moved[y0:y1, x0:x1, c] = map_coordinates(picture[..., c], [y - 0.5 + shift[1], x - 0.5 + shift[0]], order=1, mode="nearest")
    return moved


# ------------------------------------------------------------------------------------------------------------------------------- files


def _written(suffix):
    def save(stem: Path, faces: list[Face], frames: list[int], texture: Callable[[], Tensor], model: MorphableModel) -> list[Path]:
        """faces: of the frames, in order, of one person. texture: `photo_texture` of the first, asked for where it is needed. Returns what was written."""
        path, face = stem.with_name(stem.name + suffix), faces[0]
        mesh = mesh_of(model, face.identity, face.expression, face.albedo, name=stem.name)
        write(path, mesh if model.uv is None else replace(mesh, texture=UNLIT * texture().numpy()))
        return [path]

    return save


def save_texture(stem, faces, frames, texture, model):
    path = stem.with_name(stem.name + "_texture.png")
    write_whole({path: _png(to_bytes(texture()))})
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
    write_whole({paths[0]: packed.getvalue(), paths[1]: f"{{\n{lines}\n}}\n".encode()})
    return paths


def write_curves(path: Path, names, values: np.ndarray, frames: Sequence[int] | None = None) -> None:
    """A table of curves [N,E], 0..1: a header with their names, then frame number (counted from 0 for None) and values."""
    numbers = range(len(values)) if frames is None else frames
    rows = ["frame," + ",".join(names)] + [f"{k}," + ",".join(f"{v:.5f}" for v in row) for k, row in zip(numbers, values)]
    write_whole({path: ("\n".join(rows) + "\n").encode()})


def save_arkit(stem, faces, frames, texture, model):
    path = stem.with_name(stem.name + "_arkit.csv")
    write_curves(path, model.expression_names, torch.stack([f.expression for f in faces]).numpy(), frames)
    return [path]


def save_landmarks(stem, faces, frames, texture, model):
    """A photograph: 68 lines "x y z"; a video: an array [T,68,3]."""
    if len(frames) == 1:
        path = stem.with_name(stem.name + "_landmarks.txt")
        write_whole({path: "".join(f"{x:.2f} {y:.2f} {z:.2f}\n" for x, y, z in faces[0].landmarks.tolist()).encode()})
        return [path]
    path, packed = stem.with_name(stem.name + "_landmarks.npy"), io.BytesIO()
    np.save(packed, torch.stack([f.landmarks for f in faces]).numpy())
    write_whole({path: packed.getvalue()})
    return [path]


def save_pose(stem, faces, frames, texture, model):
    path, out = stem.with_name(stem.name + "_pose.csv"), io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["frame", "pitch_deg", "yaw_deg", "roll_deg", "x_px", "y_px", "scale_px_per_mm"])
    for frame, f in zip(frames, faces):
        writer.writerow([frame, *(f"{v:.3f}" for v in f.degrees), *(f"{v:.3f}" for v in f.translation.tolist()), f"{f.scale:.5f}"])
    write_whole({path: out.getvalue().encode()})
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
        raise InputError(f"--write arkit: the expressions of the model {model.name} are not ARKit's; --model builtin carries faces over to the built-in model")
    if "texture" in words and model.uv is None:
        raise InputError(f"--write texture: the model {model.name} has no texture coordinates")


WORDS = tuple(dict.fromkeys([*PICTURES, *FILES]))
DEFAULT = ("overlay", "glb", "coefficients")
