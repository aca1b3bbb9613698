"""Pictures of every kind become sRGB bytes of the right values, for every command."""

import numpy as np
import pytest
from PIL import Image

from facemodels import InputError
from facemodels.cli.fit import read_photo
from facemodels.io.images import as_rgb, picture_files, read_picture
from tests.stub_method import ramps

GRAY = np.array([[0, 257, 12850], [25700, 51400, 65535]], np.uint16)  # 16-bit values of the bytes below
BYTES = np.array([[0, 1, 50], [100, 200, 255]], np.uint8)


@pytest.mark.parametrize("read", [read_picture, read_photo])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray_is_scaled_to_bytes_and_not_clipped_to_white(tmp_path, read, suffix):
    Image.fromarray(GRAY).save(tmp_path / f"gray{suffix}")
    found = read(tmp_path / f"gray{suffix}")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, BYTES[..., None].repeat(3, -1))


@pytest.mark.parametrize("read", [read_picture, read_photo])
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_every_mode_of_a_picture_is_read_as_rgb(tmp_path, read, mode):
    values = BYTES if mode != "1" else (BYTES > 60) * np.uint8(255)
    Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), values[..., None].repeat(3, -1))


@pytest.mark.parametrize("read", [read_picture, read_photo])
def test_a_picture_is_rotated_as_its_exif_tag_says(tmp_path, read):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    Image.fromarray(BYTES).convert("RGB").save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png")[..., 0], np.rot90(BYTES, -1))


@pytest.mark.parametrize("read", [read_picture, read_photo])
def test_of_an_animation_the_first_frame_is_read(tmp_path, read):
    frames = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in (40, 200)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert (read(tmp_path / "a.webp") == 40).all()


def test_a_file_that_is_no_picture_is_named_with_what_is_wrong(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a.png: not a readable picture \(its format is none that is known"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a.png: not a readable picture \(.*\); meshes end in .obj, .ply, .glb"):
        read_photo(tmp_path / "a.png")


def test_arrays_of_gray_and_with_transparency_become_rgb():
    expected = BYTES[..., None].repeat(3, -1)
    opaque = np.full((2, 3, 1), 255, np.uint8)
    for image in (BYTES, BYTES[..., None], expected, np.concatenate([expected, opaque], -1)):
        np.testing.assert_array_equal(as_rgb(image), expected)
    for wrong in (GRAY, expected[..., :2], expected[None], np.empty((0, 3, 3), np.uint8)):
        with pytest.raises(InputError, match=r"a picture is uint8 \[h,w,3\]"):
            as_rgb(wrong)


def test_pictures_of_a_folder_and_of_those_below_are_listed_by_name(tmp_path):
    (tmp_path / "below").mkdir()
    for name in ("b.JPG", "below/a.png", "a.tif", ".hidden.png", "text.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.relative_to(tmp_path).as_posix() for p in picture_files(tmp_path)] == ["a.tif", "b.JPG", "below/a.png"]


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


def test_pictures_of_every_kind_are_read_alike(tmp_path):
    picture = ramps(40, 60)
    Image.fromarray(picture).save(tmp_path / "rgb.png")
    Image.fromarray(np.dstack([picture, np.full((40, 60), 255, np.uint8)])).save(tmp_path / "rgba.png")
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(picture[..., 0].astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    turned = Image.fromarray(np.rot90(picture).copy())
    exif = turned.getexif()
    exif[274] = 6  # to be shown turned by a quarter, clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    wanted = {
        "rgb.png": picture,
        "rgba.png": picture,
        "cmyk.tif": picture,
        "grey.png": picture[..., :1].repeat(3, -1),
        "grey16.png": picture[..., :1].repeat(3, -1),
        "turned.png": picture,
    }
    for name, expected in wanted.items():
        got = read_picture(tmp_path / name)
        assert got.dtype == np.uint8 and got.shape == (40, 60, 3) and np.abs(got.astype(int) - expected).max() <= 1, (
            name
        )
