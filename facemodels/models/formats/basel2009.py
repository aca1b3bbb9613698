"""The Basel Face Model of 2009 (Paysan et al. 2009) in the three forms that people have it in.

| file | form | read beside it |
|---|---|---|
| 01_MorphableModel.mat | the original: 53,490 vertices, no expressions | Exp_Pca.bin, std_exp.txt and BFM_exp_idx.mat (Guo et al. 2018) |
| BFM_model_front.mat | Deep3DFaceRecon's (Deng et al. 2019): 35,709 vertices, 80 + 64 modes | - |
| Model_Shape.mat | 300W-LP's (Zhu et al. 2016): 53,215 vertices, 199 + 29 modes | Model_Exp.mat or Model_Expression.mat (needed), BFM_UV.mat |

The expressions of Guo et al. are of 53,215 vertices; where they are read, the other 275 (the inside of the mouth) are left out.

Micrometres and decimetres become millimetres, 1-based indices 0-based, colours of 0..255 become 0..1 (sRGB). Unit-length components are multiplied by
their standard deviations, so that coefficients have unit variance: the `Shape_Para` and `Exp_Para` of 300W-LP and AFLW2000-3D are `sigma` and
`sigma_exp` times our coefficients. The mean of 300W-LP's form is mu_shape + mu_exp, and Deep3DFaceRecon's is moved to its centroid, as its authors do.
"""

from pathlib import Path

import numpy as np

from facemodels.core.errors import one_line
from facemodels.io.files import existing_file, input_error, take_arrays
from facemodels.io.matfile import read_mat
from facemodels.models.formats.build import build, from_one
from facemodels.models.formats.layout import face_region, modes, outward, points, vertex_landmarks
from facemodels.models.model_data import ModelData

MICROMETRES, DECIMETRES = 1e-3, 100.0
LICENCE = "Basel Face Model, University of Basel: research only, not to be passed on"
SHAPE = "the Basel model 01_MorphableModel.mat"
# The 68 vertices of the 53,490 that 300W-LP, 3DDFA and Deep3DFaceRecon use as iBUG landmarks (Deep3DFaceRecon: facemodel_info.mat's keypoints
# through BFM_front_idx.mat and BFM_exp_idx.mat).
VERTICES = 53490
# fmt: off
LANDMARKS = (
    22148, 22424, 21928, 21311, 43511, 45193, 46441, 47410, 48189, 48970, 49942, 51199, 52888, 33953, 33280, 32744, 32984,
    38970, 39667, 40057, 40262, 40429, 41168, 41334, 41542, 41936, 42642, 8290, 8306, 8316, 8321, 6525, 7300, 8333, 9364, 10137,
    2215, 3886, 4920, 5828, 4801, 3640, 10730, 11628, 12658, 14341, 12928, 11767,
    5522, 6025, 7570, 8344, 9118, 10669, 11070, 9792, 9019, 8374, 7729, 6954, 5909, 7450, 8352, 9256, 10812, 9012, 8367, 7722,
)
# fmt: on


def read_original(path) -> ModelData:
    """Reads 01_MorphableModel.mat."""
    path = Path(path)
    shapes = {
        "shapeMU": ("3V", 1),
        "shapePC": ("3V", "I"),
        "shapeEV": None,
        "texMU": ("3V", 1),
        "texPC": ("3V", "A"),
        "texEV": None,
        "tl": ("F", 3),
    }
    arrays = read_mat(path, SHAPE, [*shapes, "segbin"])
    mean, basis, deviation, colour, colours, colour_deviation, tl = take_arrays(path, arrays, shapes, SHAPE)
    _match(path, "shapeEV", deviation, basis)
    _match(path, "texEV", colour_deviation, colours)
    _thirds(path, "shapeMU", mean)
    count = len(mean) // 3
    mean, faces = points(mean, MICROMETRES), from_one(path, tl, count, "tl")
    identity, expression = modes(basis, deviation * MICROMETRES), np.zeros((0, count, 3), np.float32)
    albedo_mean, albedo = points(colour, 1 / 255), modes(colours, colour_deviation / 255)
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
        "Basel Face Model 2009",
        mean,
        identity,
        expression,
        faces,
        True,
        albedo_mean,
        albedo,
        landmarks,
        regions=regions,
    )


