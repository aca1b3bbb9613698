"""Videos of every kind in, with the times, colors and directions that they have, and out again as they were."""

import resource
import signal
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from facemodels.core.errors import InputError
from facemodels.io import hdr
from facemodels.io.frames import orientation
from facemodels.io.video import Video, VideoFrame, is_video, open_video
from facemodels.io.video_writer import video_writers
from tests.videos import QUARTERS, make_video, probe, quarters

pytest.importorskip("av", reason="PyAV is not installed: no videos")


def read(path):
    """The video, its frames, and the error at their end or None."""
    video, frames, error = open_video(path), [], None
    try:
        for frame in video.frames:
            frames.append(frame)
    except InputError as problem:
        error = str(problem)
    return video, frames, error


def colors(image):
    """The colors in the middle of the four quarters."""
    height, width = image.shape[:2]
    return image[height // 4 :: height // 2, width // 4 :: width // 2].reshape(-1, 3)[:4].astype(int)


def check_colors(image, expected=QUARTERS, levels=2):
    assert np.abs(colors(image) - np.array(expected)).max() <= levels, colors(image)


def written(path, out):
    """Write a video out as it is, and probe it."""
    video, frames, _ = read(path)
    with video_writers([out], video) as (writer,):
        for frame in frames:
            writer.append(*frame)
    return probe(out)


# In.


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.mkv", {"codec": "ffv1", "pixels": "bgr0"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.wmv", {"codec": "wmv2", "container": "asf"}),
        ("a.mpg", {"codec": "mpeg2video", "container": "mpeg"}),
        ("a.mov", {"codec": "libx265", "pixels": "yuv420p10le"}),
        ("b.mov", {"codec": "mjpeg", "pixels": "yuvj420p"}),
    ],
)
def test_every_format_gives_the_same_pictures_and_times(tmp_path, name, options):
    video, frames, error = read(make_video(tmp_path / name, **options))
    assert error is None and len(frames) == 12 and video.notes == []
    np.testing.assert_allclose([f.time for f in frames], np.arange(12) / 25, atol=0.0011)
    check_colors(frames[0].image)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("phone.mp4", {"times": [0, 1, 2, 8, 16, 20]}),
        ("browser.webm", {"times": [0, 33, 70, 400, 900, 1400], "base": Fraction(1, 1000), "codec": "libvpx"}),
        ("screen.mkv", {"times": [0, 1000, 1001, 1002, 3000], "base": Fraction(1, 1000)}),
    ],
)
def test_a_variable_rate_keeps_its_frames_and_times_in_and_out(tmp_path, name, options):
    path = make_video(tmp_path / name, **options)
    expected = [float(t * options.get("base", Fraction(1, 25))) for t in options["times"]]
    _, frames, error = read(path)
    assert error is None
    np.testing.assert_allclose([f.time for f in frames], expected)
    found = written(path, tmp_path / "out.mp4")
    np.testing.assert_allclose(found["times"], expected)
    assert expected[-1] < found["seconds"] < expected[-1] + 0.1


@pytest.mark.parametrize(
    ("name", "sound", "kept"),
    [("a.mp4", ("aac", 2), "aac"), ("a.webm", ("libopus", 2), "opus"), ("a.mkv", ("pcm_s16le", 2), "aac")],
)
def test_sound_is_kept_and_may_last_longer_than_the_pictures(tmp_path, name, sound, kept):
    codec = "libvpx" if name.endswith("webm") else "libx264"
    path = make_video(tmp_path / name, sound=sound, codec=codec)
    video, frames, error = read(path)
    assert error is None and len(frames) == 12
    found = written(path, tmp_path / "out.mp4")
    assert len(found["times"]) == 12
    ((name, seconds),) = found["sound"]
    assert name == kept and abs(seconds - 2) < 0.1


