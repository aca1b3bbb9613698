"""Photographs and videos as data: crops and their pixels, sources in the layouts that people have them, what is kept between runs, and augmentation."""

import io
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

import facerender as fr
from facemodels import load_model
from facemodels.core.crops import cut, from_crop, landmark_box, to_crop
from facemodels.core.errors import InputError
from facemodels.core.landmarks import NAMES, landmark_means, mirror_order
from facemodels.data import FaceBatch
from facemodels.data import cache as cache_module
from facemodels.data.aflw import aflw
from facemodels.data.augment import AugmentConfig, augment, warp_faces
from facemodels.data.cache import Cached, Shuffled, collect_samples
from facemodels.data.folder import folder
from facemodels.data.synthetic import RandomizationConfig, Synthetic
from facemodels.data.video import videos
from facemodels.io.images import read_picture

DATA = Path(os.environ.get("FACEMODELS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


@pytest.fixture(scope="module")
def model():
    return load_model("builtin")


def spots(points, height=100, width=100, radius=2.5):
    """uint8 [height,width,3], black with a soft white dot at each of the points (pixels, first pixel's centre at 0.5)."""
    ys, xs = np.mgrid[:height, :width] + 0.5
    image = sum(np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / radius**2) for x, y in points)
    return np.repeat((255 * np.clip(image, 0, 1)).round().astype(np.uint8)[..., None], 3, -1)


def centre_of_light(image, near, reach=6):
    """Where the light around a point (x, y) of a picture [h,w] or [h,w,3] is."""
    image = np.asarray(image, np.float64).reshape(*image.shape[:2], -1).mean(-1)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    weight = image * (np.hypot(xs - near[0], ys - near[1]) < reach)
    return np.array([(weight * xs).sum(), (weight * ys).sum()]) / weight.sum()


def only(**values):
    """A change of nothing but this."""
    return AugmentConfig(**{f.name: values.get(f.name, 0.0) for f in fields(AugmentConfig)})


# --------------------------------------------------------------------------------------------------------------------------- crops


def test_a_box_on_whole_pixels_is_cut_without_a_change():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert np.array_equal(cut(image, (10, 20, 40, 50), 30), image[20:50, 10:40])


def test_outside_the_image_is_black():
    image = np.full((40, 50, 3), 200, np.uint8)
    crop = cut(image, (-10, -20, 60, 50), 70)
    assert np.array_equal(crop[20:60, 10:60], image)
    assert crop[:20].max() == crop[60:].max() == crop[:, :10].max() == crop[:, 60:].max() == 0
    assert cut(image, (100, 100, 120, 120), 16).max() == 0
    assert cut(image, (0, 0, 50, 40), 17).min() == 200  # and within it no black is mixed in


@pytest.mark.parametrize("size", [40, 150])
def test_a_dot_lies_in_the_crop_where_to_crop_says(size):
    """Shrunk and enlarged, in a box that is on no pixel and reaches out of the image."""
    points = np.array([[40.3, 55.8], [70.0, 20.5], [85.2, 90.1]])
    box = (21.7, 8.3, 105.9, 103.6)
    crop, there = cut(spots(points, radius=4), box, size), to_crop(points, box, size)
    for point in there:
        np.testing.assert_allclose(centre_of_light(crop, point, 12 * size / 90), point, atol=0.06)
    np.testing.assert_allclose(from_crop(there, box, size), points, atol=1e-9)
    assert (
        to_crop(points.astype(np.float32), box, size).dtype == np.float32
        and to_crop(points.round().astype(int), box, size).dtype == np.float64
    )


def test_fine_stripes_become_grey_when_they_shrink_instead_of_other_stripes():
    image = np.repeat(((np.arange(400) % 4 < 2) * 255).astype(np.uint8)[None, :, None], 400, 0).repeat(3, 2)
    crop = cut(image, (3.3, 0, 397.1, 393.8), 50)
    assert np.abs(crop[5:-5, 5:-5].astype(float) - 127.5).max() < 12


def test_the_landmark_box_is_that_of_3ddfa():
    x0, y0, x1, y1 = landmark_box(np.array([[10.0, 20.0], [30.0, 60.0], [np.nan, 500.0]]))
    side = 40 * np.sqrt(2)
    np.testing.assert_allclose([x0, y0, x1, y1], [20 - side / 2, 40 - side / 2, 20 + side / 2, 40 + side / 2])


@pytest.mark.parametrize("box", [(10, 10, 10, 20), (np.nan, 0, 1, 1), (0, 0, 1e9, 1e9), (20, 0, 10, 5)])
def test_a_box_that_cannot_be_cut_is_refused(box):
    with pytest.raises(ValueError, match="box"):
        cut(np.zeros((30, 30, 3), np.uint8), box, 10)


@pytest.mark.parametrize("points", [[[np.nan, 1.0]], [[2.0, 3.0], [2.0, 3.0]]])
def test_a_box_around_fewer_than_two_points_is_refused(points):
    with pytest.raises(ValueError, match="two different points"):
        landmark_box(np.array(points))


def test_pictures_are_turned_as_their_tag_says_and_become_rgb(tmp_path):
    image = Image.fromarray(np.full((10, 20), 77, np.uint8))
    tag = Image.Exif()
    tag[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=tag)
    got = read_picture(tmp_path / "a.jpg")
    assert got.shape == (20, 10, 3) and abs(got.astype(int) - 77).max() < 3
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:300])
    with pytest.raises(InputError, match=r"b.jpg: not a readable picture"):
        read_picture(tmp_path / "b.jpg")


