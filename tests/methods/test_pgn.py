"""PGN: pose from landmarks, consistency of frames of one person, and training from scratch."""

import json
import math

import pytest
import torch
from torch import nn

import facerender as fr
from facemodels import InputError
from facemodels.cli.main import main
from facemodels.core.parameters import flip_y
from facemodels.data.synthetic import Synthetic
from facemodels.methods.pgn import PGN, PRESETS, HeadPose, Heads, Network, PGNConfig, reproject, vertex_uv
from facemodels.methods.pgn.pose import labeled_pose, pose_targets
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured
from facemodels.training.loop import train


def small(folder, **changes):
    return configured(PGNConfig, PRESETS["smoke"] | {"output": str(folder), "device": "cpu", "stage1": 0} | changes)


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    return PGN(small(tmp_path_factory.mktemp("run"))).eval()


@pytest.fixture(scope="module")
def regressing(tmp_path_factory):
    return PGN(small(tmp_path_factory.mktemp("run"), pose="regressed", landmarks="direct")).eval()


def true_heads(method, faces) -> Heads:
    """What a perfect network would predict."""
    posed = method.labeled_points(faces)[1] / method.size
    pose = pose_targets(faces, method.size)
    points = posed if method.network.direct is None else posed[:, :68]
    return Heads(
        faces.identity.clone(),
        faces.expression.clone(),
        points.clone(),
        pose.clone() if method.network.pose is not None else None,
    )


class FixedNetwork(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, image):
        return self.heads


def losses(method, batch, *heads):
    joined = Heads(*(None if h[0] is None else torch.cat(h) for h in zip(*heads)))
    network, method.network = method.network, FixedNetwork(joined)
    try:
        return method("network", batch, 0, {})
    finally:
        method.network = network


def known(method):
    """A batch, and the true outputs of the network for its labeled faces and its frames."""
    labeled = method.source(0, 0, range(4))
    pairs = method.groups(1, 0, range(2))
    return (labeled, pairs), true_heads(method, labeled), true_heads(method, pairs)


# --- pose


def test_a_known_pose_is_found_again(method):
    """To 1e-6, in float64, from the landmarks that it gives."""
    faces = method.source(3, 0, range(8))
    shape = method.face_points(faces.identity, faces.expression).double()
    true = HeadPose(*(part.double() for part in labeled_pose(faces)))
    rotation = torch.linalg.svd(true.rotation)
    true = true._replace(rotation=rotation[0] @ rotation[2])
    found = method.pose(shape, Heads(None, None, true(shape) / method.size, None))
    for a, b in zip(found, true):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_pose_has_the_gradient_of_the_landmarks(method):
    shape = method.face_points(*(torch.zeros(1, k) for k in (method.model.num_identity, method.model.num_expression)))[
        :, :68
    ].double()
    points = torch.rand(1, 68, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    start = (shape / 200 + 0.1 * points).detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: tuple(method.pose(shape, Heads(None, None, p, None))), (start,), atol=1e-4, rtol=1e-4
    )


def test_degenerate_landmarks_give_a_finite_pose_and_gradient(method):
    """All in one place, or on a line: finite pose, finite gradients."""
    shape = method.face_points(torch.zeros(2, method.model.num_identity), torch.zeros(2, method.model.num_expression))
    line = torch.linspace(0, 1, 68)[:, None] * torch.tensor([1.0, 0.5, 0.2])
    points = torch.stack([torch.full((68, 3), 0.5), line]).requires_grad_()
    pose = method.pose(shape, Heads(None, None, points, None))
    sum(part.sum() for part in pose).backward()
    assert all(torch.isfinite(part).all() for part in pose) and torch.isfinite(points.grad).all()
    assert (torch.linalg.det(pose.rotation) > 0.99).all()


