"""Model files of every family, small ones with the family's keys, layout and quirks, for tests to read.

The face is a dome of 81 vertices, known to the test in millimeters. Writers bring it into each family's units, order,
index base and winding; the readers have to bring it back.
"""

import json
import pickle
import struct
from dataclasses import dataclass, fields

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from facemodels import ModelData
from facemodels.models.formats import read
from facemodels.models.formats.layout import triangles
from facemodels.models.formats.native import write_native

SIDE = 9
V = SIDE * SIDE


@dataclass
class Face:
    """What the files hold, in the library's conventions."""

    mean: np.ndarray  # [V,3] mm
    faces: np.ndarray  # [F,3] counter-clockwise
    quads: np.ndarray  # [P,4]
    identity: np.ndarray  # [3,V,3] mm for one standard deviation
    expression: np.ndarray  # [2,V,3]
    colour: np.ndarray  # [V,3] 0..1
    colours: np.ndarray  # [2,V,3]
    landmarks: np.ndarray  # [68]


def dome() -> Face:
    random = np.random.default_rng(3)
    x, y = np.meshgrid(np.linspace(-80, 80, SIDE), np.linspace(90, -90, SIDE))
    mean = np.stack([x, y, 100 - (x * x + y * y) / 160], -1).reshape(-1, 3)
    corner = np.arange(V).reshape(SIDE, SIDE)
    quads = np.stack([corner[:-1, :-1], corner[1:, :-1], corner[1:, 1:], corner[:-1, 1:]], -1).reshape(-1, 4)
    landmarks = random.permutation(V)[:68]
    landmarks[30] = V // 2
    identity, expression = random.normal(size=(3, V, 3)) * 4, random.normal(size=(2, V, 3))
    colour, colours = random.uniform(size=(V, 3)), random.normal(size=(2, V, 3)) / 50
    return Face(mean, triangles(quads), quads, identity, expression, colour, colours, landmarks)


def unit(basis, scale=1.0):
    """[K,V,3] -> columns of unit length [3V,K] and the deviations [K] that were taken out, in units of 1/scale mm."""
    columns = basis.reshape(len(basis), -1).T * scale
    length = np.linalg.norm(columns, axis=0)
    return (columns / length).astype(np.float32), length


def backwards(faces):
    return faces[:, [0, 2, 1]]


# -------------------------------------------------------------------- writers
# Each writes a model into a folder. It returns the path to give, and what the file holds where that is less than the
# whole face.


def original(folder, face):
    basis, deviation = unit(face.identity, 1e3)
    colours, colour_deviation = unit(face.colours, 255)
    content = {
        "shapeMU": (face.mean.reshape(-1, 1) * 1e3).astype(np.float32),
        "shapePC": basis,
        "shapeEV": deviation[:, None].astype(np.float32),
        "texMU": (face.colour.reshape(-1, 1) * 255).astype(np.float32),
        "texPC": colours,
        "texEV": colour_deviation[:, None].astype(np.float32),
        "tl": (backwards(face.faces) + 1).astype(np.int32),
        "segbin": np.eye(4, dtype=np.uint8)[np.arange(V) % 4],
    }
    scipy.io.savemat(folder / "01_MorphableModel.mat", content)
    return folder / "01_MorphableModel.mat", {"expression": np.zeros((0, V, 3)), "landmarks": None}


def guo(folder, face):
    """The original with the expressions of Guo et al. on the vertices but the last row's and the first one."""
    path, _ = original(folder, face)
    kept = np.arange(1, V - SIDE)
    basis, deviation = unit(face.expression[:, kept], 1e3)
    raw = np.concatenate([np.full(3 * len(kept), 1e6, np.float32), basis.T.ravel()])  # their mean is not used
    (folder / "Exp_Pca.bin").write_bytes(struct.pack("<i", 2) + raw.astype("<f4").tobytes())
    (folder / "std_exp.txt").write_text(" ".join(f"{d:.9g}" for d in deviation) + " 7 \n")
    scipy.io.savemat(folder / "BFM_exp_idx.mat", {"trimIndex": (kept[:, None] + 1).astype(np.uint16)})
    place = np.full(V, -1)
    place[kept] = np.arange(len(kept))
    faces = place[face.faces]
    cut = {name: getattr(face, name)[..., kept, :] for name in ("mean", "identity", "expression", "colour", "colours")}
    return path, {**cut, "faces": faces[(faces >= 0).all(1)], "landmarks": None}


