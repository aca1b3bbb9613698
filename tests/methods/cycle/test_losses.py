"""The losses of single frames, of pairs and of the cycles."""

import pytest
import torch
import torch.nn.functional as F

from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.methods.cycle import CYCLES, VARIED, inject
from tests.methods.cycle.common import ERRORS, FIELDS, cycle_losses, losses, with_error


@pytest.mark.parametrize("cycle", CYCLES)
def test_losses_of_the_truth_are_zero(method, labeled, cycle):
    batch, truth = labeled
    target = inject(cycle, *truth.pairs())[1]
    parts = cycle_losses(method, batch, truth, cycle, target)
    for key in {"landmarks", "pair", f"{cycle}_variation", f"{cycle}_kept"} | (
        {"expression_kept_pose"} if cycle == "expression" else set()
    ):
        assert parts[key].abs() < 1e-6, key
    assert parts["photometric"] < 0.003 and parts[f"{cycle}_picture"] < 0.003  # the square root of its epsilon is 0.001
    assert parts["photometric"] > 0.00099 and torch.isfinite(parts["loss"])


def repeated(labeled):
    batch, truth = labeled
    batch = FaceBatch(torch.cat([batch.image] * 4), torch.cat([batch.landmarks] * 4))
    return batch, truth.map(lambda v: torch.cat([v] * 4))


@pytest.fixture
def resize(method):
    """`Cycle.resize_variation` with a given `variation_mm`."""

    def call(variation_mm, first, second, seed=0):
        method.config.variation_mm = variation_mm
        return method.resize_variation(first, second, seed)

    yield call
    method.config.variation_mm = 0.0


def test_variations_of_expression_get_a_random_size_about_variation_mm(method, labeled, resize):
    """In their own direction, half to one and a half times the size, another one for each pair and seed."""
    truth = repeated(labeled)[1]
    first, second = truth._replace(expression=0.4 + 0.2 * truth.expression).pairs()
    resized = [resize(0.6, first, second, seed) for seed in (1, 2)]
    sizes = [method.expression_mm(first.expression, r.expression) for r in resized]
    assert all((0.3 <= s).all() and (s <= 0.9).all() and s.std() > 0.05 for s in sizes) and not torch.equal(*sizes)
    directions = [F.normalize(p.expression - first.expression, dim=1) for p in (second, *resized)]
    torch.testing.assert_close(directions[0], directions[1], rtol=0, atol=1e-3)
    torch.testing.assert_close(directions[0], directions[2], rtol=0, atol=1e-3)


def test_resized_variations_stay_in_the_range_of_expressions_and_below_30_times(method, labeled, resize):
    truth = repeated(labeled)[1]
    first, second = truth._replace(expression=0.4 + 0.2 * truth.expression).pairs()
    expression = resize(500.0, first, second).expression
    assert 0 <= expression.min() and expression.max() <= 1
    assert resize(500.0, first, first).expression.equal(first.expression), "no direction"
    tiny = second._replace(expression=first.expression + 1e-5 * second.expression)
    assert method.expression_mm(first.expression, resize(500.0, first, tiny).expression).max() < 0.1


def test_the_predicted_size_of_a_variation_has_no_gradient(labeled, resize):
    """Or the network would learn to predict smaller variations."""
    truth = repeated(labeled)[1]
    first, second = truth._replace(expression=0.4 + 0.2 * truth.expression).pairs()
    factor = torch.ones((), requires_grad=True)
    scaled = first.expression + factor * (second.expression - first.expression)
    resized = resize(0.3, first, second._replace(expression=scaled), 1)
    size = (resized.expression - first.expression).square().sum()
    assert abs(torch.autograd.grad(size, factor)[0]) < 1e-4 * size