# ---------------------------------------------------------------------------------------------------------------------- shuffled


def numbered(count):
    """Faces that can be told apart: the first byte is the number."""
    image = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    image[:, 0, 0, 0] = torch.arange(count)
    return FaceBatch(
        image, landmarks=torch.arange(count).float()[:, None, None].expand(-1, 5, 2), person=torch.arange(count)
    )


def test_every_epoch_has_every_face_once_in_another_order():
    store = Shuffled(numbered(10))
    first, second = (store(3, 10 * k, range(10)).person.tolist() for k in range(2))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert store(4, 0, range(10)).person.tolist() != first


def test_a_batch_is_found_by_its_numbers_alone():
    """Also across the end of an epoch, and by another process that saw no batch before."""
    store = Shuffled(numbered(10))
    store(3, 50, range(4))
    a, b = store(3, 7, range(6)), FaceBatch.concatenate([Shuffled(numbered(10))(3, 7 + k, range(1)) for k in range(6)])
    assert torch.equal(a.person, b.person)
    assert (
        a.image.dtype == torch.float32
        and torch.equal((a.image[:, 0, 0, 0] * 255).round().long(), a.person)
        and a.image.max() <= 1
    )
    assert torch.equal(a.landmarks[:, 0, 0].long(), a.person)


