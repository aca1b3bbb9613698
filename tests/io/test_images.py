"""Pictures of every kind become sRGB bytes of the right values, for every command."""

import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from facemodels import InputError
from facemodels.cli.fit import read_photo
from facemodels.io import images
from facemodels.io.images import _REFUSED, PICTURE_SUFFIXES, load_picture, picture_files, read_picture
from tests.stub_method import ramps

GRAY = np.array([[0, 257, 12850], [25700, 51400, 65535]], np.uint16)  # 16-bit values of the bytes below
BYTES = np.array([[0, 1, 50], [100, 200, 255]], np.uint8)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_tiff_files_whose_0_is_white_are_no_negatives(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    given = {"uint8": 255 - BYTES, "uint16": 65535 - GRAY, "float32": 1 - GRAY / np.float32(65535)}[kind]
    tifffile.imwrite(tmp_path / "a.tif", given, photometric="miniswhite")
    np.testing.assert_allclose(read_picture(tmp_path / "a.tif"), BYTES[..., None].repeat(3, -1), atol=1)


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


def test_the_error_for_what_is_no_picture_has_a_public_name(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture at all")
    with pytest.raises(InputError) as caught:
        read_picture(tmp_path / "a.jpg")
    assert not type(caught.value).__name__.startswith("_")


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


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nope.jpg", "nope.jpg: there is no such file"),
        ("a", "a: not a readable picture (Is a directory)"),
        (
            "https://example.com/a.jpg",
            "https://example.com/a.jpg: URLs are not read; download the file, and give its path",
        ),
    ],
)
def test_what_is_no_file_is_named_without_words_of_the_system(tmp_path, monkeypatch, path, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for given in (path, Path(path)):
        with pytest.raises(InputError) as error:
            read_picture(given)
        assert str(error.value) == words


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


def test_every_suffix_that_pillow_reads_is_a_picture_unless_it_is_none():
    Image.init()
    known = {s for s, name in Image.registered_extensions().items() if name in Image.OPEN and name not in _REFUSED}
    others = {".flc", ".fli", ".cur", ".blp", ".ftc", ".ftu", ".gbr", ".iim", ".msp", ".pcd", ".pxr", ".dcx"}
    assert known - set(PICTURE_SUFFIXES) <= others | {".mpg", ".mpeg", ".pfm"}


def gray_levels(tmp_path, values, name="a.tif"):
    Image.fromarray(values).save(tmp_path / name)
    return read_picture(tmp_path / name)[..., 0]


def test_floats_and_32_bits_are_scaled_and_not_cut(tmp_path):
    share = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    expected = np.rint(255 * share)
    for top in (1, 255, 65535, 1e6):
        assert np.abs(gray_levels(tmp_path, share * np.float32(top)) - expected).max() <= 1
    share[0, 0] = np.nan
    assert gray_levels(tmp_path, share)[0, 0] == 0
    assert gray_levels(tmp_path, np.where(share < 0.1, np.float32(-0.05), share))[0, 1] == 0
    with pytest.raises(InputError, match="0 is not black"):
        gray_levels(tmp_path, -share)
    whole = share.clip(0, 1) * 1_000_000
    whole[0, 0] = 0
    assert np.abs(gray_levels(tmp_path, whole.astype(np.int32)) - expected).max() <= 1


def tiff(path, values, **options):
    pytest.importorskip("tifffile").imwrite(path, values, **options)
    return path


COLORS = np.array([[[1.0, 0.5, 0.0], [0.25, 0.75, 1.0]]]).repeat(3, 0)  # [3,2,3]


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "u4"])
@pytest.mark.parametrize("how", ["plain", "big-endian", "planes", "deflated", "opacity"])
def test_tiff_of_floats_and_32_bits_in_color(tmp_path, kind, how):
    values = COLORS if kind[0] == "f" else COLORS * (2**32 - 1)
    expected = COLORS * 255
    options = {"photometric": "rgb"}
    if how == "big-endian":
        options["byteorder"] = ">"
    elif how == "planes":
        values = np.moveaxis(values, -1, 0)
        options["planarconfig"] = "separate"
    elif how == "deflated":
        options |= {"compression": "zlib", "rowsperstrip": 1}
    elif how == "opacity":
        full = values.max()
        values = np.concatenate([values, np.array([full, 0.0])[None, :, None].repeat(3, 0)], -1)
        options["extrasamples"] = ["unassalpha"]
        expected = np.concatenate([expected[:, :1], np.full((3, 1, 3), 255)], 1)
    found = read_picture(tiff(tmp_path / "a.tif", values.astype(kind), **options))
    np.testing.assert_allclose(found, expected, atol=1)


def test_gray_tiff_of_any_numbers_is_scaled_and_turned(tmp_path):
    ramp = np.linspace(0, 1, 6).reshape(2, 3)
    for kind, top in (("f2", 1), ("f8", 255), ("u4", 2**32 - 1), ("f4", 65535)):
        path = tiff(tmp_path / "a.tif", (ramp * top).astype(kind), photometric="minisblack")
        assert np.abs(read_picture(path)[..., 1] - 255 * ramp).max() <= 1, kind
    path = tiff(tmp_path / "b.tif", ramp, photometric="minisblack", extratags=[(274, 3, 1, 6, True)])
    assert np.abs(read_picture(path)[..., 0] - np.rot90(255 * ramp, -1)).max() <= 1


