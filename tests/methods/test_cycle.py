"""Cycle-consistency: the variation that is injected, composed, found again and taken back, what each cycle teaches, and a training run from nothing."""

import json

import pytest
import torch
from torch import nn

import facerender as fr
from facemodels import InputError
from facemodels.cli.main import main
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.data.clips import SyntheticClips
from facemodels.data.synthetic import RandomizationConfig
from facemodels.methods import cycle as module
from facemodels.methods.cycle import (
    CYCLES,
    MODES,
    OWN,
    PRESETS,
    Cycle,
    CycleConfig,
    Network,
    Pose,
    Properties,
    albedo,
    compose,
    filled,
    injected,
    reversed_by,
    surface,
)
from facemodels.networks.norm import frozen_bn_stats
from facemodels.training.checkpoint import checkpoints
from facemodels.training.config import configured
from facemodels.training.loop import train

CLEAN = RandomizationConfig(yaw=50, box=(1.4, 1.55), occluded=0.0, degraded=0.0, expressive=1.0)
FIELDS = Properties._fields


def small(folder, **changes):
    return configured(
        CycleConfig,
        PRESETS["smoke"]
        | {"output": str(folder), "device": "cpu", "stage1": 0, "detached": 0, "variation_mm": 0.0}
        | changes,
    )


@pytest.fixture(scope="module")
def method(tmp_path_factory):
    method = Cycle(small(tmp_path_factory.mktemp("run"))).eval()
    method.source = SyntheticClips(method.model, method.size, 2, (5, 50), CLEAN, jump=0.0)
    return method


@pytest.fixture(scope="module")
def known(method):
    """Frames, two of a person in a row under the light of the first, and what is true of them."""
    faces = method.source(3, 0, range(2))
    truth = properties(faces)
    truth = truth._replace(light=truth.light[0::2].repeat_interleave(2, 0))
    image, _ = method.render(truth)
    return FaceBatch(image.permute(0, 3, 1, 2).contiguous(), faces.landmarks), truth


def properties(faces) -> Properties:
    return Properties(*(getattr(faces, name) for name in FIELDS))


def pairs(truth):
    return truth.each(lambda v: v[0::2]), truth.each(lambda v: v[1::2])


class FixedNetwork(nn.Module):
    """Says what it is told, call after call."""

    def __init__(self, *answers):
        super().__init__()
        self.answers = list(answers)

    def forward(self, image):
        answer = self.answers.pop(0)
        return answer(image) if callable(answer) else answer


def losses(method, batch, *answers, step=0, **settings):
    network, config = method.network, method.config
    method.network, method.config = FixedNetwork(*answers), small(config.output, **settings)
    try:
        return method("network", batch, step, {})
    finally:
        method.network, method.config = network, config


def losses_of(method, batch, truth, cycle, found, **settings):
    return losses(method, batch, truth, found, cycles=(cycle,), **settings)


WRONG = {
    "identity": lambda v: v + torch.linspace(0.5, 0, v.shape[1]),
    "expression": lambda v: v + 0.3,
    "rotation": lambda v: fr.camera.euler_rotation(torch.tensor([[0.1, 0.15, 0.0]])) @ v,
    "scale": lambda v: 1.1 * v,
    "translation": lambda v: v + 4.0,
    "albedo": lambda v: v + 0.7,
    "light": lambda v: v * 1.15,
}


def wrong(truth, field):
    return truth._replace(**{field: WRONG[field](getattr(truth, field))})


# --------------------------------------------------------------------------------------------------------------------- variations


def test_a_variation_and_its_inverse_are_nothing():
    torch.manual_seed(0)
    draw = lambda: Pose(
        fr.camera.euler_rotation(torch.randn(5, 3).double()),
        torch.rand(5).double() + 0.3,
        50 * torch.randn(5, 2).double(),
    )  # noqa: E731
    first, second = draw(), draw()
    variation = second.after(first.inverse())
    nothing = variation.after(variation.inverse())
    for a, b in zip(
        nothing, (torch.eye(3).double().expand(5, 3, 3), torch.ones(5).double(), torch.zeros(5, 2).double())
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip(variation.after(first), second):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    for a, b in zip(variation.inverse().after(second), first):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("cycle", CYCLES)
def test_what_was_injected_and_taken_back_is_what_was_there(known, cycle):
    first, second = pairs(known[1])
    variation, goal = injected(cycle, first, second)
    for field in FIELDS:
        expected = getattr(second if field in OWN[cycle] else first, field)
        torch.testing.assert_close(getattr(goal, field), expected, rtol=0, atol=1e-4)
    for a, b in zip(reversed_by(cycle, goal, variation), first):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4)