def test_rendered_samples_are_those_of_the_source(model):
    source = Synthetic(model, 32)
    cached, direct = (
        Cached(source, 1, 6, block=4, progress=False),
        FaceBatch.concatenate([source(1, 0, range(4)), source(1, 1, range(2))]),
    )
    got = cached(0, 0, range(6))
    where = [int((direct.identity - i).abs().sum(1).argmin()) for i in got.identity]
    assert sorted(where) == list(range(6))
    assert (got.image - direct.image[where].clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6 and got.mask is None


def test_a_store_wants_bytes_and_at_least_one_face():
    with pytest.raises(ValueError, match="uint8"):
        Shuffled(FaceBatch(torch.zeros(2, 3, 4, 4)))
    with pytest.raises(ValueError, match="at least one"):
        Shuffled(FaceBatch(torch.zeros(0, 3, 4, 4, dtype=torch.uint8)))


# ------------------------------------------------------------------------------------------------------------------- kept on disk


def samples_of(count, bad=(), calls=None):
    def samples():
        for k in range(count):
            if calls is not None:
                calls.append(k)
            if k in bad:
                yield f"{k}.jpg", InputError(f"{k}.jpg: broken")
            else:
                yield (
                    f"{k}.jpg",
                    {"image": np.full((3, 4, 4), k, np.uint8), "landmarks": np.full((5, 2), k, np.float32)},
                )

    return samples


def test_kept_crops_are_mapped_from_a_file_and_not_made_again(tmp_path):
    file, calls = tmp_path / "data.zip", []
    file.write_bytes(b"1")
    made, again = (
        collect_samples("set", [file], {"size": 4}, samples_of(7, calls=calls), tmp_path / "kept") for _ in range(2)
    )
    assert len(calls) == 7
    images = next((tmp_path / "kept").glob("faces-*/images.bin"))
    assert images.stat().st_size == 7 * 48
    if Path("/proc/self/maps").exists():
        assert str(images) in Path("/proc/self/maps").read_text()
    for faces in (made, again, collect_samples("set", [], {}, samples_of(7), None)):
        assert (
            faces.image.dtype == torch.uint8
            and faces.image[:, 0, 0, 0].tolist() == list(range(7))
            and faces.landmarks[:, 0, 0].tolist() == list(range(7))
        )
    batch = Shuffled(again)(0, 0, range(7))
    assert torch.equal((batch.image[:, 0, 0, 0] * 255).round(), batch.landmarks[:, 0, 0])
    again.image += 1  # a private copy
    assert collect_samples("set", [file], {"size": 4}, samples_of(7, calls=calls), tmp_path / "kept").image[
        :, 0, 0, 0
    ].tolist() == list(range(7))


def test_other_files_or_settings_are_made_anew(tmp_path):
    file, calls = tmp_path / "data.zip", []
    make = lambda size: collect_samples("set", [file], {"size": size}, samples_of(2, calls=calls), tmp_path / "kept")  # noqa: E731
    file.write_bytes(b"1")
    make(4), make(4), make(5)
    assert len(calls) == 4
    before = file.stat().st_mtime_ns
    file.write_bytes(b"22")
    os.utime(file, ns=(before, before))
    make(4)
    assert len(calls) == 6
    os.utime(file, ns=(1, 1))
    make(4)
    assert len(calls) == 8
    for images in (tmp_path / "kept").glob("faces-*/images.bin"):
        images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged .*; delete it"):
        make(4)


def test_who_wants_the_same_crops_meanwhile_waits_for_them(tmp_path):
    calls = []

    def slow():
        for sample in samples_of(5, calls=calls)():
            time.sleep(0.05)
            yield sample

    with ThreadPoolExecutor(3) as pool:
        for faces in pool.map(lambda _: collect_samples("set", [], {}, slow, tmp_path / "kept"), range(3)):
            assert len(faces) == 5
    assert len(calls) == 5


KILLED = """
import sys, time
from pathlib import Path
from tests.test_data import samples_of
from facemodels.data.cache import collect_samples

def slow():
    for k, sample in enumerate(samples_of(30)()):
        if k == 20:
            Path(sys.argv[1], "half").touch()
            time.sleep(60)
        yield sample

collect_samples("set", [], {}, slow, Path(sys.argv[1], "kept"))
"""


def test_crops_are_kept_whole_or_not_at_all_when_the_process_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2])
    try:
        for _ in range(600):
            if (tmp_path / "half").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert process.poll() is None and (tmp_path / "half").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [p.suffix for p in (tmp_path / "kept").iterdir() if p.is_dir()] == [".partial"]  # it was in the middle
    faces = collect_samples("set", [], {}, samples_of(30), tmp_path / "kept")
    assert faces.image[:, 0, 0, 0].tolist() == list(range(30))
    assert not list((tmp_path / "kept").glob("*.partial"))


