"""UH-E2FAR: the published layers, the loss on vertices, and a training run from nothing."""

import json

import pytest
import torch

from facemodels import InputError
from facemodels.cli.main import main
from facemodels.core.alignment import similarity
from facemodels.core.parameters import flip_y
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.losses import shape_alone, vertex_loss
from facemodels.methods.e2far import E2FAR, HELD_OUT, PRESETS, E2FARConfig, Network
from facemodels.methods.registry import method_class
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured


def small(folder, **changes):
    return configured(E2FARConfig, PRESETS["smoke"] | {"output": str(folder), "device": "cpu"} | changes)


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    return E2FAR(small(tmp_path_factory.mktemp("run")))


def test_the_layers_are_those_of_the_paper():
    with torch.device("meta"):
        network = Network("vgg", 199, 29)
    shapes = {k: tuple(v.shape) for k, v in network.named_parameters()}
    assert (
        shapes["conv6.weight"] == (512, 512, 5, 5)
        and shapes["conv7.weight"] == (512, 512, 1, 1)
        and shapes["conv8.weight"] == (512, 1024, 1, 1)
    )
    assert (
        shapes["identity.0.weight"] == (4096, 12_800)
        and shapes["identity.3.weight"] == (1024, 4096)
        and shapes["identity.6.weight"] == (199, 1024)
    )
    assert shapes["expression.0.weight"] == (4096, 12_800) and shapes["expression.6.weight"] == (29, 1024)
    assert not any("landmarks" in name for name in shapes)
    assert sum(v.numel() for v in network.parameters()) == pytest.approx(135.5e6, rel=1e-3)


def test_the_feature_maps_that_are_fused_have_the_same_size():
    for trunk in ("vgg", "light"):
        network = Network(trunk, 5, 4).eval()
        seen = {}
        for name in ("conv6", "conv7", "conv8"):
            getattr(network, name).register_forward_hook(
                lambda m, i, o, name=name, seen=seen: seen.update({name: o.shape[-2:]})
            )
        with torch.no_grad():
            identity, expression, landmarks = network(torch.rand(1, 3, network.size, network.size))
        assert (landmarks is None) == (trunk == "vgg")
        assert identity.shape == (1, 5) and expression.shape == (1, 4)
        assert len(set(seen.values())) == 1 and seen["conv8"] == ((5, 5) if trunk == "vgg" else (4, 4))


def test_without_fusion_the_expression_comes_from_the_top_layer_alone():
    """Its gradient to the map below is the one that goes through the top map; with fusion there is another."""
    for fusion in (False, True):
        network = Network("light", 5, 4, fusion).eval()
        maps = {}
        network.trunk.layer3.register_forward_hook(lambda m, i, o, maps=maps: maps.update(below=o))
        network.trunk.layer4.register_forward_hook(lambda m, i, o, maps=maps: maps.update(top=o))
        expression = network(torch.rand(2, 3, 112, 112))[1].sum()
        below, top = torch.autograd.grad(expression, [maps["below"], maps["top"]], retain_graph=True)
        (through,) = torch.autograd.grad(maps["top"], maps["below"], top)
        assert torch.allclose(below, through, rtol=1e-3, atol=1e-9) != fusion


def test_no_head_of_the_light_network_begins_dead():
    network = Network("light", 5, 4).eval()
    image = torch.rand(4, 3, 112, 112, requires_grad=True)
    for outputs in network(image)[:2]:
        (gradient,) = torch.autograd.grad(outputs.sum(), image, retain_graph=True)
        assert gradient.abs().max() > 0


def test_the_loss_is_that_of_the_vertices(light):
    faces = light.batch(0, range(3), torch.device("cpu"))
    light.eval()
    parts = light("network", faces, 0, {})
    identity, expression, landmarks = light.network(faces.image)
    region = light.model.regions["face"]
    bases = [
        b.flatten(1)
        for b in (
            shape_alone(light.model.identity_basis[:, region], light.model.mean[region]),
            light.model.expression_basis[:, region],
        )
    ]
    id_error, exp_error = (
        vertex_loss(identity, faces.identity, bases[0]),
        vertex_loss(expression, faces.expression, bases[1]),
    )
    torch.testing.assert_close(parts["identity_mm2"], id_error, rtol=1e-4, atol=1e-5)
    distance = (landmarks - faces.landmarks).square().sum(-1).mean()
    torch.testing.assert_close(parts["loss"], id_error + 5 * exp_error + 0.05 * distance, rtol=1e-4, atol=1e-4)