def test_a_regressed_pose_is_a_rotation_and_begins_upright(regressing):
    torch.manual_seed(0)
    shape = torch.zeros(3, 68, 3)
    numbers = torch.randn(3, 9)
    pose = regressing.pose(shape, Heads(None, None, torch.zeros(3, 68, 3), numbers))
    torch.testing.assert_close(pose.rotation @ pose.rotation.mT, torch.eye(3).expand(3, 3, 3), rtol=0, atol=1e-5)
    assert (torch.linalg.det(pose.rotation) > 0.99).all()
    begun = regressing.pose(shape[:1], regressing.network(torch.rand(1, 3, 112, 112)))
    torch.testing.assert_close(begun.rotation[0], torch.eye(3), rtol=0, atol=0.1)


# --- network


def test_points_are_read_at_their_coordinates_in_the_map(method):
    """A map that holds its own coordinates gives each point its texture coordinates."""
    network = method.network
    ramp = (torch.arange(32) + 0.5) / 32
    places = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32)])[None]

    class Ramp(nn.Module):
        def forward(self, top):
            return places.expand(len(top), -1, -1, -1)

    own, network.map = network.map, Ramp()
    try:
        points = network(torch.rand(2, 3, 112, 112)).points - network.mean_points
    finally:
        network.map = own
    torch.testing.assert_close(points[0, :, :2], network.uv, rtol=0, atol=1e-3)
    assert network.uv.min() >= 0 and network.uv.max() <= 1


def test_the_faces_texture_coordinates_fill_the_map(method):
    uv = vertex_uv(method.model)[method.model.regions["face"]]
    torch.testing.assert_close(uv.amin(0), torch.full((2,), 0.05), rtol=0, atol=1e-4)
    torch.testing.assert_close(uv.amax(0), torch.full((2,), 0.95), rtol=0, atol=1e-4)


@pytest.mark.parametrize("landmarks", ["map", "direct"])
def test_a_new_network_predicts_the_mean_face_looking_at_the_camera(tmp_path, landmarks):
    method = PGN(configured(PGNConfig, PRESETS["smoke"] | {"output": str(tmp_path), "landmarks": landmarks})).eval()
    p = method.reconstruct(torch.rand(2, 3, 112, 112))
    assert torch.allclose(p.rotation, torch.eye(3).expand(2, 3, 3), atol=0.02)
    assert torch.allclose(p.scale, torch.full((2,), 112 * math.exp(1.6) / 1000), rtol=0.02)


@pytest.mark.parametrize("trunk", ["light", "resnet50"])
@pytest.mark.parametrize("uv", [None, torch.rand(70, 2)])
def test_the_heads_have_their_shapes(trunk, uv):
    mean_points = torch.rand(68 if uv is None else 70, 3)
    network = Network(trunk, 5, 4, uv, mean_points, True)
    heads = network(torch.rand(2, 3, network.size, network.size))
    assert heads.identity.shape == (2, 5) and heads.expression.shape == (2, 4) and heads.pose.shape == (2, 9)
    assert heads.points.shape == (2, 68 if uv is None else 70, 3)


# --- losses


@pytest.mark.parametrize("name", ["method", "regressing"])
def test_with_the_truth_in_place_of_the_network_all_losses_are_zero(name, request):
    method = request.getfixturevalue(name)
    batch, labeled, pairs = known(method)
    parts = losses(method, batch, labeled, pairs)
    for key in {"landmarks", "coefficients", "vertices", "2d", "identity", "swap"} | (
        {"pose"} if name == "regressing" else set()
    ):
        assert parts[key].abs() < 1e-4, key


def changed(heads, **parts):
    return heads._replace(**{k: getattr(heads, k) + v for k, v in parts.items()})


