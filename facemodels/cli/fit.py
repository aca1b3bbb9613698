"""facemodels fit: a model fitted to a photo with landmarks, or to a mesh or scan."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import facerender as fr
from facemodels.core.drawing import CLAY, portrait, tile, to_bytes
from facemodels.core.errors import InputError
from facemodels.core.surface import ClosestPoints
from facemodels.fitting.photo import PRESET, fit_image
from facemodels.fitting.raster import crop_photo, face_triangles, linear_photo
from facemodels.fitting.result import Fit
from facemodels.fitting.scan import fit_mesh
from facemodels.io.images import read_picture
from facemodels.io.landmarks import (
    LANDMARK_SUFFIXES,
    Landmarks,
    check_inside,
    read_landmarks,
    sidecar,
)
from facemodels.models.morphable import MorphableModel
from facerender.color import to_linear
from facerender.meshes import MeshError, load_mesh

MESHES = (".obj", ".ply", ".glb")
PANEL = 512  # pixels a side of each picture in overlay.png
GIVEN, FITTED = (0, 230, 60), (255, 40, 40)  # colours of landmarks
WORST_COLOUR, WORST_MM = 0.25, 3.0  # the red end of the error maps: difference of sRGB values, distance


def configure(parser):
    parser.description = "Fit a model to a photo with landmarks, or to a mesh or scan with or without."
    parser.epilog = """examples:
  facemodels fit photo.jpg --landmarks photo.txt -o out      68, 21 or 5 points as text, .npy, .json, .pts or .mat
  facemodels fit AFLW2000/image00002.jpg -o out              landmarks from image00002.mat beside it
  facemodels fit photo.jpg -o out --model FLAME2020/generic_model.pkl
  facemodels fit scan.ply -o out                             a mesh in any unit, lying any way up

