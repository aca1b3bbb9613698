"""Readers of model files: each family from a small file with its keys, layout and quirks that the test writes, then what happens to bad ones.

The face is a dome of 81 vertices, known to the test in millimetres; writers bring it into each family's units, order, index base and winding, and
the readers have to bring it back.
"""

import json
import os
import pickle
import struct
import sys
import types
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

import facemodels
from facemodels import InputError, ModelData, MorphableModel
from facemodels.cli.main import main
from facemodels.io.pickles import read_object_npy, read_pickle
from facemodels.models.formats import FAMILIES, ict, model_files, read
from facemodels.models.formats.layout import mirror, outward, triangles
from facemodels.models.formats.native import read_native, write_native

SIDE = 9
V = SIDE * SIDE
DATA = Path(os.environ.get("FACEMODELS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


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


# ------------------------------------------------------------------------------------------------------------------------ writers
# Each writes a model into a folder and returns the path to give and what the file holds where it is less than the whole face.


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


@pytest.fixture(scope="module")
def face():
    return dome()


@pytest.fixture(params=WRITERS, ids=lambda w: w.__name__)
def written(request, tmp_path, face):
    path, differs = request.param(tmp_path, face)
    return path, {name: differs.get(name, getattr(face, name)) for name in face.__dataclass_fields__}, request.param


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


# --------------------------------------------------------------------------------------------------------------------- what is read


def test_known_coefficients_give_the_known_vertices_in_millimetres(written):
    path, expected, _ = written
    model = facemodels.load_model(path)
    assert (model.num_vertices, model.num_identity, model.num_expression) == (
        len(expected["mean"]),
        len(expected["identity"]),
        len(expected["expression"]),
    )
    for seed in range(2):
        random = np.random.default_rng(seed)
        identity, expression = (
            random.normal(size=len(expected["identity"])),
            random.normal(size=len(expected["expression"])),
        )
        vertices = (
            expected["mean"]
            + np.einsum("k,kvc->vc", identity, expected["identity"])
            + np.einsum("k,kvc->vc", expression, expected["expression"])
        )
        got = model.shape(
            torch.tensor(identity[None], dtype=torch.float32), torch.tensor(expression[None], dtype=torch.float32)
        )
        np.testing.assert_allclose(got[0].numpy(), vertices, atol=2e-4)
    np.testing.assert_allclose(model.shape()[0].numpy(), expected["mean"], atol=5e-5)


def test_triangles_are_zero_based_and_counter_clockwise_from_outside(written):
    path, expected, _ = written
    data = read(path)
    np.testing.assert_array_equal(data.faces, expected["faces"])
    corners = data.mean[data.faces]
    assert (np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0).all()


def test_colours_are_0_to_1_and_named_as_srgb(written):
    path, expected, _ = written
    data = read(path)
    if expected["colour"] is None:
        assert data.albedo is None
        return
    np.testing.assert_allclose(data.albedo_mean, expected["colour"], atol=1e-6)
    np.testing.assert_allclose(data.albedo, expected["colours"], atol=1e-6)
    assert data.albedo_encoding == "srgb"


def test_landmarks_are_the_files_own_and_the_missing_ones_weigh_nothing(written):
    path, expected, _ = written
    data = read(path)
    wanted = expected["landmarks"]
    if wanted is None:
        assert data.landmark_index is None
        return
    wanted = dict(enumerate(wanted)) if isinstance(wanted, np.ndarray) else wanted
    places = (data.mean[data.landmark_index] * data.landmark_weights[..., None]).sum(1)
    for k in range(68):
        if k in wanted:
            np.testing.assert_allclose(places[k], data.mean[wanted[k]], atol=1e-4)
        else:
            assert (data.landmark_weights[k] == 0).all()


@pytest.mark.parametrize("writer", [front, lp, tddfa, basel2017, eos4], ids=lambda w: w.__name__)
def test_the_face_region_of_a_family_without_one_is_what_lies_within_95_mm_of_the_nose_tip(writer, tmp_path, face):
    data = read(writer(tmp_path, face)[0])
    near = np.linalg.norm(data.mean - data.mean[data.landmark_index[30, 0]], axis=1) <= 95
    assert 0 < near.sum() < V
    np.testing.assert_array_equal(data.regions["face"], np.flatnonzero(near))


def test_what_was_read_says_its_name_source_and_licence(written):
    path, _, _ = written
    data = read(path)
    assert data.name and data.licence and data.source == str(path)


def test_native_round_trip_keeps_every_field_bit_for_bit(written, tmp_path):
    path, _, _ = written
    data = read(path)
    out = tmp_path / "out" / "model.safetensors"
    out.parent.mkdir()
    write_native(data, out)
    same(read(out), data)
    assert [p.name for p in out.parent.iterdir()] == ["model.safetensors"]


def test_a_folder_with_one_model_is_read_as_that_model(written):
    path, _, writer = written
    folder = path if writer is ict_folder else path.parent
    assert list(model_files(folder)) == [path]
    assert model_files(folder)[path] in FAMILIES
    a, b = read(folder), read(path)
    assert a.source == b.source
    same(a, b)


def test_a_folder_with_several_models_or_none_is_refused_by_their_names(tmp_path, face):
    with pytest.raises(InputError, match="found none of .*01_MorphableModel.mat"):
        read(tmp_path)
    original(tmp_path, face), surrey(tmp_path, face)
    with pytest.raises(InputError, match="found 01_MorphableModel.mat, sfm_shape_81.bin; give the file itself"):
        read(tmp_path)


def test_the_original_basel_mesh_has_the_68_landmarks_of_300w_lp():
    from facemodels.models.formats.basel2009 import LANDMARKS, VERTICES

    assert len(LANDMARKS) == 68 and len(set(LANDMARKS)) == 68 and max(LANDMARKS) < VERTICES


def test_basel_segments_and_symmetry_list_become_regions_and_symmetry(tmp_path, face):
    data = read(lp(tmp_path, face)[0])
    assert [len(data.regions[k]) for k in ("nose", "eyes", "mouth")] == [21, 20, 20]
    np.testing.assert_allclose(data.mean[data.symmetry] * [-1, 1, 1], data.mean, atol=1e-4)
    np.testing.assert_allclose(data.uv, np.linspace(0, 1, 2 * V).reshape(V, 2), atol=1e-7)
    np.testing.assert_array_equal(data.uv_faces, data.faces)


def test_deep3d_masks_become_regions(tmp_path, face):
    data = read(front(tmp_path, face)[0])
    assert data.regions["front"].tolist() == list(range(10)) and data.regions["skin"].tolist() == list(range(5))


def test_3ddfa_v2_texture_coordinates_are_those_of_its_vertices(tmp_path, face):
    data = read(tddfa(tmp_path, face)[0])
    np.testing.assert_allclose(data.uv, np.linspace(0, 1, 2 * V).reshape(V, 2), atol=1e-7)


def test_3ddfa_v2_components_without_deviations_are_refused_by_the_file_that_is_missing(tmp_path, face):
    path, _ = tddfa(tmp_path, face)
    (tmp_path / "param_mean_std_62d_120x120.pkl").unlink()
    with pytest.raises(InputError, match="param_mean_std_62d_120x120.pkl: expected the deviations"):
        read(path)


def test_3ddfa_v2_triangles_of_another_mesh_are_refused_by_the_file_that_is_missing(tmp_path, face):
    path, _ = tddfa(tmp_path, face)
    (tmp_path / "tri.pkl").unlink()
    with pytest.raises(InputError, match="tri.pkl: expected the triangles .* found no such file"):
        read(path)


@pytest.mark.parametrize("gone", ["std_exp.txt", "BFM_exp_idx.mat"])
def test_basel_expressions_without_what_belongs_to_them_are_refused(tmp_path, face, gone):
    path, _ = guo(tmp_path, face)
    (tmp_path / gone).unlink()
    with pytest.raises(InputError, match=f"{gone}: .*no such file"):
        read(path)


def test_300w_lp_without_expressions_is_refused_by_the_file_that_is_missing(tmp_path, face):
    path, _ = lp(tmp_path, face)
    (tmp_path / "Model_Exp.mat").rename(tmp_path / "Model_Expression.mat")
    read(path)
    (tmp_path / "Model_Expression.mat").unlink()
    with pytest.raises(InputError, match="Model_Exp.mat: .*no such file"):
        read(path)


def test_basel_2017_without_h5py_says_what_to_install(tmp_path, face, monkeypatch):
    path, _ = basel2017(tmp_path, face)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match="pip install h5py"):
        read(path)


def test_basel_2017_takes_landmarks_as_text_or_by_name_too(tmp_path, face):
    h5py = pytest.importorskip("h5py")
    path, _ = basel2017(tmp_path, face)
    with h5py.File(path, "a") as file:
        del file["metadata/landmarks/json"]
        file["metadata/landmarks/json"] = json.dumps({"center.nose.tip": list(face.mean[40])})
    assert read(path).landmark_index[30, 0] == 40


def test_flame_jaw_turns_and_its_pose_blend_shapes_move_as_its_formula_says(tmp_path, face):
    model = facemodels.load_model(flame(tmp_path, face)[0])
    assert model.joints == ("neck", "jaw", "left eye", "right eye") and model.parents == (-1, 0, 1, 1, 1)
    arrays = flame_arrays(face)
    angle = 0.3
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    pose = np.zeros((4, 3, 3))
    pose[1] = turn - np.eye(3)
    rest = arrays["v_template"] + arrays["posedirs"] @ pose.ravel()
    jaw = (arrays["J_regressor"] @ arrays["v_template"])[2]
    weight = arrays["weights"][:, 2:3]
    posed = ((1 - weight) * rest + weight * ((rest - jaw) @ turn.T + jaw)) * 1e3
    joints = torch.zeros(1, 4, 3)
    joints[0, 1, 0] = angle
    np.testing.assert_allclose(model.shape(joints=joints)[0].numpy(), posed, atol=2e-4)


def test_flame_regions_come_from_its_masks(tmp_path, face):
    data = read(flame(tmp_path, face)[0])
    assert data.regions["face"].tolist() == list(range(30)) and len(data.regions["neck"]) == 10


def test_flame_without_side_files_has_no_landmarks_but_reads(tmp_path, face):
    path, _ = flame(tmp_path, face)
    for name in ("flame_static_embedding.pkl", "flame_dynamic_embedding.npy", "FLAME_masks.pkl"):
        (tmp_path / name).unlink()
    data = read(path)
    assert data.landmark_index is None and not data.regions and data.uv is None


def test_flame_landmarks_of_deca_are_read_from_torch_tensors(tmp_path, face):
    path, _ = flame(tmp_path, face)
    random = np.random.default_rng(0)
    triangle, weights = random.integers(0, len(face.faces), (1, 68)), random.dirichlet(np.ones(3), (1, 68))
    content = {
        "full_lmk_faces_idx": torch.from_numpy(triangle),
        "full_lmk_bary_coords": torch.from_numpy(weights).float(),
        "static_lmk_faces_idx": triangle[0],
    }
    np.save(tmp_path / "landmark_embedding.npy", np.array(content, object), allow_pickle=True)
    data = read(path)
    np.testing.assert_array_equal(data.landmark_index, face.faces[triangle[0]])
    np.testing.assert_allclose(data.landmark_weights, weights[0], atol=1e-6)


def test_flame_texture_coordinates_come_from_the_template_of_the_same_triangles(tmp_path, face):
    path, _ = flame(tmp_path, face)
    lines = [f"v {x} {y} {z}" for x, y, z in face.mean] + [f"vt {k / V} {1 - k / V}" for k in range(V)]
    (tmp_path / "head_template.obj").write_text(
        "\n".join(lines + [f"f {a + 1}/{a + 1} {b + 1}/{b + 1} {c + 1}/{c + 1}" for a, b, c in face.faces])
    )
    data = read(path)
    np.testing.assert_array_equal(data.uv_faces, data.faces)
    np.testing.assert_allclose(data.uv[:, 0], np.arange(V) / V, atol=1e-6)
    (tmp_path / "head_template.obj").write_text("\n".join(lines + ["f 1/1 2/2 3/3"]))
    with pytest.raises(InputError, match="head_template.obj: expected the model's own"):
        read(path)


def test_surrey_expressions_and_landmarks_come_from_the_files_beside_it(tmp_path, monkeypatch):
    from facemodels.models.formats import surrey as reader

    # The side files belong to 3,448 vertices: a strip of that many.
    count = 3448
    mean = np.stack([np.arange(count) % 8, np.arange(count) // 8, np.zeros(count)], -1).astype(float)
    random = np.random.default_rng(0)
    identity, offsets = random.normal(size=(2, count, 3)), random.normal(size=(2, count, 3)).astype(np.float32)
    raw = (
        struct.pack("<I", 1)
        + cereal_components(mean, identity, [[0, 1, 8]])
        + EMPTY
        + cereal_list(np.array([[0.25, 0.75]] * count), "<f8")
    )
    (tmp_path / "sfm_shape_3448.bin").write_bytes(raw)
    blendshapes = struct.pack("<Q", 2) + b"".join(
        cereal_text(n) + cereal_matrix(o.reshape(-1, 1)) for n, o in zip(("anger", "fear"), offsets)
    )
    (tmp_path / "expression_blendshapes_3448.bin").write_bytes(blendshapes)
    mapping = "; comment\n[landmark_mappings]\n  9 =    33  # chin\n 31   114 ; nose-tip (3)\n#61 = 5\n"
    (tmp_path / "ibug_to_sfm.txt").write_text(mapping + "[contour_landmarks]\nright = [  1,\n 2 ]\n{\n\t1\n\t2\n}\n")
    data = reader.read_surrey(tmp_path / "sfm_shape_3448.bin")
    assert data.expression_names == ("anger", "fear") and data.blendshapes
    np.testing.assert_array_equal(data.expression, offsets)
    has = np.flatnonzero(data.landmark_weights.sum(1))
    assert has.tolist() == [8, 30] and data.landmark_index[has, 0].tolist() == [33, 114]
    assert (data.uv == [0.25, 0.25]).all()  # eos counts v from the top


def test_ict_names_are_arkits_and_quads_become_triangles(tmp_path, face):
    data = read(ict_npz(tmp_path, face)[0])
    assert data.expression_names == ("browDownLeft", "jawOpen") and data.blendshapes
    assert len(data.faces) == 2 * len(face.quads) and ict.arkit_name("PupilDilate_R") == "pupilDilateRight"
    np.testing.assert_allclose(data.mean[data.symmetry] * [-1, 1, 1], data.mean, atol=1e-4)


def test_winding_follows_the_family_unless_the_geometry_is_clear(face):
    mean = face.mean.astype(np.float32)
    for known in (False, True):
        np.testing.assert_array_equal(outward(face.faces, mean, known), face.faces)
        np.testing.assert_array_equal(outward(backwards(face.faces), mean, known), face.faces)
    unclear = np.array([[0, 1, 10], [20, 30, 21]])
    np.testing.assert_array_equal(outward(unclear, mean, False), unclear)
    np.testing.assert_array_equal(outward(unclear, mean, True), backwards(unclear))


def test_polygons_of_any_size_become_fans():
    assert triangles([[0, 1, 2, 3, 4], [5, 6, 7, -1, -1]]).tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4], [5, 6, 7]]


def test_a_mesh_that_is_not_symmetric_has_no_symmetry(face):
    mean = face.mean.copy()
    assert mirror(mean, face.quads) is not None
    mean[3, 0] += 2
    assert mirror(mean, face.quads) is None


# ------------------------------------------------------------------------------------------------------------------ the real ICT file


@pytest.fixture(scope="module")
def real():
    if not (DATA / "ict_facekit.npz").exists():
        pytest.skip(f"needs ict_facekit.npz in FACEMODELS_DATA or {DATA.name}")
    return read(DATA / "ict_facekit.npz")


def test_real_ict_is_a_head_in_millimetres_that_looks_along_z(real):
    assert real.mean.shape == (26719, 3) and real.identity.shape[0] == 100 and real.expression.shape[0] == 57
    assert real.faces.shape == (2 * 26384 - 548, 3)
    points = real.mean[real.landmark_index[:, 0]]
    assert 80 < np.linalg.norm(points[45] - points[36]) < 100  # outer eye corners
    assert (
        points[0, 0] < 0 < points[16, 0]
        and points[30, 2] == points[:, 2].max()
        and points[8, 1] < points[30, 1] < points[27, 1]
    )


def test_real_ict_parts_are_where_their_names_say(real):
    low, high = (lambda k: real.mean[real.regions[k]].min(0)), (lambda k: real.mean[real.regions[k]].max(0))
    assert len(real.regions["face"]) == 6706 and high("face")[0] < 76 and low("face")[2] > 20  # no ears in it
    assert high("full_face")[0] > 90 and low("head")[1] < -190
    assert low("eyeball_left")[0] > 0 > high("eyeball_right")[0]
    assert real.regions["teeth"].size and high("teeth")[1] < 0 and max(v.max() for v in real.regions.values()) == 26718


def test_real_ict_is_symmetric_and_its_texture_charts_do_not_overlap(real):
    assert (real.symmetry[real.symmetry] == np.arange(26719)).all()
    assert np.abs(real.mean[real.symmetry] * [-1, 1, 1] - real.mean).max() < 0.3
    assert real.uv.min() >= 0 and real.uv.max() <= 1
    eye, skin = (np.unique(real.uv_faces[np.isin(real.faces[:, 0], real.regions[k])]) for k in ("eyeballs", "face"))
    assert real.uv[eye, 1].max() < 0.25 < real.uv[skin, 1].min()


def test_real_ict_converts_and_comes_back_the_same(real, tmp_path):
    write_native(real, tmp_path / "ict.safetensors")
    same(read(tmp_path / "ict.safetensors"), real)


# ------------------------------------------------------------------------------------------------------------------------ bad files


def one_sentence(error, *named):
    text = str(error.value)
    assert "\n" not in text and "expected" in text and "found" in text and len(text) < 600, text
    assert all(str(n) in text for n in named), text


def with_native(writers):
    def native(folder, face):
        path, _ = flame(folder, face)
        write_native(read(path), folder / "model.safetensors")
        return folder / "model.safetensors", {}

    return [*writers, native]


@pytest.mark.parametrize("writer", with_native(NO_FOLDERS), ids=lambda w: w.__name__)
def test_a_file_that_is_cut_off_anywhere_is_refused_in_one_sentence(writer, tmp_path, face):
    path, _ = writer(tmp_path, face)
    whole = path.read_bytes()
    for length in [0, 1, 3, 100, *(len(whole) * k // 16 for k in range(1, 16)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as error:
            read(path)
        one_sentence(error, path)


@pytest.mark.parametrize("writer", with_native(NO_FOLDERS), ids=lambda w: w.__name__)
def test_a_file_with_damaged_bytes_is_refused_or_read_but_nothing_else(writer, tmp_path, face):
    path, _ = writer(tmp_path, face)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, min(len(whole), 3000), 3):
            damaged[at] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            MorphableModel(read(path))
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("ending", [".mat", ".pkl", ".h5", ".npz", ".bin", ".safetensors", ".txt", ""])
def test_a_text_file_is_refused_under_every_ending(tmp_path, ending):
    if ending == ".h5":
        pytest.importorskip("h5py")
    path = tmp_path / f"model{ending}"
    path.write_text("<html>404 Not Found</html>\n" * 20)
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path)


@pytest.mark.parametrize("ending", [".mat", ".pkl", ".h5", ".npz", ".bin", ".safetensors", ".obj"])
def test_an_empty_file_and_a_missing_one_are_refused(tmp_path, ending):
    path = tmp_path / f"model{ending}"
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path, "no such file")
    path.touch()
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path, "an empty file")