def _segments(path, arrays, count):
    """The regions of segbin [V,4], if it is there; its fourth column is the rest."""
    if "segbin" not in arrays:
        return {}
    (segbin,) = take_arrays(path, arrays, {"segbin": (count, 4)}, "a Basel model")
    return {name: np.flatnonzero(segbin[:, k]) for k, name in enumerate(("nose", "eyes", "mouth"))}


def _guo(folder, count):
    """Exp_Pca.bin: int32 K, then float32: their mean, unused as in Deep3DFaceRecon, and K components of unit length, x y z of a vertex together;
    std_exp.txt: their deviations; BFM_exp_idx.mat: which vertices. -> kept [v], expression [K,v,3]."""
    binary, index = folder / "Exp_Pca.bin", folder / "BFM_exp_idx.mat"
    (trim,) = take_arrays(
        index,
        read_mat(index, "BFM_exp_idx.mat, which tells the vertices of Exp_Pca.bin", ["trimIndex"]),
        {"trimIndex": None},
        "BFM_exp_idx.mat",
    )
    kept = from_one(index, trim.ravel(), count, "trimIndex")
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
        raise input_error(text, f"{components} numbers", f"text that does not read so ({one_line(error)})") from error
    if len(deviation) < components:
        raise input_error(text, f"{components} numbers, one for each component of Exp_Pca.bin", f"{len(deviation)}")
    return kept, modes(basis.T, deviation[:components] * MICROMETRES)


def read_front(path) -> ModelData:
    """Reads Deep3DFaceRecon's BFM_model_front.mat."""
    path, expected = Path(path), "Deep3DFaceRecon's BFM_model_front.mat"
    shapes = {
        "meanshape": (1, "3V"),
        "idBase": ("3V", None),
        "exBase": ("3V", None),
        "meantex": (1, "3V"),
        "texBase": ("3V", None),
    }
    shapes |= {"tri": (None, 3), "keypoints": None}
    arrays = read_mat(path, expected, [*shapes, "frontmask2_idx", "skinmask"])
    mean, identity, expression, colour, colours, tri, keypoints = take_arrays(path, arrays, shapes, expected)
    _thirds(path, "meanshape", mean.T)
    count = mean.size // 3
    mean = points(mean, DECIMETRES)
    regions = {}
    if "frontmask2_idx" in arrays:
        (front,) = take_arrays(path, arrays, {"frontmask2_idx": None}, expected)
        regions["front"] = from_one(path, front.ravel(), count, "frontmask2_idx")
    if "skinmask" in arrays:
        regions["skin"] = np.flatnonzero(take_arrays(path, arrays, {"skinmask": (1, count)}, expected)[0])
    faces, landmarks = from_one(path, tri, count, "tri"), from_one(path, keypoints.ravel(), count, "keypoints")
    mean = mean - mean.mean(0, dtype=np.float64).astype(np.float32)
    scaled = modes(identity, DECIMETRES), modes(expression, DECIMETRES)
    albedo = points(colour, 1 / 255), modes(colours, 1 / 255)
    return _model(
        path,
        "Basel Face Model 2009, front of Deep3DFaceRecon",
        mean,
        *scaled,
        faces,
        False,
        *albedo,
        landmarks,
        regions=regions,
    )


