"""Pictures of reconstructed faces in their photograph: overlay, landmarks, depth, normals, pose.

`PICTURES` maps the words of `facemodels reconstruct --write` to functions (picture, faces, model) -> uint8 [h,w,3], for
photographs and for the frames of videos alike. All take what `overlay` does.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import facerender as fr
from facemodels.core.drawing import CLAY
from facemodels.core.errors import InputError
from facemodels.core.landmarks import LANDMARK_LINES, NOSE
from facemodels.fitting.raster import face_triangles
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.inputs import one_picture
from facerender._checks import brief_repr
from facerender.color import to_srgb

OPACITY = 0.85  # of the overlay


@brief_repr
@dataclass
class DrawnFace:
    """A face rasterized into the part of its picture that it covers.

    Attributes:
        where: The slices of the picture's rows and columns.
        clip: [1,V,4], clip positions for an image of these slices' size.
        vertices: [V,3] millimeters, without pose.
        face: The face.
        model: Its morphable model.
    """

    where: tuple[slice, slice]
    clip: Tensor
    vertices: Tensor
    face: Face
    model: MorphableModel

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the part."""
        rows, columns = self.where
        return rows.stop - rows.start, columns.stop - columns.start

    @functools.cached_property
    def fragments(self) -> fr.Fragments:
        """Triangles and barycentric coordinates of the pixels."""
        return fr.rasterize(self.clip, self.model.topology, self.size)

    @functools.cached_property
    def face_id(self) -> np.ndarray:
        """int32 [h,w], -1 outside the head."""
        return self.fragments.face_id[0].numpy()

    def interpolate(self, values: Tensor) -> Tensor:
        """Interpolate vertex attributes [V,C] over the pixels: [h,w,C]."""
        return fr.interpolate(values[None], self.model.topology, self.fragments)[0]

    def interpolate_colors(self, colors: Tensor) -> Tensor:
        """Interpolate vertex colors [V,3] over the pixels: [h,w,3]; faster than by `fragments` where they suffice."""
        image, face_id = fr.render_face(self.clip, None, colors[None], None, self.model.topology, self.size)
        self.face_id = face_id[0].numpy()
        return image[0]

    def normals(self) -> Tensor:
        """Vertex normals [V,3] in camera space."""
        return fr.vertex_normals(self.vertices[None], self.model.topology)[0] @ self.face.rotation.T


def draw_face(face: Face, model: MorphableModel, size: tuple[int, int], whole: bool = True) -> DrawnFace | None:
    """Rasterize a face into its picture.

    Args:
        face: The face.
        model: Its morphable model.
        size: (H, W) of the picture.
        whole: The part covers the whole head; otherwise the face alone (`visible_parts`).

    Returns:
        None where the part lies outside the picture.
    """
    vertices = model.shape(face.parameters.identity, face.parameters.expression)[0]
    clip = face.camera(size).clip(vertices[None])
    pixels = fr.camera.to_pixels(clip, size)[0]
    inside = pixels if whole else pixels[visible_parts(model)[1]]
    if not torch.isfinite(pixels).all():
        return None
    low, high = (inside.amin(0).floor().long() - 1).tolist(), (inside.amax(0).ceil().long() + 1).tolist()
    (x0, y0), (x1, y1) = (max(low[0], 0), max(low[1], 0)), (min(high[0], size[1]), min(high[1], size[0]))
    if x0 >= x1 or y0 >= y1:
        return None
    x, y = pixels.unbind(-1)
    # Under weak perspective w is 1.
    ndc = [(x - x0) * (2 / (x1 - x0)) - 1, 1 - (y - y0) * (2 / (y1 - y0)), clip[0, :, 2], clip[0, :, 3]]
    return DrawnFace((slice(y0, y1), slice(x0, x1)), torch.stack(ndc, -1)[None], vertices, face, model)


def blend_faces(
    picture: np.ndarray,
    faces: Sequence[Face],
    model: MorphableModel,
    colors: Callable[[DrawnFace], Any],
    opacity: float,
    whole: bool = False,
) -> np.ndarray:
    """Blend something of each face over the picture, the largest face last.

    Args:
        picture: uint8 [h,w,3].
        faces: The faces.
        model: Their morphable model.
        colors: What is drawn: [h,w,3] in 0..255, or [h,w,4] with an opacity in 0..255.
        opacity: 0..1, of everything.
        whole: Draw the head, and not the face alone.
    """
    picture = picture.copy()
    if not faces:
        return picture
    parts = np.ones(len(model.faces), bool) if whole else visible_parts(model)[0]
    drawn = np.append(parts, False)  # its last entry is for -1, the background
    for face in sorted(faces, key=lambda f: f.scale):
        piece = draw_face(face, model, picture.shape[:2], whole)
        if piece is None:
            continue
        old, new = picture[piece.where].astype(np.float32), np.asarray(colors(piece), np.float32)
        share = np.float32(opacity) * drawn[piece.face_id][..., None]
        if new.shape[2] == 4:
            share = share * (new[..., 3:] / 255)
        picture[piece.where] = np.rint(old + share * (new[..., :3] - old)).astype(np.uint8)
    return picture


@functools.lru_cache(4)
def visible_parts(model: MorphableModel) -> tuple[np.ndarray, Tensor]:
    """The triangles of the face, with eyes and mouth where the model has them, bool [F]; and their vertices."""
    inside = face_triangles(model)
    member = torch.zeros(model.num_vertices, dtype=torch.bool)
    for region in {"eyeballs", "mouth", "teeth", "tongue", "lips"} & model.regions.keys():
        member[model.regions[region]] = True
    inside = inside | member[model.faces.long()].all(1)
    return inside.numpy(), model.faces[inside].unique().long()