@pytest.mark.parametrize(
    "writer, given, says",
    [
        (lp, "Model_Exp.mat", "give Model_Shape.mat"),
        (guo, "Exp_Pca.bin", "give 01_MorphableModel.mat"),
        (guo, "BFM_exp_idx.mat", "give 01_MorphableModel.mat"),
        (tddfa, "tri.pkl", "a pickle of one ndarray"),
        (tddfa, "param_mean_std_62d_120x120.pkl", "give bfm_noneck_v3.pkl"),
        (flame, "flame_static_embedding.pkl", "give FLAME's model"),
        (flame, "FLAME_masks.pkl", "give FLAME's model"),
        (flame, "flame_dynamic_embedding.npy", "ending in .npy"),
    ],
)
def test_a_side_file_given_as_the_model_says_which_file_to_give(writer, given, says, tmp_path, face):
    writer(tmp_path, face)
    with pytest.raises(InputError) as error:
        read(tmp_path / given)
    one_sentence(error, given, says)


def test_a_model_given_under_anothers_name_is_refused(tmp_path, face):
    for source in ("Model_Shape.mat", "Model_Exp.mat"):
        folder = tmp_path / source[:-4]
        folder.mkdir()
        path, _ = lp(folder, face)
        (folder / "Model_Exp.mat").write_bytes((folder / source).read_bytes())
        if source == "Model_Shape.mat":
            with pytest.raises(InputError) as error:
                read(path)
            one_sentence(error, "Model_Exp.mat", "mu_exp")


