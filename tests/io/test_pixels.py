"""Pictures in memory (facemodels.io.pixels)."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from facemodels import InputError
from facemodels.fitting.raster import linear_photo
from facemodels.io.images import read_picture
from facemodels.io.pixels import as_picture

RGB = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
GRAY = RGB[..., 0]


@pytest.mark.parametrize(
    "value",
    [GRAY, GRAY[..., None], GRAY[None], torch.from_numpy(GRAY), Image.fromarray(GRAY), GRAY.astype(np.uint16) * 257],
)
def test_gray_is_repeated(value):
    np.testing.assert_array_equal(as_picture(value), GRAY[..., None].repeat(3, -1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_are_read(dtype):
    picture = as_picture(torch.from_numpy(RGB).permute(2, 0, 1).to(dtype) / 255)
    assert np.abs(picture.astype(int) - RGB).max() <= (1 if dtype is torch.bfloat16 else 0)


def test_pil_images_are_rotated_as_their_exif_tag_says():
    image = Image.fromarray(RGB)
    image.getexif()[0x0112] = 6  # a quarter turn clockwise
    np.testing.assert_array_equal(as_picture(image), np.rot90(RGB, -1))


def test_pil_images_of_16_bits_keep_their_values():
    np.testing.assert_array_equal(as_picture(Image.fromarray(GRAY.astype(np.uint16) * 257))[..., 0], GRAY)


@pytest.mark.parametrize("kind", ["profile", "transparent", "float", "16 bits", "Lab"])
def test_a_pil_image_becomes_what_its_file_does(tmp_path, kind):
    image, srgb, profile = Image.fromarray(RGB), ImageCms.createProfile("sRGB"), None
    if kind == "profile":  # with red and green exchanged
        profile = (
            ImageCms.ImageCmsProfile(srgb).tobytes().replace("sRGB".encode("utf-16-be"), "GRBs".encode("utf-16-be"))
        )
        profile = profile.replace(b"rXYZ", b"none").replace(b"gXYZ", b"rXYZ").replace(b"none", b"gXYZ")
    elif kind == "transparent":
        image.putalpha(Image.fromarray(GRAY))
    elif kind == "float":
        image = Image.fromarray(GRAY.astype(np.float32) * 100)
    elif kind == "16 bits":
        image = Image.fromarray(GRAY.astype(np.uint16) * 100)
    else:
        image = ImageCms.profileToProfile(image, srgb, ImageCms.createProfile("LAB"), outputMode="LAB")
    image.save(tmp_path / "a.tif", icc_profile=profile)
    with Image.open(tmp_path / "a.tif") as opened:
        found = as_picture(opened)
    np.testing.assert_array_equal(found, read_picture(tmp_path / "a.tif"))
    if kind == "profile":
        assert np.abs(found.astype(int) - RGB[..., [1, 0, 2]]).max() <= 2


def test_the_result_does_not_change_with_what_was_given():
    given = torch.from_numpy(RGB.copy()).permute(2, 0, 1)
    assert as_picture(given, bgr=True).flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(as_picture(given, bgr=True), RGB[..., ::-1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (RGB * 1.0, r"a picture of floats is in 0\.\.1, got \d+\.\.\d+; divide it by 255"),
        (np.full((4, 4, 3), np.nan), r"got nan\.\.nan"),
        (RGB.astype(int), r"uint8, uint16 or floats in 0\.\.1, got int64 \[5, 6, 3\]"),
        (RGB[..., :2], r"got uint8 \[5, 6, 2\]"),
        (RGB[:0], r"got uint8 \[0, 6, 3\]"),
        (RGB[None, None], r"got uint8 \[1, 1, 5, 6, 3\]"),
        ("abc", "got str"),
    ],
)
def test_what_is_no_picture_is_refused_without_its_numbers(value, message):
    with pytest.raises(InputError, match=message) as error:
        as_picture(value)
    assert len(str(error.value)) < 150


@pytest.mark.parametrize(
    "low, high, words",
    [
        (0, 248, "divide it by 255"),
        (0, 60000, "divide it by 65535"),
        (-1, 1, r"\(picture \+ 1\) / 2 brings -1..1 there"),
        (-2.1, 2.6, r"undo its normalization, picture \* std \+ mean"),
        (0, np.nan, "replace the values that are not finite"),
    ],
)
def test_pictures_of_floats_in_another_range_are_refused_with_what_brings_them_to_it(low, high, words):
    picture = np.linspace(low, high, 48, dtype=np.float32).reshape(4, 4, 3)
    for read in (as_picture, linear_photo):
        with pytest.raises(InputError, match=words):
            read(picture)
