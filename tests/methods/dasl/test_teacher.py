"""Landmarks of one network for another to learn from."""

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from facemodels import InputError
from facemodels.cli.main import main
from facemodels.core.landmarks import center_depth
from facemodels.data.photographs import (
    photographs,
    read_teacher_labels,
    write_teacher_labels,
)
from facemodels.methods.dasl import (
    DASL,
    HELD_OUT,
)
from facemodels.methods.registry import load_method
from facemodels.teachers.check import errors_of
from facemodels.teachers.network import predict_landmarks
from tests.methods.dasl.common import small


def test_a_teachers_landmarks_are_written_and_learned_from(tmp_path, capsys):
    """Where a teacher hits the labels of photographs, its landmarks replace those of the ones that are trained on; the
    held-out ones keep theirs."""
    source = DASL(small(tmp_path / "any")).source(5, 0, range(12))
    for k in range(12):
        iio.imwrite(tmp_path / f"{k:02}.png", (source.image[k] * 255).byte().permute(1, 2, 0).numpy())
        np.savetxt(tmp_path / f"{k:02}.txt", source.landmarks[k].numpy())
    faces = photographs(tmp_path)
    teacher = load_method("dasl")
    landmarks, _ = predict_landmarks(teacher, faces.image)
    with torch.no_grad():
        assert torch.allclose(landmarks, center_depth(teacher.landmarks(faces.image.float() / 255)), atol=1e-3)
    off = errors_of(landmarks, faces)
    middle = off.median().item()
    file = tmp_path / "seen.npz"
    assert main(["teacher", "dasl", str(tmp_path), "-o", str(file), "--worst", str(middle), "--views", "1"]) == 0
    assert f"{int((off <= middle).sum())} of 12 photographs" in capsys.readouterr().out
    method = DASL(small(tmp_path / "run", wild=str(tmp_path), teacher=str(file), extra="true", held_out=4, profiles=2))
    method.prepare_data()
    assert torch.equal(
        method.held.landmarks,
        faces[torch.randperm(12, generator=torch.Generator().manual_seed(HELD_OUT))[:4]].landmarks,
    )
    taken = method.wild.faces.landmarks[method.wild.places]
    assert taken.shape[1:] == (68, 3) and taken.isfinite().all() and "nme_taught_percent" in method.validate("cpu")
    seen = torch.where((off <= middle)[:, None, None], landmarks, torch.nan)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(HELD_OUT))
    torch.testing.assert_close(method.wild.faces.landmarks, seen, equal_nan=True)
    torch.testing.assert_close(method.held_taught, seen[order[:4]], equal_nan=True)
    assert {*method.wild.places.tolist()} == {k for k in order[4:].tolist() if off[k] <= middle}
    landmarks[order[5:], 7, 2] = torch.nan  # a picture of which something is not known is not learnt from
    landmarks[order[4]] = torch.nan
    write_teacher_labels(file, landmarks, faces)
    assert read_teacher_labels(file, faces).isnan().flatten(1).all(1).sum() == 8
    with pytest.raises(InputError, match="seen.npz: holds no landmarks of the photographs that are trained on"):
        DASL(method.config).prepare_data()
    (tmp_path / "less").mkdir()
    for k in range(11):
        for name in (f"{k:02}.png", f"{k:02}.txt"):
            (tmp_path / "less" / name).write_bytes((tmp_path / name).read_bytes())
    other = DASL(small(tmp_path / "other", wild=str(tmp_path / "less"), teacher=str(file), extra="true", held_out=4))
    with pytest.raises(InputError, match="seen.npz: .*a file made of 12 others; regenerate it"):
        other.prepare_data()
    with pytest.raises(InputError, match="give wild=PATH and extra=true"):
        small(tmp_path, teacher=str(file))
    with pytest.raises(InputError, match="give one of them with it, got schemes=l3d"):
        small(tmp_path, teacher=str(file), extra="true", wild=str(tmp_path), schemes="l3d")
    assert main(["teacher", "dasl", str(tmp_path), "-o", str(tmp_path / "none.npz"), "--worst", "0"]) == 1
    assert "a higher --worst" in capsys.readouterr().err