def mat_change(name, change):
    def apply(path):
        content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
        content[name] = change(content[name])
        scipy.io.savemat(path, content)

    return apply


def pkl_change(name, change):
    def apply(path):
        content = read_pickle(path, "x")
        content[name] = change(
            np.array(content[name].toarray() if scipy.sparse.issparse(content[name]) else content[name])
        )
        path.write_bytes(pickle.dumps(content, 2))

    return apply


def spoilt(a, value):
    a = np.array(a)
    a.flat[0] = value
    return a


@pytest.mark.parametrize(
    "writer, change, says",
    [
        (original, mat_change("shapePC", lambda a: a[:-3]), "shapePC"),
        (original, mat_change("shapeEV", lambda a: a[:-1]), "shapeEV of 3"),
        (original, mat_change("tl", lambda a: spoilt(a, 0)), "tl in 1..81"),
        (original, mat_change("tl", lambda a: spoilt(a, 82)), "tl in 1..81"),
        (original, mat_change("shapeMU", lambda a: spoilt(a, np.nan)), "not finite"),
        (original, mat_change("shapeMU", lambda a: "text"), "shapeMU"),
        (original, mat_change("shapeMU", lambda a: {"a": 1}), "shapeMU"),
        (original, mat_change("shapeMU", lambda a: a * 1e30), "a face smaller than"),
        (original, mat_change("segbin", lambda a: a[:, :3]), "segbin"),
        (front, mat_change("skinmask", lambda a: "text"), "skinmask to be an array, found text"),
        (lp, mat_change("w_tex", lambda a: a[:-1]), "w_tex"),
        (tddfa, pkl_change("u", lambda a: a[:0]), "u to be"),
        (original, mat_change("texEV", lambda a: a * np.inf), "not finite"),
        (front, mat_change("keypoints", lambda a: a[:, :60]), "68 keypoints"),
        (front, mat_change("keypoints", lambda a: a + 100), "keypoints in 1..81"),
        (front, mat_change("idBase", lambda a: a.T), "idBase"),
        (lp, mat_change("tri", lambda a: a.T), "tri"),
        (lp, mat_change("symlist", lambda a: a * 3), "symlist"),
        (tddfa, pkl_change("keypoints", lambda a: a[:30]), "keypoints"),
        (tddfa, pkl_change("w_exp", lambda a: a[:-3]), "w_exp"),
        (tddfa, pkl_change("u", lambda a: a * np.nan), "not finite"),
        (flame, pkl_change("f", lambda a: spoilt(a, 81)), "vertices in 0..80"),
        (flame, pkl_change("shapedirs", lambda a: a[..., :200]), "shapedirs of 300"),
        (flame, pkl_change("posedirs", lambda a: a[..., :27]), "posedirs of 36"),
        (flame, pkl_change("weights", lambda a: a[:, :4]), "weights"),
        (flame, pkl_change("kintree_table", lambda a: a[:, ::-1]), "joints"),
        (flame, pkl_change("J_regressor", lambda a: a[:, :-1]), "J_regressor"),
    ],
)
def test_wrong_arrays_are_named_with_what_was_expected_and_found(writer, change, says, tmp_path, face):
    path, _ = writer(tmp_path, face)
    change(path)
    with pytest.raises(InputError) as error:
        read(path)
    text = str(error.value)
    assert "\n" not in text and str(path) in text and says in text, text