def test_the_variation_of_turned_heads_is_no_difference_of_angles():
    """A turn by 40 degrees after a pitch of 40 is not the same as the difference of their Euler angles, applied to an upright head."""
    radians = lambda *degrees: fr.camera.euler_rotation(torch.tensor([degrees]) * torch.pi / 180)  # noqa: E731
    one, zero = torch.ones(1), torch.zeros(1, 2)
    first, second = Pose(radians(40.0, 0.0, 10.0), one, zero), Pose(radians(40.0, 40.0, 10.0), one, zero)
    found = second.after(first.inverse())
    torch.testing.assert_close((found.rotation @ first.rotation), second.rotation, rtol=0, atol=1e-6)
    assert (found.rotation - radians(0.0, 40.0, 0.0)).abs().max() > 0.1


# ---------------------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("cycle", CYCLES)
def test_with_the_truth_in_place_of_the_network_nothing_is_left(method, known, cycle):
    batch, truth = known
    goal = injected(cycle, *pairs(truth))[1]
    parts = losses_of(method, batch, truth, cycle, goal)
    for key in {"landmarks", "pair", f"{cycle}_variation", f"{cycle}_kept"} | (
        {"expression_kept_pose"} if cycle == "expression" else set()
    ):
        assert parts[key].abs() < 1e-6, key
    assert parts["photometric"] < 0.003 and parts[f"{cycle}_picture"] < 0.003  # the square root of its epsilon is 0.001
    assert parts["photometric"] > 0.00099 and torch.isfinite(parts["loss"])


def test_a_variation_of_the_expression_is_as_large_as_asked_for_and_the_truth_of_it_leaves_nothing(method, known):
    """On the way from one frame's expression to the other's, half to one and a half times as far as asked for, another share in each step, within what expressions can be."""
    batch, truth = known
    batch, truth = (
        FaceBatch(torch.cat([batch.image] * 4), torch.cat([batch.landmarks] * 4)),
        truth.each(lambda v: torch.cat([v] * 4)),
    )
    first, second = pairs(truth._replace(expression=0.4 + 0.2 * truth.expression))
    try:
        method.config.variation_mm = 0.6
        sized = [method._sized(first, second, seed) for seed in (1, 2)]
        far = [method._expression_mm(first.expression, s.expression) for s in sized]
        assert all((0.3 <= f).all() and (f <= 0.9).all() and f.std() > 0.05 for f in far) and not torch.equal(*far)
        ways = [torch.nn.functional.normalize(p.expression - first.expression, dim=1) for p in (second, *sized)]
        torch.testing.assert_close(ways[0], ways[1], rtol=0, atol=1e-3)
        method.config.variation_mm = 500.0
        assert (
            0 <= method._sized(first, second, 0).expression.min()
            and method._sized(first, second, 0).expression.max() <= 1
        )
        assert method._sized(first, first, 0).expression.equal(first.expression), "no way to go"
        assert (
            method._expression_mm(
                first.expression,
                method._sized(
                    first, second._replace(expression=first.expression + 1e-5 * second.expression), 0
                ).expression,
            ).max()
            < 0.1
        ), "30 times"
        # How far the network says that it went is not where a loss can pull, or it would learn to say less.
        method.config.variation_mm = 0.3
        say = torch.ones((), requires_grad=True)
        to = method._sized(
            first, second._replace(expression=first.expression + say * (second.expression - first.expression)), 1
        )
        size = (to.expression - first.expression).square().sum()
        assert abs(torch.autograd.grad(size, say)[0]) < 1e-4 * size
    finally:
        method.config.variation_mm = 0.0
    first, second = pairs(truth)
    config, method.config = method.config, small(method.config.output, variation_mm=0.8)
    goal = injected("expression", first, method._sized(first, second, seed_of(0, 0)))[1]
    method.config = config
    assert goal.expression.sub(second.expression).abs().max() > 0.01
    parts = losses_of(method, batch, truth, "expression", goal, variation_mm=0.8)
    for key in ("expression_variation", "expression_kept", "expression_kept_pose"):
        assert parts[key].abs() < 1e-6, key
    assert parts["expression_picture"] < 0.003


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize("field", FIELDS)
def test_a_cycle_shows_every_error_in_what_was_found(method, known, cycle, field):
    """In the picture that comes back, and in the term that looks after that property, and in no other."""
    batch, truth = known
    goal = injected(cycle, *pairs(truth))[1]
    parts = losses_of(method, batch, truth, cycle, wrong(goal, field))
    assert parts[f"{cycle}_picture"] > 0.006
    pose = field in OWN["pose"]
    rises = "variation" if field in OWN[cycle] else "kept_pose" if pose else "kept"
    for key in {"variation", "kept", "kept_pose"} & {k.removeprefix(f"{cycle}_") for k in parts}:
        value = parts[f"{cycle}_{key}"]
        assert value > 1e-3 if key == rises else value.abs() < 1e-6, key


