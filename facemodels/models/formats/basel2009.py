"""The Basel Face Model of 2009 (Paysan et al. 2009) in the three forms in which it is common.

| file | form | read beside it |
|---|---|---|
| 01_MorphableModel.mat | original: 53,490 vertices, no expressions | Exp_Pca.bin, std_exp.txt, BFM_exp_idx.mat (1) |
| BFM_model_front.mat | Deep3DFaceRecon's (Deng et al. 2019): 35,709 vertices, 80 + 64 modes | - |
| Model_Shape.mat | 300W-LP's (Zhu et al. 2016): 53,215 vertices, 199 + 29 modes | Model_Exp.mat (2), BFM_UV.mat |

(1) The expressions of Guo et al. (2018), of 53,215 vertices. Where they are read, the other 275 vertices (the inside of
the mouth) are left out. (2) Required; it may be named Model_Expression.mat.

Micrometers and decimeters become millimeters, 1-based indices 0-based, colors of 0..255 become 0..1 (sRGB). Components
of unit length are multiplied by their standard deviations, so that coefficients have unit variance: the `Shape_Para`
and `Exp_Para` of 300W-LP and AFLW2000-3D are `sigma` and `sigma_exp` times our coefficients. The mean of 300W-LP's form
is mu_shape + mu_exp; Deep3DFaceRecon's is moved to its centroid, as its authors do.
"""

from pathlib import Path
from typing import Any

import numpy as np

from facemodels.core.errors import one_line
from facemodels.core.landmarks import NUM_LANDMARKS
from facemodels.io.files import Shape, existing_file, input_error, take_arrays
from facemodels.io.matfile import read_mat
from facemodels.models.formats.build import build, from_one_based
from facemodels.models.formats.layout import modes, outward, points
from facemodels.models.model_data import ModelData, face_region, vertex_landmarks

MICROMETERS, DECIMETERS = 1e-3, 100.0  # in millimeters
LICENSE = "Basel Face Model, University of Basel: research only, not to be passed on"
SHAPE = "the Basel model 01_MorphableModel.mat"
# The 68 vertices, among the original's, that 300W-LP, 3DDFA and Deep3DFaceRecon use as iBUG landmarks.
# (Deep3DFaceRecon: facemodel_info.mat's keypoints through BFM_front_idx.mat and BFM_exp_idx.mat.)
VERTICES = 53490
# fmt: off
LANDMARKS = (
    22148, 22424, 21928, 21311, 43511, 45193, 46441, 47410, 48189,
    48970, 49942, 51199, 52888, 33953, 33280, 32744, 32984,
    38970, 39667, 40057, 40262, 40429, 41168, 41334, 41542, 41936, 42642,
    8290, 8306, 8316, 8321, 6525, 7300, 8333, 9364, 10137,
    2215, 3886, 4920, 5828, 4801, 3640, 10730, 11628, 12658, 14341, 12928, 11767,
    5522, 6025, 7570, 8344, 9118, 10669, 11070, 9792, 9019, 8374, 7729, 6954,
    5909, 7450, 8352, 9256, 10812, 9012, 8367, 7722,
)
# fmt: on


def read_original(path: str | Path) -> ModelData:
    """Read 01_MorphableModel.mat, and the expressions of Guo et al. if they lie beside it."""
    path = Path(path)
    shapes: dict[str, Shape | None] = {
        "shapeMU": ("3V", 1),
        "shapePC": ("3V", "I"),
        "shapeEV": None,
        "texMU": ("3V", 1),
        "texPC": ("3V", "A"),
        "texEV": None,
        "tl": ("F", 3),
    }
    arrays = read_mat(path, SHAPE, [*shapes, "segbin"])
    mean, basis, deviation, color, colors, color_deviation, tl = take_arrays(path, arrays, shapes, SHAPE)
    _check_deviations(path, "shapeEV", deviation, basis)
    _check_deviations(path, "texEV", color_deviation, colors)
    _check_thirds(path, "shapeMU", mean)
    count = len(mean) // 3
    mean, faces = points(mean, MICROMETERS), from_one_based(path, tl, count, "tl")
    identity, expression = modes(basis, deviation * MICROMETERS), np.zeros((0, count, 3), np.float32)
    albedo_mean, albedo = points(color, 1 / 255), modes(colors, color_deviation / 255)
    landmarks = np.array(LANDMARKS) if count == VERTICES else None
    regions = _segments(path, arrays, count)
    if (path.parent / "Exp_Pca.bin").exists():
        kept, expression = _guo(path.parent, count)
        place = np.full(count, -1)
        place[kept] = np.arange(len(kept))
        faces = place[faces[(place[faces] >= 0).all(1)]]
        mean, identity, albedo_mean, albedo = mean[kept], identity[:, kept], albedo_mean[kept], albedo[:, kept]
        landmarks = None if landmarks is None else place[landmarks]
        regions = {name: place[vertices][place[vertices] >= 0] for name, vertices in regions.items()}
    return _model(
        path,
        faces,
        landmarks,
        regions,
        clockwise=True,
        name="Basel Face Model 2009",
        mean=mean,
        identity=identity,
        expression=expression,
        albedo_mean=albedo_mean,
        albedo=albedo,
    )