def front(folder, face):
    centred = face.mean - face.mean.mean(0)
    content = {
        "meanshape": (face.mean / 100).reshape(1, -1) + np.tile([1.0, 2.0, 3.0], V),  # not at its centroid in the file
        "idBase": (face.identity / 100).reshape(3, -1).T,
        "exBase": (face.expression / 100).reshape(2, -1).T,
        "meantex": face.colour.reshape(1, -1) * 255,
        "texBase": face.colours.reshape(2, -1).T * 255,
        "tri": (face.faces + 1).astype(np.float64),
        "keypoints": (face.landmarks[None] + 1).astype(np.float64),
        "point_buf": np.ones((V, 8)),
        "tri_mask2": np.ones((5, 3)),
        "frontmask2_idx": np.arange(1, 11)[:, None],
        "skinmask": np.r_[np.ones(5), np.zeros(V - 5)][None],
    }
    scipy.io.savemat(folder / "BFM_model_front.mat", content, do_compression=True)
    return folder / "BFM_model_front.mat", {"mean": centred}


def lp(folder, face):
    basis, deviation = unit(face.identity, 1e3)
    spread = np.array([0.5, 2.0])
    mean_expression = face.expression[0] * 0.1
    colours, colour_deviation = unit(face.colours, 255)
    pairs = np.arange(V).reshape(SIDE, SIDE)
    shape = {
        "mu_shape": ((face.mean - mean_expression).reshape(-1, 1) * 1e3).astype(np.float32),
        "w": basis,
        "sigma": deviation[:, None].astype(np.float32),
        "mu_tex": (face.colour.reshape(-1, 1) * 255).astype(np.float32),
        "w_tex": colours,
        "sigma_tex": colour_deviation[:, None].astype(np.float32),
        "tri": (backwards(face.faces) + 1).T.astype(np.uint16),
        "keypoints": (face.landmarks[None] + 1).astype(np.uint16),
        "symlist": np.stack([pairs[:, :4].ravel(), pairs[:, :4:-1].ravel()]).astype(np.uint16) + 1,
        "segbin": np.eye(4, dtype=np.uint8)[np.arange(V) % 4],
    }
    scipy.io.savemat(folder / "Model_Shape.mat", shape)
    expression = {
        "mu_exp": (mean_expression.reshape(-1, 1) * 1e3).astype(np.float32),
        "w_exp": (face.expression / spread[:, None, None] * 1e3).reshape(2, -1).T.astype(np.float32),
        "sigma_exp": spread[:, None].astype(np.float32),
    }
    scipy.io.savemat(folder / "Model_Exp.mat", expression)
    scipy.io.savemat(folder / "BFM_UV.mat", {"UV": np.linspace(0, 1, 2 * V).reshape(V, 2)})
    return folder / "Model_Shape.mat", {}


