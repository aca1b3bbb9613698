import pytest
import torch

import facerender as fr
from facerender import texture


def test_texel_centers_return_their_texel_and_rows_run_down():
    image = torch.rand(1, 4, 6, 3, dtype=torch.float64)
    v, u = torch.meshgrid(
        (torch.arange(4, dtype=torch.float64) + 0.5) / 4,
        (torch.arange(6, dtype=torch.float64) + 0.5) / 6,
        indexing="ij",
    )
    uv = torch.stack([u, 1 - v], -1)[None]
    torch.testing.assert_close(texture.sample_texture(image, uv), image)
    torch.testing.assert_close(texture.sample_texture(image, uv + 3, wrap="repeat"), image)
    torch.testing.assert_close(texture.sample_texture(image, uv, mode="nearest"), image)


def test_repeat_blends_across_the_seam():
    image = torch.tensor([0.0, 1.0]).reshape(1, 1, 2, 1)
    at = torch.tensor([[[0.0, 0.5], [1.0, 0.5], [2.0, 0.5], [0.25, 0.5]]])
    torch.testing.assert_close(
        texture.sample_texture(image, at, wrap="repeat").flatten(), torch.tensor([0.5, 0.5, 0.5, 0.0])
    )


def test_sampling_is_differentiable_to_texture_and_place():
    image, uv = (
        torch.rand(2, 5, 5, 2, dtype=torch.float64, requires_grad=True),
        (torch.rand(2, 7, 2, dtype=torch.float64) * 0.8 + 0.1).requires_grad_(),
    )
    assert torch.autograd.gradcheck(texture.sample_texture, (image, uv))


def test_wrong_textures_are_named():
    with pytest.raises(ValueError, match=r"texture must have a batch of 1 or 2 like uv"):
        texture.sample_texture(torch.rand(3, 4, 4, 3), torch.rand(2, 5, 2))
    with pytest.raises(ValueError, match="wrap must be 'clamp' or 'repeat', got 'mirror'"):
        texture.sample_texture(torch.rand(1, 4, 4, 3), torch.rand(2, 5, 2), wrap="mirror")


def two_sheets():
    """A large sheet, and a small one in front of its middle; each has half of the atlas."""
    far = torch.tensor([[-0.8, -0.8, 0.5], [0.8, -0.8, 0.5], [0.8, 0.8, 0.5], [-0.8, 0.8, 0.5]])
    near = far * torch.tensor([0.3, 0.3, -1.0])
    clip = torch.cat([torch.cat([far, near]), torch.ones(8, 1)], 1)[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]], dtype=torch.int32)
    corner = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]])
    uv = torch.cat([corner * torch.tensor([0.5, 1.0]), corner * torch.tensor([0.5, 1.0]) + torch.tensor([0.5, 0.0])])
    return clip, faces, uv


def test_baking_takes_what_is_seen_and_marks_what_is_hidden(device):
    clip, faces, uv = (t.to(device) for t in two_sheets())
    painted = torch.rand(1, 32, 64, 3, device=device)
    smooth = torch.nn.functional.avg_pool2d(painted.movedim(-1, 1), 9, 1, 4).movedim(1, -1).contiguous()
    size = (512, 512)
    fragments = fr.rasterize(clip, faces, size)
    image = fr.sample_texture(smooth, fr.interpolate(uv[None], faces, fragments))
    baked, weight = fr.bake_texture(image, clip, faces, uv, faces, (32, 64))
    seen = weight > 0
    assert (baked - smooth)[seen].abs().mean() < 0.01
    assert seen[0, :, 32:].all()  # the sheet in front
    hidden = ~seen[0, :, :32].cpu()
    assert hidden[12:20, 12:20].all() and not hidden[:9].any() and not hidden[-9:].any()


def test_pixel_derivatives_of_uv(device):
    """An affine sheet: u changes by one over 0.8 of 40 pixels, and not down the image."""
    clip, faces, uv = (t.to(device) for t in two_sheets())
    clip = clip.double()
    fragments = fr.rasterize(clip, faces, (50, 50))
    out, slope = fr.interpolate(uv[None].double(), faces, fragments, derivatives_of=clip)
    far = ((fragments.face_id == 0) | (fragments.face_id == 1)).cpu()
    want = torch.tensor([[0.5 / 40, 0.0], [0.0, -1 / 40]], dtype=torch.float64)
    torch.testing.assert_close(slope.cpu()[far], want.expand(int(far.sum()), 2, 2))
    assert (slope.cpu()[(fragments.face_id < 0).cpu()] == 0).all()
    steps = (out[:, :, 1:] - out[:, :, :-1]).cpu()
    same = far[:, :, 1:] & far[:, :, :-1]
    torch.testing.assert_close(steps[same], slope.cpu()[:, :, :-1][same][..., 0])