def _segments(path: Path, arrays: dict[str, Any], count: int) -> dict[str, np.ndarray]:
    """The regions of segbin [V,4], if it is there; its fourth column is the rest of the face."""
    if "segbin" not in arrays:
        return {}
    (segbin,) = take_arrays(path, arrays, {"segbin": (count, 4)}, "a Basel model")
    return {name: np.flatnonzero(segbin[:, k]) for k, name in enumerate(("nose", "eyes", "mouth"))}


def _guo(folder: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The expressions of Guo et al.

    Exp_Pca.bin holds int32 K, then float32: their mean (not used, as in Deep3DFaceRecon) and K components of unit
    length, x y z of a vertex together; std_exp.txt their deviations; BFM_exp_idx.mat which vertices they have.

    Returns:
        The vertices [v], and the modes [K,v,3] in mm.
    """
    binary, index = folder / "Exp_Pca.bin", folder / "BFM_exp_idx.mat"
    content = read_mat(index, "BFM_exp_idx.mat, which tells the vertices of Exp_Pca.bin", ["trimIndex"])
    (trim,) = take_arrays(index, content, {"trimIndex": None}, "BFM_exp_idx.mat")
    kept = from_one_based(index, trim.ravel(), count, "trimIndex")
    raw = existing_file(binary, "the expressions Exp_Pca.bin").read_bytes()
    components = int.from_bytes(raw[:4], "little", signed=True)
    if components <= 0 or len(raw) != 4 + 12 * len(kept) * (components + 1):
        raise input_error(
            binary,
            f"expressions of {len(kept)} vertices, as BFM_exp_idx.mat says",
            f"{len(raw)} bytes that declare {components} components",
        )
    basis = np.frombuffer(raw, "<f4", offset=4).reshape(components + 1, -1)[1:]
    text = existing_file(folder / "std_exp.txt", "the deviations of Exp_Pca.bin, std_exp.txt")
    try:
        deviation = np.array(text.read_text().split(), np.float64)
    except ValueError as error:
        found = f"text that does not read so ({one_line(error)})"
        raise input_error(text, f"{components} numbers", found) from error
    if len(deviation) < components:
        raise input_error(text, f"{components} numbers, one for each component of Exp_Pca.bin", f"{len(deviation)}")
    return kept, modes(basis.T, deviation[:components] * MICROMETERS)


def read_front(path: str | Path) -> ModelData:
    """Read Deep3DFaceRecon's BFM_model_front.mat."""
    path, expected = Path(path), "Deep3DFaceRecon's BFM_model_front.mat"
    shapes: dict[str, Shape | None] = {
        "meanshape": (1, "3V"),
        "idBase": ("3V", None),
        "exBase": ("3V", None),
        "meantex": (1, "3V"),
        "texBase": ("3V", None),
        "tri": (None, 3),
        "keypoints": None,
    }
    arrays = read_mat(path, expected, [*shapes, "frontmask2_idx", "skinmask"])
    mean, identity, expression, color, colors, tri, keypoints = take_arrays(path, arrays, shapes, expected)
    _check_thirds(path, "meanshape", mean.T)
    count = mean.size // 3
    mean = points(mean, DECIMETERS)
    regions = {}
    if "frontmask2_idx" in arrays:
        (front,) = take_arrays(path, arrays, {"frontmask2_idx": None}, expected)
        regions["front"] = from_one_based(path, front.ravel(), count, "frontmask2_idx")
    if "skinmask" in arrays:
        regions["skin"] = np.flatnonzero(take_arrays(path, arrays, {"skinmask": (1, count)}, expected)[0])
    return _model(
        path,
        from_one_based(path, tri, count, "tri"),
        from_one_based(path, keypoints.ravel(), count, "keypoints"),
        regions,
        clockwise=False,
        name="Basel Face Model 2009, front of Deep3DFaceRecon",
        mean=mean - mean.mean(0, dtype=np.float64).astype(np.float32),
        identity=modes(identity, DECIMETERS),
        expression=modes(expression, DECIMETERS),
        albedo_mean=points(color, 1 / 255),
        albedo=modes(colors, 1 / 255),
    )


def read_300w_lp(path: str | Path) -> ModelData:
    """Read 300W-LP's Model_Shape.mat with the Model_Exp.mat or Model_Expression.mat beside it."""
    path, expected = Path(path), "300W-LP's Model_Shape.mat"
    shapes: dict[str, Shape | None] = {
        "mu_shape": ("3V", 1),
        "w": ("3V", "I"),
        "sigma": None,
        "tri": (3, "F"),
        "keypoints": None,
    }
    arrays = read_mat(path, expected, [*shapes, "mu_tex", "w_tex", "sigma_tex", "symlist", "segbin"])
    mean, basis, sigma, tri, keypoints = take_arrays(path, arrays, shapes, expected)
    _check_deviations(path, "sigma", sigma, basis)
    _check_thirds(path, "mu_shape", mean)
    rows = len(mean)
    mean_expression, expression, sigma_expression = _300w_lp_expressions(path, rows)

    count = rows // 3
    mean = points(mean.astype(np.float64) + mean_expression, MICROMETERS)
    albedo_mean = albedo = symmetry = None
    if "mu_tex" in arrays:
        (color,) = take_arrays(path, arrays, {"mu_tex": (rows, 1)}, expected)
        albedo_mean, albedo = points(color, 1 / 255), np.zeros((0, count, 3), np.float32)
        if "w_tex" in arrays and "sigma_tex" in arrays:
            colors, deviation = take_arrays(path, arrays, {"w_tex": (rows, None), "sigma_tex": None}, expected)
            _check_deviations(path, "sigma_tex", deviation, colors)
            albedo = modes(colors, deviation / 255)
    if "symlist" in arrays:
        (pairs,) = take_arrays(path, arrays, {"symlist": (2, None)}, expected)
        left, right = from_one_based(path, pairs, count, "symlist")
        symmetry = np.arange(count)
        symmetry[left], symmetry[right] = right, left
    return _model(
        path,
        from_one_based(path, tri.T, count, "tri"),
        from_one_based(path, keypoints.ravel(), count, "keypoints"),
        _segments(path, arrays, count),
        clockwise=True,
        uv=read_uv(path.with_name("BFM_UV.mat"), count),
        name="Basel Face Model 2009 of 300W-LP",
        mean=mean,
        identity=modes(basis, sigma * MICROMETERS),
        expression=modes(expression, sigma_expression * MICROMETERS),
        albedo_mean=albedo_mean,
        albedo=albedo,
        symmetry=symmetry,
    )


def _300w_lp_expressions(path: Path, rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """mu_exp [3V,1], w_exp [3V,E] and sigma_exp of the file beside Model_Shape.mat."""
    candidates = [path.with_name(name) for name in ("Model_Exp.mat", "Model_Expression.mat")]
    sidecar = next((p for p in candidates if p.exists()), candidates[0])
    expected = "the expressions of 300W-LP, beside Model_Shape.mat"
    shapes: dict[str, Shape | None] = {"mu_exp": (rows, 1), "w_exp": (rows, "E"), "sigma_exp": None}
    mean, basis, sigma = take_arrays(sidecar, read_mat(sidecar, expected, shapes), shapes, expected)
    _check_deviations(sidecar, "sigma_exp", sigma, basis)
    return mean, basis, sigma


def read_uv(path: Path, count: int | None) -> np.ndarray | None:
    """The texture coordinates [V,2] of 3DDFA_V2's BFM_UV.mat, or None if there is no such file."""
    if not path.exists():
        return None
    expected = "3DDFA_V2's BFM_UV.mat"
    return take_arrays(path, read_mat(path, expected, ["UV"]), {"UV": (count, 2)}, expected)[0]


def _model(
    path: Path,
    faces: np.ndarray,
    landmarks: np.ndarray | None,
    regions: dict[str, np.ndarray],
    clockwise: bool,
    uv: np.ndarray | None = None,
    **fields: Any,
) -> ModelData:
    """`ModelData` of what the three forms have in common, and of the other fields."""
    faces = outward(faces, fields["mean"], clockwise)
    if landmarks is not None:
        if len(landmarks) != NUM_LANDMARKS:
            raise input_error(path, f"{NUM_LANDMARKS} keypoints", f"{len(landmarks)}")
        fields |= vertex_landmarks(landmarks)
    data = build(
        path,
        faces=faces,
        albedo_encoding="srgb",
        uv=uv,
        uv_faces=None if uv is None else faces,
        regions=regions,
        licence=LICENSE,
        **fields,
    )
    data.regions = face_region(data.mean, data.landmark_index, data.landmark_weights) | data.regions
    return data


def _check_deviations(path: Path, name: str, deviations: np.ndarray, basis: np.ndarray) -> None:
    if deviations.size != basis.shape[1]:
        raise input_error(path, f"{name} of {basis.shape[1]}, one for each component", f"{deviations.size}")


def _check_thirds(path: Path, name: str, column: np.ndarray) -> None:
    if len(column) % 3:
        raise input_error(path, f"{name} of x, y, z for each vertex", f"{len(column)} numbers")