def tddfa(folder, face):
    basis, deviation = unit(face.identity, 1e3)
    std = np.ones(62, np.float32)
    std[12:15], std[52:54] = deviation, (2.0, 0.25)
    rows = (face.landmarks[:, None] * 3 + np.arange(3)).ravel()
    content = {
        "u": (face.mean.reshape(-1, 1) * 1e3).astype(np.float32),
        "w_shp": basis,
        "w_exp": (face.expression.reshape(2, -1).T * 1e3 / np.array([2.0, 0.25])).astype(np.float32),
        "keypoints": rows.astype(np.int64),
        "tri": np.full((3, 4), 50000, np.int32),
    }
    (folder / "bfm_noneck_v3.pkl").write_bytes(pickle.dumps(content, 4))
    (folder / "tri.pkl").write_bytes(pickle.dumps(backwards(face.faces).T.astype(np.int32), 4))
    (folder / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps({"mean": std * 0, "std": std}, 3))
    larger = np.zeros((2 * V, 2))
    larger[::2] = np.linspace(0, 1, 2 * V).reshape(V, 2)
    scipy.io.savemat(folder / "BFM_UV.mat", {"UV": larger})
    np.save(folder / "indices.npy", np.arange(0, 2 * V, 2))
    return folder / "bfm_noneck_v3.pkl", {"colour": None}


def basel2017(folder, face):
    h5py = pytest.importorskip("h5py")
    path = folder / "model2017-1_face12_nomouth.h5"
    mean_expression = face.expression[0] * 0.1
    with h5py.File(path, "w") as file:
        for part, mean, basis in (
            ("shape", face.mean - mean_expression, face.identity),
            ("expression", mean_expression, face.expression),
            ("color", face.colour, face.colours),
        ):
            columns, deviation = unit(basis)
            file[f"{part}/model/mean"] = mean.reshape(-1).astype(np.float32)
            file[f"{part}/model/pcaBasis"] = columns
            file[f"{part}/model/pcaVariance"] = (deviation**2).astype(np.float32)
        file["shape/representer/cells"] = face.faces.T.astype(np.uint32)
        named = {"center.nose.tip": face.mean[40] + 0.5, "right.eye.corner_outer": face.mean[20]}
        named |= {
            "left.ear.helix.top": face.mean[3],
            "left.lips.corner": face.mean[5] + 50,
        }  # one that iBUG lacks, one that is not on the mesh
        listed = json.dumps([{"id": k, "coordinates": list(v)} for k, v in named.items()])
        file["metadata/landmarks/json"] = np.frombuffer(listed.encode(), np.uint8)
    return path, {"landmarks": {30: 40, 36: 20}}


# Python 2's cPickle, as it wrote FLAME's files: text strings for everything, chumpy's and scipy's classes by name.


def py2_string(text: bytes):
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text


def py2_array(a):
    kind = a.dtype.kind + str(a.dtype.itemsize)
    shape = b"(" + b"".join(b"J" + struct.pack("<i", n) for n in a.shape) + b"t"
    dtype = (
        b"cnumpy\ndtype\n("
        + py2_string(kind.encode())
        + b"K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    fortran = b"\x88" if a.flags.f_contiguous and a.ndim > 1 else b"\x89"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01"
        + shape
        + dtype
        + fortran
        + py2_string(a.tobytes("A"))
        + b"tb"
    )


def py2_dict(parts: dict):
    return b"}(" + b"".join(py2_string(k.encode()) + v for k, v in parts.items()) + b"u"


def py2_object(module_and_class: bytes, state: bytes):
    return b"ccopy_reg\n_reconstructor\n(c" + module_and_class + b"\nc__builtin__\nobject\nNtR" + state + b"b"


def py2_chumpy(a):
    return py2_object(
        b"chumpy.ch\nCh",
        py2_dict({"x": py2_array(a), "_dirty_vars": b"c__builtin__\nset\n(]tR", "_itr": b"N", "_status": b"I01\n"}),
    )


def py2_sparse(dense):
    matrix = scipy.sparse.csc_matrix(dense)
    shape = b"(K" + bytes([dense.shape[0]]) + b"K" + bytes([dense.shape[1]]) + b"t"
    parts = {k: py2_array(getattr(matrix, k)) for k in ("data", "indices", "indptr")}
    return py2_object(b"scipy.sparse.csc\ncsc_matrix", py2_dict({"_shape": shape, "maxprint": b"K2", **parts}))


