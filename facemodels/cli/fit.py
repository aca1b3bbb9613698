"""facemodels fit: a model fitted to a photo with landmarks, or to a mesh or scan."""

import io
import json
import math
import sys
import time
import warnings
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemodels.cli.fit_face_check import face_doubts
from facemodels.cli.fit_pictures import draw_mesh_error, draw_mesh_fit, draw_photo_fit
from facemodels.core.alignment import Similarity
from facemodels.core.errors import InputError
from facemodels.core.options import add_model, add_output_folder, number
from facemodels.core.rotation import head_angles
from facemodels.core.surface import ClosestPoints
from facemodels.fitting.judge import FitWarning
from facemodels.fitting.photo import fit_image
from facemodels.fitting.raster import face_triangles
from facemodels.fitting.result import Fit
from facemodels.fitting.scan import fit_mesh
from facemodels.io.files import check_not_inputs, check_writable, no_such_file, write_atomically
from facemodels.io.images import read_picture, write_picture
from facemodels.io.landmarks import (
    LANDMARK_SUFFIXES,
    check_inside,
    read_landmarks,
    sidecar,
)
from facemodels.io.results import result_folder
from facemodels.models.morphable import MorphableModel
from facerender.meshes import MeshError, load_mesh

MESH_SUFFIXES = (".obj", ".ply", ".glb", ".gltf")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.epilog = """examples:
  facemodels fit photo.jpg --landmarks photo.txt -o out
      with 68, 21 or 5 points: of dlib, OpenFace, MediaPipe, iBUG (.pts), as text or JSON ...
  facemodels fit AFLW2000/image00002.jpg -o out
      with the landmarks in image00002.mat beside it
  facemodels fit photo.jpg -o out --model FLAME2020/generic_model.pkl
  facemodels fit scan.ply -o out
      a mesh in any unit and orientation

The folder gets:
  overlay.png    of a photo, cropped to the face: its landmarks, given in green and fitted in
                 red; the fit in its light (without colors of the model: in one color); the shape.
                 Of a mesh: the mesh, and below it the fit, from three sides
  error.png      a map of how far the fit is from the photo's colors, or from the mesh
  face.glb       the mesh with its expressions; face.html shows it in a browser
  coefficients.npz and coefficients.json

What is checked: whether the landmarks fit a face (not far off, mirrored or in another order), the
shape is one that people have, and, by the network that also checks faces in facemodels reconstruct,
the photo shows a face where the landmarks are. A fit that fails a check is written, the reason is
printed, and the exit code is 1."""
    parser.add_argument(
        "input",
        type=Path,
        metavar="PHOTO_OR_MESH",
        help=f"a picture, or a mesh: {', '.join(MESH_SUFFIXES)}",
    )
    add_output_folder(parser)
    parser.add_argument(
        "--landmarks",
        type=Path,
        metavar="FILE",
        help="landmarks in pixels of the photo, 0 at the upper left corner (.pts and .mat: 1-based), or in the mesh's "
        "coordinates (default for a photo: the landmark file of the same name beside it)",
    )
    add_model(parser)
    parser.add_argument(
        "--contour",
        choices=("moving", "static"),
        help="where the first 17 of a photo's landmarks lie: moving, on the visible outline of the face; static, at "
        "fixed places of the head (default: static for AFLW2000-3D and 300W-LP's 3D landmarks, else moving)",
    )
    parser.add_argument(
        "--focal",
        type=number(float, 0, exclusive=True, infinite=True),
        default=math.inf,
        metavar="PIXELS",
        help="focal length of the photo, for faces near the camera (default: no perspective)",
    )
    parser.add_argument(
        "--iterations",
        type=number(int, 0),
        metavar="N",
        help="iterations of the last stage (default: 400 for a photo, 30 for a mesh); for a photo, 0 fits the "
        "landmarks alone",
    )
    parser.add_argument("--neutral", action="store_true", help="for a mesh: fit without expression")
    parser.add_argument(
        "--mesh",
        nargs="+",
        default=[".glb", ".html"],
        metavar="SUFFIX",
        help="files to write the face to: .obj .ply .glb .html (default: .glb .html)",
    )
    parser.add_argument(
        "--unit", choices=("mm", "cm", "m"), help="unit of these meshes (default: m for .glb, mm for the others)"
    )
    parser.add_argument(
        "--axes",
        choices=("y-up", "z-up", "blender"),
        default="y-up",
        help="axes of these meshes: y-up, which GLB requires and Blender expects of GLB and OBJ files; z-up; or "
        "blender, z-up for .ply and y-up for the others, which all stand upright in Blender (default: y-up)",
    )


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    from facemodels.export import SUFFIXES
    from facemodels.models.load import load_model

    unknown = [suffix for suffix in options.mesh if suffix not in SUFFIXES]
    if unknown:
        raise InputError(f"--mesh {unknown[0]}: meshes are written as {', '.join(SUFFIXES)}")
    if not options.input.is_file():
        raise no_such_file(options.input)
    model = load_model(options.model)
    check_writable(options.output)
    is_mesh = options.input.suffix.lower() in MESH_SUFFIXES
    landmarks = options.landmarks if is_mesh else options.landmarks or sidecar(options.input)
    read = [path for path in (options.input, landmarks) if path is not None]
    check_not_inputs([options.output / name for name in _outputs(options.mesh)], [*read, options.model])
    with result_folder(options.output, read), warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # the error below says it
        fit, text = _fit_mesh(options, model) if is_mesh else _fit_photo(options, model, landmarks)
    print(f"{text}\n{options.output}")
    if fit.doubts:
        raise InputError(f"{options.input}: the fit was written, but is probably wrong: {'; '.join(fit.doubts)}")
    return 0


