"""The composed picture J: colors from the frame, what fills in the rest, and its gradients."""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

import facerender as fr
from facemodels.methods.cycle import MODES, Properties, albedo, compose, composition, fill_holes, posed_surface
from facerender.color import to_linear
from tests.methods.cycle.common import properties, reached

GREEN = torch.tensor([0.0, 1.0, 0.0])


@pytest.fixture
def composed(method):
    """`compose` with the method's model."""
    return partial(compose, model=method.model, inner_triangles=method.inner_triangles)


def face_id_of(method, p):
    clip = posed_surface(method.model, p, method.size).clip
    return fr.rasterize(clip, method.model.topology, (method.size, method.size)).face_id


def render_before_green(method, p):
    """(picture, where the face is drawn) of a face before a green wall, linear."""
    surface, size = posed_surface(method.model, p, method.size), (method.size, method.size)
    colors = albedo(method.model, p).contiguous()
    image, face_id = fr.render_face(
        surface.clip, surface.normals, colors, p.light, method.model.topology, size, background=GREEN
    )
    return image, face_id >= 0


class Move(NamedTuple):
    """A face that moves before a green wall: its properties and pictures before and after, and where it is after."""

    source: Properties
    target: Properties
    frame: Tensor
    true: Tensor
    drawn: Tensor

    def error(self, picture):
        """Mean color distance to the true picture, over the face."""
        return ((picture - self.true).abs().amax(-1) * self.drawn).sum() / self.drawn.sum()


def moved_face(method, degrees, opened=0.0):
    """A face under a lamp that turns from one side to the other, or whose jaw opens by `opened`."""
    m = method.model
    torch.manual_seed(3)

    def yaw(degrees):
        return fr.camera.euler_rotation(torch.tensor([[0.0, degrees, 0.0]]) * torch.pi / 180)

    light = fr.lighting.ambient_and_directional(*(torch.tensor([v]) for v in ([0.5] * 3, [0.6, 0.2, 0.8], [0.7] * 3)))
    source = Properties(
        torch.randn(1, m.num_identity),
        torch.zeros(1, m.num_expression),
        yaw(degrees),
        torch.tensor([0.5]),
        torch.tensor([[56.0, 60.0]]),
        torch.randn(1, m.num_albedo),
        light,
    )
    target = source._replace(rotation=yaw(-degrees if not opened else degrees))
    if opened:
        expression = torch.zeros(1, m.num_expression)
        expression[0, list(m.expression_names).index("jawOpen")] = opened
        target = target._replace(expression=expression)
    return Move(source, target, render_before_green(method, source)[0], *render_before_green(method, target))


@pytest.mark.parametrize("mode", ["texture", "warp"])
def test_a_face_that_does_not_move_gives_the_frame(method, composed, mode):
    faces = method.source(5, 0, range(2))
    truth = properties(faces)
    frame = to_linear(faces.image.permute(0, 2, 3, 1)).contiguous()
    inside = face_id_of(method, truth) >= 0
    difference = (composed(mode, frame, truth, truth) - frame).abs().amax(-1)
    assert inside.float().mean() > 0.2 and (difference * inside).max() < 0.004
    assert (difference * ~inside).max() < (0.004 if mode == "warp" else 1.0)


@pytest.mark.parametrize("mode", ["texture", "warp"])
@pytest.mark.parametrize("degrees, opened", [(30.0, 0.0), (5.0, 1.0)])
def test_surface_hidden_in_the_frame_is_not_smeared(method, composed, monkeypatch, mode, degrees, opened):
    """When a head turns and when a mouth opens: the picture is near the true one, without background on the face."""
    move = moved_face(method, degrees, opened)
    new = composed(mode, move.frame, move.source, move.target)
    green = ((new[..., 1] - new[..., 0]) > 0.3) & move.drawn
    assert move.error(new) < 0.015 and green.sum() == 0
    everything = lambda pixels, *rest: torch.ones_like(pixels[..., 0], dtype=torch.bool)  # noqa: E731 # a short stub
    monkeypatch.setattr(composition, "_visible", everything)
    smeared = composed(mode, move.frame, move.source, move.target)
    assert move.error(smeared) > 1.5 * move.error(new) + 0.002


