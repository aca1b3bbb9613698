"""Folders of photographs with landmark files in their forms, and what cannot be used of them."""

import numpy as np
import pytest
from PIL import Image

from facemodels.core.crops import landmark_box, to_crop
from facemodels.core.errors import InputError
from facemodels.data.folder import folder
from tests.data.pictures import five, light_center, spots


def test_a_folder_of_photos_with_landmark_files_in_different_forms(tmp_path):
    (tmp_path / "sub").mkdir()
    points = five(80.3, 60.7, 25)
    picture = spots(points, 130, 160, 4)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture).save(tmp_path / "sub" / "b.JPG", quality=95)
    Image.fromarray(picture).save(tmp_path / "c.webp", quality=100)
    np.savetxt(tmp_path / "a.txt", points)
    np.save(tmp_path / "sub" / "b.npy", points)
    (tmp_path / "c.pts").write_text(
        "version: 1\nn_points: 5\n{\n" + "\n".join(f"{x + 0.5} {y + 0.5}" for x, y in points) + "\n}\n"
    )
    (tmp_path / "._a.png").write_bytes(b"what another system leaves behind")
    faces = folder(tmp_path, 96)
    assert faces.image.shape == (3, 3, 96, 96) and faces.landmarks.shape == (3, 5, 2) and faces.visible.all()
    box = landmark_box(points)
    for k in range(3):
        np.testing.assert_allclose(faces.landmarks[k], to_crop(points, box, 96), atol=1e-3)
        for point in faces.landmarks[k].numpy():
            np.testing.assert_allclose(light_center(faces.image[k].permute(1, 2, 0), point, 9), point, atol=0.15)


def test_what_a_folder_cannot_use_is_left_out_by_name(tmp_path):
    for name in ("good", "broken", "lonely", "badmarks", "far", "onefar"):
        Image.fromarray(spots(five(50, 50, 20))).save(tmp_path / f"{name}.png")
        if name != "lonely":
            np.save(tmp_path / f"{name}.npy", five(50, 50, 20) + 1000 * (name == "far"))
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:200])
    (tmp_path / "badmarks.npy").write_bytes(b"no")
    np.save(tmp_path / "onefar.npy", five(50, 50, 20) + np.array([0, 0, 0, 0, 1e8])[:, None])
    with pytest.warns(
        UserWarning, match="5 of 6 pictures are left out: badmarks.png, broken.png, far.png, lonely.png, onefar.png"
    ):
        assert len(folder(tmp_path)) == 1


def test_a_folder_of_two_kinds_of_landmarks_says_which_files_differ(tmp_path):
    for name, count in (("a", 5), ("b", 5), ("odd", 21)):
        Image.fromarray(spots(five(50, 50, 20))).save(tmp_path / f"{name}.png")
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).uniform(10, 90, (count, 2)))
    with pytest.raises(InputError, match=r"most here are 5 points, but not those of odd.png \(21\)"):
        folder(tmp_path)


def test_folders_without_faces_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        folder(tmp_path / "none")
    with pytest.raises(InputError, match="there are no pictures"):
        folder(tmp_path)
    Image.fromarray(spots(five(50, 50, 20))).save(tmp_path / "a.png")
    with pytest.raises(
        InputError,
        match="none of 1 pictures has a landmark file.*such as a.txt; python -m facemodels.reconstruction.label",
    ):
        folder(tmp_path)
