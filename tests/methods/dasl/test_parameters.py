"""2DASL: the 62 parameters, for any morphable model, and what is predicted with them."""

import torch

from facemodels import load_model
from facemodels.methods.dasl import (
    pose_of,
    reduce_basis,
)
from facemodels.methods.registry import load_method
from facemodels.training.checkpoint import save_checkpoint


def test_the_reduced_model_keeps_what_moves_vertices_most():
    model = load_model("builtin")
    low = reduce_basis(model)
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


def test_a_checkpoint_means_the_same_where_linear_algebra_finds_other_directions(trained, tmp_path, monkeypatch):
    """Eigenvectors have no sign of their own, and another machine's may point the other way."""
    checkpoint = save_checkpoint(tmp_path, 1, trained, {}, None, {}, 1, None)

    def turned(model, *counts):
        low = reduce_basis(model, *counts)
        sign = -torch.ones(40)
        return low._replace(to_shape=low.to_shape * sign, from_shape=low.from_shape * sign[:, None])

    monkeypatch.setattr("facemodels.methods.dasl.method.reduce_basis", turned)
    image = trained.source(1, 0, range(2)).image
    here, there = trained.predict(image), load_method(checkpoint).predict(image)
    assert torch.equal(here.raw, there.raw)
    for a, b in zip(here.parameters, there.parameters):
        assert a is b is None or torch.equal(a, b)