def test_each_loss_rises_with_its_own_error(method):
    batch, labeled, pairs = known(method)
    right = losses(method, batch, labeled, pairs)
    some = torch.zeros(4, method.model.num_identity)
    some[0, :10] = 1.0
    wrong = {
        "landmarks": losses(method, batch, changed(labeled, points=0.02 * torch.randn(labeled.points.shape)), pairs),
        "coefficients": losses(method, batch, changed(labeled, identity=some), pairs),
        "vertices": losses(method, batch, changed(labeled, identity=some), pairs),
        "identity": losses(method, batch, labeled, changed(pairs, identity=some)),
        "swap": losses(method, batch, labeled, changed(pairs, identity=some)),
        "2d": losses(method, batch, labeled, changed(pairs, points=0.02 * torch.randn(pairs.points.shape))),
        "census": losses(
            method,
            batch,
            labeled,
            changed(pairs, points=torch.tensor([0.03, 0.03, 0.0]) * torch.tensor([1.0, -1.0]).repeat(2)[:, None, None]),
        ),
    }
    for key, parts in wrong.items():
        assert parts[key] > right[key] + (0.02 if key == "census" else 1e-3), key
    # The other losses stay.
    assert wrong["identity"]["landmarks"].abs() < 1e-4 and wrong["identity"]["coefficients"].abs() < 1e-4
    assert wrong["landmarks"]["identity"].abs() < 1e-6 and wrong["landmarks"]["coefficients"].abs() < 1e-4


def test_gradients_go_where_they_should(method):
    batch, labeled, pairs = known(method)
    reached = {}
    for key in ("identity", "swap", "2d", "census", "probable"):
        heads = Heads(*(None if h is None else (h + 0.01 * torch.randn_like(h)).requires_grad_() for h in pairs))
        parts = losses(method, batch, labeled, heads)
        gradients = torch.autograd.grad(parts[key], heads[:3], allow_unused=True)
        reached[key] = [g is not None and bool(g.abs().max() > 0) for g in gradients]  # identity, expression, points
    assert reached["identity"] == [True, False, False] and reached["probable"] == [True, True, False]
    assert reached["swap"] == reached["2d"] == reached["census"] == [True, True, True]


def test_a_guided_pose_teaches_the_landmarks_and_a_regressed_one_does_not(method, regressing):
    for m in (method, regressing):
        batch, labeled, pairs = known(m)
        heads = Heads(*(None if h is None else (h + 0.01 * torch.randn_like(h)).requires_grad_() for h in labeled))
        (gradient,) = torch.autograd.grad(losses(m, batch, heads, pairs)["vertices"], [heads.points], allow_unused=True)
        assert (gradient is not None) == (m is method)


# --- appearance


def test_a_picture_reprojected_to_its_own_face_is_itself(method):
    faces = method.groups(5, 0, range(2))
    image = faces.image.permute(0, 2, 3, 1).contiguous()
    place = labeled_pose(faces)(method.model.shape(faces.identity, faces.expression))
    new, both = reproject(image, place, place, method.face_topology)
    assert both.mean() > 0.1
    assert ((new - image).abs().amax(-1) * both).max() < 0.05
    moved = place + torch.tensor([8.0, -5.0, 30.0])
    new, both = reproject(image, place, moved, method.face_topology)
    shifted = torch.roll(image, (5, 8), (1, 2))
    inside = both[:, 10:-10, 10:-10]
    assert (((new - shifted).abs().amax(-1))[:, 10:-10, 10:-10] * inside).max() < 0.05 and inside.mean() > 0.1


def test_surface_hidden_in_one_frame_is_not_compared(method):
    """From one profile to the other hardly anything is visible in both."""
    m = method.model
    vertices = m.mean[None]

    def yawed(degrees):
        rotation = fr.camera.euler_rotation(torch.tensor([[0.0, degrees, 0.0]]) * torch.pi / 180)
        return HeadPose(torch.tensor([0.5]), rotation, torch.tensor([[56.0, 56.0, 0.0]]))(vertices)

    image = torch.rand(1, 112, 112, 3)
    near, far, farther = (
        reproject(image, yawed(a), yawed(b), method.face_topology)[1].sum() for a, b in ((0, 10), (70, -70), (-80, 80))
    )
    assert near > 1500 and far < 0.2 * near and farther < 0.15 * near