def flame_arrays(face):
    random = np.random.default_rng(5)
    shapedirs = np.zeros((V, 3, 302))
    shapedirs[..., :3], shapedirs[..., 300:] = (
        np.moveaxis(face.identity, 0, 2) / 1e3,
        np.moveaxis(face.expression, 0, 2) / 1e3,
    )
    regressor = np.where(random.uniform(size=(5, V)) < 0.2, 1.0, 0.0)
    weights = random.uniform(size=(V, 5))
    return {
        "v_template": face.mean / 1e3,
        "f": face.faces.astype(np.uint32),
        "shapedirs": shapedirs,
        "posedirs": random.normal(size=(V, 3, 36)) * 1e-3,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }


def flame(folder, face):
    arrays = flame_arrays(face)
    parts = {
        k: py2_chumpy(v) if k in ("v_template", "shapedirs") else py2_sparse(v) if k == "J_regressor" else py2_array(v)
        for k, v in arrays.items()
    }
    (folder / "generic_model.pkl").write_bytes(
        b"\x80\x02" + py2_dict({**parts, "bs_style": py2_string(b"lbs"), "bs_type": py2_string(b"lrotmin")}) + b"."
    )
    corner = [np.flatnonzero((face.faces == vertex).any(1))[0] for vertex in face.landmarks]
    weights = (face.faces[corner] == face.landmarks[:, None]).astype(np.float64)
    inner, contour = (
        {"lmk_face_idx": np.array(corner[17:], np.uint32), "lmk_b_coords": weights[17:]},
        np.arange(79)[:, None],
    )
    (folder / "flame_static_embedding.pkl").write_bytes(
        b"\x80\x02" + py2_dict({k: py2_array(v) for k, v in inner.items()}) + b"."
    )
    # One entry for each degree of yaw: the frontal one is the first.
    by_yaw = {
        "lmk_face_idx": list((np.array(corner[:17]) + contour) % len(face.faces)),
        "lmk_b_coords": list(np.repeat(weights[None, :17], 79, 0)),
    }
    np.save(folder / "flame_dynamic_embedding.npy", np.array(by_yaw, object), allow_pickle=True)
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps({"face": np.arange(30), "neck": np.arange(30, 40)}, 2))
    identity = np.zeros((300, V, 3))
    identity[:3] = face.identity
    return folder / "generic_model.pkl", {"identity": identity, "colour": None}


def ict_arrays(face):
    polygons = face.quads.astype(np.int32)
    uv = np.random.default_rng(1).uniform(size=(V, 2)).astype(np.float32)
    return {
        "neutral": (face.mean / 10).astype(np.float32),
        "identity": (face.identity / 10).astype(np.float32),
        "expression": (face.expression / 10).astype(np.float32),
        "expression_names": np.array(["browDown_L", "jawOpen"]),
        "polygons": polygons,
        "uv": uv,
        "uv_polygons": polygons[:, ::1],
        "landmarks68": face.landmarks.astype(np.int32),
    }


def ict_npz(folder, face):
    np.savez(folder / "ict_facekit.npz", **ict_arrays(face))
    return folder / "ict_facekit.npz", {"colour": None}


