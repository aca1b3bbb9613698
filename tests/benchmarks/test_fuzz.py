"""The fuzzer: its cases can be made again, and it tells a good end of a command from a bad one."""

import subprocess
import sys

import pytest

from benchmarks.fuzz import damaged, verdict
from benchmarks.fuzz_kinds import KINDS


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return sorted(KINDS["pictures"].samples(tmp_path_factory.mktemp("samples")))


def test_a_case_is_the_same_file_each_time_and_others_differ(samples):
    cases = [damaged(samples, 3, number) for number in range(40)]
    assert cases == [damaged(samples, 3, number) for number in range(40)]
    assert len({case.content for case in cases}) > 30 and cases != [damaged(samples, 4, n) for n in range(40)]
    assert all(len(case.content) < 100_000 for case in cases)


@pytest.mark.parametrize(
    ("code", "said", "left", "wrong"),
    [
        (0, "", ["a.png"], None),
        (1, "a.png: not a readable picture (cut off)\n", [], None),
        (1, "", [], "without a word"),
        (1, "something is wrong\n", [], "not named"),
        (1, "a.png\n" * 9, [], "9 lines"),
        (2, "a.png\n", [], "exit code 2"),
        ("ValueError: x", "", [], "exit code ValueError"),
        (1, "a.png\nTraceback (most recent call last):\n", [], "a traceback"),
        (0, "", [".0-12@host.part"], "left behind"),
    ],
)
def test_what_may_be_said_and_left_is_told_from_what_may_not(code, said, left, wrong):
    found = verdict(code, said, "a.png", left)
    assert found is None if wrong is None else wrong in found


def test_whole_videos_and_landmarks_are_read_by_the_command(tmp_path):
    """In a process of its own, since the harness puts its own detector and network in the place of the command's."""
    pytest.importorskip("av", reason="PyAV is not installed: no videos")
    code = (
        "import sys; from pathlib import Path; from benchmarks.fuzz_kinds import KINDS\n"
        "folder = Path(sys.argv[1])\n"
        "for kind in ('videos', 'landmarks'):\n"
        "    (folder / kind).mkdir(); command = KINDS[kind].command()\n"
        "    for k, path in enumerate(list(KINDS[kind].samples(folder / kind))):\n"
        "        out = folder / f'{kind}-{k}'; out.mkdir()\n"
        "        assert command(path, out) == 0, path\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)


def test_damaged_text_is_mostly_text(tmp_path):
    (tmp_path / "a.txt").write_text("1.5 2.5\n3.5 4.5\n" * 9)
    cases = [damaged([tmp_path / "a.txt"], 0, number).content for number in range(100)]
    assert sum(all(byte in b"\n" or 32 <= byte < 127 for byte in case) for case in cases) > 60


@pytest.mark.parametrize("kind", ["meshes", "models"])
def test_damaged_meshes_and_models_end_well(tmp_path, capsys, kind):
    (tmp_path / "samples").mkdir()
    meshes = sorted(KINDS[kind].samples(tmp_path / "samples"))
    command = KINDS[kind].command()
    for path in meshes:
        (tmp_path / path.name).mkdir()
        assert command(path, tmp_path / path.name) == 0, path
    for number in range(60):
        case = damaged(meshes, 5, number)
        out = tmp_path / f"out-{number}"
        out.mkdir()
        (tmp_path / case.name).write_bytes(case.content)
        capsys.readouterr()
        code = command(tmp_path / case.name, out)
        assert verdict(code, capsys.readouterr().err, case.name, []) is None, number