def _outputs(meshes: list[str]) -> list[str]:
    """The names of the files that are written, but for those beside a mesh."""
    return ["overlay.png", "error.png", "coefficients.npz", "coefficients.json", *(f"face{s}" for s in meshes)]


def _fit_photo(options: Namespace, model: MorphableModel, file: Path | None) -> tuple[Fit, str]:
    """Fit a photo to the landmarks of a file, write the results, and describe the fit."""
    photo = read_photo(options.input)
    if file is None:
        names = ", ".join(options.input.stem + suffix for suffix in LANDMARK_SUFFIXES)
        raise InputError(
            f"{options.input}: a photo needs landmarks; give a file of 68, 21 or 5 points with --landmarks, or put one "
            f"of {names} beside it"
        )
    given = read_landmarks(file, size=photo.shape[:2], photo=options.input)
    check_inside(given.points, photo.shape[:2], file)
    start = time.perf_counter()
    iterations = {} if options.iterations is None else {"iterations": options.iterations}
    fit = fit_image(photo, given.points, model, options.contour or given.contour, options.focal, **iterations)
    seconds = time.perf_counter() - start
    fit.doubts += face_doubts(photo, fit, model)
    overlay, error = draw_photo_fit(photo, given.points, fit, model)
    write_picture(options.output / "overlay.png", overlay)
    write_picture(options.output / "error.png", error)
    _write_fit(options, fit, model)
    assert fit.camera is not None and fit.landmark_error is not None  # of a fit to a photo
    pitch, yaw, roll = head_angles(fit.camera.rotation[0]).tolist()
    mm = fit.landmark_error / float(fit.camera.scale)
    return fit, (
        f"{options.input}: {_count(fit, given.points)} from {file.name}, {fit.landmark_error:.2f} pixels off on "
        f"average ({mm:.2f} mm on the face); pitch {pitch:.0f}, yaw {yaw:.0f}, roll {roll:.0f} degrees; {seconds:.1f} s"
    )


def read_photo(path: Path) -> np.ndarray:
    """Read a photo as `read_picture` does; the message for another file also lists the suffixes of meshes."""
    try:
        return read_picture(path)
    except InputError as error:
        raise InputError(f"{error}; meshes end in {', '.join(MESH_SUFFIXES)}") from None


