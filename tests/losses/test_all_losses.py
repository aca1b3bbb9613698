"""What holds for every loss: gradients, precision, compilation, empty batches, shapes."""

import pytest
import torch

from tests.losses.cases import (
    NAMES,
    N,
    cases,
    value_and_gradients,
)


@pytest.mark.parametrize(
    "name", [n for n in NAMES if n != "wpdc"]
)  # whose weights carry no gradient: a test of its own holds them
def test_gradients_are_those_of_finite_differences(name):
    loss, tensors, count = cases()[name]
    leaves = [t.clone().requires_grad_() for t in tensors[:count]]
    assert torch.autograd.gradcheck(lambda *x: loss(*x, *tensors[count:]), leaves, eps=1e-6, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_float32_agrees_with_float64_on_the_device(name, device):
    loss, tensors, count = cases(device, torch.float32)[name]
    want, goal = value_and_gradients(*cases()[name])
    got, gradients = value_and_gradients(loss, tensors, count)
    assert got.dtype == torch.float32 and got.shape == ()
    torch.testing.assert_close(got.double().cpu(), want, rtol=2e-5, atol=1e-6)
    for g, w in zip(gradients, goal):
        torch.testing.assert_close(g.double().cpu(), w, rtol=1e-3, atol=1e-5 * (1 + w.abs().max().item()))


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing_and_half_precision_is_summed_in_float32(name, device):
    loss, tensors, count = cases(device, torch.float32)[name]
    want, goal = value_and_gradients(loss, tensors, count)
    got, gradients = value_and_gradients(loss, tensors, count, autocast=True)
    assert torch.equal(got, want) and all(torch.equal(g, w) for g, w in zip(gradients, goal))
    if name in (
        "face crop",
        "perceptual",
        "projected",
        "vdc",
        "wpdc",
    ):  # the test's own arithmetic around these would be rounded
        return
    short = [t.bfloat16() for t in tensors]
    got = loss(*short)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, loss(*[t.float() for t in short]), rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_compiles_to_one_graph_without_reading_a_value(name):
    """aot_eager traces forward and backward with tensors without data: reading a value of theirs fails."""
    torch._dynamo.reset()
    loss, tensors, count = cases(dtype=torch.float32)[name]
    want, goal = value_and_gradients(loss, tensors, count)
    got, gradients = value_and_gradients(torch.compile(loss, fullgraph=True, backend="aot_eager"), tensors, count)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    for g, w in zip(gradients, goal):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("face crop", "projected")])
def test_equal_prediction_and_target_give_a_finite_value_and_gradient(name):
    loss, tensors, count = cases(dtype=torch.float32)[name]
    if len(tensors) > 1 and tensors[0].shape == tensors[1].shape:
        tensors = (tensors[0], tensors[0].clone(), *tensors[2:])
    value, gradients = value_and_gradients(loss, tensors, count)
    assert value.isfinite() and all(g.isfinite().all() for g in gradients)
    floor = {"photometric": 1e-3, "census": 0.01**0.4 / 2}.get(name, 0)
    if not name.startswith(("critic", "adversarial", "gamma", "reflectance", "coefficients")):
        assert abs(value.item() - floor) < 2e-6
        assert name == "rotation angle" or all(
            g.abs().max() < 1e-3 for g in gradients
        )  # an angle's slope is 1 as near to zero as it can be told from it


@pytest.mark.parametrize(
    "name",
    [n for n in NAMES if n not in ("landmark, 68", "gram", "reflectance", "face crop", "projected", "rotation angle")],
)
def test_an_empty_batch_costs_nothing(name):
    loss, tensors, count = cases(dtype=torch.float32)[name]
    empty = [t if len(t) != N or name == "vertex" and k == 2 else t[:0] for k, t in enumerate(tensors)]
    assert loss(*empty).item() == 0


@pytest.mark.parametrize("name", ["landmark", "wing", "photometric", "census", "pdc", "vdc", "wpdc", "vertex", "gram"])
def test_shapes_that_would_broadcast_are_refused_with_both_named(name):
    loss, tensors, _ = cases()[name]
    with pytest.raises(ValueError, match=r"shapes must be equal, got .*\[3, .*\[1, "):
        loss(tensors[0], tensors[1][:1], *tensors[2:])