def test_ict_folder_with_a_missing_or_shorter_file_is_refused(tmp_path, face):
    for name, spoil, says in (
        ("jawOpen.obj", Path.unlink, "no such file"),
        ("identity001.obj", lambda p: p.write_text("\n".join(p.read_text().split("\n")[:30])), "81 vertices"),
        ("browDown_L.obj", lambda p: p.write_text(p.read_text().replace("v ", "v x", 1)), "3 numbers"),
        ("generic_neutral_mesh.obj", lambda p: p.write_text("v 0 0 0\nv 1 0 0\n"), "polygons"),
        ("generic_neutral_mesh.obj", lambda p: p.write_text(p.read_text() + "f 1/1 2/2 999/3\n"), "corners in 0..80"),
        ("vertex_indices.json", lambda p: p.write_text("{"), "vertex_indices.json"),
        (
            "vertex_indices.json",
            lambda p: p.write_text(p.read_text().replace("jawOpen", "../../jawOpen")),
            "names in expressions",
        ),
        ("vertex_indices.json", Path.unlink, "no such file"),
    ):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        ict_folder(folder, face)
        spoil(folder / name)
        with pytest.raises(InputError) as error:
            read(folder)
        one_sentence(error, name if name != "generic_neutral_mesh.obj" else folder, says)