def _opened(
    name: str, picture: Any, faces: Any, model: MorphableModel | None
) -> tuple[np.ndarray, list[Face], MorphableModel]:
    """The pixels of a picture of any kind, the faces as a list, and their model.

    Raises:
        InputError: The picture cannot be read, or has another size than the one that the faces were found in; or what
            was given are no faces.
    """
    pixels = one_picture(picture)
    several = _faces(name, faces)
    for face in several:
        if face.size not in (None, pixels.shape[:2]):
            (height, width), (h, w) = face.size or (0, 0), pixels.shape[:2]
            raise InputError(
                f"{name}: the picture has {w} x {h} pixels, and a face was found in one of {width} x {height}; give "
                "the picture that it was found in"
            )
    if model is None and several:
        model = several[0].model
    return pixels, several, cast(MorphableModel, model)  # without faces, it is not looked at


def _faces(name: str, faces: Any) -> list[Face]:
    """One face or several as a list."""
    several = [faces] if isinstance(faces, Face) else list(faces) if isinstance(faces, Iterable) else [faces]
    for face in several:
        if not isinstance(face, Face):
            nested = isinstance(face, list) and all(isinstance(f, Face) for f in face)
            raise InputError(
                f"{name} takes a face or a list of faces of one picture, as reconstruct returns them; got "
                + ("lists of faces: give those of one picture" if nested else f"a {type(face).__name__}")
            )
    return several


def overlay(picture: Any, faces: Face | Iterable[Face], model: MorphableModel | None = None) -> np.ndarray:
    """The faces as clay, lit from the front, over the picture.

    Args:
        picture: A path, an array, a tensor or a PIL image, as `reconstruct` takes them.
        faces: A face, or the faces of the picture.
        model: Their morphable model; None: that of the first.

    Returns:
        uint8 [h,w,3].

    Raises:
        InputError: The picture cannot be read, or has another size than the one that the faces were found in.
    """
    picture, faces, model = _opened("overlay", picture, faces, model)
    light = 1.25 * fr.lighting.studio()

    def clay(piece: DrawnFace) -> Tensor:  # shaded at the vertices, which are a few pixels apart
        lit = fr.sh_shade(torch.tensor(CLAY).expand(1, model.num_vertices, 3), piece.normals()[None], light)[0]
        return piece.interpolate_colors(255 * to_srgb(lit.clamp(0, 1)))

    return blend_faces(picture, faces, model, clay, OPACITY)


def normals(picture: Any, faces: Face | Iterable[Face], model: MorphableModel | None = None) -> np.ndarray:
    """Normals n in camera space as colors 127.5 (n + 1): red right, green up, blue to the viewer; else black."""
    picture, faces, model = _opened("normals", picture, faces, model)

    def encoded(piece: DrawnFace) -> Tensor:
        return (127.5 * (torch.nn.functional.normalize(piece.interpolate(piece.normals()), dim=-1) + 1)).round()

    return blend_faces(np.zeros_like(picture), faces, model, encoded, 1.0, whole=True)


def depth(picture: Any, faces: Face | Iterable[Face], model: MorphableModel | None = None) -> np.ndarray:
    """Depth of each face in gray: its nearest point is white; 200 mm behind it, and the background, are black."""
    picture, faces, model = _opened("depth", picture, faces, model)

    def gray(piece: DrawnFace) -> Tensor:
        z = piece.vertices @ piece.face.rotation[2]
        return (255 + (piece.interpolate(z[:, None]) - z.max()) * (255 / 200)).clamp(1, 255).byte().expand(-1, -1, 3)

    return blend_faces(np.zeros_like(picture), faces, model, gray, 1.0, whole=True)


def landmarks(picture: Any, faces: Face | Iterable[Face], model: MorphableModel | None = None) -> np.ndarray:
    """The 68 landmarks, joined by lines."""
    picture, faces, model = _opened("landmarks", picture, faces, model)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for face in faces:
        points = face.landmarks[:, :2].tolist()
        width = max(1, round((face.crop[2] - face.crop[0]) / 250))
        for numbers, closed in LANDMARK_LINES:
            line = [tuple(points[k]) for k in numbers]
            draw.line(line + line[:1] if closed else line, fill=(70, 200, 255), width=width)
        for x, y in points:
            r = 1.2 * width
            draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))
    return np.asarray(image)


def pose(picture: Any, faces: Face | Iterable[Face], model: MorphableModel | None = None) -> np.ndarray:
    """The head's axes (x to its left red, y up green, z out of the face blue) and `Face.degrees`."""
    picture, faces, model = _opened("pose", picture, faces, model)
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for face in faces:
        side = face.crop[2] - face.crop[0]
        center = face.landmarks[NOSE, :2].mean(0)
        for axis, color in enumerate(((230, 60, 50), (70, 190, 70), (60, 110, 240))):
            tip = center + 0.35 * side * face.rotation[:2, axis] * torch.tensor([1.0, -1.0])
            draw.line([tuple(center.tolist()), tuple(tip.tolist())], fill=color, width=max(2, round(side / 90)))
        text = "pitch {:.0f}  yaw {:.0f}  roll {:.0f}".format(*face.degrees)
        size = max(11, round(side / 14))
        x, y = max(face.crop[0], 2), min(face.crop[3], picture.shape[0] - size - 4)
        draw.text(
            (x, y), text, fill=(255, 255, 255), stroke_width=max(1, size // 10), stroke_fill=(0, 0, 0), font_size=size
        )
    return np.asarray(image)


PICTURES: dict[str, Callable[..., np.ndarray]] = {
    "overlay": overlay,
    "landmarks": landmarks,
    "depth": depth,
    "normals": normals,
    "pose": pose,
}