def test_pixels_become_square_and_are_written_as_they_were(tmp_path):
    def wide(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    video, frames, _ = read(make_video(tmp_path / "wide.mp4", prepare=wide))
    assert frames[0].image.shape == (48, 93, 3) and video.notes == ["pixels of 16:11 made square"]
    check_colors(frames[0].image)
    found = written(tmp_path / "wide.mp4", tmp_path / "out.mp4")
    assert found["size"] == (64, 48) and found["aspect"] == Fraction(16, 11)

    def tall_and_turned(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(1, 2)
        stream.set_display_rotation(90)

    _, frames, _ = read(make_video(tmp_path / "tall.mp4", prepare=tall_and_turned))
    assert frames[0].image.shape == (64, 96, 3)  # 64 x 96 square ones, turned
    found = written(tmp_path / "tall.mp4", tmp_path / "out.mp4")
    assert found["size"] == (48, 64) and found["aspect"] == 2


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_videos_are_turned_and_mirrored_as_their_matrix_says(tmp_path, degrees, mirrored):
    path = make_video(tmp_path / "a.mp4", prepare=lambda s: s.set_display_rotation(degrees, mirrored, False))
    _, frames, _ = read(path)
    upright = np.rot90(quarters(), degrees // 90)  # counterclockwise
    expected = upright[:, ::-1] if mirrored else upright
    check_colors(frames[0].image, colors(np.ascontiguousarray(expected)))


def test_a_matrix_without_area_or_of_a_few_degrees_changes_nothing():
    one = 1 << 16
    for a, b, c, d in ((0, 0, 0, 0), (one, 3000, -3000, one)):
        assert orientation(np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()) == (False, False, False)
    assert orientation(None) == orientation(b"short") == (False, False, False)


def test_interlaced_frames_become_whole_ones(tmp_path):
    import av

    frames = []
    for k in range(6):  # a bar that moves between the two fields of a frame
        image = np.zeros((96, 128, 3), np.uint8)
        image[0::2, 10 + 8 * k : 30 + 8 * k], image[1::2, 14 + 8 * k : 34 + 8 * k] = 220, 220
        frames.append(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))

    def interlaced(stream):
        stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        stream.codec_context.options = {"x264-params": "tff=1", "crf": "5"}

    video, read_frames, _ = read(make_video(tmp_path / "a.mp4", frames, prepare=interlaced))
    assert video.notes == ["deinterlaced"] and len(read_frames) == 6
    assert [round(f.time * 25) for f in read_frames] == list(range(6))
    inner = read_frames[3].image[20:76, :, 0].astype(int)
    assert np.abs(np.diff(inner, axis=0)).mean() < 2  # no comb


@pytest.mark.parametrize(("tags", "transfer"), [((9, 1, 9, 16), "pq"), ((9, 1, 9, 18), "hlg"), ((9, 1, 9, 14), None)])
def test_hdr_and_wide_gamuts_become_srgb(tmp_path, tags, transfer):
    import av

    coded = np.array([[0.2, 0.2, 0.2], [0.4, 0.4, 0.4], [0.5, 0.4, 0.35], [0.55, 0.55, 0.55]])
    image = np.repeat(np.repeat(coded.reshape(2, 2, 3), 24, 0), 32, 1)
    frame = av.VideoFrame.from_ndarray((image * 65535).astype(np.uint16), format="rgb48le")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=9, src_color_range="JPEG", dst_color_range="MPEG")
    video, frames, _ = read(
        make_video(tmp_path / "a.mp4", [frame] * 3, codec="libx265", pixels="yuv420p10le", tags=tags)
    )
    expected = 255 * hdr.to_srgb(coded, transfer, "bt2020")
    check_colors(frames[0].image, expected, levels=4)
    assert video.notes == ["HDR converted to SDR" if transfer else "wide gamut converted to sRGB"]


def test_the_curve_of_hdr_keeps_skin_and_ends_at_white():
    # BT.2408: a white sheet, 203 cd/m2, is 58 % of PQ; skin reflects about a third to a half of it.
    def pq(nits):
        power = (nits / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375

    nits = np.array([0, 20, 80, 101.5, 203, 400, 1000, 4000])
    shown = hdr.to_srgb(np.repeat(pq(nits)[:, None], 3, 1), "pq", "bt2020")[:, 0]
    expected = [0, 0.35, 0.665, 0.735]  # the sRGB of 0, 20, 80 and 101.5 of 203
    np.testing.assert_allclose(shown[:4], expected, atol=0.01)
    assert (np.diff(shown[:7]) > 0).all() and 0.8 < shown[4] < 0.95 and shown[6] > 0.995 and abs(shown[7] - 1) < 1e-9


def test_transparent_pixels_are_shown_on_white(tmp_path):
    image = np.dstack([quarters(), np.full((48, 64), 255, np.uint8)])
    image[:24, :32, 3] = 0
    video, frames, _ = read(make_video(tmp_path / "a.mov", [image] * 3, codec="png", pixels="rgba"))
    check_colors(frames[0].image, [(255, 255, 255), *QUARTERS[1:]])
    assert video.notes == ["transparency shown on white"]


def test_an_animation_with_longer_sides_than_videos_can_have_is_refused(tmp_path):
    frames = [Image.fromarray(np.full((2, 17_000, 3), 80 * k, np.uint8)) for k in range(2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="a.gif: expected frames of at most 16384 pixels a side .* 17000 x 2; make"):
        list(open_video(tmp_path / "a.gif").frames)


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libvpx"])
def test_transparency_of_vp8_and_vp9_is_shown_on_white(tmp_path, codec):
    av = pytest.importorskip("av", reason="PyAV is not installed: no videos")
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        pytest.skip(f"FFmpeg was built without {codec}, which writes such videos")
    image = np.dstack([quarters(), np.full((48, 64), 255, np.uint8)])
    image[:24, :32, 3] = 0
    images = [image, image, np.roll(image, 32, 1), np.roll(image, 24, 0)]

    def prepare(stream):
        stream.metadata["alpha_mode"] = "1"
        stream.options = {"auto-alt-ref": "0"}

    path = make_video(tmp_path / "a.webm", images, codec=codec, pixels="yuva420p", prepare=prepare)
    video, frames, error = read(path)
    assert error is None and [round(f.time, 3) for f in frames] == [0, 0.04, 0.08, 0.12]
    check_colors(frames[0].image, [(255, 255, 255), *QUARTERS[1:]])
    check_colors(frames[2].image, [QUARTERS[1], (255, 255, 255), QUARTERS[3], QUARTERS[2]], 8)
    check_colors(frames[3].image, [QUARTERS[2], QUARTERS[3], (255, 255, 255), QUARTERS[1]], 8)
    assert video.notes == ["transparency shown on white"]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_animations_are_videos_and_single_pictures_are_not(tmp_path, suffix):
    images = [Image.fromarray(np.roll(quarters(), 4 * k, 1)) for k in range(4)]
    path = tmp_path / f"a.{suffix}"
    lossless = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "avif" else {}
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 200, 300, 50], **lossless)
    assert is_video(path)
    video, frames, error = read(path)
    assert error is None and [round(f.time, 3) for f in frames] == [0, 0.1, 0.3, 0.6] and video.last == 0.05
    check_colors(frames[0].image)
    found = written(path, tmp_path / "out.mp4")
    np.testing.assert_allclose(found["times"], [0, 0.1, 0.3, 0.6])
    assert abs(found["seconds"] - 0.65) < 0.002
    images[0].save(path)
    assert not is_video(path)


def test_pages_of_a_tiff_and_source_code_are_no_videos(tmp_path):
    image = Image.fromarray(quarters())
    image.save(tmp_path / "a.tif", save_all=True, append_images=[image])
    (tmp_path / "code.ts").write_text("export const a = 1;\n")
    make_video(tmp_path / "a.ts", codec="mpeg2video", container="mpegts")
    assert [is_video(tmp_path / n) for n in ("a.tif", "code.ts", "a.ts", "missing.ts")] == [False, False, True, False]


def test_a_clock_that_runs_since_long_starts_at_zero(tmp_path):
    path = make_video(tmp_path / "a.mkv", times=[3_600_000 + 40 * k for k in range(5)], base=Fraction(1, 1000))
    _, frames, _ = read(path)
    np.testing.assert_allclose([f.time for f in frames], np.arange(5) * 0.04, atol=1e-6)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_of_a_file_that_is_cut_off_the_beginning_is_read_and_it_is_said(tmp_path, name):
    moving = [np.random.default_rng(k).integers(0, 255, (48, 64, 3)).astype(np.uint8) for k in range(40)]
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = make_video(tmp_path / name, moving, codec=codec, **({"movflags": "faststart"} if "mp4" in name else {}))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    _, frames, error = read(path)
    assert 10 <= len(frames) < 36 and f"{name}: ends after frame {len(frames)} of about 40" in error


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mp4", b"", "an empty file"),
        ("a.mp4", b"no video", "not a readable video"),
        ("a.mp4", b"#EXTM3U\n#EXTINF:1,\nother.ts\n", "not a readable video"),
        ("a.mkv", b"\x1a\x45\xdf\xa3" + bytes(100), "not a readable video"),
    ],
)
def test_a_file_that_is_no_video_is_one_sentence(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: .*{words}"):
        open_video(tmp_path / name)


def test_sound_alone_is_no_video(tmp_path):
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    (tmp_path / "a.wav").rename(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="a.mp4: not a readable video"):
        open_video(tmp_path / "a.mp4")


# Out.


@pytest.mark.parametrize(("height", "width", "matrix"), [(96, 128, 6), (720, 1280, 1)])
def test_colors_survive_writing_and_are_tagged(tmp_path, height, width, matrix):
    rng, image = np.random.default_rng(0), np.zeros((height, width, 3), np.uint8)
    rows, columns = height // 4, width // 4
    some = rng.integers(0, 256, (4, 4, 3))
    some[0, :3] = (200, 60, 40), (224, 172, 140), (90, 60, 50)
    for y in range(4):
        for x in range(4):
            image[y * rows : (y + 1) * rows, x * columns : (x + 1) * columns] = some[y, x]
    with video_writers([tmp_path / "a.mp4"], Video("test", iter(()))) as (writer,):
        for k in range(3):
            writer.append(image, k / 25)
    found = probe(tmp_path / "a.mp4")
    assert (found["matrix"], found["primaries"]) == (matrix, 1)
    _, frames, _ = read(tmp_path / "a.mp4")
    middle = frames[1].image[rows // 2 :: rows, columns // 2 :: columns].astype(int)
    assert np.abs(middle - some).max() <= 2


def test_odd_sizes_lose_a_row_and_times_that_do_not_rise_are_moved(tmp_path):
    with video_writers([tmp_path / "a.mp4"], Video("test", iter(()), time_base=Fraction(1, 25))) as (writer,):
        for time in (0, 0.04, 0.04, 0.03, 0.2):
            writer.append(quarters(49, 65), time)
    found = probe(tmp_path / "a.mp4")
    assert found["size"] == (64, 48) and [round(25 * t) for t in found["times"]] == [0, 1, 2, 3, 5]


def test_a_video_without_frames_and_one_that_fails_leave_nothing(tmp_path):
    with video_writers([tmp_path / "a.mp4"], Video("test", iter(()))):
        pass
    with pytest.raises(RuntimeError), video_writers([tmp_path / "a.mp4"], Video("test", iter(()))) as (writer,):
        writer.append(quarters(), 0.0)
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path):
    before, action = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rng = np.random.default_rng(0)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        with pytest.raises(InputError, match="a.mp4: the video cannot be written"):
            with video_writers([tmp_path / "a.mp4"], Video("test", iter(()))) as (writer,):
                for k in range(30):
                    writer.append(rng.integers(0, 255, (96, 128, 3)).astype(np.uint8), k / 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, action)
    assert list(tmp_path.iterdir()) == []


def test_frames_that_nobody_reads_to_the_end_are_let_go(tmp_path):
    import threading

    frames = open_video(make_video(tmp_path / "a.mp4", [quarters()] * 100)).frames
    assert isinstance(next(frames), VideoFrame)
    frames.close()
    assert not any(thread.name == "video" for thread in threading.enumerate())


@pytest.mark.parametrize(
    "name, codec", [("a.mp4", "libx264"), ("a.mov", "mjpeg"), ("a.mkv", "libx264"), ("a.webm", "libvpx")]
)
def test_a_last_frame_is_shown_as_long_as_its_file_says(name, codec, tmp_path):
    av = pytest.importorskip("av")
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    # Stored in another order than they are shown, these frames make the duration of an .mp4 file's stream too short.
    short = make_video(tmp_path / name, None, [0, 33, 70, 400, 900, 1400], Fraction(1, 1000), codec, pixels)
    with av.open(str(short)) as file, av.open(str(tmp_path / f"long_{name}"), "w") as copy:
        stream = file.streams.video[0]
        made = copy.add_stream_from_template(stream)
        packets = [packet for packet in file.demux(stream) if packet.size]
        last = max(packets, key=lambda packet: packet.pts)
        last.duration = round(Fraction(7, 10) / last.time_base)
        for packet in packets:
            packet.stream = made
            copy.mux(packet)
    video = open_video(tmp_path / f"long_{name}")
    assert [round(frame.time, 3) for frame in video.frames] == [0, 0.033, 0.07, 0.4, 0.9, 1.4]
    assert video.last == pytest.approx(0.7, abs=2e-3)