@pytest.mark.parametrize("field", FIELDS)
def test_a_frame_shows_every_error(method, known, field):
    batch, truth = known
    parts = losses(method, batch, wrong(truth, field), cycles=())
    assert parts["photometric"] > 0.006
    assert (parts["landmarks"] > 0.1) == (field in ("identity", "expression", "rotation", "scale", "translation"))


@pytest.mark.parametrize("field", ["identity", "albedo"])
def test_frames_of_a_person_must_agree(method, known, field):
    """By distance, or because each is rendered with what the other says: an error in one of them then shows in the other's picture."""
    batch, truth = known

    def parts(place, pair):
        value = getattr(truth, field).clone()
        value[place] = WRONG[field](value[place : place + 1])[0]
        return losses(method, batch, truth._replace(**{field: value}), cycles=(), pair=pair)

    assert parts(1, "distance")["pair"] > 1e-3 and "pair" not in parts(1, "swap")
    first, second = (parts(place, "distance")["photometric"] for place in (0, 1))
    assert abs(first - second) > 2e-5
    torch.testing.assert_close(parts(0, "swap")["photometric"], second, rtol=0, atol=2e-6)
    torch.testing.assert_close(parts(1, "swap")["photometric"], first, rtol=0, atol=2e-6)


def test_landmarks_that_nobody_labelled_teach_nothing(method, known):
    batch, truth = known
    landmarks = batch.landmarks.clone()
    landmarks[1] = torch.nan
    landmarks[0, :17] = torch.nan
    leaves = truth.each(lambda v: v.clone().requires_grad_())
    parts = losses(method, FaceBatch(batch.image, landmarks), leaves, cycles=())
    assert torch.isfinite(parts["loss"])
    (gradient,) = torch.autograd.grad(parts["landmarks"], [leaves.translation])
    assert torch.isfinite(gradient).all() and gradient[1].abs().max() == 0
    assert "landmarks" not in losses(method, FaceBatch(batch.image), truth, cycles=())
    assert "landmarks" not in losses(method, batch, truth, cycles=(), weight_landmarks=0.0)


# ------------------------------------------------------------------------------------------------------------------------- gradients


def reached(value, leaves):
    """Names of the properties that a loss has a gradient to."""
    if not value.requires_grad:
        return set()
    gradients = torch.autograd.grad(value, list(leaves), allow_unused=True, retain_graph=True)
    return {name for name, g in zip(FIELDS, gradients) if g is not None and g.abs().max() > 0}


@pytest.mark.parametrize("cycle", CYCLES)
def test_a_cycle_teaches_its_own_branch_and_the_others_only_to_keep_still(method, known, cycle):
    batch, truth = known
    goal = injected(cycle, *pairs(truth))[1]
    for field in FIELDS:
        goal = wrong(goal, field)
    frames, found = (p.each(lambda v: v.detach().clone().requires_grad_()) for p in (truth, goal))
    parts = losses_of(method, batch, frames, cycle, found, detached=1)
    own, others = set(OWN[cycle]), set(FIELDS) - set(OWN[cycle])
    assert reached(parts[f"{cycle}_picture"], found) == own
    assert reached(parts[f"{cycle}_variation"], found) == own
    kept = reached(parts[f"{cycle}_kept"], found) | (
        reached(parts["expression_kept_pose"], found) if cycle == "expression" else set()
    )
    assert kept == others
    for key, value in parts.items():
        if key.startswith(cycle):
            assert reached(value, frames) == set(), key  # J is a picture, and what the frames say is the goal


