"""The face that the files of `tests.models.files` hold, and each of these files."""

import pytest

from tests.models.files import WRITERS, dome


@pytest.fixture(scope="module")
def face():
    return dome()


@pytest.fixture(params=WRITERS, ids=lambda w: w.__name__)
def written(request, tmp_path, face):
    path, differs = request.param(tmp_path, face)
    return path, {name: differs.get(name, getattr(face, name)) for name in face.__dataclass_fields__}, request.param