def test_a_surface_seen_edge_on_is_not_stretched():
    """Unless it is as narrow in the new picture."""
    slanted, facing = (torch.tensor(n).expand(1, 4, 4, 3) for n in ([0.98, 0.0, 0.2], [0.0, 0.0, 1.0]))
    pixels, covered, depth = torch.full((1, 4, 4, 3), 2.0), torch.ones(1, 4, 4), torch.full((1, 4, 4), 2.0)
    visible = composition._visible
    assert not visible(pixels, slanted, facing, covered, depth).any()
    assert visible(pixels, slanted, slanted, covered, depth).all()
    assert visible(pixels, facing, facing, covered, depth).all()
    assert not visible(pixels, facing, facing, covered, depth + 1).any(), "behind the surface"
    assert not visible(pixels + 9, facing, facing, covered, depth).any(), "outside the picture"
    assert not visible(pixels, facing, facing, 0 * covered, depth).any(), "no surface"


@pytest.mark.parametrize("mode", MODES)
def test_gradients_reach_the_target_pose_and_expression_alone(method, composed, mode):
    move = moved_face(method, 10.0)
    source, target = (p.map(lambda v: v.clone().requires_grad_()) for p in (move.source, move.target))
    value = (composed(mode, move.frame, source, target) * torch.randn_like(move.frame)).mean()
    assert reached(value, source) == set()
    assert reached(value, target) == {"expression", "rotation", "scale", "translation"}


def test_the_old_face_is_removed_from_the_background(method, composed):
    """Before a green wall, everything but the face at its new place is green."""
    source = moved_face(method, 0.0).source
    source = source._replace(scale=0.6 * source.scale)
    target = source._replace(translation=source.translation + 25)
    new = composed("texture", render_before_green(method, source)[0], source, target)
    outside = face_id_of(method, target) < 0
    assert outside.sum() > 5000 and ((new - GREEN).abs().amax(-1) * outside).max() < 1e-3


def test_outlines_are_not_drawn_in_the_models_colors(method, composed, monkeypatch):
    """With a black model, a head that turns a little has no black outline where the frame does not show it."""
    move = moved_face(method, 2.0)
    monkeypatch.setattr(composition, "albedo", lambda model, p: torch.zeros(1, model.num_vertices, 3))
    black = composed("texture", move.frame, move.source, move.target).amax(-1) < 0.01
    inner = method.inner_triangles[face_id_of(method, move.target).clamp(min=0).long()]
    assert (black & move.drawn & ~inner).sum() < 5


def test_colors_are_those_of_the_frame_and_are_relit(method, composed):
    """Also with wrong colors of the model."""
    move = moved_face(method, 15.0)
    wrong = move.source._replace(albedo=-move.source.albedo)
    texture = composed("texture", move.frame, wrong, move.target)
    assert move.error(texture) < 0.4 * move.error(composed("render", move.frame, wrong, move.target))
    unlit = wrong._replace(light=torch.zeros_like(wrong.light))  # no light known: no ratio
    assert move.error(texture) < 0.8 * move.error(composed("texture", move.frame, unlit, move.target))


def test_the_mirrored_side_of_a_face_fills_in(method, composed):
    """The far cheek of a painted face comes from the near one, not from the model, which has no paint."""
    move = moved_face(method, 35.0)
    painted = move.frame * torch.tensor([1.0, 0.3, 1.0])

    def painted_share(picture):
        return ((picture[..., 1] < 0.6 * picture[..., 0]) & move.drawn).sum() / move.drawn.sum()

    both_sides = painted_share(composed("texture", painted, move.source, move.target))
    symmetry, method.model.symmetry = method.model.symmetry, None
    try:
        one_side = painted_share(composed("texture", painted, move.source, move.target))
    finally:
        method.model.symmetry = symmetry
    assert both_sides > one_side + 0.3 and one_side > 0.2


def test_holes_are_filled_smoothly_from_their_surroundings():
    values = torch.zeros(1, 37, 37, 2)
    values[..., 0], values[..., 1] = 3.0, torch.arange(37.0)
    known = torch.ones(1, 37, 37)
    known[:, 8:25, 10:30] = 0
    filled = fill_holes(torch.where(known[..., None] > 0, values, 99.0), known)
    torch.testing.assert_close(filled * known[..., None], values * known[..., None])
    torch.testing.assert_close(filled[..., 0], values[..., 0])
    assert 5 < filled[0, 16, 20, 1] < 32 and (filled[:, :, 1:] - filled[:, :, :-1]).abs().max() < 8
    assert torch.isfinite(fill_holes(values, torch.zeros_like(known))).all()
