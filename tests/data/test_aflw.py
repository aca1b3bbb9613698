"""AFLW: points that lie on what they label, other crop sizes, and damaged or missing files."""

import zipfile

import numpy as np
import pytest
import torch

from facemodels.core.crops import cut
from facemodels.core.errors import InputError
from facemodels.core.landmarks import NAMES
from facemodels.data.aflw import aflw
from tests.data.pictures import jpg, light_center, spots
from tests.data_sets import DATA, needs_data


def write_aflw(path, pictures, names, points, boxes):
    with zipfile.ZipFile(path / "aflw_crops.zip", "w") as archive:
        for name, content in pictures.items():
            archive.writestr(f"AFLW_crop/{name}", content)
    labels = {"pts21": np.asarray(points, np.float32), "roi_box": np.asarray(boxes, np.uint16)}
    np.savez(path / "aflw_crops_labels.npz", names=np.array(names), yaw_deg=np.zeros(len(names)), **labels)


@pytest.fixture
def small_aflw(tmp_path):
    """Crops cut by the rule of the labels: pixels count from 1, boxes include their last pixel, end at the border."""
    rng = np.random.default_rng(0)
    pictures, points, boxes = {}, [], []
    for k, (x0, y0, side) in enumerate([(60, 70, 239), (30, 100, 279), (-20, 40, 299)]):
        place = np.stack(
            [x0 + side * rng.uniform(0.25, 0.75, 21), y0 + side * np.linspace(0.12, 0.72, 21)], -1
        )  # 1-based
        place[[3, 12]] = [[-1, 200], [100, 0]]
        known = np.delete(place, [3, 12], 0)
        pictures[f"image{k}.jpg"] = jpg(
            cut(spots(known[[0, 9, 18]] - 0.5, 350, 350, 6), (x0 - 1, y0 - 1, x0 + side, y0 + side), 120)
        )
        points.append(place.T)
        boxes.append([max(x0, 1), y0, x0 + side, min(y0 + side, 350)])
    write_aflw(tmp_path, pictures, list(pictures), points, boxes)
    return tmp_path


def test_aflw_points_lie_on_what_they_label_also_where_the_stored_box_was_clipped(small_aflw):
    faces = aflw(small_aflw)
    assert (
        faces.image.shape == (3, 3, 120, 120)
        and faces.image.dtype == torch.uint8
        and faces.landmarks.shape == (3, 21, 2)
    )
    hidden = torch.zeros(21, dtype=torch.bool)
    hidden[[3, 12]] = True
    for k in range(3):
        assert torch.equal(faces.visible[k], ~hidden) and torch.equal(faces.landmarks[k].isnan().all(1), hidden)
        shown = faces.landmarks[k][~hidden].numpy()[[0, 9, 18]]
        for point in shown:
            np.testing.assert_allclose(light_center(faces.image[k].permute(1, 2, 0), point, 6), point, atol=0.1)


def test_aflw_crops_are_resampled_for_another_size(small_aflw):
    small, big = aflw(small_aflw / "aflw_crops.zip", 60), aflw(small_aflw)
    torch.testing.assert_close(small.landmarks, big.landmarks / 2, equal_nan=True)
    mean = torch.nn.functional.avg_pool2d(big.image.float(), 2)
    assert small.image.shape[-1] == 60 and (small.image.float() - mean).abs().mean() < 2


