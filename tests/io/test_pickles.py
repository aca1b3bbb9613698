"""Pickles are read without running what is in them: hostile ones are refused, harmless ones of every kind are read."""

import os
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse
import torch

from facemodels import InputError
from facemodels.io.pickles import read_object_npy, read_pickle
from facemodels.models.formats import read
from tests.models.files import (
    one_sentence,
)


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


# ------------------------------------------------------------ harmless pickles


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
    raw = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntRp3\n(I1\n(I2\ntcnumpy\ndtype\n"
        b"(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'"
    )
    (tmp_path / "a.pkl").write_bytes(raw + text.encode() + b"'\ntb.")
    np.testing.assert_array_equal(read_pickle(tmp_path / "a.pkl", "arrays"), data)