def test_sizes_far_beyond_the_files_length_are_refused_before_memory_is_taken(tmp_path, face):
    path, _ = surrey(tmp_path, face)
    raw = bytearray(path.read_bytes())
    raw[4:12] = struct.pack("<ii", 2**31 - 1, 2**31 - 1)
    path.write_bytes(raw)
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path, "bytes declared")

    header = np.lib.format.magic(1, 0)
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    import zipfile

    with zipfile.ZipFile(tmp_path / "ict_facekit.npz", "w") as archive:
        archive.writestr("neutral.npy", header + struct.pack("<H", len(text)) + text)
    with pytest.raises(InputError) as error:
        read(tmp_path / "ict_facekit.npz")
    one_sentence(error, "declares")

    huge = b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc."
    (tmp_path / "a.pkl").write_bytes(huge)
    (tmp_path / "b.pkl").write_bytes(
        b"\x80\x02Nr" + struct.pack("<I", 2**24) + b"."
    )  # a slot so far out would take 256 MB
    for name, says in (("a.pkl", "1099511627776"), ("b.pkl", "memo slot")):
        with pytest.raises(InputError) as error:
            read(tmp_path / name)
        one_sentence(error, name, says)

    h5py = pytest.importorskip("h5py")
    path, _ = basel2017(tmp_path, face)
    with h5py.File(path, "a") as file:
        del file["shape/model/pcaBasis"]
        file.create_dataset(
            "shape/model/pcaBasis", (3 * V, 10**10), np.float32, chunks=(3, 1000)
        )  # declared, never written
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path, "declares")