# --- training


def test_predictions_agree_with_each_other(method):
    image = method.source(1, 0, range(3)).image
    p, pose, head_landmarks = method.predict(image)
    landmarks = method.model.landmarks(method.model.shape(p.identity, p.expression))
    torch.testing.assert_close(p.pixels(landmarks)[..., :2], p.landmarks[..., :2], rtol=0, atol=0.05)
    torch.testing.assert_close(flip_y(pose(landmarks), method.size), p.landmarks, rtol=0, atol=0.05)
    assert head_landmarks.shape == (3, 68, 3) and torch.equal(method.landmarks(image), p.landmarks)


def test_validation_replaces_one_set_of_parameters_at_a_time(method):
    """With the truth predicted, all errors are zero; the mean face's error is that of nothing."""
    results = {k: float(v) for k, v in method.validate(torch.device("cpu")).items()}
    assert results["dense_nme_true_pose_percent"] < 0.5 * results["dense_nme_percent"]
    assert results["neutral_mm"] == pytest.approx(results["neutral_of_mean_face_mm"], rel=0.05)
    assert 2 < results["neutral_of_mean_face_mm"] < 5


@pytest.mark.parametrize("changes", [{}, {"pose": "regressed"}, {"landmarks": "direct"}])
def test_smoke_training_from_scratch(tmp_path, changes):
    out = tmp_path / "run"
    settings = [word for k, v in ({"cache": 16} | changes).items() for word in ("--set", f"{k}={v}")]
    assert main(["train", "pgn", "--preset", "smoke", "--set", f"output={out}", "--set", "device=cpu", *settings]) == 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 12 and "validation_dense_nme_percent" in lines[-1]
    assert "census" not in lines[0] and "census" in lines[-2]  # stage 1, stage 2
    assert list((out / "panels").glob("*.png")) and checkpoints(out / "checkpoints")


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    kinds = dict(steps=3, batch=2, stage1=1, held_out=2, checkpoint_every=1, validate_every=3)
    uninterrupted = train(PGN, small(tmp_path / "uninterrupted", **kinds))

    class Killed(Exception):
        pass

    def kill(step):
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        train(PGN, small(tmp_path / "killed", **kinds), after_step=kill)
    resumed = train(PGN, small(tmp_path / "killed", **kinds), resume="auto")
    for key, value in uninterrupted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("trunk=vgg", "resnet50 or light"),
        ("pose=solved", "guided or regressed"),
        ("batch=3", "batch must be even"),
        ("frames=/nowhere", "/nowhere"),
    ],
)
def test_invalid_settings_are_named(tmp_path, capsys, setting, sentence):
    assert main(["train", "pgn", "--preset", "smoke", "--set", f"output={tmp_path / 'run'}", "--set", setting]) == 1
    assert sentence in capsys.readouterr().err


def test_a_model_without_texture_coordinates_needs_the_direct_head(tmp_path, monkeypatch):
    from facemodels import load_model

    model = load_model("builtin")
    model.uv = None
    monkeypatch.setattr("facemodels.methods.face_method.load_model", lambda name: model)
    with pytest.raises(InputError, match="landmarks=direct does without"):
        PGN(small(tmp_path))


@pytest.mark.parametrize("wrong", [{"frames": "nowhere"}, {"labelled": "nowhere"}])
def test_a_wrong_path_is_refused_before_anything_is_rendered(tmp_path, monkeypatch, wrong):
    def fail(*arguments):
        raise AssertionError("rendered")

    monkeypatch.setattr(Synthetic, "__call__", fail)
    with pytest.raises(InputError, match="nowhere"):
        train(PGN, small(tmp_path / "run", cache=64, stage1=4, **wrong))