@pytest.mark.parametrize("cycle", CYCLES)
@pytest.mark.parametrize("mode", MODES)
def test_through_the_picture_the_variation_alone_is_taught(method, known, cycle, mode):
    batch, truth = known
    goal = injected(cycle, *pairs(truth))[1]
    frames = truth.each(lambda v: v.detach().clone().requires_grad_())
    weights = torch.randn(3, method.size, method.size)

    def found(image):  # says a little more or less as the picture is
        return goal.each(lambda v: v.detach() + 1e-4 * (image * weights).mean())

    for detached, expected in ((1, set()), (0, set(OWN[cycle]))):
        parts = losses_of(method, batch, frames, cycle, found, detached=detached, **{f"compose_{cycle}": mode})
        assert reached(parts[f"{cycle}_kept"], frames) == expected
        assert reached(parts[f"{cycle}_picture"], frames) == expected
    parts = losses_of(method, batch, frames, cycle, wrong(goal, OWN[cycle][0]), **{f"compose_{cycle}": mode})
    assert reached(parts[f"{cycle}_variation"], frames) == set()  # or frames without any change would be best


def test_reversing_what_was_extracted_would_teach_nothing_and_what_was_injected_does(method, known):
    """The trap: p1 comes back whatever the pose branch says, if its own finding is taken from it."""
    batch, truth = known
    first, second = pairs(truth)
    images = batch.image[0::2].permute(0, 2, 3, 1).contiguous()
    variation, goal = injected("pose", first, second)
    slopes = {}
    for name in ("extracted", "injected"):
        found = goal._replace(translation=goal.translation + 3, scale=1.1 * goal.scale).each(
            lambda v: v.clone().requires_grad_()
        )
        taken = found.pose.after(first.pose.inverse()) if name == "extracted" else variation
        back, mask = method.render(reversed_by("pose", found, taken))
        loss = module.photometric_loss(back, images, mask)
        slopes[name] = torch.autograd.grad(loss, [found.rotation, found.scale, found.translation])[1:]
        assert (loss > 0.01) == (name == "injected")
    assert all(g.abs().max() < 1e-5 for g in slopes["extracted"]) and all(
        g.abs().min() > 1e-4 for g in slopes["injected"]
    )
    leaf = goal._replace(translation=goal.translation + 3).each(lambda v: v.clone().requires_grad_())
    value = losses_of(method, batch, truth, "pose", leaf)["pose_picture"]
    assert reached(value, leaf) == set(OWN["pose"])  # and so does the method's own


def test_each_weight_of_zero_leaves_a_cycle_out_of_the_loss(method, known):
    batch, truth = known
    goals = [wrong(injected(c, *pairs(truth))[1], "light") for c in CYCLES]
    base = losses(method, batch, truth, cycles=())
    parts = losses(method, batch, truth, *goals, weight_pose_cycle=0.0, weight_expression_cycle=0.0)
    torch.testing.assert_close(parts["loss"], base["loss"])
    assert losses(method, batch, truth, *goals)["loss"] > base["loss"] + 0.01
    assert not any(k.startswith("pose") for k in losses(method, batch, truth, goals[1], cycles=("expression",)))


# ----------------------------------------------------------------------------------------------------------------------- composition


@pytest.mark.parametrize("mode", ["texture", "warp"])
def test_a_face_that_does_not_move_is_the_frame(method, mode):
    faces = method.source(5, 0, range(2))
    truth = properties(faces)
    frame = module.to_linear(faces.image.permute(0, 2, 3, 1)).contiguous()
    new = compose(mode, frame, truth, truth, method.model, method.inner)
    inside = (
        fr.rasterize(
            surface(method.model, truth, method.size).clip, method.model.topology, (method.size, method.size)
        ).face_id
        >= 0
    )
    difference = (new - frame).abs().amax(-1)
    assert inside.float().mean() > 0.2 and (difference * inside).max() < 0.004
    assert (difference * ~inside).max() < (0.004 if mode == "warp" else 1.0)