def test_losses_of_a_resized_variation_are_zero_for_the_truth(method, labeled, resize):
    batch, truth = repeated(labeled)
    first, second = truth.pairs()
    target = inject("expression", first, resize(0.8, first, second, seed_of(0, 0)))[1]
    assert target.expression.sub(second.expression).abs().max() > 0.01
    parts = cycle_losses(method, batch, truth, "expression", target, variation_mm=0.8)
    for key in ("expression_variation", "expression_kept", "expression_kept_pose"):
        assert parts[key].abs() < 1e-6, key
    assert parts["expression_picture"] < 0.003


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize("field", FIELDS)
def test_a_cycle_shows_every_error_of_the_extracted_properties(method, labeled, cycle, field):
    """In the reversed picture and in the term of that property, and in no other term."""
    batch, truth = labeled
    target = inject(cycle, *truth.pairs())[1]
    parts = cycle_losses(method, batch, truth, cycle, with_error(target, field))
    assert parts[f"{cycle}_picture"] > 0.006
    pose = field in VARIED["pose"]
    rises = "variation" if field in VARIED[cycle] else "kept_pose" if pose else "kept"
    for key in {"variation", "kept", "kept_pose"} & {k.removeprefix(f"{cycle}_") for k in parts}:
        value = parts[f"{cycle}_{key}"]
        assert value > 1e-3 if key == rises else value.abs() < 1e-6, key


@pytest.mark.parametrize("field", FIELDS)
def test_a_frame_shows_every_error(method, labeled, field):
    batch, truth = labeled
    parts = losses(method, batch, with_error(truth, field), cycles=())
    assert parts["photometric"] > 0.006
    assert (parts["landmarks"] > 0.1) == (field in ("identity", "expression", "rotation", "scale", "translation"))


@pytest.mark.parametrize("field", ["identity", "albedo"])
def test_frames_of_a_person_must_agree(method, labeled, field):
    """By distance; or each is rendered with the properties of the other, whose picture then shows its error."""
    batch, truth = labeled

    def parts(place, pair):
        value = getattr(truth, field).clone()
        value[place] = ERRORS[field](value[place : place + 1])[0]
        return losses(method, batch, truth._replace(**{field: value}), cycles=(), pair=pair)

    assert parts(1, "distance")["pair"] > 1e-3 and "pair" not in parts(1, "swap")
    first, second = (parts(place, "distance")["photometric"] for place in (0, 1))
    assert abs(first - second) > 2e-5
    torch.testing.assert_close(parts(0, "swap")["photometric"], second, rtol=0, atol=2e-6)
    torch.testing.assert_close(parts(1, "swap")["photometric"], first, rtol=0, atol=2e-6)


def test_unlabeled_landmarks_have_no_gradient(method, labeled):
    batch, truth = labeled
    landmarks = batch.landmarks.clone()
    landmarks[1] = torch.nan
    landmarks[0, :17] = torch.nan
    leaves = truth.map(lambda v: v.clone().requires_grad_())
    parts = losses(method, FaceBatch(batch.image, landmarks), leaves, cycles=())
    assert torch.isfinite(parts["loss"])
    (gradient,) = torch.autograd.grad(parts["landmarks"], [leaves.translation])
    assert torch.isfinite(gradient).all() and gradient[1].abs().max() == 0
    assert "landmarks" not in losses(method, FaceBatch(batch.image), truth, cycles=())
    assert "landmarks" not in losses(method, batch, truth, cycles=(), weight_landmarks=0.0)


def test_cycles_of_weight_zero_are_not_in_the_loss(method, labeled):
    batch, truth = labeled
    targets = [with_error(inject(c, *truth.pairs())[1], "light") for c in CYCLES]
    base = losses(method, batch, truth, cycles=())
    parts = losses(method, batch, truth, *targets, weight_pose_cycle=0.0, weight_expression_cycle=0.0)
    torch.testing.assert_close(parts["loss"], base["loss"])
    assert losses(method, batch, truth, *targets)["loss"] > base["loss"] + 0.01
    assert not any(k.startswith("pose") for k in losses(method, batch, truth, targets[1], cycles=("expression",)))


def test_coarse_steps_learn_from_landmarks_and_render_nothing(method, labeled, monkeypatch):
    """Unless there are no landmarks."""
    batch, truth = labeled
    drawn = []
    monkeypatch.setattr(method, "render", lambda p, render=method.render: drawn.append(1) or render(p))
    coarse = losses(method, batch, truth, step=4, cycles=(), coarse=5)
    assert not drawn and "landmarks" in coarse and not {"photometric", "reflectance"} & coarse.keys()
    assert {"photometric", "reflectance", "landmarks"} <= losses(
        method, batch, truth, step=5, cycles=(), coarse=5
    ).keys() and len(drawn) == 1
    assert "photometric" in losses(method, FaceBatch(batch.image), truth, step=4, cycles=(), coarse=5)
    assert "photometric" in losses(method, batch, truth, step=4, cycles=(), coarse=5, weight_landmarks=0.0)
