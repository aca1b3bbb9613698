"""Checkpoints: which are kept, what is refused, and that a full disk damages none."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from facemodels import InputError
from facemodels.cli import train as command
from facemodels.cli.main import main
from facemodels.training import checkpoint as module
from facemodels.training.checkpoint import CHECKSUMS, checkpoints, load_weights
from facemodels.training.loop import train
from tests.training.toy import Toy, config, metrics, same, weights


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    class Worse(Toy):
        def validate(self, device):
            return {"error": abs(self.config.lr) + len(list((Path(self.config.output) / "checkpoints").glob("step-*")))}

    train(Worse, config(tmp_path, steps=60, keep=2))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == [
        "step-000000010",
        "step-000000050",
        "step-000000060",
    ]


def test_the_best_is_saved_between_checkpoints_too(tmp_path):
    class Once(Toy):
        results = [3.0, 1.0, 2.0, 2.0, 2.0, 2.0]

        def validate(self, device):
            return {"error": self.results.pop(0)}

    train(Once, config(tmp_path, validate_every=5, checkpoint_every=10, keep=1))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == ["step-000000010", "step-000000030"]


def test_a_full_disk_leaves_the_checkpoints_before_whole(tmp_path, monkeypatch):
    real, calls = module.save_file, []

    def full(tensors, path, metadata=None):
        calls.append(path)
        if len(calls) > 1:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path, metadata=metadata)

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(InputError, match="could not be written.*No space left"):
        train(Toy, config(tmp_path))
    assert [c.name for c in checkpoints(tmp_path / "checkpoints")] == ["step-000000010"]
    assert not list((tmp_path / "checkpoints").glob(".partial*"))
    monkeypatch.undo()
    train(Toy, config(tmp_path), resume="auto")
    train(Toy, config(tmp_path / "whole"))
    assert same(weights(tmp_path), weights(tmp_path / "whole"))


def test_checkpoints_that_do_not_fit_are_refused_in_one_sentence(tmp_path):
    train(Toy, config(tmp_path))
    last = checkpoints(tmp_path / "checkpoints")[-1]

    class Other(Toy):
        name = "other"

    with pytest.raises(InputError, match="a checkpoint of the method toy, not of other"):
        load_weights(Other(config(tmp_path)), last)
    with pytest.raises(InputError, match=r"body.0.*is \[8.* in the file and \[16.* in the method"):
        load_weights(Toy(config(tmp_path, width=16)), last)
    with pytest.raises(InputError, match="not a checkpoint"):
        load_weights(Toy(config(tmp_path)), tmp_path)
    (last / "weights.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match="weights.safetensors: damaged"):
        load_weights(Toy(config(tmp_path)), last)
    with pytest.raises(InputError, match="holds checkpoints of an earlier run"):
        train(Toy, config(tmp_path))


def test_state_with_code_in_it_is_not_run(tmp_path):
    import pickle

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    train(Toy, config(tmp_path / "run"))
    last = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (last / "state.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="state.pt: damaged"):
        train(Toy, config(tmp_path / "run", steps=40), resume=str(last))
    (last / CHECKSUMS).unlink()  # a checkpoint of an earlier version
    with pytest.raises(InputError, match="state.pt: damaged"):
        train(Toy, config(tmp_path / "run", steps=40), resume=str(last))
    train(Toy, config(tmp_path / "run", steps=40), resume="auto")
    assert not (tmp_path / "ran").exists()


FILES = ("weights.safetensors", "average.safetensors", "state.pt", "config.json", "checksums.json")


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def flip_the_end(file):
    content = bytearray(file.read_bytes())
    content[-2] ^= 1
    file.write_bytes(content)


def replace_by_folder(file):
    file.unlink()
    file.mkdir()


DAMAGES = {
    "flipped": flip,
    "flipped at the end": flip_the_end,
    "cut": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(b"[" * 5000),
    "of another": lambda file: file.write_bytes(b'{"method": "toy"}'),
    "deleted": lambda file: file.unlink(),
    "a folder": replace_by_folder,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run with averages and three checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    train(Toy, config(folder, ema=0.9, keep=3))
    return folder


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_checkpoint_is_moved_aside_and_the_one_before_taken(run, file, damage, tmp_path, capsys):
    if (file, damage) == ("checksums.json", "deleted"):
        pytest.skip("it is then one of an earlier version")
    if damage == "a folder" and file == "checksums.json":
        pytest.skip("the same")
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    DAMAGES[damage](folder / "step-000000030" / file)
    before = {p.name: p.is_file() and p.read_bytes() for p in (folder / "step-000000030").iterdir()}
    settings = config(tmp_path / "run", ema=0.9, keep=3)
    with pytest.raises(InputError) as named:
        train(Toy, settings, resume=str(folder / "step-000000030"))
    assert "step-000000030" in str(named.value) and "\n" not in str(named.value) and len(str(named.value)) < 400
    train(Toy, settings, resume="auto")
    said = [line for line in capsys.readouterr().err.splitlines() if "moved to" in line]
    assert len(said) == 1 and "moved to damaged-step-000000030, resuming from step-000000020" in said[0]
    aside = folder / "damaged-step-000000030"
    assert {p.name: p.is_file() and p.read_bytes() for p in aside.iterdir()} == before
    assert same(weights(tmp_path / "run"), weights(run)) and metrics(tmp_path / "run") == metrics(run)


def test_an_empty_folder_of_a_checkpoint_is_moved_aside_and_names_are_not_taken_twice(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for name in ("damaged-step-000000030", "damaged-step-000000030-2"):
        (folder / name).mkdir()
    shutil.rmtree(folder / "step-000000030")
    (folder / "step-000000030").mkdir()
    flip(folder / "step-000000020" / "state.pt")
    train(Toy, config(tmp_path / "run", ema=0.9, keep=3), resume="auto")
    assert {"damaged-step-000000030-3", "damaged-step-000000020"} <= {p.name for p in folder.iterdir()}
    assert same(weights(tmp_path / "run"), weights(run))


def test_where_every_checkpoint_is_damaged_nothing_is_lost(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for checkpoint in checkpoints(folder):
        flip(checkpoint / "weights.safetensors")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(
        InputError, match="every checkpoint is damaged, the last one so: .*weights.safetensors: damaged"
    ):
        train(Toy, config(tmp_path / "run", ema=0.9, keep=3), resume="auto")
    assert {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()} == before


def test_checkpoints_of_earlier_versions_have_no_checksums_and_load(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "step-000000030")
    for checkpoint in checkpoints(tmp_path / "run" / "checkpoints"):
        (checkpoint / CHECKSUMS).unlink()
    train(Toy, config(tmp_path / "run", ema=0.9, keep=3), resume="auto")
    assert same(weights(tmp_path / "run"), weights(run))
    last = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    assert (last / CHECKSUMS).is_file()


def test_a_changed_name_in_the_state_of_an_earlier_version_is_noticed(run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "run")
    last = checkpoints(tmp_path / "run" / "checkpoints")[-1]
    (last / CHECKSUMS).unlink()
    content = (last / "state.pt").read_bytes()
    assert content.count(b"exp_avg_sq") and content.count(b"param_groups")
    (last / "state.pt").write_bytes(content.replace(b"param_groups", b"param_groupz"))
    train(Toy, config(tmp_path / "run", ema=0.9, keep=3), resume="auto")
    assert "state.pt: damaged (ValueError); moved to damaged-step-000000030" in capsys.readouterr().err
    assert same(weights(tmp_path / "run"), weights(run))


def test_weights_that_are_not_finite_or_no_fractions_are_damaged(run, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(run / "checkpoints" / "step-000000030", tmp_path / "step-000000030")
    file = tmp_path / "step-000000030" / "average.safetensors"
    (tmp_path / "step-000000030" / CHECKSUMS).unlink()
    weights = load_file(file)
    name = next(iter(weights))
    for changed in (weights[name].clone().fill_(float("nan")), weights[name].int()):
        save_file(weights | {name: changed}, file)
        with pytest.raises(InputError, match=f"damaged .the numbers of {name} are not finite, or of another kind"):
            load_weights(Toy(config(tmp_path, ema=0.9)), tmp_path / "step-000000030")


def test_the_command_says_in_one_line_which_checkpoint_it_left_aside(run, tmp_path, capsys, monkeypatch):
    shutil.copytree(run, tmp_path / "run")
    flip(tmp_path / "run" / "checkpoints" / "step-000000030" / "config.json")
    monkeypatch.setattr(Toy, "PRESETS", {"cpu": {}})
    monkeypatch.setattr(command, "method_class", lambda name: Toy)
    assert main(["train", "dasl", "--set", f"output={tmp_path / 'run'}", "--resume", "auto"]) == 0
    assert capsys.readouterr().err.count("config.json: damaged (it is not what was written); moved to damaged-") == 1
    assert same(weights(tmp_path / "run"), weights(run))
