"""Names that the packages export."""

import pytest


def test_public_names_are_there():
    import facemodels

    for name in facemodels.__all__:
        assert getattr(facemodels, name) is not None
    assert set(facemodels.__all__) <= set(dir(facemodels))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = facemodels.nothing
