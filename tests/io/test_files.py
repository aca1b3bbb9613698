"""Writing files completely or not at all, and how errors of other libraries are quoted."""

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from facemodels import InputError
from facemodels.core.errors import advice, one_line
from facemodels.io.files import atomic_write, check_writable, take_arrays, write_atomically


def test_a_file_gets_its_name_only_when_it_is_complete(tmp_path):
    with atomic_write(tmp_path / "a.txt") as part:
        part.write_text("new")
        assert not (tmp_path / "a.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "new"
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a.txt") as part:
        part.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "new"


def test_files_that_belong_together_are_written_all_or_none(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="the folder .*nowhere does not exist"):
        write_atomically({tmp_path / "a": b"1", tmp_path / "nowhere" / "b": b"2"})
    assert not list(tmp_path.iterdir())

    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())
    write_atomically({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_is_made_and_a_file_in_its_place_is_refused(tmp_path):
    check_writable(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir() and not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="nothing can be written there"):
        check_writable(tmp_path / "file")


def test_letters_of_shapes_stand_for_the_same_size_in_all_arrays():
    arrays = {"a": np.zeros((4, 3)), "b": np.zeros((2, 4)), "c": np.zeros(0, np.int32), "d": np.zeros(2, "U3")}
    assert take_arrays("x", arrays, {"b": ("N", "M"), "a": ("M", 3), "c": None}, "arrays")[1] is arrays["a"]
    for shapes, says in (
        ({"b": ("N", "M"), "a": ("N", 3)}, r"x: expected a to be \[N=2,3\], found \[4, 3\]"),
        ({"a": ("M",)}, r"x: expected a to be \[M\], found \[4, 3\]"),
        ({"c": ("V",)}, r"x: expected c to be \[V\], found \[0\]"),
        ({"d": None}, "x: expected d to hold numbers, found <U3"),
        ({"e": None}, "x: expected arrays with e, found only a, b, c, d"),
    ):
        with pytest.raises(InputError, match=says):
            take_arrays("x", arrays, shapes, "arrays")


def test_errors_are_quoted_on_one_line_of_bounded_length():
    assert one_line(ValueError("two\n  lines.")) == "two lines"
    assert one_line(KeyError()) == "KeyError" and len(one_line(ValueError("x" * 1000))) == 160


def raised(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as error:
        call()
    return error.value


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: b"\xff".decode(), "it holds bytes that are no text"),
        (lambda: float("2R"), "'2R' is not a number"),
        (lambda: int("2R"), "a word stands in place of a whole number"),
        (lambda: float(10**400), "a number is too large"),
        (lambda: struct.unpack("<I", b"a"), "it is cut off"),
        (lambda: np.zeros(5).reshape(2, 3), "its parts do not fit together"),
        (lambda: np.zeros(5) + np.zeros(4), "its parts do not fit together"),
        (lambda: np.zeros(5)[7], "its parts do not fit together"),
        (lambda: [][0], "its parts do not fit together"),
        (lambda: [None][0][0], "its parts do not fit together"),
        (lambda: (1,) > 2, "its parts do not fit together"),
        (lambda: {}["mean"], "'mean' is missing"),
        (lambda: zlib.decompress(b"x\x9c\0\0\0"), "what is compressed in it is damaged"),
        (lambda: {[]: 0}, "its parts do not fit together"),
        (lambda: (1, 2) // 3, "its parts do not fit together"),
        (lambda: "a".b, "its parts do not fit together"),
        (lambda: "".join([1]), "its parts do not fit together"),
        (lambda: open("/no/such/file"), "No such file or directory"),
        (lambda: np.lib.format.read_array_header_1_0(io.BytesIO(b"\5\0{'a':")), "its header is damaged"),
        (lambda: (_ for _ in ()).throw(InputError("the object is not a list")), "the object is not a list"),
    ],
)  # fmt: skip
def test_errors_of_python_are_quoted_in_the_words_of_users(call, words):
    assert one_line(raised(call)) == words


def test_what_cannot_be_read_gets_another_advice_than_what_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "a.pts").write_text("1 2\n")
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK)
    denied = [PermissionError(errno.EACCES, "Permission denied", str(tmp_path / name)) for name in ("a.pts", "b.obj")]
    assert [advice(error) for error in denied] == ["; make it readable", "; give another folder"]
    assert advice(OSError(errno.ENOSPC, "No space left on device")) == "; free some space, or give another folder"
    assert advice(OSError(errno.EIO, "Input/output error")) == ""
