"""Folders of results: nothing that is not a result is lost, and results of earlier runs are known."""

import os
import subprocess
import sys

import pytest

from facemodels import InputError
from facemodels.io.files import atomic_write, check_not_inputs, part_path, write_atomically
from facemodels.io.results import INDEX, earlier_results, is_result, result_folder


def test_results_are_known_to_later_runs_until_they_are_changed(tmp_path):
    with result_folder(tmp_path, []):
        write_atomically({tmp_path / "a b.png": b"12345"})
        with atomic_write(tmp_path / "c.obj") as part:
            part.write_bytes(b"1")
    known = earlier_results(tmp_path)
    assert known == {"a b.png": 5, "c.obj": 1} and is_result(tmp_path / "a b.png", known)
    (tmp_path / "a b.png").write_bytes(b"own picture")
    assert not is_result(tmp_path / "a b.png", known) and not is_result(tmp_path / INDEX, known)


@pytest.mark.parametrize("name", ["new\nline.png", "100%.png", "50%25.png", "\r.png", "a  b.png"])
def test_results_are_known_whatever_their_names_hold(tmp_path, name):
    with result_folder(tmp_path, []):
        write_atomically({tmp_path / name: b"1"})
    assert earlier_results(tmp_path) == {name: 1}


def test_an_earlier_result_is_replaced_and_anything_else_is_kept(tmp_path):
    (tmp_path / "b.txt").write_text("first own file")
    said = []
    for content in (b"one", b"two"):
        with result_folder(tmp_path, [], said.append):
            write_atomically({tmp_path / "a.txt": content, tmp_path / "b.txt": content})
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes() == b"two"
    assert (tmp_path / "b.txt~").read_text() == "first own file" and len(said) == 1 and "kept as b.txt~" in said[0]
    (tmp_path / "b.txt").write_text("second own file")
    with result_folder(tmp_path, [], said.append):
        write_atomically({tmp_path / "b.txt": b"one"})
    assert (tmp_path / "b.txt~").read_text() == "first own file" and (
        tmp_path / "b.txt~2"
    ).read_text() == "second own file"


def test_an_input_is_never_replaced(tmp_path):
    (tmp_path / "a.txt").write_text("input")
    (tmp_path / "link.txt").symlink_to("a.txt")
    for name in ("a.txt", "link.txt"):
        with pytest.raises(InputError, match="input"), result_folder(tmp_path, [tmp_path / "a.txt"]):
            write_atomically({tmp_path / name: b"result"})
    assert (tmp_path / "a.txt").read_text() == "input" and not list(tmp_path.glob("*.part"))
    with pytest.raises(InputError, match="never overwritten"):
        check_not_inputs([None, tmp_path / "new", tmp_path / "link.txt"], [tmp_path / "a.txt"])
    check_not_inputs([tmp_path / "new"], [tmp_path / "a.txt", None])


def test_what_a_killed_run_left_is_removed_and_what_a_running_one_writes_is_not(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from facemodels.io.files import part_path\n"
        f"part = part_path(Path({str(tmp_path)!r}) / 'a'); part.write_text('half'); print(part.name, flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as killed:
        part = tmp_path / killed.stdout.readline().strip()
        mine = part_path(tmp_path / "b")
        assert part.is_file() and mine.parent == tmp_path
        killed.kill()
    code = (
        "from pathlib import Path; from facemodels.io.files import write_atomically\n"
        f"write_atomically({{Path({str(tmp_path / 'c')!r}): b'1'}})"
    )
    mine.write_text("being written")
    subprocess.run([sys.executable, "-c", code], check=True)
    assert not part.exists() and mine.exists() and (tmp_path / "c").is_file()


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path, name):
    with pytest.raises(InputError, match="cannot be written|NUL") as error:
        write_atomically({tmp_path / name: b"1"})
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot be written|NUL"), atomic_write(tmp_path / name) as part:
        part.write_bytes(b"1")
    assert not list(tmp_path.iterdir())


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path):
    write_atomically({tmp_path / ("x" * 250): b"1"})
    assert os.listdir(tmp_path) == ["x" * 250]