def test_an_npz_of_pickled_objects_is_refused(tmp_path, face):
    arrays = ict_arrays(face) | {"expression_names": np.array(["a", {"b": 1}], object)}
    np.savez(tmp_path / "ict_facekit.npz", **arrays)
    with pytest.raises(InputError) as error:
        read(tmp_path / "ict_facekit.npz")
    one_sentence(error, "ict_facekit.npz")


def test_other_safetensors_and_later_versions_are_refused(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "m.safetensors"
    save_file({"weight": np.zeros(3)}, path)
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path, "other tensors")
    for metadata, says in (
        ({"format": "facemodels", "version": "99", "model": "{}"}, "version 99"),
        ({"format": "facemodels", "version": "1", "model": "{}"}, "do not fit together"),
        ({"format": "facemodels", "version": "1", "model": "[1"}, "do not fit together"),
        ({"format": "facemodels", "version": "1", "model": "[]"}, "do not fit together"),
    ):
        save_file({"mean": np.zeros((3, 3), np.float32)}, path, metadata)
        with pytest.raises(InputError) as error:
            read_native(path)
        one_sentence(error, path, says)


def test_a_files_own_words_cannot_break_the_sentence(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"w_shp": np.zeros(3), "two\nlines \x1b[31m" * 1000: 1}))
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.pkl")
    one_sentence(error, "a.pkl")
    assert "\x1b" not in str(error.value)