def moved_face(method, degrees, opened=0.0):
    """A face under a lamp before pure green, from one side, and from another or with its mouth open: (frame, here, there, what there is to be seen)."""
    m = method.model
    torch.manual_seed(3)
    pose = lambda y: fr.camera.euler_rotation(torch.tensor([[0.0, y, 0.0]]) * torch.pi / 180)  # noqa: E731
    light = fr.lighting.ambient_and_directional(*(torch.tensor([v]) for v in ([0.5] * 3, [0.6, 0.2, 0.8], [0.7] * 3)))
    here = Properties(
        torch.randn(1, m.num_identity),
        torch.zeros(1, m.num_expression),
        pose(degrees),
        torch.tensor([0.5]),
        torch.tensor([[56.0, 60.0]]),
        torch.randn(1, m.num_albedo),
        light,
    )
    there = here._replace(rotation=pose(-degrees if not opened else degrees))
    if opened:
        expression = torch.zeros(1, m.num_expression)
        expression[0, list(m.expression_names).index("jawOpen")] = opened
        there = there._replace(expression=expression)
    green = torch.tensor([0.0, 1.0, 0.0]).expand(1, method.size, method.size, 3).contiguous()
    pictures = []
    for p in (here, there):
        s = surface(m, p, method.size)
        pictures.append(
            fr.render_face(
                s.clip,
                s.normals,
                albedo(m, p).contiguous(),
                light,
                m.topology,
                (method.size, method.size),
                background=green,
            )
        )
    return pictures[0][0], here, there, pictures[1][0], pictures[1][1] >= 0


@pytest.mark.parametrize("mode", ["texture", "warp"])
@pytest.mark.parametrize("degrees, opened", [(30.0, 0.0), (5.0, 1.0)])
def test_what_the_frame_does_not_show_is_not_smeared(method, monkeypatch, mode, degrees, opened):
    """From one side to the other and when a mouth opens: the picture is about what there would be to see, and no background is on the face."""
    frame, here, there, true, drawn = moved_face(method, degrees, opened)
    # A model that knows less than the frame: its colours are off, so that what is taken from the frame is told from what is not.
    error = lambda p: ((p - true).abs().amax(-1) * drawn).sum() / drawn.sum()  # noqa: E731
    new = compose(mode, frame, here, there, method.model, method.inner)
    green = lambda p: (((p[..., 1] - p[..., 0]) > 0.3) & drawn).sum()  # noqa: E731
    assert error(new) < 0.015 and green(new) == 0
    monkeypatch.setattr(module, "_seen", lambda place, *rest: torch.ones_like(place[..., 0], dtype=torch.bool))
    smeared = compose(mode, frame, here, there, method.model, method.inner)
    assert error(smeared) > 1.5 * error(new) + 0.002


def test_a_surface_seen_edge_on_is_not_stretched():
    """Unless it is as narrow in the new picture."""
    slanted, facing = (
        torch.tensor([0.98, 0.0, 0.2]).expand(1, 4, 4, 3),
        torch.tensor([0.0, 0.0, 1.0]).expand(1, 4, 4, 3),
    )
    place, covered, depth = torch.full((1, 4, 4, 3), 2.0), torch.ones(1, 4, 4), torch.full((1, 4, 4), 2.0)
    assert not module._seen(place, slanted, facing, covered, depth).any()
    assert (
        module._seen(place, slanted, slanted, covered, depth).all()
        and module._seen(place, facing, facing, covered, depth).all()
    )
    assert (
        not module._seen(place, facing, facing, covered, depth + 1).any()
        and not module._seen(place + 9, facing, facing, covered, depth).any()
    )
    assert not module._seen(place, facing, facing, 0 * covered, depth).any()


@pytest.mark.parametrize("mode", MODES)
def test_a_composed_picture_teaches_where_the_face_goes_and_not_where_it_was(method, mode):
    frame, here, there, _, _ = moved_face(method, 10.0)
    here, there = (p.each(lambda v: v.clone().requires_grad_()) for p in (here, there))
    value = (compose(mode, frame, here, there, method.model, method.inner) * torch.randn_like(frame)).mean()
    assert reached(value, here) == set()
    assert reached(value, there) == {"expression", "rotation", "scale", "translation"}


def test_no_second_face_is_left_where_it_was(method):
    """Before a green wall, all but the face at its new place is green."""
    frame, here, _, _, _ = moved_face(method, 0.0)
    here = here._replace(scale=0.6 * here.scale)
    posed = [surface(method.model, p, method.size) for p in (here, here._replace(translation=here.translation + 25))]
    topology, size = method.model.topology, (method.size, method.size)
    green = torch.tensor([0.0, 1.0, 0.0])
    frame = fr.render_face(
        posed[0].clip,
        posed[0].normals,
        albedo(method.model, here).contiguous(),
        here.light,
        topology,
        size,
        background=green,
    )[0]
    new = compose("texture", frame, here, here._replace(translation=here.translation + 25), method.model, method.inner)
    outside = fr.rasterize(posed[1].clip, topology, size).face_id < 0
    assert outside.sum() > 5000 and ((new - green).abs().amax(-1) * outside).max() < 1e-3


