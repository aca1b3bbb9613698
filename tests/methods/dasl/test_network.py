"""2DASL: the published layers, the 18 points and the landmark channel."""

import numpy as np
import pytest
import torch
from torch import nn

from facemodels import InputError
from facemodels.core.landmarks import (
    EIGHTEEN,
    EIGHTEEN_OF_AFLW,
    NAMES,
    eighteen_points,
)
from facemodels.methods.dasl import (
    POINT_WEIGHTS,
    Critic,
    Network,
    landmark_channel,
)


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