def read_300w_lp(path) -> ModelData:
    """Reads 300W-LP's Model_Shape.mat with the Model_Exp.mat or Model_Expression.mat beside it."""
    path, expected = Path(path), "300W-LP's Model_Shape.mat"
    shapes = {"mu_shape": ("3V", 1), "w": ("3V", "I"), "sigma": None, "tri": (3, "F"), "keypoints": None}
    arrays = read_mat(path, expected, [*shapes, "mu_tex", "w_tex", "sigma_tex", "symlist", "segbin"])
    mean, basis, sigma, tri, keypoints = take_arrays(path, arrays, shapes, expected)
    _match(path, "sigma", sigma, basis)
    _thirds(path, "mu_shape", mean)
    other = next(
        (p for p in (path.with_name(n) for n in ("Model_Exp.mat", "Model_Expression.mat")) if p.exists()),
        path.with_name("Model_Exp.mat"),
    )
    second, rows = "the expressions of 300W-LP, beside Model_Shape.mat", len(mean)
    shapes = {"mu_exp": (rows, 1), "w_exp": (rows, "E"), "sigma_exp": None}
    mean_expression, expression, sigma_expression = take_arrays(other, read_mat(other, second, shapes), shapes, second)
    _match(other, "sigma_exp", sigma_expression, expression)

    count = rows // 3
    mean = points(mean.astype(np.float64) + mean_expression, MICROMETRES)
    albedo_mean = albedo = symmetry = None
    if "mu_tex" in arrays:
        (colour,) = take_arrays(path, arrays, {"mu_tex": (rows, 1)}, expected)
        albedo_mean, albedo = points(colour, 1 / 255), np.zeros((0, count, 3), np.float32)
        if "w_tex" in arrays and "sigma_tex" in arrays:
            colours, deviation = take_arrays(path, arrays, {"w_tex": (rows, None), "sigma_tex": None}, expected)
            _match(path, "sigma_tex", deviation, colours)
            albedo = modes(colours, deviation / 255)
    if "symlist" in arrays:
        (pairs,) = take_arrays(path, arrays, {"symlist": (2, None)}, expected)
        left, right = from_one(path, pairs, count, "symlist")
        symmetry = np.arange(count)
        symmetry[left], symmetry[right] = right, left
    faces, landmarks = from_one(path, tri.T, count, "tri"), from_one(path, keypoints.ravel(), count, "keypoints")
    scaled = modes(basis, sigma * MICROMETRES), modes(expression, sigma_expression * MICROMETRES)
    uv = read_uv(path.with_name("BFM_UV.mat"), count)
    return _model(
        path,
        "Basel Face Model 2009 of 300W-LP",
        mean,
        *scaled,
        faces,
        True,
        albedo_mean,
        albedo,
        landmarks,
        uv,
        _segments(path, arrays, count),
        symmetry,
    )


def read_uv(path, count):
    """[V,2] of 3DDFA_V2's BFM_UV.mat, or None where that file is not there."""
    if not path.exists():
        return None
    return take_arrays(
        path, read_mat(path, "3DDFA_V2's BFM_UV.mat", ["UV"]), {"UV": (count, 2)}, "3DDFA_V2's BFM_UV.mat"
    )[0]


def _model(
    path,
    name,
    mean,
    identity,
    expression,
    faces,
    clockwise,
    albedo_mean,
    albedo,
    landmarks,
    uv=None,
    regions=None,
    symmetry=None,
):
    faces = outward(faces, mean, clockwise)
    placed = {} if landmarks is None else vertex_landmarks(landmarks)
    if len(placed) and len(landmarks) != 68:
        raise input_error(path, "68 keypoints", f"{len(landmarks)}")
    data = build(
        path,
        name=name,
        mean=mean,
        identity=identity,
        expression=expression,
        faces=faces,
        albedo_mean=albedo_mean,
        albedo=albedo,
        albedo_encoding="srgb",
        uv=uv,
        uv_faces=None if uv is None else faces,
        regions=regions or {},
        symmetry=symmetry,
        licence=LICENCE,
        **placed,
    )
    data.regions = face_region(data.mean, data.landmark_index, data.landmark_weights) | data.regions
    return data


def _match(path, name, deviations, basis):
    if deviations.size != basis.shape[1]:
        raise input_error(path, f"{name} of {basis.shape[1]}, one for each component", f"{deviations.size}")


def _thirds(path, name, column):
    if len(column) % 3:
        raise input_error(path, f"{name} of x, y, z for each vertex", f"{len(column)} numbers")
