"""The pictures of `facemodels fit`: the fit over its photo or beside its mesh, and maps of its error."""

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import facerender as fr
from facemodels.core.drawing import BACKGROUND, CLAY, frame, portrait, tile, to_bytes
from facemodels.fitting.photo import PRESET
from facemodels.fitting.raster import crop_photo, face_triangles, linear_photo
from facemodels.fitting.result import Fit
from facemodels.models.morphable import MorphableModel
from facerender.color import to_linear

PANEL = 512  # pixels, side of each picture
MAX_COLOR_ERROR, MAX_DISTANCE = 0.25, 3.0  # the red end of the error maps: difference of sRGB values, millimeters
_GIVEN_COLOR, _FITTED_COLOR = (0, 230, 60), (255, 40, 40)  # of landmarks
_HEAT = np.array([[0.10, 0.15, 0.55], [0.10, 0.55, 0.75], [0.35, 0.75, 0.35], [0.95, 0.80, 0.20], [0.80, 0.10, 0.10]])


@torch.no_grad()
def draw_photo_fit(
    photo: np.ndarray, landmarks: np.ndarray, fit: Fit, model: MorphableModel
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a fit to a photo.

    Args:
        photo: uint8 [h,w,3], sRGB.
        landmarks: [L,2], the given landmarks, pixels.
        fit: The fit.
        model: Its model.

    Returns:
        The photo with landmarks, the fit over the photo, and the shape over it, uint8 [PANEL,3 PANEL,3]; and the error
        map with its scale, uint8 [PANEL + 30,PANEL,3].
    """
    assert fit.camera is not None and fit.light is not None and fit.landmarks is not None  # of a fit to a photo
    face = fit.face(model)
    vertices = face.vertices
    region = face_triangles(model)
    outline = fit.camera.pixels(vertices[:, model.faces[region].unique().long()])[0]
    side = 1.5 * float((outline.amax(0) - outline.amin(0)).max())
    x, y = ((outline.amax(0) + outline.amin(0) - side) / 2).tolist()
    camera = fit.camera.resampled(PANEL / side, (x, y), (PANEL, PANEL))
    picture, inside = crop_photo(linear_photo(photo).to(vertices.device), (x, y), side, PANEL)
    picture = torch.where(inside[..., None], picture, picture.new_tensor(BACKGROUND))
    clip = camera.clip(vertices)
    normals = fr.vertex_normals(vertices, model.topology) @ camera.rotation.transpose(-1, -2)

    def render(colors: Tensor, light: Tensor, preset: str) -> tuple[Tensor, Tensor]:
        size = (PANEL, PANEL)
        return fr.render_face(clip, normals, colors, light, model.topology, size, picture[None], preset)

    rendered, face_id = render(torch.ones_like(vertices) if face.albedo is None else face.albedo, fit.light, PRESET)
    drawn = region[face_id[0].clamp(min=0).long()] & (face_id[0] >= 0)
    overlay = torch.where(drawn[..., None], rendered[0], picture)
    clay = torch.tensor(CLAY, device=vertices.device).expand_as(vertices)
    shape = render(clay, fr.lighting.studio(device=vertices.device), "deep3d")[0][0]
    panels = [Image.fromarray(to_bytes(p)) for p in (picture, overlay, shape)]
    for points, color in ((landmarks, _GIVEN_COLOR), (fit.landmarks.cpu().numpy(), _FITTED_COLOR)):
        _draw_points(panels[0], (points - [x, y]) * (PANEL / side), color)
    difference = np.abs(to_bytes(overlay).astype(np.float32) - to_bytes(picture)).mean(-1) / 255
    known = (drawn & inside).cpu().numpy()
    gray = to_bytes(picture).mean(-1, keepdims=True).repeat(3, -1)
    error = np.where(known[..., None], heat(difference / MAX_COLOR_ERROR) * 255, gray).astype(np.uint8)
    return np.concatenate([np.asarray(p) for p in panels], 1), _with_scale(error, MAX_COLOR_ERROR, "of 1, sRGB")


def draw_mesh_fit(scan: Tensor, faces: Tensor, vertices: Tensor, model: MorphableModel) -> np.ndarray:
    """Draw a mesh above and its fit below, from the front and both sides.

    Args:
        scan: [M,3] vertices of the mesh, in the model's place and unit.
        faces: [F,3] of the mesh.
        vertices: [V,3] of the fit.
        model: Its model.

    Returns:
        uint8 [h,w,3], sRGB.
    """
    yaw = torch.tensor([0.0, 40.0, -40.0])
    height, middle = frame(vertices, model.regions.get("face"))
    rows = [
        portrait(v.expand(3, -1, -1), topology, size=PANEL, yaw=yaw, height=height, middle=middle)
        for v, topology in ((scan, fr.Topology(faces, len(scan))), (vertices, model.topology))
    ]
    return to_bytes(tile(torch.cat(rows), 3))


def draw_mesh_error(vertices: Tensor, error: Tensor, model: MorphableModel) -> np.ndarray:
    """Draw the error of a fit to a mesh.

    Args:
        vertices: [V,3] of the fit.
        error: [V] distances from the mesh, millimeters; NaN where none was measured, which is drawn in gray.
        model: Its model.

    Returns:
        uint8 [PANEL + 30,PANEL,3], sRGB, with a scale below.
    """
    known = ~error.isnan()
    colors = torch.from_numpy(heat((error.nan_to_num() / MAX_DISTANCE).cpu().numpy())).to(vertices)
    colors = torch.where(known[:, None], to_linear(colors), 0.3)
    height, middle = frame(vertices, model.regions.get("face"))
    shown = portrait(vertices[None], model.topology, colors[None], PANEL, height=height, middle=middle)
    picture = to_bytes(shown[0])
    return _with_scale(picture, MAX_DISTANCE, "mm")


def heat(values: np.ndarray) -> np.ndarray:
    """Values in 0..1 [...] as sRGB colors [...,3] in 0..1: from blue over green and yellow to red."""
    stops = np.linspace(0, 1, len(_HEAT))
    return np.stack([np.interp(np.clip(values, 0, 1), stops, _HEAT[:, c]) for c in range(3)], -1).astype(np.float32)


def _draw_points(picture: Image.Image, points: np.ndarray, color: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(picture)
    for x, y in points[~np.isnan(points).any(1)]:
        draw.ellipse([x - 2.5, y - 2.5, x + 2.5, y + 2.5], fill=color)


def _with_scale(picture: np.ndarray, largest: float, unit: str) -> np.ndarray:
    """The picture with the scale of `heat` below it, from 0 to `largest`."""
    width = picture.shape[1]
    colors = (heat(np.linspace(0, 1, width)[None].repeat(12, 0)) * 255).astype(np.uint8)
    bar = Image.fromarray(np.concatenate([colors, np.full((18, width, 3), 255, np.uint8)]))
    draw = ImageDraw.Draw(bar)
    draw.text((4, 15), "0", fill=(0, 0, 0))
    label = f"{largest:g} {unit} or more"
    draw.text((width - 4 - draw.textlength(label), 15), label, fill=(0, 0, 0))
    return np.concatenate([picture, np.asarray(bar)])