def test_a_failure_leaves_nothing_behind_and_a_full_disk_is_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="none of 3 pictures can be used; the first: 0.jpg: broken"):
        collect_samples("set", [], {}, samples_of(3, bad=range(3)), tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.np, "savez", full)
    with pytest.raises(InputError, match="could not be kept there .No space left on device"):
        collect_samples("set", [], {}, samples_of(3), tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_left_out_is_said_in_one_line_with_ten_names(tmp_path, kept):
    for _ in range(2):  # also when it is found again
        with pytest.warns(UserWarning) as caught:
            faces = collect_samples("set", [], {}, samples_of(30, bad=range(1, 30, 2)), tmp_path if kept else None)
        assert len(caught) == 1 and len(faces) == 15
        line = str(caught[0].message)
        assert (
            line.startswith("set: 15 of 30 pictures are left out: 1.jpg, 3.jpg, 5.jpg") and "19.jpg and 5 more" in line
        )
        assert "21.jpg" not in line and "\n" not in line


def test_a_mistake_in_a_source_is_not_taken_for_a_damaged_file():
    def wrong():
        yield "a", {"image": np.zeros((3, 4, 4), np.uint8)}
        yield "b", {"image": np.zeros((3, 5, 5), np.uint8)}

    with pytest.raises(ValueError, match="b: samples of set must have the same fields"):
        collect_samples("set", [], {}, wrong, None)


# -------------------------------------------------------------------------------------------------------------------------- AFLW


def jpg(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_aflw(path, pictures, names, points, boxes):
    with zipfile.ZipFile(path / "aflw_crops.zip", "w") as archive:
        for name, content in pictures.items():
            archive.writestr(f"AFLW_crop/{name}", content)
    labels = {"pts21": np.asarray(points, np.float32), "roi_box": np.asarray(boxes, np.uint16)}
    np.savez(path / "aflw_crops_labels.npz", names=np.array(names), yaw_deg=np.zeros(len(names)), **labels)


@pytest.fixture
def small_aflw(tmp_path):
    """Crops cut by the rule that the labels follow: pixels numbered from 1, the box's last pixel included, the box clipped to the original."""
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
            np.testing.assert_allclose(centre_of_light(faces.image[k].permute(1, 2, 0), point, 6), point, atol=0.1)


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


@pytest.mark.skipif(
    not (DATA / "aflw_crops_labels.npz").is_file(), reason="needs aflw_crops_labels.npz in FACEMODELS_DATA"
)
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


# ------------------------------------------------------------------------------------------------------------------------ folders


def five(x, y, size):
    """Five points of a face at (x, y)."""
    return np.array(
        [[x - size, y - size], [x + size, y - size], [x, y], [x - 0.7 * size, y + size], [x + 0.7 * size, y + size]]
    )


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
            np.testing.assert_allclose(centre_of_light(faces.image[k].permute(1, 2, 0), point, 9), point, atol=0.15)


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
    with pytest.raises(InputError, match="none of 1 pictures has a landmark file.*such as a.txt"):
        folder(tmp_path)


# ------------------------------------------------------------------------------------------------------------------------- videos


def write_frames(path, count, first=0, height=60, width=80, marks=False):
    """A folder of frames, black but for their middle square, which is 40 + 10 times their number and white at its sides; landmarks at a place of each."""
    path.mkdir(parents=True)
    for k in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        middle = frame[:, (width - height) // 2 : (width + height) // 2]
        middle[:], middle[:, :8], middle[:, -8:] = 40 + 10 * (first + k), 250, 250
        Image.fromarray(frame).save(path / f"{k:04d}.png")
        if marks:
            np.save(path / f"{k:04d}.npy", five(30 + k, 30, 12))


def test_frames_know_their_person_and_their_square(tmp_path):
    write_frames(tmp_path / "anna", 6)
    write_frames(tmp_path / "bert", 3, first=10)
    (tmp_path / "empty").mkdir()
    with pytest.warns(
        UserWarning,
        match="2 of 2 videos have no landmarks beside them and are cropped to the square in the middle: anna, bert",
    ) as caught:
        faces = videos(tmp_path, 32, every=2)
    assert len(caught) == 1
    assert faces.person.tolist() == [0, 0, 0, 1, 1] and faces.person.dtype == torch.int64 and faces.landmarks is None
    assert faces.image[:, 0, 16, 16].tolist() == [40, 60, 80, 140, 160]
    assert faces.image[..., [0, 2, -3, -1]].amin() > 200
    with pytest.warns(UserWarning):
        assert videos(tmp_path, 32, limit=2).image[:, 0, 0, 16].tolist() == [40, 50, 140, 150]


def test_frames_are_cut_out_around_landmarks_of_either_form(tmp_path):
    write_frames(tmp_path / "each", 3, marks=True)
    write_frames(tmp_path / "table", 3)
    table = np.stack([five(30 + k, 30, 12) for k in range(3)])
    table[1] = np.nan
    np.save(tmp_path / "table.npy", table)
    (tmp_path / "each" / "0001.npy").unlink()
    with pytest.warns(UserWarning, match="2 of 6 pictures are left out: each, frame 1, table, frame 1"):
        faces = videos(tmp_path, 40)
    assert faces.person.tolist() == [0, 0, 1, 1] and faces.visible.all()
    for got, k in zip(faces.landmarks, (0, 2, 0, 2)):
        points = five(30 + k, 30, 12)
        np.testing.assert_allclose(got, to_crop(points, landmark_box(points), 40), atol=1e-3)


def test_videos_with_and_without_landmarks_lie_beside_each_other(tmp_path):
    write_frames(tmp_path / "with", 2, marks=True)
    write_frames(tmp_path / "without", 2)
    with pytest.warns(UserWarning, match="1 of 2 videos have no landmarks.*: without$"):
        faces = videos(tmp_path, 24)
    assert faces.landmarks.shape == (4, 5, 2) and faces.visible.all(1).tolist() == [True, True, False, False]
    assert faces.landmarks[2:].isnan().all() and not faces.landmarks[:2].isnan().any()


@pytest.mark.filterwarnings("ignore")
def test_landmarks_that_do_not_fit_are_refused_or_left_out(tmp_path):
    write_frames(tmp_path / "a", 4)
    write_frames(tmp_path / "b", 4, marks=True)
    np.save(tmp_path / "a.npy", np.stack([five(30, 30, 12)] * 3))
    with pytest.warns(UserWarning, match="left out: a, frame 0; .*landmarks of 3 frames, and the folder has 4"):
        assert videos(tmp_path).person.tolist() == [1] * 4
    np.save(tmp_path / "a.npy", np.zeros((4, 7, 2)))
    with pytest.warns(UserWarning, match=r"\[T,L,2\] with L = 68, 21 or 5"):
        assert videos(tmp_path).person.tolist() == [1] * 4
    np.save(tmp_path / "a.npy", np.random.default_rng(0).uniform(10, 50, (4, 21, 2)))
    with pytest.raises(InputError, match="must all be of one kind"):
        videos(tmp_path)


def test_folders_without_videos_are_refused(tmp_path):
    for path, match in ((tmp_path / "none", "no such folder"), (tmp_path, "expected video files")):
        with pytest.raises(InputError, match=match):
            videos(path)
    with pytest.raises(InputError, match="every and limit"):
        videos(tmp_path, every=0)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # imageio's, where ffmpeg ends by itself
def test_video_files_are_read_as_their_frames_and_damaged_ones_named(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    frames = [np.full((64, 96, 3), 40 + 15 * k, np.uint8) for k in range(9)]
    iio.imwrite(tmp_path / "anna.mp4", frames, plugin="FFMPEG", fps=10)
    (tmp_path / "bert").mkdir()
    iio.imwrite(tmp_path / "bert" / "one.mp4", frames[:4], plugin="FFMPEG", fps=10)
    iio.imwrite(tmp_path / "bert" / "two.mp4", frames[4:], plugin="FFMPEG", fps=10)
    np.save(tmp_path / "anna.npy", np.stack([five(40, 30, 12)] * 9))
    (tmp_path / "carl.mp4").write_bytes(b"not a video")
    with pytest.warns(UserWarning) as caught:
        faces = videos(tmp_path, 32, every=3, limit=2)
    lines = [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    assert any("1 of 7 pictures are left out: carl.mp4, frame 0" in line for line in lines), lines
    assert any(
        "3 of 4 videos have no landmarks" in line and "bert/one.mp4, bert/two.mp4, carl.mp4" in line for line in lines
    ), lines
    assert faces.person.tolist() == [0, 0, 1, 1, 1, 1]
    assert (faces.image[:, 0, 16, 16].int() - torch.tensor([40, 85, 40, 85, 100, 145])).abs().max() < 5
    with pytest.warns(UserWarning, match="1 of 1 videos have no landmarks.*: one.mp4$"):
        assert videos(tmp_path / "bert" / "one.mp4", 32).person.tolist() == [0] * 4  # a video alone
    for number, match in ((5, "and the video has more"), (11, "and the video has 9")):
        alone = tmp_path / str(number)
        alone.mkdir()
        shutil.copy(tmp_path / "anna.mp4", alone)
        np.save(alone / "anna.npy", np.stack([five(40, 30, 12)] * number))
        with pytest.warns(UserWarning, match=f"anna.npy: landmarks of {number} frames, {match}"):
            assert len(videos(alone, 32)) == min(number, 9)


# ------------------------------------------------------------------------------------------------------------------- augmentation


@pytest.mark.parametrize("count", [68, 21, 5])
def test_mirroring_swaps_the_points_that_a_symmetric_face_swaps(model, count):
    """The mean face of the model says which these are."""
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


def some_faces(count=6, size=48):
    torch.manual_seed(3)
    points = torch.rand(count, 21, 2) * size
    points[0, 4] = torch.nan
    return FaceBatch(
        torch.rand(count, 3, size, size),
        points,
        ~points[..., 0].isnan(),
        (torch.rand(count, size, size) > 0.5).float(),
        person=torch.arange(count),
    )


def numbers(count, angle=0.0, scale=1.0, shift=(0.0, 0.0), mirrored=False):
    return (
        torch.full((count,), angle),
        torch.full((count,), scale),
        torch.tensor(shift).expand(count, 2),
        torch.full((count,), mirrored),
    )


def test_mirroring_twice_changes_nothing():
    faces = some_faces()
    once = warp_faces(faces, *numbers(6, mirrored=True))
    twice = warp_faces(once, *numbers(6, mirrored=True))
    torch.testing.assert_close(once.image, faces.image.flip(-1), rtol=0, atol=1e-4)
    torch.testing.assert_close(once.mask, faces.mask.flip(-1), rtol=0, atol=1e-4)
    for name in ("image", "mask", "landmarks", "visible", "person"):
        torch.testing.assert_close(
            getattr(twice, name), getattr(faces, name), rtol=0, atol=2e-4, equal_nan=True, msg=name
        )
    assert (
        once.landmarks[0].isnan().any(1).nonzero().tolist() == [[mirror_order(21)[4]]]
        and not once.visible[0, mirror_order(21)[4]]
    )


def test_quarter_turns_are_anticlockwise_and_exact():
    faces = some_faces()
    got = warp_faces(faces, *numbers(6, angle=np.pi / 2))
    torch.testing.assert_close(got.image, faces.image.rot90(1, (-2, -1)), rtol=0, atol=1e-3)
    torch.testing.assert_close(
        warp_faces(faces, *numbers(6, shift=(5.0, -3.0))).image[:, :, :-3, 5:],
        faces.image[:, :, 3:, :-5],
        rtol=0,
        atol=1e-3,
    )


def test_landmarks_stay_on_the_dots_that_they_label():
    """Every way of moving at once, and pictures that are not square."""
    rng = np.random.default_rng(1)
    lattice = np.stack(np.meshgrid([30, 50, 70, 90], [28, 44, 60]), -1).reshape(-1, 2)
    points = np.stack([rng.permutation(lattice)[:5] + rng.uniform(-2, 2, (5, 2)) for _ in range(12)])
    image = torch.from_numpy(np.stack([spots(p, 90, 120, 2.5) for p in points])).permute(0, 3, 1, 2) / 255
    faces = FaceBatch(image, torch.from_numpy(points).float(), torch.ones(12, 5, dtype=torch.bool))
    got = augment(faces, 0, 0, range(12), only(rotation=20, scale=0.1, shift=0.03, mirrored=0.5))
    assert (got.landmarks - faces.landmarks).abs().amax((1, 2)).min() > 3
    for picture, marks in zip(got.image, got.landmarks.numpy()):
        inside = (marks > 6).all(1) & (marks < (114, 84)).all(1)
        assert inside.sum() >= 2
        for point in marks[inside]:
            np.testing.assert_allclose(centre_of_light(picture.permute(1, 2, 0), point, 6), point, atol=0.15)


def drawn(model, faces, size):
    """What the labels of synthetic faces say that the picture shows: (image [N,3,S,S] of the face alone, face [N,S,S] bool)."""
    vertices = model.shape(faces.identity, faces.expression)
    clip = fr.camera.weak_perspective(vertices, faces.scale, faces.rotation, faces.translation, (size, size))
    normals = (fr.vertex_normals(vertices, model.topology) @ faces.rotation.transpose(1, 2)).contiguous()
    image, face_id = fr.render_face(
        clip, normals, model.albedo(faces.albedo), faces.light.contiguous(), model.topology, (size, size)
    )
    return fr.color.to_srgb(image.clamp(0, 1)).permute(0, 3, 1, 2), face_id >= 0


def test_depth_of_landmarks_is_scaled_with_the_picture_and_no_more():
    points = torch.rand(3, 68, 3, generator=torch.Generator().manual_seed(2)) * 100
    scale = torch.tensor([1.0, 1.5, 0.5])
    given = (
        FaceBatch(torch.rand(3, 3, 100, 100), points),
        torch.tensor([0.2, -0.4, 1.0]),
        scale,
        torch.tensor([[3.0, 1], [0, 0], [-5, 9]]),
        torch.tensor([False, True, True]),
    )
    got = warp_faces(*given).landmarks
    flat = warp_faces(FaceBatch(given[0].image, points[..., :2]), *given[1:]).landmarks
    depth = torch.where(given[4][:, None], points[:, mirror_order(68), 2], points[..., 2]) * scale[:, None]
    torch.testing.assert_close(got, torch.cat([flat, depth[..., None]], -1))


def test_a_moved_picture_is_what_its_moved_labels_draw(model):
    """Camera and light, by rendering again."""
    faces = Synthetic(model, 128, RandomizationConfig(occluded=0.0, degraded=0.0, background=0.0))(0, 0, range(6))
    change = only(rotation=30, scale=0.15, shift=0.06)
    got = augment(faces, 1, 0, range(6), change)
    image, face = drawn(model, got, 128)
    inside = (
        augment(replace(faces, mask=torch.ones_like(faces.mask)), 1, 0, range(6), change).mask > 0.999
    )  # of the old picture
    inner = (got.mask > 0.999) & face
    assert (got.rotation - faces.rotation).abs().amax((1, 2)).min() > 0.02 and inner.float().mean() > 0.2
    assert ((got.mask > 0.5) != face)[inside].float().mean() < 0.01
    errors = (image - got.image).abs().mean(1)
    assert errors[inner].mean() < 0.01
    assert (drawn(model, replace(got, light=faces.light), 128)[0] - got.image).abs().mean(1)[inner].mean() > 2 * errors[
        inner
    ].mean()
    points = model.landmarks(model.shape(got.identity, got.expression))
    pixels = fr.camera.to_pixels(
        fr.camera.weak_perspective(points, got.scale, got.rotation, got.translation, (128, 128)), (128, 128)
    )
    torch.testing.assert_close(pixels, got.landmarks, rtol=0, atol=2e-2)


def test_the_camera_and_light_of_a_mirrored_face_are_those_of_the_mirrored_head(model):
    """The mirrored head is drawn by mirroring vertices, triangles and colours, which coefficients cannot."""
    faces = Synthetic(model, 96, RandomizationConfig(occluded=0.0, degraded=0.0, background=0.0))(0, 0, range(4))
    vertices, albedo = model.shape(faces.identity, faces.expression), model.albedo(faces.albedo)
    known = replace(faces, identity=None, expression=None, albedo=None)
    how = numbers(4, angle=0.3, scale=0.9, shift=(4.0, -6.0), mirrored=True)
    got, inside = (
        warp_faces(known, *how),
        warp_faces(replace(known, mask=torch.ones_like(faces.mask)), *how).mask > 0.999,
    )
    topology = fr.Topology(model.faces[:, [0, 2, 1]].contiguous(), vertices.shape[1])
    vertices = vertices * torch.tensor([-1.0, 1, 1])
    clip = fr.camera.weak_perspective(vertices, got.scale, got.rotation, got.translation, (96, 96))
    normals = (fr.vertex_normals(vertices, topology) @ got.rotation.transpose(1, 2)).contiguous()
    image, face_id = fr.render_face(clip, normals, albedo, got.light.contiguous(), topology, (96, 96))
    image, inner = fr.color.to_srgb(image.clamp(0, 1)).permute(0, 3, 1, 2), (got.mask > 0.999) & (face_id >= 0)
    assert inner.float().mean() > 0.2 and ((got.mask > 0.5) != (face_id >= 0))[inside].float().mean() < 0.01
    assert (image - got.image).abs().mean(1)[inner].mean() < 0.012
    torch.testing.assert_close(torch.linalg.det(got.rotation), torch.ones(4))


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_normal_that_moves_with_its_picture_is_lit_as_before(mirrored):
    """All nine bands, which real lights hardly use."""
    normals, light = torch.nn.functional.normalize(torch.randn(5, 40, 3), dim=-1), torch.randn(5, 9, 3)
    angle = torch.linspace(-3, 3, 5)
    faces = FaceBatch(torch.zeros(5, 3, 4, 4), rotation=torch.eye(3).expand(5, 3, 3), light=light)
    got = warp_faces(faces, angle, *numbers(5, mirrored=mirrored)[1:])
    flipped = normals * torch.tensor([-1.0 if mirrored else 1.0, 1, 1])
    after = fr.lighting.sh_basis(flipped @ got.rotation.mT) @ got.light
    torch.testing.assert_close(after, fr.lighting.sh_basis(normals) @ light, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(got.rotation, fr.camera.euler_rotation(torch.stack([0 * angle, 0 * angle, angle], 1)))


def test_faces_with_coefficients_are_never_mirrored():
    faces = some_faces(40)
    faces.identity = torch.zeros(40, 3)
    got = augment(faces, 0, 0, range(40), only(mirrored=1.0))
    torch.testing.assert_close(got.image, faces.image, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="cannot be mirrored"):
        warp_faces(faces, *numbers(40, mirrored=True))


def test_an_augmented_sample_does_not_depend_on_its_batch():
    faces = some_faces(8)
    whole = augment(faces, 5, 2, range(8))
    parts = FaceBatch.concatenate([augment(faces[k : k + n], 5, 2, range(k, k + n)) for k, n in ((0, 3), (3, 5))])
    for name in ("image", "mask", "landmarks", "visible"):
        torch.testing.assert_close(
            getattr(whole, name), getattr(parts, name), rtol=1e-4, atol=1e-4, equal_nan=True, msg=name
        )
    other = augment(faces, 5, 3, range(8))
    assert (other.image - whole.image).abs().mean((1, 2, 3)).min() > 0.01
    with pytest.raises(ValueError, match="as many"):
        augment(faces, 0, 0, range(3))


def test_without_change_nothing_changes_and_the_given_faces_are_never_written_to():
    faces = some_faces()
    before = {k: v.clone() for k, v in vars(faces).items() if v is not None}
    same = augment(faces, 0, 0, range(6), only())
    torch.testing.assert_close(same.image, faces.image, rtol=0, atol=1e-3)
    augment(faces, 0, 1, range(6), AugmentConfig(covered=1.0, blurred=1.0))
    for name, value in before.items():
        torch.testing.assert_close(getattr(faces, name), value, rtol=0, atol=0, equal_nan=True)


def test_patches_cover_picture_and_mask_alike():
    faces = some_faces(60)
    faces.mask = torch.ones_like(faces.mask)
    got = augment(faces, 0, 0, range(60), only(covered=0.5, patch=0.4))
    changed = (got.image - faces.image).abs().amax(1) > 0.01
    hit = changed.flatten(1).any(1)
    assert 15 < hit.sum() < 45
    assert (
        torch.equal(got.mask.flatten(1).amin(1) < 0.5, hit) or ((got.mask.flatten(1).amin(1) < 0.5) ^ hit).sum() <= 3
    )  # a sliver at the border
    assert not changed[got.mask > 0.999].any() and changed[got.mask == 0].float().mean() > 0.9
    assert 0.005 < (1 - got.mask[hit]).mean() < 0.4 and torch.equal(got.visible, faces.visible)


@pytest.mark.parametrize(
    "name, amount",
    [("brightness", 0.2), ("contrast", 0.3), ("tint", 0.1), ("saturation", 0.3), ("grey", 1.0), ("blurred", 1.0)],
)
def test_colours_and_sharpness_change_as_they_are_named(name, amount):
    faces = some_faces(20)
    faces.image = 0.4 + 0.2 * faces.image
    got = augment(faces, 0, 0, range(20), only(blur=0.03, **{name: amount})).image
    before, after = (x.mean((2, 3)) for x in (faces.image, got))
    luma = torch.tensor([0.299, 0.587, 0.114])
    spread = got.std((2, 3)).mean(1) / faces.image.std((2, 3)).mean(1)
    gain = after / before
    if name == "brightness":
        torch.testing.assert_close(gain, gain[:, :1].expand(-1, 3), rtol=1e-2, atol=0)
        assert gain[:, 0].log().std() > 0.1 and torch.isfinite(gain).all()
    elif name == "tint":
        assert gain.log().std(1).mean() > 0.03
    elif name == "contrast":
        assert spread.min() < 0.8 and spread.max() > 1.2 and (after - before).abs().max() < 0.05
    elif name == "saturation":
        torch.testing.assert_close(
            (got * luma[:, None, None]).sum(1), (faces.image * luma[:, None, None]).sum(1), rtol=0, atol=5e-3
        )
        assert (got - faces.image).abs().mean() > 0.005
    elif name == "grey":
        assert (got.amax(1) - got.amin(1)).max() < 1e-3
    else:
        torch.testing.assert_close(after, before, rtol=0, atol=2e-2)
        assert spread.max() < 1 and spread.min() < 0.6
