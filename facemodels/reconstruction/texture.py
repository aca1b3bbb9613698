"""reconstruction.texture: TODO."""

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
from facemodels.reconstruction.overlays import _painted
from facerender.color import to_linear

TEXTURE = 1024  # texels a side


UNLIT = (
    0.7  # of a photograph's colours, for meshes: they were lit already, and whoever shows the mesh lights them again
)


LARGEST = 1024  # pixels a side of the piece of a photograph that a texture is taken from


def photo_texture(picture: np.ndarray, face: Face, model: MorphableModel, size: int = TEXTURE) -> Tensor:
    """The face's colours in a photograph, as they are lit there, over the model's texture coordinates: linear [size,size,3], row 0 at the top.

    What the photograph does not show is taken from the other half of the face, where the model knows which that is; what shows neither, from the model's own colours, made as
    bright as what was seen.

    Raises:
        InputError: the model has no texture coordinates.
    """
    if model.uv is None:
        raise InputError(
            f"the model {model.name} has no texture coordinates; write meshes with vertex colours instead, or use another model"
        )
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
            image,
            clip[:, half].contiguous(),
            model.topology,
            model.uv,
            model.uv_faces,
            (size, size),
            turned[:, half].contiguous(),
            tolerance=1e-2,
        )
        weight = gaussian_filter(
            ((weight[0].numpy() - 0.2) / 0.4).clip(0, 1), size / 256
        )  # what is seen at a slant is smeared; and no hard edges
        weight = torch.from_numpy(weight)
        share = weight * (1 - known)
        texture, known = texture + share[..., None] * colours[0], known + share
    fragments = fr.texture.rasterize_uv(model.uv, model.uv_faces, (size, size))
    albedo = (
        model.albedo(None if face.albedo is None else face.albedo[None])
        if model.num_albedo
        else torch.full((1, model.num_vertices, 3), 0.4)
    )
    own = fr.interpolate(albedo.contiguous(), model.faces, fragments)[0]
    member = torch.zeros(model.num_vertices)
    member[model.regions["face"]] = 1.0
    skin = (fr.interpolate(member[None, :, None].contiguous(), model.faces, fragments)[0][..., 0] > 0.99) & (
        known > 0.9
    )
    if skin.any():
        own = (own * (texture[skin].median(0).values / own[skin].median(0).values.clamp(min=1e-3))).clamp(0, 1)
    texture = texture + (1 - known)[..., None] * own
    outside = (fragments.face_id[0] < 0).numpy()
    row, column = (
        torch.from_numpy(i).long() for i in distance_transform_edt(outside, return_distances=False, return_indices=True)
    )
    return texture[row, column].clamp(0, 1)


def textured(picture: np.ndarray, before: Face, face: Face, model: MorphableModel, texture: Tensor) -> np.ndarray:
    """The picture with a face in its texture, which fades where it turns away from the viewer; the picture around it is moved along with the outline from where the face `before` lay."""

    def coloured(piece):
        uv = fr.interpolate(model.uv[None].contiguous(), model.uv_faces, piece.fragments)
        there = fr.vertex_normals(before.vertices(model)[None], model.topology)[0] @ before.rotation.T
        facing = torch.nn.functional.normalize(piece.interpolate(there), dim=-1)[..., 2:]
        share = ((facing - 0.3) / 0.3).clamp(0, 1) * 255
        return np.concatenate(
            [to_bytes(fr.texture.sample_texture(texture[None], uv)[0].clamp(0, 1)), share.round().byte().numpy()], -1
        )

    return _painted(_pushed(picture, before, face, model), [face], model, coloured, 1.0)


def _pushed(picture, before, face, model):
    """The picture moved as the vertices at the rim of the face do, less and less with the distance from them."""
    rim = model.landmark_index[CONTOUR].long()[:, 0]
    old, new = (
        f.camera(picture.shape[:2]).pixels(f.vertices(model)[None, rim])[0].double().numpy() for f in (before, face)
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
        shift += weight * np.float32([dx, dy])[:, None, None]
    shift /= np.maximum(total, 1.0)
    moved = picture.copy()
    for c in range(3):
        moved[y0:y1, x0:x1, c] = map_coordinates(
            picture[..., c], [y - 0.5 + shift[1], x - 0.5 + shift[0]], order=1, mode="nearest"
        )
    return moved
