"""A method in evaluation mode, and labeled frames."""

import pytest

from facemodels.data import FaceBatch
from facemodels.data.clips import SyntheticClips
from facemodels.data.synthetic import RandomizationConfig
from facemodels.methods.cycle import Cycle
from tests.methods.cycle.common import properties, small

CLEAN = RandomizationConfig(yaw=50, box=(1.4, 1.55), occluded=0.0, degraded=0.0, expressive=1.0)


@pytest.fixture(scope="package")
def method(tmp_path_factory):
    method = Cycle(small(tmp_path_factory.mktemp("run"))).eval()
    method.source = SyntheticClips(method.model, method.size, 2, (5, 50), CLEAN, jump=0.0)
    return method


@pytest.fixture(scope="package")
def labeled(method):
    """Frames, two of a person in a row under the light of the first, and their true properties."""
    faces = method.source(3, 0, range(2))
    truth = properties(faces)
    truth = truth._replace(light=truth.light[0::2].repeat_interleave(2, 0))
    image, _ = method.render(truth)
    return FaceBatch(image.permute(0, 3, 1, 2).contiguous(), faces.landmarks), truth