def test_outlines_are_not_drawn_in_the_models_colours(method, monkeypatch):
    """With a model that is black: a head that turns a little has no black line around it, though its outmost pixels are not seen in the frame."""
    frame, here, there, _, drawn = moved_face(method, 2.0)
    monkeypatch.setattr(module, "albedo", lambda model, p: torch.zeros(1, model.num_vertices, 3))
    place = (
        fr.rasterize(surface(method.model, there, method.size).clip, method.model.topology, (method.size, method.size))
        .face_id.clamp(min=0)
        .long()
    )
    black = (
        (compose("texture", frame, here, there, method.model, method.inner).amax(-1) < 0.01)
        & drawn
        & ~method.inner[place]
    )
    assert black.sum() < 5


def test_colours_are_the_frames_own_and_are_lit_anew(method):
    """With a model whose colours are wrong, the picture still shows the frame's, and as the lamp lights them there."""
    frame, here, there, true, drawn = moved_face(method, 15.0)
    wrong_colours = here._replace(albedo=-here.albedo)
    error = lambda p: ((p - true).abs().amax(-1) * drawn).sum() / drawn.sum()  # noqa: E731
    texture = compose("texture", frame, wrong_colours, there, method.model, method.inner)
    assert error(texture) < 0.4 * error(compose("render", frame, wrong_colours, there, method.model, method.inner))
    dark = here._replace(light=torch.zeros_like(here.light))  # no light known: no ratio
    assert error(texture) < 0.8 * error(
        compose("texture", frame, dark._replace(albedo=-here.albedo), there, method.model, method.inner)
    )


def test_the_other_half_of_a_face_fills_in(method):
    """Seen from the side, the far cheek of a painted face comes from the near one, and not from the model, which knows no paint."""
    frame, here, there, _, drawn = moved_face(method, 35.0)
    painted = frame * torch.tensor([1.0, 0.3, 1.0])
    count = lambda p: ((p[..., 1] < 0.6 * p[..., 0]) & drawn).sum() / drawn.sum()  # noqa: E731
    whole = count(compose("texture", painted, here, there, method.model, method.inner))
    symmetry, method.model.symmetry = method.model.symmetry, None
    try:
        half = count(compose("texture", painted, here, there, method.model, method.inner))
    finally:
        method.model.symmetry = symmetry
    assert whole > half + 0.3 and half > 0.2


def test_holes_are_filled_smoothly_from_what_surrounds_them():
    values = torch.zeros(1, 37, 37, 2)
    values[..., 0], values[..., 1] = 3.0, torch.arange(37.0)
    known = torch.ones(1, 37, 37)
    known[:, 8:25, 10:30] = 0
    whole = filled(torch.where(known[..., None] > 0, values, torch.nan).nan_to_num(99.0), known)
    torch.testing.assert_close(whole * known[..., None], values * known[..., None])
    torch.testing.assert_close(whole[..., 0], values[..., 0])
    assert 5 < whole[0, 16, 20, 1] < 32 and (whole[:, :, 1:] - whole[:, :, :-1]).abs().max() < 8
    assert torch.isfinite(filled(values, torch.zeros_like(known))).all()


# --------------------------------------------------------------------------------------------------------------------------- network


@pytest.mark.parametrize(
    "trunk, separate", [("light", False), ("light", True), ("resnet50", False), ("resnet50", True)]
)
def test_each_property_has_a_branch_of_its_own(trunk, separate):
    network = Network(trunk, separate, (5, 4, 3), True).eval()
    said = network(torch.rand(2, 3, network.size, network.size))
    shapes = {
        "identity": (2, 5),
        "expression": (2, 4),
        "rotation": (2, 3, 3),
        "scale": (2,),
        "translation": (2, 2),
        "albedo": (2, 3),
        "light": (2, 9, 3),
    }
    assert {k: tuple(v.shape) for k, v in said._asdict().items()} == shapes
    if trunk == "resnet50":  # its norms have seen nothing yet and do not norm
        return
    torch.testing.assert_close(said.rotation, torch.eye(3).expand(2, 3, 3), rtol=0, atol=0.1)
    assert said.expression.min() > 0 and said.expression.max() < 0.1  # begins near none
    names = {
        "identity": "identity",
        "expression": "expression",
        "rotation": "pose",
        "scale": "pose",
        "translation": "pose",
        "albedo": "texture",
        "light": "texture",
    }
    for field, branch in names.items():
        network.zero_grad()
        getattr(said, field).square().sum().backward(retain_graph=True)
        touched = {
            n
            for n, part in network.branches.items()
            if any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
        }
        assert touched == {branch}
        assert separate or any(p.grad.abs().max() > 0 for p in network.shared.parameters())