LEVELS = np.array([[[0, 1, 50], [100, 200, 255]], [[7, 90, 12], [255, 0, 128]]], np.uint8)  # [2,2,3]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_tiff_of_every_type_and_layout_has_the_same_pixels(tmp_path, order, kind):
    top = 1 if kind[0] == "f" else np.iinfo(kind).max
    values = (LEVELS / 255.0 * top).round(0 if top > 1 else 9).astype(kind)
    gray = values[..., 0]
    cases = [
        ("rgb", values, {"photometric": "rgb"}, LEVELS),
        ("gray", gray, {"photometric": "minisblack"}, LEVELS[..., :1].repeat(3, -1)),
        ("white", (top - gray).astype(kind), {"photometric": "miniswhite"}, LEVELS[..., :1].repeat(3, -1)),
    ]
    for rows in (None, 1):
        planes = {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": rows}
        cases.append((f"planes of {rows}", values.transpose(2, 0, 1), planes, LEVELS))
    for name, given, options, expected in cases:
        for compression in (None, "zlib"):
            path = tiff(tmp_path / "a.tif", given, byteorder=order, compression=compression, **options)
            found = read_picture(path).astype(int)
            assert np.abs(found - expected).max() <= 1, (name, compression, found - expected)


def test_tiles_in_planes_of_16_bits_are_read(tmp_path):
    image = ramps(48, 40)
    values = (image.astype(np.uint16) * 257).transpose(2, 0, 1)
    path = tiff(tmp_path / "a.tif", values, photometric="rgb", planarconfig="separate", tile=(16, 16))
    assert np.abs(read_picture(path).astype(int) - image).max() <= 1


@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "f4"])
def test_numbers_below_0_are_black_if_few_and_else_refused_in_a_sentence(tmp_path, kind):
    top = 1 if kind == "f4" else np.iinfo(kind).max
    for lowest, said in ((-0.04, None), (-1, "a.tif: not a readable picture .its numbers go from -.* 0 is not black")):
        values = (np.array([[lowest, 0, 0.5, 1]]) * top).astype(kind)
        path = tiff(tmp_path / "a.tif", values, photometric="minisblack")
        if said is None:
            assert np.abs(read_picture(path)[0, :, 0].astype(int) - [0, 0, 127, 255]).max() <= 1
        else:
            with pytest.raises(InputError, match=said):
                read_picture(path)


