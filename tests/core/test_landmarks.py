"""The order of landmarks in mirrored pictures."""

import pytest
import torch

from facemodels import load_model
from facemodels.core.landmarks import NAMES, landmark_means, mirror_order


@pytest.mark.parametrize("count", [68, 21, 5])
def test_mirroring_swaps_the_points_that_a_symmetric_face_swaps(count):
    """The mean face of the model says which these are."""
    model = load_model("builtin")
    points = (
        landmark_means(count)
        @ model.landmarks(model.shape(torch.zeros(1, model.num_identity), torch.zeros(1, model.num_expression)))[0]
    )
    table = list(mirror_order(count))
    torch.testing.assert_close(points[table] * torch.tensor([-1.0, 1, 1]), points, rtol=0, atol=0.3)
    assert sorted(table) == list(range(count)) and [table[k] for k in table] == list(range(count))
    assert len(set(NAMES[count])) == count
    with pytest.raises(ValueError, match="68, 21, 5 points, got 7"):
        mirror_order(7)