def test_size_turns_and_shifts_of_a_head_are_no_errors_of_its_shape(light):
    """And all else is: the projection takes away no more than the aligned distance of shapes loses."""
    region = light.model.regions["face"]
    mean = light.model.mean[region]
    shifts = torch.eye(3)[:, None].expand(-1, len(mean), -1)
    turns = torch.linalg.cross(shifts, (mean - mean.mean(0)).expand_as(shifts), dim=-1)
    basis = torch.cat([shifts, turns, (mean - mean.mean(0))[None], light.model.identity_basis[:5, region]])
    alone = shape_alone(basis, mean)
    assert alone[:7].abs().max() < 1e-3
    small = mean + 0.1 * basis[7:]
    aligned = (similarity(mean.expand_as(small), small)(mean.expand_as(small)) - small).norm(dim=-1).mean(1)
    torch.testing.assert_close((0.1 * alone[7:]).norm(dim=-1).mean(1), aligned, rtol=0.02, atol=1e-3)


def test_it_begins_at_the_mean_face_and_validation_says_how_far_that_is(light):
    light.eval()
    results = light.validate(torch.device("cpu"))
    assert results["neutral_mm"] == pytest.approx(results["neutral_of_mean_face_mm"], rel=0.02)
    assert 2 < results["neutral_of_mean_face_mm"] < 5 and 0.3 < results["expression_of_none_mm"] < 4


def test_blend_shape_weights_are_put_into_their_range(light):
    light.eval()
    expression = light.predict(torch.rand(2, 3, 112, 112))[1]
    assert expression.min() >= 0 and expression.max() <= 1


def test_held_out_faces_are_not_those_of_training(light):
    train, held = light.source(light.config.seed, 0, range(4)), light.source(HELD_OUT, 0, range(4))
    assert not torch.equal(train.identity, held.identity)


def test_the_morphable_model_is_not_part_of_the_weights(light):
    assert all(k.startswith("network.") for k in light.state_dict())


def test_smoke_training_from_nothing(tmp_path, capsys):
    out = tmp_path / "run"
    assert (
        main(
            [
                "train",
                "e2far",
                "--preset",
                "smoke",
                "--set",
                f"output={out}",
                "--set",
                "device=cpu",
                "--set",
                "cache=24",
            ]
        )
        == 0
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 12 and "validation_neutral_mm" in lines[-1]
    assert checkpoints(out / "checkpoints")[-1].name == "step-000000012"
    assert list((out / "panels").glob("*.png"))
    assert main(["train", "e2far", "--preset", "smoke", "--set", f"output={out}"]) == 1
    assert "--resume auto" in capsys.readouterr().err


def test_what_does_not_exist_is_named(tmp_path, capsys):
    assert main(["train", "e2far", "--preset", "huge"]) == 1
    assert "there are smoke, ablation, cpu, gpu, paper" in capsys.readouterr().err
    assert main(["train", "e2far", "--preset", "smoke", "--set", "trnk=vgg"]) == 1
    assert "close to it are trunk" in capsys.readouterr().err
    with pytest.raises(InputError, match="there is no method 'prnet'"):
        method_class("prnet")
    config = small(tmp_path, weights=str(tmp_path / "missing.mat"))
    with pytest.raises(InputError, match="missing.mat"):
        E2FAR(config).initialize()


def test_a_face_is_placed_by_the_landmarks_of_the_light_trunk(tmp_path):
    """From the true coefficients and landmarks of renderings, the camera and the landmarks come back."""
    method = E2FAR(configured(E2FARConfig, PRESETS["smoke"] | {"output": str(tmp_path)})).eval()
    faces = Synthetic(method.model, method.network.size, RandomizationConfig(yaw=45))(5, 0, range(8))
    method.network.forward = lambda image: (faces.identity, faces.expression, faces.landmarks)
    edge = (method.size - method.network.size) // 2
    found = method.reconstruct(torch.zeros(8, 3, method.size, method.size))
    assert torch.allclose(found.landmarks[..., :2], faces.landmarks + edge, atol=0.05)
    assert torch.allclose(found.scale, faces.scale, rtol=2e-3)
    origin = flip_y(faces.translation, method.network.size) + edge
    assert torch.allclose(found.translation, origin, atol=0.3)
    angle = ((found.rotation @ faces.rotation.mT).diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    assert angle.min() > 0.9999


def test_only_the_middle_of_a_crop_is_looked_at(tmp_path):
    method = E2FAR(configured(E2FARConfig, PRESETS["smoke"] | {"output": str(tmp_path)})).eval()
    image = torch.rand(1, 3, method.size, method.size)
    edge = (method.size - method.network.size) // 2
    other = image.clone()
    other[..., :edge, :] = 0
    assert edge > 0 and torch.equal(method.reconstruct(image).landmarks, method.reconstruct(other).landmarks)


def test_the_paper_s_trunk_says_that_it_gives_no_pose(tmp_path):
    method = E2FAR(configured(E2FARConfig, PRESETS["smoke"] | {"output": str(tmp_path), "trunk": "vgg"})).eval()
    with pytest.raises(InputError, match="trunk vgg gives no pose"):
        method.reconstruct(torch.zeros(1, 3, method.size, method.size))