def test_profile_and_premultiplied_opacity_of_a_tiff_of_numbers(tmp_path):
    colors = np.full((2, 2, 3), (200, 60, 40), np.uint8)
    swapped = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # a profile of green, red and blue
    for old, new in (
        (b"rXYZ", b"RED "),
        (b"gXYZ", b"rXYZ"),
        (b"RED ", b"gXYZ"),
        ("sRGB".encode("utf-16-be"), b"\0a" * 4),
    ):
        swapped = swapped.replace(old, new)
    shown = np.array([[[255, 0, 0, 255], [100, 0, 0, 100]]], np.float32) / 255
    path = tiff(tmp_path / "a.tif", shown, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(read_picture(path), [[[255, 0, 0], [255, 155, 155]]], atol=1)
    path = tiff(tmp_path / "b.tif", colors / np.float32(255), photometric="rgb", iccprofile=swapped)
    np.testing.assert_allclose(read_picture(path), colors[..., [1, 0, 2]], atol=4)


def test_a_large_tiff_of_floats_is_reduced(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    image, reduction = load_picture(tiff(tmp_path / "a.tif", np.ones((20, 20, 3), np.float32), photometric="rgb"))
    assert reduction == 2 and image.shape == (10, 10, 3) and image.min() == 255


def test_tiff_of_floats_that_is_not_read_is_one_sentence(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", COLORS.astype(np.float32), photometric="rgb")
    whole = path.read_bytes()
    tifffile = pytest.importorskip("tifffile")
    for tag, value, said in (
        (259, 5, "compressed by LZW, which is not read; save it without"),
        (262, 0, "a TIFF file of kind MINISWHITE with 3 channels of type float32; save it as"),
        (262, 8, "a TIFF file of kind CIELAB with"),
    ):
        path.write_bytes(whole)
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags[tag].overwrite(value)
        with pytest.raises(InputError, match=said):
            read_picture(path)
    path.write_bytes(whole[:-40])
    with pytest.raises(InputError, match="a.tif: not a readable picture"):
        read_picture(path)
    path.write_bytes(whole)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match='a.tif: TIFF files of floats, .* need tifffile: pip install "face'):
        read_picture(path)


def test_transparent_pixels_are_white_in_every_mode(tmp_path):
    image = np.full((2, 2, 4), 255, np.uint8)
    image[0, 0] = 10, 20, 30, 0
    image[1, 1] = 10, 20, 30, 255
    Image.fromarray(image).save(tmp_path / "rgba.png")
    Image.fromarray(image).convert("LA").save(tmp_path / "la.png")
    Image.fromarray(image).quantize(4).save(tmp_path / "p.png")
    for name, dark in (("rgba.png", (10, 20, 30)), ("la.png", (18, 18, 18)), ("p.png", (10, 20, 30))):
        found = read_picture(tmp_path / name)
        assert (found[0, 0] == 255).all() and np.abs(found[1, 1].astype(int) - dark).max() <= 1, name


def test_colors_of_a_profile_become_srgb(tmp_path):
    rgb = np.full((4, 4, 3), (200, 60, 40), np.uint8)
    for name, profile in (("srgb", ImageCms.createProfile("sRGB")), ("lab", None)):
        data = None if profile is None else ImageCms.ImageCmsProfile(profile).tobytes()
        Image.fromarray(rgb).save(tmp_path / f"{name}.png", icc_profile=data)
        np.testing.assert_array_equal(read_picture(tmp_path / f"{name}.png"), rgb)
    Image.fromarray(rgb).save(tmp_path / "bad.png", icc_profile=b"no profile")
    np.testing.assert_array_equal(read_picture(tmp_path / "bad.png"), rgb)
    lab = ImageCms.profileToProfile(
        Image.fromarray(rgb), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "lab.tif")
    assert np.abs(read_picture(tmp_path / "lab.tif").astype(int) - rgb).max() <= 3


def png(width, height, rows=b""):
    """A PNG of gray pixels that are all black, of few bytes, or cut off after some rows."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(rows or bytes((width + 1) * min(height, 4)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_memory_does_not_grow_with_what_a_small_file_claims(tmp_path):
    (tmp_path / "a.png").write_bytes(png(20_000, 20_000))
    webp = b"RIFF\x2e\0\0\0WEBPVP8X\x0a\0\0\0\x02\0\0\0" + (16_382).to_bytes(3, "little") * 2 + bytes(20)
    (tmp_path / "a.webp").write_bytes(webp)
    for name in ("a.png", "a.webp"):
        for read in (read_picture, load_picture):
            with pytest.raises(InputError, match=f"{name}: expected a picture, found a file of .* claims to be"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.webp", "a.png", "a.jpg", "a.bmp"])
def test_pillows_own_limit_of_pixels_is_not_that_of_pictures(tmp_path, monkeypatch, name):
    Image.fromarray(ramps()).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # an error from twice of it on
    monkeypatch.setattr(images, "MAX_PIXELS", 30_000)
    assert load_picture(tmp_path / name).reduction == 2 and Image.MAX_IMAGE_PIXELS == 1000


def test_a_200_megapixel_photo_is_read_at_a_half(tmp_path):
    # A tenth of it as an example: the limits alone decide.
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120), np.uint8)).resize((1600, 1200))
    image.save(tmp_path / "a.jpg", quality=90)
    full, (half, reduction) = read_picture(tmp_path / "a.jpg"), load_picture(tmp_path / "a.jpg", largest=500_000)
    assert full.shape == (1200, 1600, 3) and half.shape == (600, 800, 3) and reduction == 2
    assert np.abs(full.reshape(600, 2, 800, 2, 3).mean((1, 3)) - half).mean() < 1
    for name, expected in (("a.jpg", 4), ("b.png", 3), ("c.tif", 3)):
        image.save(tmp_path / name, quality=90)
        picture = load_picture(tmp_path / name, largest=220_000)
        assert picture.reduction == expected and picture.image.shape[0] == 1200 // expected, name
    tag = Image.Exif()
    tag[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=tag)
    assert load_picture(tmp_path / "turned.jpg", largest=500_000).image.shape == (800, 600, 3)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0heicmif1" + bytes(99), "HEIC"),
        ("a.jxl", b"\xff\x0a" + bytes(99), "pip install pillow-jxl-plugin"),
        ("a.nef", b"II*\0" + bytes(99), "a camera's raw file"),
        ("a.png", b"", "an empty file"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "not a readable picture"),
    ],
)
def test_pictures_that_cannot_be_read_are_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*{words}") as caught:
        read_picture(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_heic_needs_its_package_and_is_read_with_it(tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed: no HEIC pictures")
    try:
        heif.register_heif_opener()
        Image.fromarray(ramps(40, 60)).save(tmp_path / "a.heic", quality=95)
    except (OSError, ValueError, KeyError, RuntimeError):
        pytest.skip("this pillow-heif cannot write HEIC")
    assert np.abs(read_picture(tmp_path / "a.heic").astype(int) - ramps(40, 60)).mean() < 4
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InputError, match=r"a.heic: .*pip install .facerender\[heic\]"):
        read_picture(tmp_path / "a.heic")


def test_a_picture_that_is_cut_off_is_said_to_be(tmp_path):
    for name in ("a.jpg", "a.png", "a.tif", "a.webp"):
        Image.fromarray(ramps()).save(tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(InputError, match=f"{name}: not a readable picture"):
            read_picture(tmp_path / name)
    with pytest.raises(InputError, match="a.jpg: .*it is cut off"):
        read_picture(tmp_path / "a.jpg")