def _count(fit: Fit, given: np.ndarray) -> str:
    """How many landmarks were compared: those that are known and that the model has."""
    if fit.landmark_count == len(given):
        return f"{len(given)} landmarks"
    return f"{fit.landmark_count} of {len(given)} landmarks (the others are missing, or the model lacks them)"


def _fit_mesh(options: Namespace, model: MorphableModel) -> tuple[Fit, str]:
    """Fit a mesh, write the results, and describe the fit."""
    try:
        mesh = load_mesh(options.input, lambda note: print(f"facemodels fit: {note}", file=sys.stderr))
    except MeshError as error:
        raise InputError(str(error)) from None
    given = None if options.landmarks is None else read_landmarks(options.landmarks, dimensions=3).points
    start = time.perf_counter()
    iterations = {} if options.iterations is None else {"iterations": options.iterations}
    there = mesh.vertices.double() + torch.tensor(mesh.origin, dtype=torch.float64)  # in the file's coordinates
    try:
        fit = fit_mesh(there, mesh.faces, model, given, expression=not options.neutral, **iterations)
    except InputError as error:
        raise InputError(f"{options.input}: {error}") from None
    seconds = time.perf_counter() - start
    assert fit.placement is not None  # of a fit to a mesh
    vertices = fit.face(model).vertices[0]
    to_model = Similarity(*(part.double() for part in fit.placement)).inverse()
    scan = to_model(there.to(vertices.device)).to(vertices.dtype)  # in the model's place and unit
    distance = ClosestPoints(scan, mesh.faces)(vertices).distance
    measured = torch.full_like(distance, torch.nan)
    region = model.faces[face_triangles(model)].unique().long()
    measured[region] = distance[region]
    write_picture(options.output / "overlay.png", draw_mesh_fit(scan, mesh.faces, vertices, model))
    write_picture(options.output / "error.png", draw_mesh_error(vertices, measured, model))
    _write_fit(options, fit, model, measured)
    marks = "without landmarks"
    if given is not None:
        marks = f"{_count(fit, given)} {fit.landmark_error:.2f} mm off on average"
    median, most = (float(distance[region].quantile(q)) for q in (0.5, 0.9))
    return fit, (
        f"{options.input}: the model's face lies {median:.2f} mm from the mesh (median; 90 % within {most:.2f} mm); "
        f"{marks}; {1 / float(fit.placement.scale):.4g} mm to the mesh's unit; {seconds:.1f} s"
    )


def _readable(value: np.ndarray) -> Any:
    """Rounded numbers for JSON, null for what is not finite."""
    rounded = np.array(np.round(value.astype(float), 6), object)
    rounded[~np.isfinite(value)] = None
    return rounded.tolist()


def _write_fit(options: Namespace, fit: Fit, model: MorphableModel, error: Tensor | None = None) -> None:
    """Write the coefficients and the meshes; error [V] becomes an attribute of the vertices."""
    from facemodels.export import mesh_of, write

    arrays = fit.arrays()
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type] # no array is named allow_pickle
    readable = {"model": model.name, "input": options.input.name, "doubts": fit.doubts}
    readable |= {"landmark_error": fit.landmark_error, "landmark_count": fit.landmark_count}
    readable |= {name: _readable(value) for name, value in arrays.items()}
    readable["expression"] = dict(zip(model.expression_names, readable["expression"][0]))
    lines = ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in readable.items())
    stem = options.output / "coefficients"
    write_atomically(
        {stem.with_suffix(".npz"): packed.getvalue(), stem.with_suffix(".json"): f"{{\n{lines}\n}}\n".encode()}
    )
    mesh = mesh_of(model, fit.identity, fit.expression, fit.albedo, fit.joints, name=options.input.stem)
    if error is not None:
        mesh = replace(mesh, error=error.detach().cpu().numpy())
    for suffix in options.mesh:
        write(options.output / f"face{suffix}", mesh, options.unit, options.axes)
