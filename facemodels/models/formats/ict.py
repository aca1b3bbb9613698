"""ICT-FaceKit light (Li et al. 2020, "Learning Formation of Physically-Based Face Attributes"): an MIT-licensed head
with ARKit's expressions.

Read from the folder of OBJ files as it is distributed (`FaceXModel/`: generic_neutral_mesh.obj, identity000.obj ...,
one OBJ for each expression, vertex_indices.json), or from an `ict_facekit.npz` with the same content: neutral [V,3],
identity [I,V,3] and expression [E,V,3] offsets, expression_names, polygons [P,4] padded with -1, uv [T,2], uv_polygons
[P,4], landmarks68 [68].

Centimeters become millimeters. Expressions are named as ARKit names its blend shapes (browDown_L -> browDownLeft). The
texture coordinates of the file lie on seven tiles, of which some are used twice; they are packed into one square.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from facemodels.core.errors import one_line
from facemodels.core.landmarks import NUM_LANDMARKS
from facemodels.io.files import Shape, existing_file, input_error, read_npz, take_arrays
from facemodels.models.formats.build import build
from facemodels.models.formats.layout import mirror, triangles
from facemodels.models.formats.obj import read_obj, read_obj_vertices
from facemodels.models.model_data import ModelData, vertex_landmarks

CENTIMETERS = 10.0  # in millimeters
VERTICES, POLYGONS = 26719, 26384
LICENSE = "MIT, University of Southern California, Institute for Creative Technologies"
# First and last vertex of each part. "face" is the narrow one, which models are fitted to and measured on.
REGIONS = {
    "face": (0, 6705),
    "full_face": (0, 9408),
    "head": (0, 11247),
    "mouth_socket": (11248, 13294),
    "eye_sockets": (13295, 14061),
    "gums_tongue": (14062, 17038),
    "teeth": (17039, 21450),
    "eyeball_left": (21451, 23020),
    "eyeball_right": (23021, 24590),
    "eyeballs": (21451, 24590),
    "lacrimal_fluid": (24591, 24998),
    "eye_blends": (24999, 25046),
    "eye_occlusion": (25047, 25350),
    "eyelashes": (25351, 26718),
}
# Charts of the texture: first vertex of the chart (up to the next one's), tile, then the lower left corner and side of
# its square.
_SMALL = 1 / 12
_CHARTS = (
    (0, 0, (0, 0.25, 0.75)),
    (0, 1, (0.75, 0.75, 0.25)),
    (14062, 2, (0.75, 0.5, 0.25)),
    (17039, 3, (0.75, 0.25, 0.25)),
    (21451, 0, (0, 0, _SMALL)),  # cornea, then the eyeball, of each eye
    (22221, 0, (0.75, 0, 0.25)),
    (23021, 0, (_SMALL, 0, _SMALL)),
    (23791, 0, (0.5, 0, 0.25)),
    (24591, 4, (2 * _SMALL, 0, _SMALL)),
    (24795, 5, (0, _SMALL, _SMALL)),
    (24999, 0, (_SMALL, _SMALL, _SMALL)),
    (25023, 0, (2 * _SMALL, _SMALL, _SMALL)),
    (25047, 0, (0, 2 * _SMALL, _SMALL)),
    (25199, 0, (_SMALL, 2 * _SMALL, _SMALL)),
    (25351, 6, (0.25, 0, 0.25)),
)


def read_ict_npz(path: str | Path) -> ModelData:
    """Read an ict_facekit.npz.

    Raises:
        InputError: the file is missing, damaged or incomplete.
    """
    expected = "an ict_facekit.npz"
    shapes: dict[str, Shape | None] = {
        "neutral": ("V", 3),
        "identity": (None, "V", 3),
        "expression": ("E", "V", 3),
        "polygons": ("P", 4),
        "uv": (None, 2),
        "uv_polygons": ("P", 4),
        "landmarks68": (NUM_LANDMARKS,),
    }
    arrays = read_npz(path, expected)
    neutral, identity, expression, polygons, uv, uv_polygons, landmarks = take_arrays(path, arrays, shapes, expected)
    names = arrays.get("expression_names")
    if names is None or names.shape != (len(expression),) or names.dtype.kind != "U":
        raise input_error(
            path,
            f"expression_names, a name for each of {len(expression)} expressions",
            "none" if names is None else f"{names.dtype} {list(names.shape)}",
        )
    return _model(path, neutral, identity, expression, [str(n) for n in names], polygons, uv, uv_polygons, landmarks)


def read_ict_folder(folder: str | Path) -> ModelData:
    """Read the folder `FaceXModel` of the distribution.

    Raises:
        InputError: a file is missing, damaged or does not fit the others.
    """
    folder = Path(folder)
    neutral, uv, polygons, uv_polygons = read_obj(folder / "generic_neutral_mesh.obj")
    facts = _facts(folder / "vertex_indices.json")
    identities = [folder / f"identity{k:03d}.obj" for k in range(len(list(folder.glob("identity[0-9][0-9][0-9].obj"))))]
    # The list in the JSON file lacks expressions that were added later; files that are not in it count too.
    others = {p.stem for p in folder.glob("*.obj")} - {p.stem for p in folder.glob("identity*.obj")}
    names = sorted((others - {"generic_neutral_mesh"}) | set(facts["expressions"]))
    if not identities or not names:
        raise input_error(
            folder,
            "identity000.obj ... and one OBJ file for each expression",
            f"{len(identities)} identities and {len(names)} expressions",
        )

    def offsets(files: list[Path]) -> np.ndarray:
        shapes = np.empty((len(files), *neutral.shape), np.float32)
        for shape, file in zip(shapes, files):
            shape[:] = read_obj_vertices(file, len(neutral)) - neutral
        return shapes

    expressions = offsets([folder / f"{name}.obj" for name in names])
    landmarks = np.array(facts["idx_to_landmark_verts"])
    return _model(folder, neutral, offsets(identities), expressions, names, polygons, uv, uv_polygons, landmarks)


def _facts(path: Path) -> dict[str, Any]:
    """What is used of vertex_indices.json: idx_to_landmark_verts, 68 vertices, and expressions, names of files."""
    expected = "ICT-FaceKit's vertex_indices.json"
    try:
        facts = json.loads(existing_file(path, expected).read_text())
        landmarks, names = facts["idx_to_landmark_verts"], facts["expressions"]
        complete = len(landmarks) == NUM_LANDMARKS and all(isinstance(i, int) and -1 <= i < 2**31 for i in landmarks)
        complete = complete and all(isinstance(n, str) and Path(n).name == n for n in names)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise input_error(path, expected, f"a file that does not read as it ({one_line(error)})") from error
    if not complete:
        wanted = f"{expected} with {NUM_LANDMARKS} vertices in idx_to_landmark_verts and names in expressions"
        raise input_error(path, wanted, "other entries")
    return facts


def _model(
    path: str | Path,
    neutral: np.ndarray,
    identity: np.ndarray,
    expression: np.ndarray,
    names: list[str],
    polygons: np.ndarray,
    uv: np.ndarray,
    uv_polygons: np.ndarray,
    landmarks: np.ndarray,
) -> ModelData:
    """`ModelData` of arrays in the distribution's units and names."""
    polygons, uv_polygons = polygons.astype(np.int32), uv_polygons.astype(np.int32)
    for corners, count in ((polygons, len(neutral)), (uv_polygons, len(uv))):
        if (corners[:, :3] < 0).any() or corners.max(initial=-1) >= count:
            raise input_error(
                path,
                f"polygons of three or more corners in 0..{count - 1}",
                f"{corners[:, :3].min(initial=0)}..{corners.max(initial=-1)}",
            )
    if len(neutral) == VERTICES and len(polygons) != POLYGONS:
        raise input_error(path, f"{POLYGONS} polygons", f"{len(polygons)}")
    if ((polygons < 0) != (uv_polygons < 0)).any():
        expected = "polygons and their texture coordinates with the same corners"
        raise input_error(path, expected, "polygons of different size")
    data = build(
        path,
        name="ICT-FaceKit light",
        mean=neutral * np.float32(CENTIMETERS),
        identity=identity.astype(np.float32) * np.float32(CENTIMETERS),
        expression=expression.astype(np.float32) * np.float32(CENTIMETERS),
        faces=triangles(polygons),
        expression_names=[arkit_name(n) for n in names],
        blendshapes=True,
        uv=_packed(uv, polygons, uv_polygons) if len(neutral) == VERTICES else uv,
        uv_faces=triangles(uv_polygons),
        regions={k: np.arange(first, last + 1) for k, (first, last) in REGIONS.items() if last < len(neutral)},
        licence=LICENSE,
        **vertex_landmarks(landmarks),
    )
    data.symmetry = mirror(data.mean, polygons)
    return data


def arkit_name(name: str) -> str:
    """ARKit's name of an expression: browDown_L -> browDownLeft, PupilDilate_R -> pupilDilateRight."""
    side = {"_L": "Left", "_R": "Right"}.get(name[-2:], "")
    return name[:1].lower() + (name[1:-2] + side if side else name[1:])


def _packed(uv: np.ndarray, polygons: np.ndarray, uv_polygons: np.ndarray) -> np.ndarray:
    """All charts in one square; the face has three quarters of each side."""
    place = np.zeros((len(uv), 3), np.float32)
    tile = np.zeros(len(uv), np.float32)
    polygon_tile = np.floor(uv[uv_polygons[:, 0], 0])
    for first, number, square in _CHARTS:
        chart = uv_polygons[(polygons[:, 0] >= first) & (polygon_tile == number)]
        place[chart[chart >= 0]], tile[chart[chart >= 0]] = square, number
    local = uv - np.stack([tile, np.zeros_like(tile)], 1)
    return place[:, :2] + local * place[:, 2:]
