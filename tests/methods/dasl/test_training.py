"""2DASL: training runs, their data and their settings."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from facemodels import InputError
from facemodels.cli.main import main
from facemodels.core.seeding import seed_of
from facemodels.data.synthetic import Synthetic
from facemodels.methods.dasl import (
    DASL,
)
from facemodels.methods.dasl import method as dasl_method
from facemodels.methods.dasl.network import landmark_channel
from facemodels.methods.registry import load_method
from facemodels.networks import MobileNet
from facemodels.training.checkpoint import checkpoints, save_checkpoint
from facemodels.training.loop import train
from tests.methods.dasl.common import pictures, small


def test_photographs_in_the_wild_are_held_out_for_validation(tmp_path):
    method = DASL(small(tmp_path / "run", stage1=0, wild=str(pictures(tmp_path / "wild", 12)), held_out=5))
    method.prepare_data()
    held = {im.numpy().tobytes() for im in method.held.image}
    used = {im.numpy().tobytes() for im in method.wild.faces.image[method.wild.places]}
    assert len(held) == 5 and len(used) == 7 and not held & used
    assert 0 < float(method.eval().validate(torch.device("cpu"))["nme_percent"]) < 1000
    for k in range(12):
        np.savetxt(tmp_path / "wild" / f"{k}.txt", np.random.default_rng(k).random((5, 2)) * 40 + 20)
    with pytest.raises(InputError, match="pictures with 5 landmarks"):
        DASL(small(tmp_path / "run", wild=str(tmp_path / "wild"), held_out=2)).prepare_data()


def test_of_few_photographs_a_fifth_is_held_out_and_very_few_are_refused(tmp_path):
    few = DASL(small(tmp_path / "run", wild=str(pictures(tmp_path / "few", 12)), held_out=512))
    few.prepare_data()
    assert len(few.held.image) == 2 and len(few.wild.places) == 10
    with pytest.raises(InputError, match="4 pictures can be used, and at least 5 are needed"):
        DASL(small(tmp_path / "run", wild=str(pictures(tmp_path / "fewer", 4)))).prepare_data()


@pytest.fixture
def no_rendering(monkeypatch):
    def fail(*arguments):
        raise AssertionError("rendered")

    monkeypatch.setattr(Synthetic, "__call__", fail)


def _unlabeled(folder):
    for file in pictures(folder, 6).glob("*.txt"):
        file.unlink()
    return folder


@pytest.mark.parametrize(
    "wild, changes, words",
    [
        (lambda folder: folder, {}, "there is no such folder"),
        (_unlabeled, {}, "none of 6 pictures has a landmark file"),
        (lambda folder: pictures(folder, 4), {}, "4 pictures can be used, and at least 5"),
        (lambda folder: folder.with_suffix(".zip"), {}, "there is no such file"),
        (lambda folder: pictures(folder, 6), {"start": "nowhere"}, "nowhere"),
        (lambda folder: pictures(folder, 6), {"labelled": "nowhere"}, "nowhere"),
        (lambda folder: pictures(folder, 6), {"teacher": "no.npz", "extra": True}, "no.npz"),
    ],
)
def test_files_that_cannot_be_used_are_refused_before_anything_is_rendered(
    tmp_path, no_rendering, wild, changes, words
):
    config = small(tmp_path / "run", wild=str(wild(tmp_path / "wild")), cache=64, **changes)
    with pytest.raises(InputError, match=words):
        train(DASL, config)


def test_pictures_that_are_left_out_are_named_before_anything_is_rendered(tmp_path, no_rendering):
    wild = pictures(tmp_path / "wild", 20)
    (wild / "3.txt").unlink()
    with (
        pytest.warns(UserWarning, match="1 of 20 pictures"),
        pytest.raises(AssertionError, match="rendered"),
    ):
        train(DASL, small(tmp_path / "run", wild=str(wild), cache=64))


@pytest.mark.parametrize("changes", [{"wild": "nowhere"}, {"teacher": "no.npz", "extra": True}])
def test_a_wrong_path_beside_300w_lp_is_found_before_that_is_read(tmp_path, monkeypatch, changes):
    def fail(*arguments):
        raise AssertionError("read")

    monkeypatch.setattr("facemodels.methods.dasl.method.lp300w", fail)
    monkeypatch.setattr("facemodels.methods.dasl.method.LP300W", lambda path: None)
    wild = str(pictures(tmp_path / "wild", 6))
    with pytest.raises(InputError, match="nowhere|no.npz"):
        train(DASL, small(tmp_path / "run", **{"labelled": "300W-LP", "wild": wild} | changes))


@pytest.mark.parametrize(
    "points, changes, compared, words",
    [
        (68, {}, 18, "l2d and cycle compare 18 of the 68 landmarks of each picture, without the jaw"),
        (68, {"extra": True}, 68, "l2d and cycle compare all 68 landmarks of each picture"),
        (21, {"schemes": ("cycle",)}, 18, "cycle compares 18 of the 21 landmarks of each picture, without the chin"),
        (21, {"extra": True}, 21, "l2d and cycle compare all 21 landmarks of each picture"),
    ],
)
def test_a_run_says_how_many_of_the_landmarks_it_compares(tmp_path, points, changes, compared, words):
    rng = np.random.default_rng(0)
    for k in range(6):
        Image.fromarray(rng.integers(0, 255, (120, 120, 3), np.uint8)).save(tmp_path / f"{k}.png")
        np.savetxt(tmp_path / f"{k}.txt", rng.uniform(20, 100, (points, 2)))
    method = DASL(small(tmp_path / "run", wild=str(tmp_path), **changes))
    method.prepare_data()
    (sentence,) = method.data_notes()
    assert sentence.startswith(words) and ("extra=true" in sentence) == (not changes.get("extra", False))
    assert method.measured_on == f"on 1 held-out pictures, 18 landmarks of each against those in {tmp_path}"
    faces = method.held.to("cpu")
    eighteen = faces.landmarks[:, :18], faces.visible[:, :18]
    known, _ = method._known_points(faces, *eighteen)
    assert known.shape[1] == compared


def test_renderings_are_compared_without_a_word(tmp_path):
    method = DASL(small(tmp_path / "run"))
    method.prepare_data()
    assert method.data_notes() == [] and "renderings" in method.measured_on


def test_photographs_from_the_side_are_taken_more_often(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(12):
        Image.fromarray(rng.integers(0, 255, (120, 120, 3), np.uint8)).save(tmp_path / f"{k}.png")
        points = rng.uniform(20, 100, (21, 2))
        if k % 3 == 0:
            points[:9] = np.nan
        np.save(tmp_path / f"{k}.npy", points)
    counts = []
    for profiles in (1, 4):
        method = DASL(small(tmp_path / f"run{profiles}", wild=str(tmp_path), held_out="2", profiles=str(profiles)))
        method.prepare_data()
        places = method.wild.places
        hidden = (~method.wild.faces.visible[places]).float().mean(1) > 0.3
        counts.append((int(hidden.sum()), int((~hidden).sum())))
    (rare, plain), (often, same) = counts
    assert often == 4 * rare and same == plain and rare > 0


def test_smoke_training_from_nothing_and_from_a_checkpoint(tmp_path):
    out = tmp_path / "run"
    assert (
        main(
            ["train", "dasl", "--preset", "smoke", "--set", f"output={out}", "--set", "device=cpu", "--set", "cache=16"]
        )
        == 0
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 12 and "validation_nme_percent" in lines[-1]
    assert "network_l2d" not in lines[0] and "network_cycle" in lines[-2]  # stage 1, stage 2
    assert list((out / "panels").glob("*.png"))
    last = checkpoints(out / "checkpoints")[-1]
    begun = DASL(small(tmp_path / "next", schemes="cycle", start=str(last)))
    begun.initialize()
    for key, value in load_method(last).state_dict().items():
        assert key.startswith("critic.") or torch.equal(value, begun.state_dict()[key]), key
    (last / "config.json").write_text((last / "config.json").read_text().replace('"light"', '"resnet50"'))
    with pytest.raises(InputError, match="other settings"):
        DASL(small(tmp_path / "other", start=str(last))).initialize()


def test_the_trunk_begins_with_the_weights_of_a_file_and_its_last_layer_with_what_is_best(tmp_path, monkeypatch):
    torch.manual_seed(0)
    published = MobileNet(3, 10, 0.5)
    torch.save({"state_dict": {f"module.{k}": v for k, v in published.state_dict().items()}}, tmp_path / "mb.pth")
    monkeypatch.setattr(dasl_method, "RENDERED", 192)
    method = DASL(small(tmp_path / "run", trunk="mobilenet_05", weights=str(tmp_path / "mb.pth")))
    method.initialize()
    trunk = method.network.trunk
    assert torch.equal(trunk.dw6.conv_sep.weight, published.dw6.conv_sep.weight) and trunk.training
    assert torch.equal(trunk.conv1.weight[:, :3], published.conv1.weight) and (trunk.conv1.weight[:, 3] == 0).all()
    faces = method.source(seed_of(method.config.seed, 2), 0, range(64))
    true = method.whitening.whitened(method.raw_parameters(faces))
    blank = landmark_channel(torch.zeros(64, 1, 2), torch.zeros(64, 1, dtype=torch.bool))
    with torch.no_grad():
        found = method.network.eval()(faces.image, blank)
    error, spread = ((x - true).square().mean(0) for x in (found, true.mean(0)))
    assert (error <= 0.8 * spread).all()  # on those it was fitted to
    with pytest.raises(InputError, match="not those of trunk=light; give another trunk, .* weights of LightNet"):
        DASL(small(tmp_path / "other", weights=str(tmp_path / "mb.pth"))).initialize()
    with pytest.raises(InputError, match="start has all; give one of them"):
        small(tmp_path / "both", weights=str(tmp_path / "mb.pth"), start="dasl-aflw")


def test_a_resumed_run_is_the_run(tmp_path):
    kinds = dict(steps=4, batch=2, stage1=1, held_out=2, checkpoint_every=2, validate_every=4)
    whole = train(DASL, small(tmp_path / "whole", **kinds))

    class Killed(Exception):
        pass

    def kill(step):
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        train(DASL, small(tmp_path / "killed", **kinds), after_step=kill)
    resumed = train(DASL, small(tmp_path / "killed", **kinds), resume="auto")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


def test_start_is_a_checkpoint_of_the_same_model(trained, tmp_path):
    checkpoint = save_checkpoint(tmp_path / "there", 1, trained, {}, None, {}, 1, None)
    other = DASL(small(tmp_path / "run", start=str(checkpoint)))
    other.config.model = "another.safetensors"
    with pytest.raises(InputError, match="with the model builtin; start must be one of dasl with another.safetensors"):
        other.initialize()


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("schemes=l2d,l4d", "got 'l4d'"),
        ("trunk=vgg", "resnet50 or light"),
        ("blank=2", "blank must be 0 to 1, got 2"),
        ("batch=1", "batch must be 2 to 65536, got 1"),
        ("device=banana", "cpu, cuda or auto"),
        ("clip=-1", "clip must be 0 to 1000000, got -1"),
        ("labelled=/nowhere", "/nowhere"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, capsys, setting, sentence):
    assert main(["train", "dasl", "--preset", "smoke", "--set", f"output={tmp_path / 'run'}", "--set", setting]) == 1
    assert sentence in capsys.readouterr().err
