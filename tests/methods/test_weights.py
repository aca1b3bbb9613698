"""Weights that ship: packed small, loaded by name, what they are said to be."""

import json

import pytest
import torch
from safetensors.torch import load_file

from facemodels import InputError, load_method
from facemodels.methods import shipped
from facemodels.methods.pack import pack
from facemodels.methods.registry import METHODS, method_class
from facemodels.training.config import configured
from facemodels.training.loop import train


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    kind = method_class("dasl")
    train(
        kind,
        configured(
            kind.config_class, kind.PRESETS["smoke"] | {"steps": 2, "stage1": 1, "output": str(folder), "device": "cpu"}
        ),
    )
    return folder / "checkpoints" / "step-000000002"


def test_packed_weights_say_what_the_checkpoint_says_at_half_the_size(checkpoint, tmp_path):
    folder = pack(checkpoint, tmp_path / "small")
    full, small = load_method(checkpoint), load_method(folder)
    image = torch.rand(3, 3, 120, 120, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(full.landmarks(image), small.landmarks(image), atol=0.05) and not small.training
    packed = load_file(folder / "weights.safetensors")
    assert not any(name.startswith("critic.") for name in packed)  # nobody asks it after training
    assert (
        packed["network.trunk.layer4.conv1.weight"].dtype == torch.float16
        and packed["network.trunk.bn1.running_var"].dtype == torch.float32
    )
    network = sum(
        v.numel() for k, v in load_file(checkpoint / "weights.safetensors").items() if not k.startswith("critic.")
    )
    assert (folder / "weights.safetensors").stat().st_size < 2.2 * network + 20_000
    settings = json.loads((folder / "config.json").read_text())
    assert settings["output"] == "runs/dasl" and "/" not in settings["wild"]


def test_training_begins_with_packed_weights_but_does_not_resume_from_them(checkpoint, tmp_path):
    folder = pack(checkpoint, tmp_path / "small")
    kind = method_class("dasl")
    settings = kind.PRESETS["smoke"] | {"steps": 2, "stage1": 1, "output": str(tmp_path / "run"), "device": "cpu"}
    train(kind, configured(kind.config_class, settings | {"start": str(folder)}))
    with pytest.raises(InputError, match="critic.* is missing in the file"):
        train(kind, configured(kind.config_class, settings | {"output": str(tmp_path / "other")}), str(folder))


@pytest.mark.parametrize("name", shipped.weight_names())
def test_weights_that_ship_load_by_name_and_have_a_card(name):
    folder = shipped.WEIGHTS_FOLDER / name
    assert (folder / "weights.safetensors").stat().st_size <= 10_000_000
    card = (folder / "README.md").read_text()
    for word in ("Data", "License", "Command", "Commit", "Scores"):
        assert word in card, word
    loaded = load_method(name)
    assert loaded.name in METHODS and loaded.config.model == "builtin"
    faces = loaded.reconstruct(torch.rand(2, 3, loaded.size, loaded.size))
    assert all(v is None or torch.isfinite(v).all() for v in faces) and faces.landmarks.shape == (2, 68, 3)


def test_what_is_loaded_without_a_name_is_there():
    assert shipped.default_weights() in shipped.weight_names()
    assert load_method().config == load_method(shipped.default_weights()).config


def test_a_name_that_is_none_is_one_sentence_with_those_that_are():
    with pytest.raises(InputError, match="not the name of shipped weights .*dasl"):
        load_method("dazl")