written to the folder: overlay.png (photo with landmarks, fit over the photo, shape), error.png, face.glb and face.html (the mesh with its
expressions, and a viewer), coefficients.npz and coefficients.json"""
    parser.add_argument(
        "input",
        type=Path,
        metavar="PHOTO_OR_MESH",
        help="a picture, as a viewer shows it, or a mesh: " + ", ".join(MESHES),
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where the results go; made if it is not there",
    )
    marks = "in pixels of the photo, 0 at the upper left corner (.pts and .mat: 1-based), or in the mesh's coordinates (default for a photo: the file of its name beside it)"
    contour = "where a photo's first 17 landmarks lie: on the outline that is seen, or on fixed places of the head (default: static for AFLW2000-3D and 300W-LP's 3D)"
    parser.add_argument("--landmarks", type=Path, metavar="FILE", help=marks)
    parser.add_argument("--model", default="builtin", help="builtin (default), or a model file")
    parser.add_argument("--contour", choices=("moving", "static"), help=contour)
    parser.add_argument(
        "--focal",
        type=float,
        default=math.inf,
        metavar="PIXELS",
        help="focal length of the photo, for faces that are near (default: no perspective)",
    )
    parser.add_argument(
        "--iterations",
        type=int,
        metavar="N",
        help="of the last stage (default: 400 for a photo, 30 for a mesh); 0 for a photo: landmarks alone",
    )
    parser.add_argument("--neutral", action="store_true", help="a mesh: without expression")
    parser.add_argument(
        "--mesh",
        nargs="+",
        default=[".glb", ".html"],
        metavar="SUFFIX",
        help="files to write the face to: .obj .ply .glb .html (default: .glb .html)",
    )
    parser.add_argument(
        "--unit", choices=("mm", "cm", "m"), help="of the meshes (default: m for .glb, mm for the others)"
    )
    parser.add_argument("--axes", choices=("y-up", "z-up"), default="y-up", help="of the meshes (default: y-up)")


def run(options) -> int:
    from facemodels.export import SUFFIXES as WRITTEN
    from facemodels.models.load import load_model

    wrong = [suffix for suffix in options.mesh if suffix not in WRITTEN]
    if wrong:
        raise InputError(f"--mesh {wrong[0]}: meshes are written as {', '.join(WRITTEN)}")
    if options.iterations is not None and options.iterations < 0 or not options.focal > 0:
        raise InputError(
            f"--iterations must be 0 or more and --focal above 0, got {options.iterations} and {options.focal}"
        )
    if not options.input.is_file():
        raise InputError(f"{options.input}: there is no such file")
    model = load_model(options.model)
    options.output.mkdir(parents=True, exist_ok=True)
    return (fit_a_mesh if options.input.suffix.lower() in MESHES else fit_a_photo)(options, model)


# ------------------------------------------------------------------------------------------------------------------------- photo


def fit_a_photo(options, model: MorphableModel) -> int:
    photo = read_photo(options.input)
    file = options.landmarks or sidecar(options.input)
    if file is None:
        names = ", ".join(options.input.stem + suffix for suffix in LANDMARK_SUFFIXES)
        raise InputError(
            f"{options.input}: a photo needs landmarks; give a file of 68, 21 or 5 points with --landmarks, or put one of {names} beside it"
        )
    given = read_landmarks(file)
    check_inside(given.points, photo.shape[:2], file)
    start = time.perf_counter()
    more = {} if options.iterations is None else {"iterations": options.iterations}
    fit = fit_image(photo, given.points, model, options.contour or given.contour, options.focal, **more)
    seconds = time.perf_counter() - start
    overlay, error = photo_pictures(photo, given, fit, model)
    iio.imwrite(options.output / "overlay.png", overlay)
    iio.imwrite(options.output / "error.png", error)
    write_fit(options, fit, model)
    pitch, yaw, roll = fr.camera.euler_angles(fit.camera.rotation)[0].rad2deg().tolist()
    mm = fit.landmark_error / float(fit.camera.scale)
    print(
        f"{options.input}: {len(given.points)} landmarks from {file.name}, {fit.landmark_error:.2f} pixels off on average ({mm:.2f} mm on the face); "
        f"yaw {yaw:.0f}, pitch {pitch:.0f}, roll {roll:.0f} degrees; {seconds:.1f} s\n{options.output}"
    )
    return 0


def read_photo(path: Path) -> np.ndarray:
    """Read a photo as `read_picture` does; the message for a file that is none says what meshes end in, too."""
    try:
        return read_picture(path)
    except InputError as error:
        raise InputError(f"{error}; meshes end in {', '.join(MESHES)}") from None


def photo_pictures(
    photo: np.ndarray, given: Landmarks, fit: Fit, model: MorphableModel
) -> tuple[np.ndarray, np.ndarray]:
    """(overlay: photo with the landmarks, fit over it, shape [PANEL,3 PANEL,3]; error map [PANEL,PANEL,3]), sRGB bytes."""
    with torch.no_grad():
        face = fit.face(model)
        vertices = face.vertices
        region = face_triangles(model)
        seen = fit.camera.pixels(vertices[:, model.faces[region].unique().long()])[0]
        side = 1.5 * float((seen.amax(0) - seen.amin(0)).max())
        offset = ((seen.amax(0) + seen.amin(0) - side) / 2).tolist()
        camera = fit.camera.resampled(PANEL / side, tuple(offset), (PANEL, PANEL))
        picture, inside = crop_photo(linear_photo(photo).to(vertices.device), offset, side, PANEL)
        clip = camera.clip(vertices)
        normals = fr.vertex_normals(vertices, model.topology) @ camera.rotation.transpose(-1, -2)
        colours = torch.ones_like(vertices) if face.albedo is None else face.albedo
        shown, face_id = fr.render_face(
            clip, normals, colours.contiguous(), fit.light, model.topology, (PANEL, PANEL), picture[None], PRESET
        )
        drawn = region[face_id[0].clamp(min=0).long()] & (face_id[0] >= 0)
        overlay = torch.where(drawn[..., None], shown[0], picture)
        clay = torch.tensor(CLAY, device=vertices.device).expand_as(vertices).contiguous()
        shape = fr.render_face(
            clip,
            normals,
            clay,
            fr.lighting.studio(device=vertices.device),
            model.topology,
            (PANEL, PANEL),
            picture[None],
        )[0][0]
    panels = [Image.fromarray(to_bytes(p)) for p in (picture, overlay, shape)]
    for points, colour in ((given.points, GIVEN), (fit.landmarks.cpu().numpy(), FITTED)):
        draw_points(panels[0], (points - offset) * (PANEL / side), colour)
    difference = np.abs(to_bytes(overlay).astype(np.float32) - to_bytes(picture)).mean(-1) / 255
    known = (drawn & inside).cpu().numpy()
    grey = to_bytes(picture).mean(-1, keepdims=True).repeat(3, -1)
    error = np.where(known[..., None], heat(difference / WORST_COLOUR) * 255, grey).astype(np.uint8)
    return np.concatenate([np.asarray(p) for p in panels], 1), with_scale(error, WORST_COLOUR, "of 1, sRGB")


def draw_points(picture: Image.Image, points: np.ndarray, colour) -> None:
    draw = ImageDraw.Draw(picture)
    for x, y in points[~np.isnan(points).any(1)]:
        draw.ellipse([x - 2.5, y - 2.5, x + 2.5, y + 2.5], fill=colour)


# -------------------------------------------------------------------------------------------------------------------------- mesh


def fit_a_mesh(options, model: MorphableModel) -> int:
    try:
        mesh = load_mesh(options.input)
    except MeshError as error:
        raise InputError(str(error)) from None
    given = None if options.landmarks is None else read_landmarks(options.landmarks, dimensions=3)
    start = time.perf_counter()
    more = {} if options.iterations is None else {"iterations": options.iterations}
    fit = fit_mesh(
        mesh.vertices,
        mesh.faces,
        model,
        None if given is None else given.points,
        expression=not options.neutral,
        **more,
    )
    seconds = time.perf_counter() - start
    vertices = fit.face(model).vertices[0]
    scan = fit.placement.inverse()(mesh.vertices.to(vertices.device))  # in the model's place and unit
    distance = ClosestPoints(scan, mesh.faces)(vertices).distance
    error = torch.full_like(distance, torch.nan)
    region = model.faces[face_triangles(model)].unique().long()
    error[region] = distance[region]
    iio.imwrite(options.output / "overlay.png", mesh_pictures(scan, mesh.faces, vertices, model))
    iio.imwrite(options.output / "error.png", mesh_error(vertices, error, model))
    write_fit(options, fit, model, error)
    marks = (
        "without landmarks"
        if given is None
        else f"{len(given.points)} landmarks {fit.landmark_error:.2f} mm off on average"
    )
    middle, most = (float(distance[region].quantile(q)) for q in (0.5, 0.9))
    print(
        f"{options.input}: the model's face lies {middle:.2f} mm from the mesh (median; 90 % within {most:.2f} mm); {marks}; "
        f"{1 / float(fit.placement.scale):.4g} mm to the mesh's unit; {seconds:.1f} s\n{options.output}"
    )
    return 0


def mesh_pictures(scan: Tensor, faces: Tensor, vertices: Tensor, model: MorphableModel) -> np.ndarray:
    """The mesh above, the fit below, from the front and both sides."""
    yaw = torch.tensor([0.0, 40.0, -40.0])
    rows = [
        portrait(v.expand(3, -1, -1), t, size=PANEL, yaw=yaw)
        for v, t in ((scan, fr.Topology(faces, len(scan))), (vertices, model.topology))
    ]
    return to_bytes(tile(torch.cat(rows), 3))


def mesh_error(vertices: Tensor, error: Tensor, model: MorphableModel) -> np.ndarray:
    known = ~error.isnan()
    colours = torch.from_numpy(heat((error.nan_to_num() / WORST_MM).cpu().numpy())).to(vertices)
    colours = torch.where(known[:, None], to_linear(colours), 0.3)
    return with_scale(to_bytes(portrait(vertices[None], model.topology, colours[None], PANEL)[0]), WORST_MM, "mm")


# ------------------------------------------------------------------------------------------------------------------------ results


def write_fit(options, fit: Fit, model: MorphableModel, error: Tensor | None = None) -> None:
    from facemodels.export import mesh_of, write

    arrays = fit.arrays()
    np.savez(options.output / "coefficients.npz", **arrays)
    readable = {"model": model.name, "input": options.input.name, "landmark_error": fit.landmark_error}
    readable |= {
        name: None if value.ndim == 0 and not np.isfinite(value) else np.round(value.astype(float), 6).tolist()
        for name, value in arrays.items()
    }
    readable["expression"] = dict(zip(model.expression_names, readable["expression"][0]))
    lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in readable.items())
    (options.output / "coefficients.json").write_text(f"{{\n{lines}\n}}\n")
    mesh = mesh_of(model, fit.identity, fit.expression, fit.albedo, fit.joints, name=options.input.stem)
    if error is not None:
        mesh = replace(mesh, error=error)
    for suffix in options.mesh:
        write(options.output / f"face{suffix}", mesh, options.unit, options.axes)


def heat(values: np.ndarray) -> np.ndarray:
    """Values 0..1 [...] as sRGB colours [...,3], 0..1: from blue over green and yellow to red."""
    stops = np.array(
        [[0.10, 0.15, 0.55], [0.10, 0.55, 0.75], [0.35, 0.75, 0.35], [0.95, 0.80, 0.20], [0.80, 0.10, 0.10]]
    )
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(np.clip(values, 0, 1), at, stops[:, c]) for c in range(3)], -1).astype(np.float32)


def with_scale(picture: np.ndarray, worst: float, unit: str) -> np.ndarray:
    """The picture with a scale of `heat` below it."""
    height, width = picture.shape[:2]
    bar = Image.fromarray(
        np.concatenate(
            [
                (heat(np.linspace(0, 1, width)[None].repeat(12, 0)) * 255).astype(np.uint8),
                np.full((18, width, 3), 255, np.uint8),
            ]
        )
    )
    draw = ImageDraw.Draw(bar)
    draw.text((4, 15), "0", fill=(0, 0, 0))
    label = f"{worst:g} {unit} or more"
    draw.text((width - 4 - draw.textlength(label), 15), label, fill=(0, 0, 0))
    return np.concatenate([picture, np.asarray(bar)])
