"""Which properties each loss of a cycle has a gradient to."""

import pytest
import torch

from facemodels.losses import photometric_loss
from facemodels.methods.cycle import CYCLES, MODES, VARIED, inject, reverse
from tests.methods.cycle.common import FIELDS, cycle_losses, reached, with_error


@pytest.mark.parametrize("cycle", CYCLES)
def test_a_cycle_teaches_its_own_branch_and_the_others_only_to_stay(method, labeled, cycle):
    batch, truth = labeled
    target = inject(cycle, *truth.pairs())[1]
    for field in FIELDS:
        target = with_error(target, field)
    frames, extracted = (p.map(lambda v: v.detach().clone().requires_grad_()) for p in (truth, target))
    parts = cycle_losses(method, batch, frames, cycle, extracted, detached=1)
    own, others = set(VARIED[cycle]), set(FIELDS) - set(VARIED[cycle])
    assert reached(parts[f"{cycle}_picture"], extracted) == own
    assert reached(parts[f"{cycle}_variation"], extracted) == own
    kept = reached(parts[f"{cycle}_kept"], extracted) | (
        reached(parts["expression_kept_pose"], extracted) if cycle == "expression" else set()
    )
    assert kept == others
    for key, value in parts.items():
        if key.startswith(cycle):
            assert reached(value, frames) == set(), key  # J is detached, and frames are targets


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize("mode", MODES)
def test_through_the_composed_picture_only_the_variation_has_a_gradient(method, labeled, cycle, mode):
    batch, truth = labeled
    target = inject(cycle, *truth.pairs())[1]
    frames = truth.map(lambda v: v.detach().clone().requires_grad_())
    weights = torch.randn(3, method.size, method.size)

    def extracted(image):  # depends on the picture a little
        return target.map(lambda v: v.detach() + 1e-4 * (image * weights).mean())

    for detached, expected in ((1, set()), (0, set(VARIED[cycle]))):
        parts = cycle_losses(method, batch, frames, cycle, extracted, detached=detached, **{f"compose_{cycle}": mode})
        assert reached(parts[f"{cycle}_kept"], frames) == expected
        assert reached(parts[f"{cycle}_picture"], frames) == expected
    parts = cycle_losses(
        method, batch, frames, cycle, with_error(target, VARIED[cycle][0]), **{f"compose_{cycle}": mode}
    )
    assert reached(parts[f"{cycle}_variation"], frames) == set()  # else no variation would be best


def test_reversing_the_injected_variation_teaches_and_the_extracted_one_does_not(method, labeled):
    """If the extracted variation were reversed, p1 would come back whatever the pose branch predicts."""
    batch, truth = labeled
    first, second = truth.pairs()
    images = batch.image[0::2].permute(0, 2, 3, 1).contiguous()
    variation, target = inject("pose", first, second)
    slopes = {}
    for name in ("extracted", "injected"):
        extracted = target._replace(translation=target.translation + 3, scale=1.1 * target.scale).map(
            lambda v: v.clone().requires_grad_()
        )
        variation_to_reverse = extracted.pose.after(first.pose.inverse()) if name == "extracted" else variation
        picture, mask = method.render(reverse(extracted, variation_to_reverse))
        loss = photometric_loss(picture, images, mask)
        slopes[name] = torch.autograd.grad(loss, [extracted.rotation, extracted.scale, extracted.translation])[1:]
        assert (loss > 0.01) == (name == "injected")
    assert all(g.abs().max() < 1e-5 for g in slopes["extracted"]) and all(
        g.abs().min() > 1e-4 for g in slopes["injected"]
    )
    leaf = target._replace(translation=target.translation + 3).map(lambda v: v.clone().requires_grad_())
    value = cycle_losses(method, batch, truth, "pose", leaf)["pose_picture"]
    assert reached(value, leaf) == set(VARIED["pose"])  # and so does the method's own