def test_rotations_are_rotations_whatever_is_said():
    rotation = module._pose(torch.randn(6, 9), 112).rotation
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(6, 3, 3), rtol=0, atol=1e-5)
    assert (torch.linalg.det(rotation) > 0.99).all()


def test_composed_pictures_leave_no_trace_in_running_statistics():
    network = Network("light", False, (5, 4, 3), True).train()
    before = {k: v.clone() for k, v in network.state_dict().items() if "running" in k}
    with frozen_bn_stats(network):
        network(torch.rand(4, 3, 112, 112))
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())
    network(torch.rand(4, 3, 112, 112))
    assert not any(torch.equal(v, network.state_dict()[k]) for k, v in before.items())


def test_a_step_with_cycles_remembers_the_frames_alone(method, known):
    batch = FaceBatch(*(v.repeat_interleave(2, 0) for v in (known[0].image, known[0].landmarks)))
    start = {k: v.clone() for k, v in method.state_dict().items()}
    config, kept = method.config, []
    for cycles in ((), CYCLES):
        method.load_state_dict(start)
        method.config = small(config.output, cycles=cycles)
        method.train()("network", batch, 0, {})
        kept.append({k: v.clone() for k, v in method.state_dict().items() if "running" in k})
    method.config = config
    method.eval().load_state_dict(start)
    assert all(torch.equal(kept[0][k], kept[1][k]) and not torch.equal(kept[0][k], start[k]) for k in kept[0])


# ------------------------------------------------------------------------------------------------------------------ validation, training


class Oracle(nn.Module):
    """Says what is true of the faces that were made last, with a change."""

    def __init__(self, change=lambda p: p):
        super().__init__()
        self.change = change

    def forward(self, image):
        return self.change(properties(self.last))

    def validation(self, method, monkeypatch):
        made, network = SyntheticClips.__call__, method.network

        def call(source, *arguments):
            self.last = made(source, *arguments)
            return self.last

        monkeypatch.setattr(SyntheticClips, "__call__", call)
        method.network = self
        try:
            return {k: float(v) for k, v in method.validate(torch.device("cpu")).items()}
        finally:
            method.network = network


def test_validation_of_the_truth_finds_no_error_and_no_leak(method, monkeypatch):
    results = Oracle().validation(method, monkeypatch)
    for key in (
        "nme_percent",
        "rotation_degrees",
        "expression_mm",
        "neutral_mm",
        "expression_leak_mm_per_degree",
        "rotation_leak_degrees_per_mm",
    ):
        assert abs(results[key]) < 1e-2, key
    assert results["rotation_response"] == pytest.approx(1, abs=1e-3) and results[
        "expression_response"
    ] == pytest.approx(1, abs=1e-3)
    # A grey picture is among them.
    assert (
        results["photometric"] < 0.05
        and results["neutral_of_mean_face_mm"] > 1
        and results["expression_of_none_mm"] > 0.5
    )


def test_leaks_are_measured_in_what_leaks(method, monkeypatch):
    """An expression that follows the head's yaw, and a head that nods with the expression."""

    def leaky(p):
        expression = p.expression + 0.5 * p.rotation[:, 0, 2:3]
        nod = 0.02 * p.expression.sum(1)
        return p._replace(
            expression=expression,
            rotation=fr.camera.euler_rotation(torch.stack([nod, 0 * nod, 0 * nod], 1)) @ p.rotation,
        )

    results = Oracle(leaky).validation(method, monkeypatch)
    assert results["expression_leak_mm_per_degree"] > 0.01 and results["rotation_leak_degrees_per_mm"] > 0.05


def test_a_network_that_says_the_same_of_all_neither_leaks_nor_responds(method, monkeypatch):
    results = Oracle(lambda p: p.each(lambda v: v[:1].expand_as(v).contiguous())).validation(method, monkeypatch)
    for key in (
        "expression_leak_mm_per_degree",
        "rotation_leak_degrees_per_mm",
        "rotation_response",
        "expression_response",
    ):
        assert results[key] < 1e-6, key