# ---------------------------------------------------------------------------------------------------------------- hostile pickles


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "code of the file was run"


HOSTILE = {
    "os.system": lambda m: Call(os.system, f"touch {m}"),
    "eval": lambda m: Call(eval, f"open({str(m)!r}, 'w')"),
    "exec": lambda m: Call(exec, f"open({str(m)!r}, 'w')"),
    "getattr": lambda m: Call(getattr, "a", "upper"),
    "open": lambda m: Call(open, str(m), "w"),
    "in an array of objects": lambda m: np.array([Call(os.system, f"touch {m}"), 1], object),
    "in a dict": lambda m: {"v_template": np.zeros((3, 3)), "f": Call(os.system, f"touch {m}")},
    "numpy's own loader": lambda m: Call(np.load, str(m)),
    "torch's loader": lambda m: Call(torch.load, str(m)),
    "a path": lambda m: Path(m),
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_pickle_that_asks_for_code_is_refused_and_nothing_is_run(kind, protocol, tmp_path, marker):
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(pickle.dumps(HOSTILE[kind](marker), protocol))
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path)
    np.save(
        tmp_path / "landmark_embedding.npy",
        np.array({"full_lmk_faces_idx": HOSTILE[kind](marker)}, object),
        allow_pickle=True,
    )
    with pytest.raises(InputError) as error:
        read_object_npy(tmp_path / "landmark_embedding.npy", "landmarks")
    one_sentence(error, "landmark_embedding.npy")


@pytest.mark.parametrize(
    "raw",
    [
        b"cposix\nsystem\n(S'touch MARKER'\ntR.",
        b"(S'touch MARKER'\niposix\nsystem\n.",
        b"(cposix\nsystem\nS'touch MARKER'\no.",
        b"\x80\x02cnumpy\nndarray\n}(U\x03shpK\x01ub.",  # state given to a class
        b"\x80\x02cnumpy\ndtype\n.",  # a class as the content
        b"\x80\x02ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
        b"\x80\x02ccopy_reg\n_reconstructor\n(cposix\nsystem\nc__builtin__\nobject\nNtR.",
        b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(J\xff\xff\xff\x7ftcnumpy\ndtype\n(U\x02f8K\x00K\x01tR\x89U\x08aaaaaaaatb.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x01tcnumpy\ndtype\n(U\x02f8K\x00K\x01tR\x89J\xff\xff\xff\x7ftb.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x01tcnumpy\ndtype\n(U\x03V99K\x00K\x01tR\x89U\x01atb.",
        b"\x80\x02" + b"]" * 1 + b"".join(b"(" for _ in range(5000)) + b"t" * 5000 + b".",
        b"\x82\x01.",  # the extension registry
        b"\x80\x02U\x03abcQ.",  # a persistent id
        b"\x80\xff.",
    ],
)
def test_a_pickle_made_by_hand_is_refused_and_nothing_is_run(raw, tmp_path, marker):
    path = tmp_path / "model.pkl"
    path.write_bytes(raw.replace(b"MARKER", str(marker).encode()))
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path)


def test_lists_of_lists_of_the_same_lists_do_not_take_for_ever(tmp_path):
    level = [1]
    for _ in range(25):
        level = [level, level, level]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"v_template": level}))
    with pytest.raises(InputError, match="v_template"):
        read(tmp_path / "a.pkl")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"v_template": [level] * 30, "a": [[level] * 50]}))
    with pytest.raises(InputError):
        read(tmp_path / "a.pkl")


def test_sparse_indices_beyond_the_matrix_are_refused(tmp_path):
    matrix = scipy.sparse.csc_matrix(np.eye(4))
    matrix.indices[2] = 10**6
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"J_regressor": matrix, "v_template": np.zeros((4, 3))}, 2))
    with pytest.raises(InputError) as error:
        read(tmp_path / "a.pkl")
    one_sentence(error, "a.pkl")


def test_a_torch_tensor_that_claims_more_numbers_than_it_holds_is_refused(tmp_path):
    class Claim:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (torch.zeros(2).storage(), 0, (10**6, 10**6), (10**6, 1), False, {})

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.save(tmp_path / "a.npy", np.array({"full_lmk_faces_idx": Claim()}, object), allow_pickle=True)
    with pytest.raises(InputError) as error:
        read_object_npy(tmp_path / "a.npy", "landmarks")
    one_sentence(error, "a.npy")


