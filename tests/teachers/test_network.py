"""Views of a picture: a teacher that makes no mistakes says the same in all."""

from types import SimpleNamespace

import pytest
import torch

from facemodels.core.landmarks import mirror_order
from facemodels.teachers.network import VIEWS, predict_in_view, predict_landmarks


def test_views_of_a_picture_agree_where_a_teacher_makes_no_mistakes():
    """The teacher finds the centers of two spots, the left one for the left half of the 68 points: every view gives the
    same points."""
    ys, xs = torch.meshgrid(torch.arange(96) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    spots = torch.tensor([[35.0, 40.0], [58.0, 52.0]])
    image = sum((-((xs - x) ** 2 + (ys - y) ** 2) / 8).exp() for x, y in spots).expand(1, 3, 96, 96)
    partners = torch.tensor(mirror_order(68))
    side = torch.where(partners > torch.arange(68), 0, 1)
    depth = torch.minimum(partners, torch.arange(68)).float()[:, None] / 4

    def landmarks(image):
        half = (image[:, 0] * xs).sum((1, 2), keepdim=True) / image[:, 0].sum((1, 2), keepdim=True)
        found = []
        for mask in (xs < half, xs >= half):
            weights = image[:, 0] * mask
            found.append(torch.stack([(weights * c).sum((1, 2)) / weights.sum((1, 2)) for c in (xs, ys)], -1))
        found = torch.stack(found, 1)
        apart = (found[:, 1] - found[:, 0]).norm(dim=1)[:, None, None] / (
            spots[1] - spots[0]
        ).norm()  # nearer heads are deeper
        return torch.cat([found[:, side], apart * depth], -1)

    expected = torch.cat([spots[side], depth - depth.mean()], 1)
    expected[partners == torch.arange(68)] = torch.nan
    method = SimpleNamespace(size=96, landmarks=landmarks)
    for view in VIEWS:
        error = predict_in_view(method, image, view)[0] - expected
        assert error[error.isfinite()].abs().max() < 0.05, view


def test_views_are_averaged_and_their_spread_is_said():
    """The teacher is off by two pixels to the right in any view, so by two to the left in mirrored ones."""
    method = SimpleNamespace(
        size=48, landmarks=lambda image: torch.full((len(image), 68, 3), 24.0) + torch.eye(3)[0] * 2
    )
    images = torch.zeros(5, 3, 96, 96, dtype=torch.uint8)
    one, none = predict_landmarks(method, images, 1)
    two, spread = predict_landmarks(method, images, 2, batch=2)
    assert torch.equal(none, torch.zeros(5)) and one[0, 0].tolist() == [52, 48, 0]
    assert two[4, 67, :2].tolist() == pytest.approx([48, 48]) and spread.tolist() == pytest.approx([4] * 5)
