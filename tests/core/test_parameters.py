"""FaceParameters (facemodels.core.parameters)."""

import pytest
import torch

import facerender as fr
from facemodels.core.parameters import FaceParameters, flip_y


def example(n: int = 2) -> FaceParameters:
    generator = torch.Generator().manual_seed(0)
    return FaceParameters(
        identity=torch.randn(n, 4, generator=generator),
        expression=torch.rand(n, 3, generator=generator),
        rotation=fr.camera.euler_rotation(torch.randn(n, 3, generator=generator)),
        scale=torch.tensor([0.5, 1.5])[:n],
        translation=torch.tensor([[40.0, 70.0], [10.0, 20.0]])[:n],
        landmarks=torch.randn(n, 68, 3, generator=generator),
    )


def test_flip_y_is_its_own_inverse_and_leaves_x_and_z():
    points = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.5, 6.0]])
    assert torch.equal(flip_y(points, 10.0), torch.tensor([[1.0, 8.0, 3.0], [4.0, 4.5, 6.0]]))
    assert torch.equal(flip_y(flip_y(points, 10.0), 10.0), points)
    assert torch.equal(flip_y(points[:, :2], 10.0), flip_y(points, 10.0)[:, :2])


def test_pixels_have_y_down_and_agree_with_the_renderers_camera_that_has_y_up():
    p, size = example(), (120, 90)
    points = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1)) * 50
    clip = fr.camera.weak_perspective(points, p.scale, p.rotation, flip_y(p.translation, size[0]), size)
    torch.testing.assert_close(p.pixels(points)[..., :2], fr.camera.to_pixels(clip, size), rtol=0, atol=1e-3)
    up = torch.tensor([[[0.0, 1.0, 0.0]]]).expand(2, 1, 3)
    upright = p._replace(rotation=torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(upright.pixels(up)[:, 0, 1], p.translation[:, 1] - p.scale)


def test_parts_that_are_stacked_are_the_batch_and_what_one_lacks_the_batch_lacks():
    p = example()
    parts = [p.select(slice(k, k + 1)) for k in range(2)]
    again = FaceParameters.stack(parts)
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(p, again))
    lit = parts[0]._replace(light=torch.zeros(1, 9, 3))
    assert FaceParameters.stack([lit, parts[1]]).light is None
    assert FaceParameters.stack([lit, lit]).light.shape == (2, 9, 3)


def test_no_parts_cannot_be_stacked():
    with pytest.raises(ValueError, match="at least one"):
        FaceParameters.stack([])
