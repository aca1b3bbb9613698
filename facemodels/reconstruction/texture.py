"""The colors of a photograph on a face: baked into the model's texture, and drawn again with another expression."""

from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from torch import Tensor

import facerender as fr
from facemodels.core.crops import cut
from facemodels.core.drawing import to_bytes
from facemodels.core.errors import InputError
from facemodels.core.landmarks import CONTOUR
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.overlays import DrawnFace, blend_faces
from facerender.color import to_linear

TEXTURE_SIZE = 1024  # texels a side
# Factor on a photograph's colors in meshes: they were lit already, and whoever shows the mesh lights them again.
UNLIT = 0.7
MAX_PIXELS = 1024  # pixels a side of the part of a photograph that a texture is taken from


def photo_texture(picture: np.ndarray, face: Face, model: MorphableModel, size: int = TEXTURE_SIZE) -> Tensor:
    """Bake the face's colors in a photograph, as they are lit there, into the model's texture.

    Texels that the photograph does not show are taken from the other half of the face, where the model knows its
    symmetry; the rest from the model's own colors, made as bright as the visible ones.

    Args:
        picture: uint8 [h,w,3], sRGB.
        face: The face.
        model: Its morphable model.
        size: Texels a side.

    Returns:
        Linear colors [size,size,3], row 0 at the top.

    Raises:
        InputError: The model has no texture coordinates.
    """
    if model.uv is None:
        raise InputError(
            f"the model {model.name} has no texture coordinates; write meshes with vertex colors instead, or use"
            " another model"
        )
    vertices = _shape(face, model)
    x0, y0, x1, y1 = face.crop
    camera, side = face.camera(picture.shape[:2]), 1.5 * (x1 - x0)
    offset = ((x0 + x1 - side) / 2, (y0 + y1 - side) / 2)
    pixels = min(MAX_PIXELS, max(64, round(side)))
    camera = camera.resampled(pixels / side, offset, (pixels, pixels))
    cropped = cut(picture, (offset[0], offset[1], offset[0] + side, offset[1] + side), pixels)
    image = to_linear(torch.tensor(cropped).float() / 255)[None]
    clip, turned = camera.clip(vertices), fr.vertex_normals(vertices, model.topology) @ face.rotation.T
    known = torch.zeros(size, size)
    texture = torch.zeros(size, size, 3)
    halves: list[Any] = [slice(None)] if model.symmetry is None else [slice(None), model.symmetry.long()]
    for half in halves:  # the half's own colors, then those of the other half
        colors, weight = fr.texture.bake_texture(
            image,
            clip[:, half].contiguous(),
            model.topology,
            model.uv,
            model.uv_faces,
            (size, size),
            turned[:, half].contiguous(),
            tolerance=1e-2,
        )
        # Surfaces seen at a slant are smeared and weigh less; the blur leaves no hard edges.
        smooth = gaussian_filter(((weight[0].numpy() - 0.2) / 0.4).clip(0, 1), size / 256)
        share = torch.from_numpy(smooth) * (1 - known)
        texture, known = texture + share[..., None] * colors[0], known + share
    fragments = fr.texture.rasterize_uv(model.uv, model.uv_faces, (size, size))
    albedo = (
        model.albedo(None if face.albedo is None else face.albedo[None])
        if model.num_albedo
        else torch.full((1, model.num_vertices, 3), 0.4)
    )
    own = fr.interpolate(albedo, model.faces, fragments)[0]
    member = torch.zeros(model.num_vertices)
    member[model.regions["face"]] = 1.0
    skin = (fr.interpolate(member[None, :, None], model.faces, fragments)[0][..., 0] > 0.99) & (known > 0.9)
    if skin.any():
        own = (own * (texture[skin].median(0).values / own[skin].median(0).values.clamp(min=1e-3))).clamp(0, 1)
    texture = texture + (1 - known)[..., None] * own
    outside = (fragments.face_id[0] < 0).numpy()
    row, column = (
        torch.from_numpy(i).long() for i in distance_transform_edt(outside, return_distances=False, return_indices=True)
    )
    return texture[row, column].clamp(0, 1)


def draw_textured(picture: np.ndarray, before: Face, face: Face, model: MorphableModel, texture: Tensor) -> np.ndarray:
    """Draw a changed face with its texture into its picture.

    The texture fades where the face turned away from the viewer; the picture around it moves along with the outline.

    Args:
        picture: uint8 [h,w,3], sRGB.
        before: The face as it is in the picture.
        face: The changed face.
        model: Their morphable model.
        texture: Linear colors [size,size,3], see `photo_texture`.
    """
    assert model.uv is not None and model.uv_faces is not None  # or there would be no texture
    uv, uv_faces = model.uv, model.uv_faces

    def colors(piece: DrawnFace) -> np.ndarray:
        places = fr.interpolate(uv[None], uv_faces, piece.fragments)
        normals = fr.vertex_normals(_shape(before, model), model.topology)[0] @ before.rotation.T
        facing = torch.nn.functional.normalize(piece.interpolate(normals), dim=-1)[..., 2:]
        opacity = ((facing - 0.3) / 0.3).clamp(0, 1) * 255
        sampled = fr.texture.sample_texture(texture[None], places)[0].clamp(0, 1)
        return np.concatenate([to_bytes(sampled), opacity.round().byte().numpy()], -1)

    return blend_faces(_warp_around(picture, before, face, model), [face], model, colors, 1.0)


def _shape(face: Face, model: MorphableModel) -> Tensor:
    return model.shape(face.parameters.identity, face.parameters.expression)


def _warp_around(picture: np.ndarray, before: Face, face: Face, model: MorphableModel) -> np.ndarray:
    """Move the picture as the rim of the face moves, less with the distance from it."""
    assert model.landmark_index is not None
    rim = model.landmark_index[CONTOUR].long()[:, 0]
    old, new = (
        f.camera(picture.shape[:2]).pixels(_shape(f, model)[:, rim])[0].double().numpy() for f in (before, face)
    )
    if np.abs(new - old).max() < 0.25:
        return picture
    reach = 0.15 * (before.crop[2] - before.crop[0])
    (x0, y0), (x1, y1) = (
        np.maximum(new.min(0) - 4 * reach, 0).astype(int),
        np.minimum(new.max(0) + 4 * reach, picture.shape[1::-1]).astype(int),
    )
    if x0 >= x1 or y0 >= y1:
        return picture
    y, x = np.mgrid[y0:y1, x0:x1].astype(np.float32) + 0.5
    total, shift = np.zeros_like(x), np.zeros((2, *x.shape), np.float32)
    for (px, py), (dx, dy) in zip(new, old - new):
        weight = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * reach**2))
        total += weight
        shift += weight * np.array([dx, dy], np.float32)[:, None, None]
    shift /= np.maximum(total, 1.0)
    moved = picture.copy()
    for c in range(3):
        moved[y0:y1, x0:x1, c] = map_coordinates(
            picture[..., c], [y - 0.5 + shift[1], x - 0.5 + shift[0]], order=1, mode="nearest"
        )
    return moved