def ict_folder(folder, face):
    arrays = ict_arrays(face)

    def write(name, vertices):
        lines = [
            "# ICT FaceKit",
            *(f"v {x:.7g} {y:.7g} {z:.7g}" for x, y, z in vertices),
            *(f"vt {u:.7g} {v:.7g}" for u, v in arrays["uv"]),
            "usemtl M_Face",
        ]
        lines += ["f " + " ".join(f"{i + 1}/{i + 1}" for i in polygon) for polygon in arrays["polygons"]]
        (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")

    write("generic_neutral_mesh", arrays["neutral"])
    for k, offset in enumerate(arrays["identity"]):
        write(f"identity{k:03d}", arrays["neutral"] + offset)
    for name, offset in zip(arrays["expression_names"], arrays["expression"]):
        write(name, arrays["neutral"] + offset)
    facts = {"expressions": ["browDown_L", "jawOpen"], "idx_to_landmark_verts": face.landmarks.tolist()}
    (folder / "vertex_indices.json").write_text(json.dumps(facts))
    return folder, {"colour": None}


def cereal_matrix(a):
    return struct.pack("<ii", *a.shape) + np.asarray(a, "<f4").tobytes("F")


def cereal_list(a, dtype):
    return struct.pack("<Q", len(a)) + np.asarray(a, dtype).tobytes()


def cereal_text(text):
    return struct.pack("<Q", len(text)) + text.encode()


def cereal_components(mean, basis, faces):
    columns, deviation = unit(basis)
    return (
        cereal_matrix(mean.reshape(-1, 1))
        + cereal_matrix(columns)
        + cereal_matrix((deviation**2)[:, None])
        + cereal_list(faces, "<i4")
    )


EMPTY = (
    cereal_matrix(np.zeros((0, 1)))
    + cereal_matrix(np.zeros((0, 0)))
    + cereal_matrix(np.zeros((0, 1)))
    + struct.pack("<Q", 0)
)


def surrey(folder, face):
    uv = np.linspace(0, 1, 2 * V).reshape(V, 2)
    raw = (
        struct.pack("<I", 1) + cereal_components(face.mean, face.identity, face.faces) + EMPTY + cereal_list(uv, "<f8")
    )
    (folder / "sfm_shape_81.bin").write_bytes(raw)
    return folder / "sfm_shape_81.bin", {"expression": np.zeros((0, V, 3)), "landmarks": None, "colour": None}


def eos4(folder, face):
    """Version 4: colours, blend shapes, landmarks by name, and texture triangles of their own."""
    blendshapes = struct.pack("<Bi", 0, 1) + struct.pack("<Q", 2)
    for name, offset in zip(("anger", "fear"), face.expression):
        blendshapes += cereal_text(name) + cereal_matrix(offset.reshape(-1, 1))
    names = (
        struct.pack("<BQ", 0, 2) + cereal_text("31") + struct.pack("<i", 40) + cereal_text("37") + struct.pack("<i", 20)
    )
    raw = (
        struct.pack("<I", 4)
        + cereal_components(face.mean, face.identity, face.faces)
        + cereal_components(face.colour, face.colours, face.faces)
    )
    raw += blendshapes + names + cereal_list(np.zeros((V, 2)), "<f8") + cereal_list(face.faces, "<i4")
    (folder / "sfm_version4.bin").write_bytes(raw)
    return folder / "sfm_version4.bin", {"landmarks": {30: 40, 36: 20}}


WRITERS = [original, guo, front, lp, tddfa, basel2017, flame, ict_npz, ict_folder, surrey, eos4]
NO_FOLDERS = [w for w in WRITERS if w is not ict_folder]


def with_native(writers):
    def native(folder, face):
        path, _ = flame(folder, face)
        write_native(read(path), folder / "model.safetensors")
        return folder / "model.safetensors", {}

    return [*writers, native]


def same(a: ModelData, b: ModelData):
    for name in (f.name for f in fields(ModelData)):
        x, y = getattr(a, name), getattr(b, name)
        if name == "skeleton" and x is not None:
            assert x.names == y.names and tuple(x.parents) == tuple(y.parents)
            assert all(np.array_equal(getattr(x, k), getattr(y, k)) for k in ("weights", "regressor", "pose_basis"))
        elif name == "regions":
            assert list(x) == list(y) and all(np.array_equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x)
        elif isinstance(x, np.ndarray):
            assert np.array_equal(x, y) and x.dtype == y.dtype, name
        else:
            assert x == y, name


def one_sentence(error, *named):
    text = str(error.value)
    found = "found" in text or "there is no such" in text
    assert "\n" not in text and "expected" in text and found and len(text) < 600, text
    assert all(str(n) in text for n in named), text