# ---------------------------------------------------------------------------------------------------------------- harmless pickles


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_of_every_protocol_and_of_old_and_new_numpy_are_read(protocol, core, tmp_path):
    content = {
        "double": np.arange(6.0).reshape(2, 3),
        "column order": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big endian": np.arange(4, dtype=">f4"),
        "bytes": np.frombuffer(bytes(range(256)), np.uint8),
        "number": np.float32(1.5),
        "empty": np.zeros((0, 3)),
        "list": [1, "two", (3.0, None, True)],
    }
    raw = pickle.dumps(content, protocol)
    if protocol < 4:  # later ones count the letters of the name
        raw = raw.replace(b"numpy._core", core).replace(b"numpy.core", core)
    (tmp_path / "a.pkl").write_bytes(raw)
    got = read_pickle(tmp_path / "a.pkl", "arrays")
    assert got.keys() == content.keys() and got["list"] == content["list"] and got["number"] == 1.5
    for key in ("double", "column order", "big endian", "bytes", "empty"):
        np.testing.assert_array_equal(got[key], content[key])
        assert got[key].shape == content[key].shape


def test_chumpy_arrays_are_read_where_chumpy_is_not_installed(tmp_path, monkeypatch):
    module = types.ModuleType("chumpy.ch")

    class Ch:
        def __getstate__(self):
            return {"x": self.x, "_dirty_vars": set(), "_itr": None}

    Ch.__module__, Ch.__qualname__, module.Ch = "chumpy.ch", "Ch", Ch
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    value = Ch()
    value.x = np.arange(6.0).reshape(2, 3)
    for protocol in (0, 2, 4):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps({"v": value}, protocol))
    for name in ("chumpy", "chumpy.ch"):
        monkeypatch.delitem(sys.modules, name)
    for protocol in (0, 2, 4):
        np.testing.assert_array_equal(read_pickle(tmp_path / f"{protocol}.pkl", "arrays")["v"], value.x)


@pytest.mark.parametrize("kind", ["csc", "csr", "coo"])
def test_sparse_matrices_are_read(kind, tmp_path):
    dense = np.diag([1.0, 2.0, 3.0])[:, :2]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"m": getattr(scipy.sparse, f"{kind}_matrix")(dense)}))
    np.testing.assert_array_equal(read_pickle(tmp_path / "a.pkl", "arrays")["m"].toarray(), dense)


def test_python_2_text_pickles_with_escaped_bytes_are_read(tmp_path):
    data = np.array([0.1, 200.5])
    text = "".join(f"\\x{b:02x}" for b in data.tobytes())
    raw = b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntRp3\n(I1\n(I2\ntcnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'"
    (tmp_path / "a.pkl").write_bytes(raw + text.encode() + b"'\ntb.")
    np.testing.assert_array_equal(read_pickle(tmp_path / "a.pkl", "arrays"), data)


# ------------------------------------------------------------------------------------------------------------------------- convert


def test_convert_says_what_was_read_and_writes_a_model_that_reads_the_same(tmp_path, face, capsys):
    path, _ = flame(tmp_path, face)
    out = tmp_path / "flame.safetensors"
    assert main(["convert", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert (
        "81 vertices" in said and "300 identity, 2 expression" in said and "licence: FLAME" in said and str(out) in said
    )
    same(read(out), read(path))


def test_convert_keeps_the_first_modes_that_are_asked_for(tmp_path, face, capsys):
    path, _ = lp(tmp_path, face)
    out = tmp_path / "short.safetensors"
    assert main(["convert", str(path), str(out), "--identity", "2", "--expression", "1"]) == 0
    assert "kept: 2 identity and 1 expression" in capsys.readouterr().out
    short, whole = read(out), read(path)
    assert np.array_equal(short.identity, whole.identity[:2]) and np.array_equal(short.expression, whole.expression[:1])


def test_convert_never_writes_over_its_input(tmp_path, face, capsys):
    write_native(read(ict_npz(tmp_path, face)[0]), tmp_path / "a.safetensors")
    os.link(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    for out in ("a.safetensors", "b.safetensors"):
        assert main(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / out)]) == 1
        assert "the input itself" in capsys.readouterr().err
    assert (tmp_path / "a.safetensors").read_bytes() == before


@pytest.mark.parametrize("out", ["model.npz", "nowhere/model.safetensors"])
def test_convert_to_a_place_that_cannot_be_written_leaves_nothing(out, tmp_path, face, capsys):
    path, _ = surrey(tmp_path, face)
    assert main(["convert", str(path), str(tmp_path / out)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_convert_of_a_bad_file_leaves_an_old_output_alone(tmp_path, capsys):
    (tmp_path / "bad.pkl").write_text("no")
    (tmp_path / "old.safetensors").write_text("old")
    assert main(["convert", str(tmp_path / "bad.pkl"), str(tmp_path / "old.safetensors")]) == 1
    assert (tmp_path / "old.safetensors").read_text() == "old" and "bad.pkl" in capsys.readouterr().err


def test_convert_help_has_an_example_and_every_family(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    said = capsys.readouterr().out
    assert "example: facemodels convert" in said and all(
        name in said and family.given in said for name, family in FAMILIES.items()
    )
