"""2DASL: the published layers and points, the four schemes on known parameters, and training."""

import json
from types import SimpleNamespace

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from facemodels import InputError, load_model
from facemodels.cli.main import main
from facemodels.core.landmarks import (
    EIGHTEEN,
    EIGHTEEN_OF_AFLW,
    NAMES,
    center_depth,
    eighteen_points,
    mirror_order,
)
from facemodels.data import FaceBatch
from facemodels.data.photographs import (
    photographs,
    read_teacher_labels,
    write_teacher_labels,
)
from facemodels.losses import critic_loss, wpdc_loss
from facemodels.methods.dasl import (
    DASL,
    HELD_OUT,
    POINT_WEIGHTS,
    PRESETS,
    SCHEMES,
    Batch,
    Critic,
    DASLConfig,
    Network,
    landmark_channel,
    pose_of,
    reduced,
)
from facemodels.methods.registry import load_method
from facemodels.methods.teacher import VIEWS, predict_in_view, predict_landmarks
from facemodels.methods.teacher import main as teacher_command
from facemodels.training.checkpoint import checkpoints, save_checkpoint
from facemodels.training.config import configured
from facemodels.training.loop import train


def small(folder, **changes):
    return configured(DASLConfig, PRESETS["smoke"] | {"output": str(folder), "device": "cpu"} | changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A method as it begins."""
    method = DASL(small(tmp_path_factory.mktemp("run"), stage1=0)).eval()
    method.initialize()
    return method


class FixedNetwork(nn.Module):
    """In place of the network: returns the given parameters one after the other, and records its inputs."""

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.shown = list(answers), []

    def forward(self, image, channel):
        self.shown.append(channel)
        return self.answers[len(self.shown) - 1]


# Layers


def test_the_regressor_has_the_published_size():
    with torch.device("meta"):
        network = Network("resnet50")
    shapes = {k: tuple(v.shape) for k, v in network.named_parameters()}
    assert sum(v.numel() for v in network.parameters()) == 23_638_206
    assert shapes["trunk.conv1.weight"] == (64, 4, 7, 7) and shapes["trunk.fc.weight"] == (62, 2048)


@pytest.mark.parametrize("trunk", ["light", "resnet50"])
def test_both_trunks_give_62_parameters_and_begin_at_their_mean(trunk):
    network = Network(trunk)
    q = network(torch.rand(2, 3, 120, 120), torch.full((2, 1, 120, 120), -1.0))
    assert q.shape == (2, 62) and q.abs().max() < 0.5


def test_the_network_is_given_blue_first_and_reads_its_channel():
    network = Network("light").eval()
    seen = []
    network.trunk.conv1.register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    image, channel = torch.rand(1, 3, 120, 120), torch.zeros(1, 1, 120, 120)
    network(image, channel)
    torch.testing.assert_close(seen[0], torch.cat([(image[:, [2, 1, 0]] * 255 - 127.5) / 128, channel], 1))


def test_the_critic_has_six_convolutions_to_one_pixel_and_four_layers():
    critic = Critic()
    convolutions = [m for m in critic.encoder if isinstance(m, nn.Conv2d)]
    linear = [(m.in_features, m.out_features) for m in critic.critic if isinstance(m, nn.Linear)]
    assert len(convolutions) == 6 and [m for m in critic.encoder if isinstance(m, nn.MaxPool2d)].__len__() == 6
    assert linear == [(512 + 62, 512), (512, 1024), (1024, 1024), (1024, 1)]
    for light in (False, True):
        critic = Critic(light=light)
        image, q = torch.rand(2, 3, 120, 120), torch.randn(2, 62, requires_grad=True)
        score = critic(image, q)
        assert score.shape == (2,)
        assert torch.autograd.grad(score.sum(), q)[0].abs().max() > 0
        assert critic(image.flip(0), q).sub(score).abs().max() > 0  # it looks at the picture


# Points


def test_the_18_points_of_68_and_of_21_landmarks_are_the_same_places():
    """AFLW names its points; of each, the iBUG points lie at the same feature."""
    assert len(EIGHTEEN) == len(EIGHTEEN_OF_AFLW) == len(POINT_WEIGHTS) == 18
    feature = {
        "brow": "brow",
        "eye": "eye",
        "nose": ("nose", "nostril"),
        "mouth": ("mouth", "inside", "lip"),
        "ear": (),
        "chin": (),
    }
    for group, place in zip(EIGHTEEN, EIGHTEEN_OF_AFLW):
        ours, theirs = [NAMES[68][k] for k in group], NAMES[21][place]
        assert all(name.startswith(feature[theirs.split("_")[0]]) for name in ours), (ours, theirs)
        side = theirs.rsplit("_", 1)[-1]
        if side in ("left", "right"):
            assert all(name.endswith(side) for name in ours), (ours, theirs)
        for part in ("inner", "outer"):
            if part in theirs and "brow" not in theirs:
                assert all(part in name for name in ours), (ours, theirs)
    assert not any(name.startswith(("ear", "chin")) for name in (NAMES[21][k] for k in EIGHTEEN_OF_AFLW))


def test_means_are_taken_where_a_point_is_between_two():
    points = torch.arange(68.0)[None, :, None].expand(1, 68, 2)
    assert eighteen_points(points)[0, :, 0].tolist() == [
        17,
        19,
        21,
        22,
        24,
        26,
        36,
        38.5,
        39,
        42,
        44.5,
        45,
        31,
        30,
        35,
        48,
        64,
        54,
    ]
    with pytest.raises(InputError, match="68 or 21 landmarks, got 5"):
        eighteen_points(points[:, :5])


def test_the_channel_is_minus_one_and_one_at_the_pixels_of_the_points():
    points = torch.tensor([[[3.9, 7.1], [200.0, -4.0], [50.0, 60.0], [float("nan"), 2.0]]])
    shown = torch.tensor([[True, True, False, False]])
    channel = landmark_channel(points, shown)
    assert channel.shape == (1, 1, 120, 120)
    assert sorted(map(tuple, (channel[0, 0] == 1).nonzero().tolist())) == [(0, 119), (7, 3)]
    assert (channel == -1).sum() == 120 * 120 - 2


def test_the_soft_channel_is_the_hard_one_with_a_gradient():
    points = torch.tensor([[[30.5, 40.5], [60.3, 70.9]]], requires_grad=True)
    shown = torch.ones(1, 2, dtype=torch.bool)
    soft = landmark_channel(points, shown, form="soft")
    assert soft.shape == (1, 1, 120, 120) and soft[0, 0, 40, 30].item() == 1 and soft.min().item() == pytest.approx(-1)
    assert soft[0, 0, 40, 31].item() == pytest.approx(2 * np.exp(-0.5) - 1, abs=1e-6)
    assert soft[0, 0].argmax() // 120 == 40
    (gradient,) = torch.autograd.grad(soft[0, 0, 70, 61], points)
    assert (
        gradient[0, 1, 0] > 0 and (gradient[0, 0] == 0).all()
    )  # the pixel to the right of the point brightens as it comes
    assert not landmark_channel(points, shown).requires_grad
    assert (landmark_channel(points, ~shown, form="soft") == -1).all()


# Parameters


def test_the_reduced_model_keeps_what_moves_vertices_most():
    model = load_model("builtin")
    low = reduced(model)
    bases = [
        (back @ basis.flatten(1)).view(len(back), -1, 3)
        for back, basis in ((low.from_shape, model.identity_basis), (low.from_expression, model.expression_basis))
    ]
    face = model.regions["face"].long()
    generator = torch.Generator().manual_seed(3)
    identity = torch.randn(64, model.num_identity, generator=generator)

    def offsets(coefficients, basis):
        return torch.einsum("nk,kvd->nvd", coefficients, basis[:, face])

    whole = offsets(identity, model.identity_basis)
    kept = offsets(identity @ low.to_shape, bases[0])
    first = identity.clone()
    first[:, 40:] = 0
    assert (whole - kept).square().sum() < (whole - offsets(first, model.identity_basis)).square().sum()
    assert (whole - kept).square().sum() < 0.06 * whole.square().sum()
    assert (identity @ low.to_shape).std(0).sub(1).abs().max() < 0.3  # one deviation
    # Back in the model's own coefficients it is the same shape.
    torch.testing.assert_close(
        offsets(identity @ low.to_shape @ low.from_shape, model.identity_basis), kept, rtol=1e-3, atol=1e-3
    )
    for forth, back in ((low.to_shape, low.from_shape), (low.to_expression, low.from_expression)):
        torch.testing.assert_close(back @ forth, torch.eye(len(back)), rtol=0, atol=2e-4)


def test_labelled_parameters_project_to_the_landmarks(trained):
    faces = trained.source(5, 0, range(16))
    raw = trained.raw_parameters(faces)
    rotation, scale, translation = pose_of(raw)
    torch.testing.assert_close(rotation, faces.rotation, rtol=0, atol=1e-5)
    torch.testing.assert_close(scale, faces.scale, rtol=1e-5, atol=0)
    torch.testing.assert_close(translation, faces.translation, rtol=0, atol=1e-5)
    projected = trained.landmarks_of(trained.whitening.whitened(raw))[1][..., :2]
    assert (projected - faces.landmarks).norm(dim=-1).mean() < 0.6  # pixels that the modes left out move


def test_a_camera_matrix_that_is_no_rotation_becomes_one():
    torch.manual_seed(0)
    rotation, scale, _ = pose_of(torch.randn(20, 62))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(20, 3, 3), rtol=0, atol=1e-5)
    assert (torch.linalg.det(rotation) > 0.99).all() and (scale > 0).all()


# Schemes


def known_batch(method, error=0.0):
    """A batch whose second half carries the landmarks that its parameters project to, and its parameters."""
    labelled, wild, blank = method.batch(0, range(4), torch.device("cpu"))
    other = method.source(9, 0, range(4))
    q = [method.whitening.whitened(method.raw_parameters(f)) for f in (labelled, other)]
    wild.landmarks = method.landmarks_of(q[1])[1][..., :2] + error
    wild.visible = torch.ones(4, 68, dtype=torch.bool)
    return Batch(labelled, wild, blank), q


def losses(method, batch, first, second):
    network, method.network = method.network, FixedNetwork(first, second)
    method.critic.eval()
    try:
        return method("network", batch, 0, {}), method.network.shown
    finally:
        method.network = network


def test_with_true_parameters_every_consistency_is_zero(trained):
    batch, (labelled, wild) = known_batch(trained)
    parts, shown = losses(trained, batch, torch.cat([labelled, wild]), wild)
    for name in ("l3d_labelled", "l2d", "l3d", "cycle"):
        assert parts[name].abs() < 1e-6, name
    # The second pass was shown the first one's landmarks, all of them.
    points = eighteen_points(batch[1].landmarks)
    assert torch.equal(shown[1], landmark_channel(points, torch.ones(4, 18, dtype=torch.bool)))


def test_each_scheme_rises_with_its_own_error_and_no_other(trained):
    batch, (labelled, wild) = known_batch(trained)
    moved = wild.clone()
    moved[:, 3] += 6 / trained.parameter_std[3]  # t_x: 6 pixels
    wider = wild.clone()
    wider[:, 12] += 1
    first, _ = losses(trained, batch, torch.cat([labelled, moved]), wild)
    assert (
        first["l2d"].item() == pytest.approx((6 / trained.config.unit) ** 2, rel=1e-4)
        and first["cycle"] < 1e-6
        and first["l3d"] < 1e-6
    )
    second, _ = losses(trained, batch, torch.cat([labelled, wild]), moved)
    assert (
        second["cycle"].item() == pytest.approx((6 / trained.config.unit) ** 2, rel=1e-4)
        and second["l2d"] < 1e-6
        and second["l3d"] < 1e-6
    )
    third, _ = losses(trained, batch, torch.cat([labelled, wild]), wider)
    mm = trained.points(slice(0, 68)).shape[0].square().mean() * trained.parameter_std[12] ** 2
    assert third["l3d"].item() == pytest.approx(mm.item(), rel=1e-3) and third["l2d"] < 1e-6
    fourth, _ = losses(trained, batch, torch.cat([moved, wild]), wild)
    assert fourth["l3d_labelled"] > 1e-3


def test_points_count_by_their_weights_and_hidden_ones_not_at_all(trained):
    batch, (labelled, wild) = known_batch(trained)
    batch[1].landmarks[:, 30] += torch.tensor([12.0, 0.0])  # the nose, weight 4 of 30
    parts, _ = losses(trained, batch, torch.cat([labelled, wild]), wild)
    assert parts["l2d"].item() == pytest.approx(4 / sum(POINT_WEIGHTS) * (12 / trained.config.unit) ** 2, rel=1e-3)
    batch[1].landmarks[:, 30], batch[1].visible[:, 30] = float("nan"), False
    parts, _ = losses(trained, batch, torch.cat([labelled, wild]), wild)
    assert parts["l2d"].abs() < 1e-6 and parts["cycle"].abs() < 1e-6


@pytest.mark.parametrize("channel", ["hard", "soft"])
def test_the_cycle_reaches_the_first_pass_through_a_soft_channel_only(tmp_path, channel):
    method = DASL(small(tmp_path, stage1=0, channel=channel, schemes="cycle", blank=1.0)).eval()
    with torch.no_grad():
        method.network.head[-1].weight.normal_(std=0.02)
    batch = method.batch(0, range(2), torch.device("cpu"))
    passes = []
    method.network.register_forward_hook(lambda m, i, o: passes.append(o))
    cycle = method("network", batch, 0, {})["cycle"]
    first, second = torch.autograd.grad(cycle, passes, allow_unused=True)
    assert second.abs().max() > 0
    assert (first is None or first.abs().max() == 0) == (channel == "hard")


def test_the_loss_is_the_weighted_sum(trained):
    batch = trained.batch(3, range(4), torch.device("cpu"))
    torch.manual_seed(1)
    parts = trained("network", batch, 3, {})
    assert set(parts) == {"loss", "l3d_labelled", *SCHEMES}
    total = (
        parts["l3d_labelled"] + 0.005 * parts["l2d"] + 0.005 * parts["l3d"] + parts["cycle"] + 0.005 * parts["critic"]
    )
    torch.testing.assert_close(parts["loss"], total)


def test_critic_and_network_are_trained_in_turn(trained):
    groups = trained.parameter_groups()
    assert list(groups) == ["network", "critic"]
    assert {id(p) for p in groups["network"]}.isdisjoint({id(p) for p in groups["critic"]})
    batch, shared = trained.batch(0, range(4), torch.device("cpu")), {}
    trained("network", batch, 0, shared)
    loss = trained("critic", batch, 0, shared)["loss"]
    gradients = torch.autograd.grad(loss, [*groups["critic"], *groups["network"]], allow_unused=True)
    count = len(groups["critic"])
    assert all(g is not None for g in gradients[:count]) and all(g is None for g in gradients[count:])


def test_the_critic_is_given_the_parameters_of_the_same_step_and_the_method_keeps_no_state(trained):
    batch, shared = trained.batch(0, range(4), torch.device("cpu")), {}
    before = set(vars(trained))
    with torch.no_grad():
        trained("network", batch, 0, shared)
        q = trained.network(torch.cat([batch.labelled.image, batch.wild.image]), channel_of_first_pass(trained, batch))
        true = trained.whitening.whitened(trained.raw_parameters(batch.labelled))
        scores = trained.critic(batch.labelled.image, true), trained.critic(batch.wild.image, q[4:])
        loss = trained("critic", batch, 0, shared)["loss"]
    assert torch.equal(shared["parameters"], q[4:]) and set(vars(trained)) == before
    torch.testing.assert_close(loss, critic_loss(*scores))
    with pytest.raises(KeyError):
        trained("critic", batch, 0, {})


def channel_of_first_pass(method, batch):
    faces = [batch.labelled, batch.wild]
    points = torch.cat([eighteen_points(f.landmarks) for f in faces])
    visible = torch.cat([eighteen_points(f.visible[..., None].float())[..., 0] > 0.5 for f in faces])
    return landmark_channel(points, visible & ~batch.blank[:, None], form=method.config.channel)


def test_stage_1_sees_labelled_faces_alone(tmp_path):
    method = DASL(small(tmp_path, stage1=2))
    batch = method.batch(1, range(4), torch.device("cpu"))
    assert batch.wild is None and method.batch(2, range(4), torch.device("cpu")).wild is not None
    parts = method("network", batch, 1, {})
    assert set(parts) == {"loss", "l3d_labelled"}
    assert not method.is_active("critic", 1) and method.is_active("critic", 2) and method.is_active("network", 1)


def test_labels_in_three_dimensions_stay_out_of_the_faces_in_the_wild(trained):
    _, wild, _ = trained.batch(0, range(4), torch.device("cpu"))
    assert [k for k, v in vars(wild).items() if v is not None] == ["image", "landmarks", "visible"]


def test_labelled_faces_are_judged_by_the_wpdc(trained):
    labelled, _, blank = trained.batch(0, range(4), torch.device("cpu"))
    true = trained.whitening.whitened(trained.raw_parameters(labelled))
    q = true + 0.1
    network, trained.network = trained.network, FixedNetwork(q)
    try:
        got = trained("network", Batch(labelled, None, blank[:4]), 0, {})["loss"]
    finally:
        trained.network = network
    whole = wpdc_loss(q, true, trained.whitening, trained.points(slice(None)))
    assert 0.3 * whole < got < 3 * whole  # over 200 points instead of all


# Inference


def test_without_landmarks_the_first_pass_gives_those_of_the_second(trained):
    image = trained.source(1, 0, range(3)).image
    shown = []
    hook = trained.network.register_forward_pre_hook(lambda m, i: shown.append(i[1]))
    assert trained.predict(image).channel == "own first pass"
    hook.remove()
    assert len(shown) == 2 and (shown[0] == -1).all() and ((shown[1] == 1).flatten(1).sum(1) > 5).all()
    shown.clear()
    hook = trained.network.register_forward_pre_hook(lambda m, i: shown.append(i[1]))
    given = torch.full((3, 21, 2), float("nan"))
    given[:, 0] = torch.tensor([10.2, 20.8])
    prediction = trained.predict(image, given)
    hook.remove()
    assert prediction.channel == "given"
    assert len(shown) == 1 and (shown[0] == 1).nonzero()[:, 2:].tolist() == [[20, 10]] * 3
    found = prediction.parameters
    assert (
        found.landmarks.shape == (3, 68, 3) and found.identity.shape == (3, 100) and found.expression.shape == (3, 52)
    )


def test_the_prediction_is_one_face_for_the_model_and_for_the_picture(trained):
    """Coefficients, camera and landmarks that are given together agree."""
    image = trained.source(1, 0, range(3)).image
    p = trained.predict(image).parameters
    placed = p.pixels(trained.model.landmarks(trained.model.shape(p.identity, p.expression)))
    # The matrix is nearly a rotation and a scale.
    assert (placed - p.landmarks)[..., :2].norm(dim=-1).mean() < 4


# Training


def pictures(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        iio.imwrite(folder / f"{k}.png", rng.integers(0, 255, (90, 80, 3), dtype=np.uint8))
        np.savetxt(folder / f"{k}.txt", 20 + 40 * rng.random((68, 2)))
    return folder


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
    few = DASL(small(tmp_path / "run", wild=str(pictures(tmp_path / "few", 12)), held_out=12))
    with pytest.raises(InputError, match="12 pictures, of which 12 would be held out"):
        few.prepare_data()


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


def test_a_checkpoint_means_the_same_where_linear_algebra_finds_other_directions(trained, tmp_path, monkeypatch):
    """Eigenvectors have no sign of their own, and another machine's may point the other way."""
    checkpoint = save_checkpoint(tmp_path, 1, trained, {}, None, {}, 1, None)

    def turned(model, *counts):
        low = reduced(model, *counts)
        sign = -torch.ones(40)
        return low._replace(to_shape=low.to_shape * sign, from_shape=low.from_shape * sign[:, None])

    monkeypatch.setattr("facemodels.methods.dasl.method.reduced", turned)
    image = trained.source(1, 0, range(2)).image
    here, there = trained.predict(image), load_method(checkpoint).predict(image)
    assert torch.equal(here.raw, there.raw)
    for a, b in zip(here.parameters, there.parameters):
        assert a is b is None or torch.equal(a, b)


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
        ("blank=2", "blank in 0..1"),
        ("batch=1", "batch at least 2"),
        ("device=banana", "cpu, cuda or auto"),
        ("clip=-1", "clip must be at least 0"),
        ("labelled=/nowhere", "/nowhere"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, capsys, setting, sentence):
    assert main(["train", "dasl", "--preset", "smoke", "--set", f"output={tmp_path / 'run'}", "--set", setting]) == 1
    assert sentence in capsys.readouterr().err


def test_chin_and_ear_lobes_are_learnt_from_where_they_are_known(tmp_path):
    """l2d is 0 with labels of the model itself; it rises with a known lobe or the chin, not with a hidden one."""
    method = DASL(small(tmp_path, extra="true", schemes="l2d"))
    q = 0.3 * torch.randn(2, 62, generator=torch.Generator().manual_seed(3))
    method.initialize()
    _, y68 = method.landmarks_of(q)
    compared = method.compared_points(q, y68, torch.zeros(2, 21, 2))
    assert compared.shape == (2, 21, 2) and torch.equal(compared[:, 20], y68[:, 8, :2])
    _, at_rest = method.landmarks_of(torch.zeros(1, 62))
    mean = method.compared_points(torch.zeros(1, 62), at_rest, torch.zeros(1, 21, 2))[0, 18:20]
    assert mean[0, 0] < mean[1, 0]  # left in the picture first
    landmarks, visible = torch.zeros(2, 21, 2), torch.ones(2, 21, dtype=torch.bool)
    landmarks[:, [12, 16, 20]] = compared[:, 18:]
    visible[1, 12] = False
    others, known = method.lobes_and_chin(FaceBatch(torch.zeros(2, 3, 120, 120), landmarks, visible))
    assert torch.equal(others, compared[:, 18:]) and known.tolist() == [[True, True, True], [False, True, True]]


def test_all_68_landmarks_are_learnt_from_and_their_depth_where_it_is_known(tmp_path):
    """l2d is 0 with 68 landmarks of the model itself, whatever the origin of depth; it rises with one that moves in any
    direction, unless it is hidden."""
    method = DASL(small(tmp_path, extra="true", schemes="l2d", channel="hard")).eval()
    method.initialize()
    image = torch.rand(2, 3, 120, 120, generator=torch.Generator().manual_seed(4))
    labelled = method.source(0, 0, range(2))
    blank = torch.ones(4, dtype=torch.bool)

    def l2d(moved=(0, 0, 0), seen=True, depth=0.0):
        points = method.landmarks_of(
            method.network(image, landmark_channel(torch.zeros(2, 18, 2), torch.zeros(2, 18, dtype=torch.bool)))
        )[1].detach()
        points = points + torch.tensor([0, 0, depth])
        points[0, 3] += torch.tensor(moved, dtype=torch.float32)
        visible = torch.ones(2, 68, dtype=torch.bool)
        visible[0, 3] = seen
        wild = FaceBatch(image, points, visible)
        return method("network", Batch(labelled, wild, blank), 0, {})["l2d"].item()

    assert l2d() < 1e-8 and l2d(depth=500.0) < 1e-6
    for moved in ((5, 0, 0), (0, 5, 0), (0, 0, 5)):
        assert l2d(moved) > 1e-4 and l2d(moved, seen=False) < (1e-6 if moved[2] == 0 else 1e-4)


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


def test_distances_of_landmarks_may_weigh_as_they_are(tmp_path):
    """All landmarks are 5 pixels off: 5 / 12 units, or the square of that with `squared`."""
    values = {}
    for squared in ("true", "false"):
        method = DASL(small(tmp_path / squared, schemes="l2d", squared=squared, trunk="light")).eval()
        method.initialize()
        batch = method.batch(5, range(4), torch.device("cpu"))
        with torch.no_grad():
            q = method.network(
                torch.cat([batch.labelled.image, batch.wild.image]),
                landmark_channel(torch.zeros(8, 18, 2), torch.zeros(8, 18, dtype=torch.bool)),
            )
            seen = method.landmarks_of(q[4:])[1]
        wild = FaceBatch(
            batch.wild.image, seen[..., :2] + torch.tensor([3.0, 4.0]), torch.ones(4, 68, dtype=torch.bool)
        )
        values[squared] = method.forward(
            "network", Batch(batch.labelled, wild, torch.ones(8, dtype=torch.bool)), 5, {}
        )["l2d"].item()
    assert values["true"] == pytest.approx(25 / 144, rel=1e-3) and values["false"] == pytest.approx(5 / 12, rel=1e-3)


def test_a_prior_weighs_the_shapes_of_pictures_in_the_wild_alone(tmp_path):
    plain = DASL(small(tmp_path / "a", schemes="cycle"))
    held = DASL(small(tmp_path / "b", schemes="cycle", weight_prior="2"))
    held.load_state_dict(plain.state_dict())
    batch = plain.eval().batch(5, range(4), torch.device("cpu"))
    before, after = plain.forward("network", batch, 5, {}), held.eval().forward("network", batch, 5, {})
    assert "prior" not in before and after["prior"] > 0
    assert torch.allclose(after["loss"], before["loss"] + 2 * after["prior"], rtol=1e-5)


def test_views_of_a_picture_agree_where_a_teacher_makes_no_mistakes():
    """The teacher finds the centers of two spots, the left one for the left half of the 68 points: every view gives the
    same points."""
    ys, xs = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    spots = torch.tensor([[35.0, 40.0], [58.0, 52.0]])
    image = sum((-((xs - x) ** 2 + (ys - y) ** 2) / 8).exp() for x, y in spots).expand(1, 3, 96, 96)
    partners = torch.tensor(mirror_order(68))
    side = torch.where(partners > torch.arange(68), 0, 1)
    depth = torch.minimum(partners, torch.arange(68)).float()[:, None] / 4

    def landmarks(image):
        half = (image[:, 0] * xs).sum((1, 2), keepdim=True) / image[:, 0].sum((1, 2), keepdim=True)
        found = []
        for mask in (xs < half, xs >= half):
            weights = image[:, 0] * mask
            found.append(torch.stack([(weights * c).sum((1, 2)) / weights.sum((1, 2)) for c in (xs, ys)], -1))
        found = torch.stack(found, 1)
        apart = (found[:, 1] - found[:, 0]).norm(dim=1)[:, None, None] / (
            spots[1] - spots[0]
        ).norm()  # nearer heads are deeper
        return torch.cat([found[:, side], apart * depth], -1)

    expected = torch.cat([spots[side], depth - depth.mean()], 1)
    expected[partners == torch.arange(68)] = torch.nan
    method = SimpleNamespace(size=96, landmarks=landmarks)
    for view in VIEWS:
        error = predict_in_view(method, image, view)[0] - expected
        assert error[error.isfinite()].abs().max() < 0.05, view


def test_a_teachers_landmarks_are_written_and_learnt_from(tmp_path, capsys):
    """Where a teacher hits the labels of photographs, its landmarks replace those of the ones that are trained on; the
    held-out ones keep theirs."""
    source = DASL(small(tmp_path / "any")).source(5, 0, range(12))
    for k in range(12):
        iio.imwrite(tmp_path / f"{k:02}.png", (source.image[k] * 255).byte().permute(1, 2, 0).numpy())
        np.savetxt(tmp_path / f"{k:02}.txt", source.landmarks[k].numpy())
    faces = photographs(tmp_path)
    teacher = load_method("dasl")
    landmarks, off = predict_landmarks(teacher, faces, worst=1000.0)
    with torch.no_grad():
        assert torch.allclose(landmarks, center_depth(teacher.landmarks(faces.image.float() / 255)), atol=1e-3)
    middle = off.median().item()
    assert (
        predict_landmarks(teacher, faces, worst=middle)[0].isnan().all(-1).all(-1).tolist() == (off > middle).tolist()
    )
    file = tmp_path / "seen.npz"
    assert teacher_command(["dasl", str(tmp_path), "-o", str(file), "--worst", str(middle), "--views", "1"]) == 0
    assert f"{int((off <= middle).sum())} of 12 photographs" in capsys.readouterr().out
    method = DASL(small(tmp_path / "run", wild=str(tmp_path), teacher=str(file), extra="true", held_out=4, profiles=2))
    method.prepare_data()
    assert torch.equal(
        method.held.landmarks,
        faces[torch.randperm(12, generator=torch.Generator().manual_seed(HELD_OUT))[:4]].landmarks,
    )
    taken = method.wild.faces.landmarks[method.wild.places]
    assert taken.shape[1:] == (68, 3) and taken.isfinite().all() and "nme_taught_percent" in method.validate("cpu")
    seen = torch.where((off <= middle)[:, None, None], landmarks, torch.nan)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(HELD_OUT))
    torch.testing.assert_close(method.wild.faces.landmarks, seen, equal_nan=True)
    torch.testing.assert_close(method.held_taught, seen[order[:4]], equal_nan=True)
    assert {*method.wild.places.tolist()} == {k for k in order[4:].tolist() if off[k] <= middle}
    landmarks[order[5:], 7, 2] = torch.nan  # a picture of which something is not known is not learnt from
    landmarks[order[4]] = torch.nan
    write_teacher_labels(file, landmarks, faces)
    assert read_teacher_labels(file, faces).isnan().flatten(1).all(1).sum() == 8
    with pytest.raises(InputError, match="seen.npz: holds no landmarks of the photographs that are trained on"):
        method.prepare_data()
    (tmp_path / "less").mkdir()
    for k in range(11):
        for name in (f"{k:02}.png", f"{k:02}.txt"):
            (tmp_path / "less" / name).write_bytes((tmp_path / name).read_bytes())
    other = DASL(small(tmp_path / "other", wild=str(tmp_path / "less"), teacher=str(file), extra="true", held_out=4))
    with pytest.raises(InputError, match="seen.npz: .*a file made of 12 others; make it anew"):
        other.prepare_data()
    with pytest.raises(InputError, match="give wild=PATH and extra=true"):
        small(tmp_path, teacher=str(file))
    with pytest.raises(InputError, match="give one of them with it, got schemes=l3d"):
        small(tmp_path, teacher=str(file), extra="true", wild=str(tmp_path), schemes="l3d")
    assert teacher_command(["dasl", str(tmp_path), "-o", str(file), "--worst", "0"]) == 1
    assert "a higher --worst" in capsys.readouterr().err
