"""What is made of reconstructed faces: pictures of them in their photograph, and files of each.

`PICTURES` are functions (picture uint8 [h,w,3], faces, model) -> uint8 [h,w,3], for photographs and for the frames of videos; `FILES` write a face, or a face of a video over all its
frames, to files that begin with a name. Both by the words that `facemodels reconstruct --write` takes.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import facerender as fr
from facemodels.core.drawing import CLAY
from facemodels.core.landmarks import LANDMARK_LINES, NOSE
from facemodels.fitting.photo import face_triangles
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face
from facerender.color import to_srgb

COVER = 0.85  # of an overlay


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
        image, face_id = fr.render_face(
            self.clip, None, colours[None].contiguous(), None, self.model.topology, self.size
        )
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
    clip = torch.stack(
        [(x - x0) * (2 / (x1 - x0)) - 1, 1 - (y - y0) * (2 / (y1 - y0)), clip[0, :, 2], clip[0, :, 3]], -1
    )[None]  # weak perspective: w is 1
    return Drawn((slice(y0, y1), slice(x0, x1)), clip, vertices, face, model)


def _painted(picture, faces, model, colours, cover, whole=False):
    """The picture with something of each face over it. colours(Drawn) -> [h,w,3] in 0..255, or [h,w,4] with how much of it; whole: the head and not its face alone."""
    picture = picture.copy()
    shown = np.append(
        np.ones(len(model.faces), bool) if whole else _shown(model)[0], False
    )  # at its end for -1, the background
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
        lit = fr.sh_shade(
            torch.tensor(CLAY).expand(1, model.num_vertices, 3).contiguous(), piece.normals()[None].contiguous(), light
        )[0]
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
        for numbers, closed in LANDMARK_LINES:
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
        middle = face.landmarks[NOSE, :2].mean(0)
        for axis, colour in enumerate(((230, 60, 50), (70, 190, 70), (60, 110, 240))):
            tip = middle + 0.35 * side * face.rotation[:2, axis] * torch.tensor([1.0, -1.0])
            draw.line([tuple(middle.tolist()), tuple(tip.tolist())], fill=colour, width=max(2, round(side / 90)))
        text = "pitch {:.0f}  yaw {:.0f}  roll {:.0f}".format(*face.degrees)
        size = max(11, round(side / 14))
        x, y = max(face.crop[0], 2), min(face.crop[3], picture.shape[0] - size - 4)
        draw.text(
            (x, y), text, fill=(255, 255, 255), stroke_width=max(1, size // 10), stroke_fill=(0, 0, 0), font_size=size
        )
    return np.asarray(image)


PICTURES = {"overlay": overlay, "landmarks": landmarks, "depth": depth, "normals": normals, "pose": pose}


# ----------------------------------------------------------------------------------------------------------------------------- texture


# ------------------------------------------------------------------------------------------------------------------------------- files