def test_predictions_agree_with_each_other(method):
    image = method.source(1, 0, range(1)).image
    found = method.predict(image)
    p = found.properties
    posed = (
        method.model.landmarks(method.model.shape(p.identity, p.expression)) @ p.rotation.mT * p.scale[:, None, None]
    )
    expected = torch.stack(
        [posed[..., 0] + p.translation[:, :1], method.size - posed[..., 1] - p.translation[:, 1:]], -1
    )
    torch.testing.assert_close(expected, found.landmarks[..., :2], rtol=0, atol=0.05)
    assert torch.equal(method.landmarks(image), found.landmarks) and found.landmarks.shape == (2, 68, 3)


@pytest.mark.parametrize(
    "changes",
    [{"cache": 8}, {"compose_pose": "warp", "compose_expression": "render", "pair": "swap", "separate": "true"}],
)
def test_smoke_training_from_nothing(tmp_path, changes):
    out = tmp_path / "run"
    settings = [word for k, v in changes.items() for word in ("--set", f"{k}={v}")]
    assert (
        main(["train", "cycle", "--preset", "smoke", "--set", f"output={out}", "--set", "device=cpu", *settings]) == 0
    )
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert (
        lines[-1]["step"] == 9
        and "validation_expression_leak_mm_per_degree" in lines[-1]
        and "validation_rotation_leak_degrees_per_mm" in lines[-1]
    )
    assert "pose_picture" not in lines[0] and {"pose_picture", "expression_picture"} <= set(
        lines[-2]
    )  # stage 1, stage 2
    assert list((out / "panels").glob("*.png")) and checkpoints(out / "checkpoints")


def test_first_steps_learn_from_landmarks_and_render_nothing(method, known, monkeypatch):
    """Unless there are no landmarks to learn from."""
    batch, truth = known
    drawn = []
    monkeypatch.setattr(method, "render", lambda p, render=method.render: drawn.append(1) or render(p))
    coarse = losses(method, batch, truth, step=4, cycles=(), coarse=5)
    assert not drawn and "landmarks" in coarse and not {"photometric", "reflectance"} & coarse.keys()
    assert {"photometric", "reflectance", "landmarks"} <= losses(
        method, batch, truth, step=5, cycles=(), coarse=5
    ).keys() and len(drawn) == 1
    assert "photometric" in losses(method, FaceBatch(batch.image), truth, step=4, cycles=(), coarse=5)
    assert "photometric" in losses(method, batch, truth, step=4, cycles=(), coarse=5, weight_landmarks=0.0)


def test_a_resumed_run_is_the_run(tmp_path):
    kinds = dict(
        steps=4,
        batch=4,
        coarse=1,
        stage1=1,
        detached=1,
        held_out=8,
        checkpoint_every=1,
        validate_every=4,
        variation_mm=1.2,
    )
    whole = train(Cycle, small(tmp_path / "whole", **kinds))

    class Killed(Exception):
        pass

    def kill(step):
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        train(Cycle, small(tmp_path / "killed", **kinds), after_step=kill)
    resumed = train(Cycle, small(tmp_path / "killed", **kinds), resume="auto")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


@pytest.mark.parametrize(
    "setting, sentence",
    [
        ("trunk=vgg", "resnet50 or light"),
        ("cycles=pose,light", "pose and expression, got 'light'"),
        ("compose_pose=paint", "compose_pose must be render or texture or warp"),
        ("pair=apart", "distance or swap"),
        ("batch=5", "batch must be even"),
        ("variation_mm=-1", "variation_mm at least 0, got 8, 0, 0, 3, 3 and -1"),
        ("coarse=9", "coarse, the steps without any, must be at most stage1, got 9 and 3"),
        ("batch=2", "at least 4"),
        ("held_out=2", "held_out must be at least 8"),
        ("frames=/nowhere", "/nowhere"),
    ],
)
def test_settings_that_cannot_be_are_named(tmp_path, capsys, setting, sentence):
    assert main(["train", "cycle", "--preset", "smoke", "--set", f"output={tmp_path / 'run'}", "--set", setting]) == 1
    assert sentence in capsys.readouterr().err


def test_a_model_without_a_face_region_is_refused(tmp_path, monkeypatch):
    from facemodels import load_model

    model = load_model("builtin")
    model.regions = {}
    monkeypatch.setattr("facemodels.methods.face_method.load_model", lambda name: model)
    with pytest.raises(InputError, match="a region named face"):
        Cycle(small(tmp_path))
