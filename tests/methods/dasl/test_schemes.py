"""2DASL: the four schemes on known parameters."""

import pytest
import torch

from facemodels.core.landmarks import (
    eighteen_points,
)
from facemodels.data import FaceBatch
from facemodels.losses import critic_loss, wpdc_loss
from facemodels.methods.dasl import (
    DASL,
    POINT_WEIGHTS,
    SCHEMES,
    Batch,
    landmark_channel,
)
from tests.methods.dasl.common import FixedNetwork, small


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


def test_chin_and_ear_lobes_are_learned_from_where_they_are_known(tmp_path):
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


def test_all_68_landmarks_are_learned_from_and_their_depth_where_it_is_known(tmp_path):
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
