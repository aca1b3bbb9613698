"""The network: a branch for each property, and running statistics that composed pictures do not update."""

import pytest
import torch

from facemodels.data import FaceBatch
from facemodels.methods.cycle import CYCLES, Network
from facemodels.methods.cycle.network import pose_from_numbers
from facemodels.networks.norm import frozen_bn_stats
from tests.methods.cycle.common import small

BRANCHES = {
    "identity": "identity",
    "expression": "expression",
    "rotation": "pose",
    "scale": "pose",
    "translation": "pose",
    "albedo": "texture",
    "light": "texture",
}


@pytest.mark.parametrize("trunk", ["light", "resnet50"])
@pytest.mark.parametrize("separate", [False, True])
def test_predictions_have_their_shapes(trunk, separate):
    network = Network(trunk, separate, (5, 4, 3), True).eval()
    predicted = network(torch.rand(2, 3, network.size, network.size))
    shapes = {
        "identity": (2, 5),
        "expression": (2, 4),
        "rotation": (2, 3, 3),
        "scale": (2,),
        "translation": (2, 2),
        "albedo": (2, 3),
        "light": (2, 9, 3),
    }
    assert {k: tuple(v.shape) for k, v in predicted._asdict().items()} == shapes


@pytest.mark.parametrize("separate", [False, True])
def test_each_property_has_a_branch_of_its_own(separate):
    network = Network("light", separate, (5, 4, 3), True).eval()
    predicted = network(torch.rand(2, 3, network.size, network.size))
    for field, branch in BRANCHES.items():
        network.zero_grad()
        getattr(predicted, field).square().sum().backward(retain_graph=True)
        touched = {
            name
            for name, part in network.branches.items()
            if any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
        }
        assert touched == {branch}
        assert separate or any(p.grad.abs().max() > 0 for p in network.shared.parameters())


@pytest.mark.parametrize("separate", [False, True])
def test_a_new_network_predicts_an_upright_head_without_expression(separate):
    network = Network("light", separate, (5, 4, 3), True).eval()
    predicted = network(torch.rand(2, 3, network.size, network.size))
    torch.testing.assert_close(predicted.rotation, torch.eye(3).expand(2, 3, 3), rtol=0, atol=0.1)
    assert predicted.expression.min() > 0 and predicted.expression.max() < 0.1


def test_predicted_rotations_are_rotations():
    rotation = pose_from_numbers(torch.randn(6, 9), 112).rotation
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(6, 3, 3), rtol=0, atol=1e-5)
    assert (torch.linalg.det(rotation) > 0.99).all()


def running_statistics(module):
    return {k: v.clone() for k, v in module.state_dict().items() if "running" in k}


def test_frozen_statistics_are_not_updated():
    network = Network("light", False, (5, 4, 3), True).train()
    before = running_statistics(network)
    with frozen_bn_stats(network):
        network(torch.rand(4, 3, 112, 112))
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())
    network(torch.rand(4, 3, 112, 112))
    assert not any(torch.equal(v, network.state_dict()[k]) for k, v in before.items())


def test_a_step_with_cycles_updates_statistics_by_the_frames_alone(method, labeled):
    batch = FaceBatch(*(v.repeat_interleave(2, 0) for v in (labeled[0].image, labeled[0].landmarks)))
    start = {k: v.clone() for k, v in method.state_dict().items()}
    config, after = method.config, []
    for cycles in ((), CYCLES):
        method.load_state_dict(start)
        method.config = small(config.output, cycles=cycles)
        method.train()("network", batch, 0, {})
        after.append(running_statistics(method))
    method.config = config
    method.eval().load_state_dict(start)
    for k, value in after[0].items():
        assert torch.equal(value, after[1][k]) and not torch.equal(value, start[k]), k
