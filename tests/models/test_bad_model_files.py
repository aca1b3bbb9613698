"""Model files that are cut off, damaged, mixed up or not models are refused in one sentence that names them."""

import json
import pickle
import struct

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from facemodels import InputError, MorphableModel
from facemodels.io.pickles import read_pickle
from facemodels.models.formats import read
from facemodels.models.formats.native import read_native
from tests.models.files import (
    NO_FOLDERS,
    V,
    basel2017,
    flame,
    front,
    guo,
    ict_arrays,
    ict_folder,
    lp,
    one_sentence,
    original,
    surrey,
    tddfa,
    with_native,
)


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


@pytest.mark.parametrize("odd", [9**400, "deep"], ids=["a huge number", "deep"])
def test_huge_numbers_and_deep_lists_in_json_are_one_sentence(tmp_path, face, odd):
    folder, _ = ict_folder(tmp_path, face)
    facts = json.loads((folder / "vertex_indices.json").read_text())
    written = "[" * 100_000 + "]" * 100_000 if odd == "deep" else str(odd)
    facts["idx_to_landmark_verts"][5] = "here"
    (folder / "vertex_indices.json").write_text(json.dumps(facts).replace('"here"', written))
    with pytest.raises(InputError) as error:
        read(folder)
    one_sentence(error, "vertex_indices.json")
    h5py = pytest.importorskip("h5py")
    (tmp_path / "basel").mkdir()
    path, _ = basel2017(tmp_path / "basel", face)
    with h5py.File(path, "r+") as file:
        del file["metadata/landmarks/json"]
        listed = f'[{{"id": "center.nose.tip", "coordinates": [{written}, 1, 2]}}]'
        file["metadata/landmarks/json"] = np.frombuffer(listed.encode(), np.uint8)
    with pytest.raises(InputError) as error:
        read(path)
    one_sentence(error, path)


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
    one_sentence(error, path, "there is no such file")
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


@pytest.mark.parametrize("index", ["4294967297", "9" * 400, "9" * 5000])
def test_an_obj_with_a_huge_index_is_refused_and_not_wrapped(tmp_path, face, index):
    folder, _ = ict_folder(tmp_path, face)
    path = folder / "generic_neutral_mesh.obj"
    path.write_text(path.read_text().replace("f 1/1", f"f {index}/1"))
    with pytest.raises(InputError) as error:
        read(folder)
    one_sentence(error, path)


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