@pytest.mark.parametrize("kept", [False, True])
def test_damaged_aflw_pictures_are_left_out_by_name(small_aflw, kept):
    with (
        np.load(small_aflw / "aflw_crops_labels.npz") as labels,
        zipfile.ZipFile(small_aflw / "aflw_crops.zip") as archive,
    ):
        pictures = {name: archive.read(f"AFLW_crop/{name}") for name in labels["names"]}
        names, points, boxes = (
            [*labels["names"], "gone.jpg"],
            [*labels["pts21"], labels["pts21"][0]],
            [*labels["roi_box"], labels["roi_box"][0]],
        )
    pictures["image1.jpg"] = pictures["image1.jpg"][: len(pictures["image1.jpg"]) // 2]
    pictures["stray.jpg"] = pictures["image0.jpg"]
    write_aflw(small_aflw, pictures, names, points, boxes)
    with pytest.warns(UserWarning, match="3 of 5 pictures are left out: gone.jpg, image1.jpg, stray.jpg") as caught:
        faces = aflw(small_aflw, cache=small_aflw / "kept" if kept else None)
    assert len(caught) == 1 and len(faces) == 2 and caught[0].filename == __file__


def test_bytes_changed_inside_the_zip_are_noticed(small_aflw):
    """JPEG has no checksum, a zip has."""
    path = small_aflw / "aflw_crops.zip"
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("AFLW_crop/image2.jpg")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + info.file_size * 3 // 4] ^= 255
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="1 of 3 pictures are left out: image2.jpg.*CRC"):
        assert len(aflw(small_aflw)) == 2


def test_aflw_that_cannot_be_read_is_said(small_aflw):
    path, table = small_aflw / "aflw_crops.zip", small_aflw / "aflw_crops_labels.npz"
    whole, labels = path.read_bytes(), table.read_bytes()
    write_aflw(small_aflw, {"image0.jpg": b"no"}, ["image0.jpg"], np.ones((1, 2, 21)), [[1, 1, 9, 9]])
    with pytest.raises(InputError, match="none of 1 pictures can be used.*image0.jpg: not a readable picture"):
        aflw(small_aflw)
    path.write_bytes(whole[:1000])
    with pytest.raises(InputError, match="not a readable zip"):
        aflw(small_aflw)
    path.write_bytes(whole)
    table.write_bytes(labels[:1000])
    with pytest.raises(InputError, match="expected the arrays names, pts21 and roi_box"):
        aflw(small_aflw)
    np.savez(table, names=np.array(["a"]), pts21=np.zeros((1, 21, 2)), roi_box=np.zeros((1, 4)))
    with pytest.raises(InputError, match=r"pts21 \[N,2,21\]"):
        aflw(small_aflw)
    table.unlink()
    with pytest.raises(InputError, match="there is no such file"):
        aflw(small_aflw)


@needs_data("aflw_crops_labels.npz")
def test_the_real_points_lie_in_their_crops_and_in_the_order_of_their_names(tmp_path):
    """Read with a handful of made-up crops in place of the pictures, which takes seconds."""
    with np.load(DATA / "aflw_crops_labels.npz") as labels:
        names, boxes, yaw = labels["names"], labels["roi_box"].astype(int), labels["yaw_deg"]
        size = boxes[:, 2:] - boxes[:, :2]
        some = np.concatenate(
            [
                np.flatnonzero(size[:, 0] != size[:, 1])[:30],
                np.flatnonzero((size[:, 0] == size[:, 1]) & (np.abs(yaw) < 15))[:70],
            ]
        )
        write_aflw(
            tmp_path,
            dict.fromkeys(names[some], jpg(np.zeros((120, 120, 3), np.uint8))),
            names[some],
            labels["pts21"][some],
            boxes[some],
        )
    faces = aflw(tmp_path)
    assert len(faces) == 100
    points = faces.landmarks
    assert ((points > -5) & (points < 125) | points.isnan()).all()
    frontal = points[np.isin(np.sort(names[some]), names[some[30:]])].nanmean(0)
    frontal = dict(zip(NAMES[21], frontal))
    for part in ("brow", "eye", "mouth", "nose", "ear"):
        assert frontal[f"{part}_right"][0] < 60 < frontal[f"{part}_left"][0], part
    heights = [frontal[name][1] for name in ("brow_right", "eye_right", "nose_tip", "mouth", "chin")]
    assert (
        heights == sorted(heights)
        and frontal["eye_outer_right"][0] < frontal["eye_right"][0] < frontal["eye_inner_right"][0]
    )
