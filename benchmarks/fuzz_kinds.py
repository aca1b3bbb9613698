"""What `benchmarks.fuzz` damages: sample files of each kind, and the command that reads them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import fuzz_data, fuzz_meshes, fuzz_training
from benchmarks.fuzz_data import Run


class Kind(NamedTuple):
    """A kind of files.

    Attributes:
        samples: Writes whole files into a folder, and yields their paths.
        command: Loads the command, and returns what runs it.
    """

    samples: Callable[[Path], Iterator[Path]]
    command: Callable[[], Run]


def _scene(height: int = 48, width: int = 64) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(rows / (3 + k) + columns / (5 - k) + k) for k in range(3)]
    return np.stack(waves, -1).astype(np.uint8)


def _pictures(folder: Path) -> Iterator[Path]:
    from PIL import Image

    rgb = Image.fromarray(_scene())
    gray = np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64)
    exif = Image.Exif()
    exif[0x0112] = 6
    saved: list[tuple[str, Image.Image, dict[str, Any]]] = [
        ("a.jpg", rgb, {"exif": exif}),
        ("progressive.jpg", rgb, {"progressive": True}),
        ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("a.png", rgb, {}),
        ("palette.png", rgb.quantize(16), {}),
        ("deep.png", Image.fromarray((gray * 65535).astype(np.uint16)), {}),
        ("a.gif", rgb, {}),
        ("a.webp", rgb, {}),
        ("lossless.webp", rgb.convert("RGBA"), {"lossless": True}),
        ("a.tif", rgb, {"compression": "tiff_lzw"}),
        ("raw.tif", rgb, {}),
        ("float.tif", Image.fromarray(gray), {}),
        ("a.bmp", rgb, {}),
        ("a.avif", rgb, {}),
        ("a.jp2", rgb, {}),
        ("a.tga", rgb, {"compression": "tga_rle"}),
        ("a.qoi", rgb, {}),
        ("a.ppm", rgb, {}),
        ("a.pcx", rgb, {}),
        ("a.sgi", rgb, {}),
        ("a.ico", rgb, {}),
        ("a.dds", rgb, {}),
    ]
    try:
        import tifffile

        colors = _scene().astype(np.float32) / 255
        tifffile.imwrite(folder / "colors.tif", colors, photometric="rgb")
        tifffile.imwrite(folder / "half.tif", colors.astype(np.float16), photometric="rgb", compression="zlib")
        tifffile.imwrite(folder / "tiles.tif", colors[..., 0].astype(np.float64), tile=(16, 16), compression="zlib")
        yield from (folder / name for name in ("colors.tif", "half.tif", "tiles.tif"))
    except ImportError:
        pass
    try:
        from pillow_heif import register_heif_opener

        register_heif_opener()
        saved.append(("a.heic", rgb, {}))
    except ImportError:
        pass
    for name, image, options in saved:
        try:
            image.save(folder / name, **options)
        except (OSError, KeyError, ValueError):  # this Pillow was built without that format
            continue
        yield folder / name


def _videos(folder: Path) -> Iterator[Path]:
    import av
    from PIL import Image

    frames = [np.roll(_scene(), 3 * k, 1) for k in range(6)]
    kinds = [
        ("a.mp4", "libx264", "yuv420p", "aac"),
        ("deep.mp4", "libx265", "yuv420p10le", None),
        ("a.webm", "libvpx", "yuv420p", "libopus"),
        ("b.webm", "libvpx-vp9", "yuv420p", None),
        ("alpha.webm", "libvpx", "yuva420p", None),
        ("alpha9.webm", "libvpx-vp9", "yuva420p", None),
        ("a.mkv", "ffv1", "bgr0", "pcm_s16le"),
        ("a.avi", "mpeg4", "yuv420p", "mp2"),
        ("a.mpg", "mpeg2video", "yuv420p", None),
        ("a.ts", "mpeg2video", "yuv420p", "mp2"),
        ("a.wmv", "wmv2", "yuv420p", None),
        ("a.flv", "flv", "yuv420p", None),
        ("alpha.mov", "png", "rgba", None),
        ("prores.mov", "prores_ks", "yuva444p10le", None),
        ("motion.mov", "mjpeg", "yuvj420p", None),
    ]
    for number, (name, codec, pixels, sound) in enumerate(kinds):
        container = {"ts": "mpegts", "mpg": "mpeg", "wmv": "asf"}.get(name[-3:].lstrip("."))
        options = {"movflags": "faststart"} if number % 2 == 0 and name.endswith(("mp4", "mov")) else {}
        with av.open(str(folder / name), "w", format=container, options=options) as file:
            stream = file.add_stream(
                codec, rate=25, options={"x265-params": "log-level=none"} if "265" in codec else {}
            )
            stream.height, stream.width, stream.pix_fmt = 48, 64, pixels
            if name.startswith("alpha"):
                stream.metadata["alpha_mode"] = "1"
            if name == "alpha.webm":
                stream.options = {"auto-alt-ref": "0"}
            if name == "deep.mp4":
                context = stream.codec_context
                context.colorspace, context.color_range, context.color_primaries, context.color_trc = 9, 1, 9, 16
            if name == "a.mp4":
                stream.set_display_rotation(90)
                stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
            heard: Any = file.add_stream(sound, rate=48_000) if sound else None
            if heard is not None:
                heard.layout = "mono"
            for pixel in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixel, format="rgb24").reformat(format=pixels)))
            file.mux(stream.encode(None))
            for start in range(0, 11_520 if heard is not None else 0, 960):
                silent = np.zeros((1, 960), np.float32)
                part = av.AudioFrame.from_ndarray(silent, format="fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = 48_000, start, Fraction(1, 48_000)
                file.mux(heard.encode(part))
            if heard is not None:
                file.mux(heard.encode(None))
        yield folder / name
    images = [Image.fromarray(frame) for frame in frames]
    for name in ("a.gif", "a.webp", "a.png", "a.avif"):
        images[0].save(folder / name, save_all=True, append_images=images[1:], duration=[40, 100] * 3)
        yield folder / name


def _reconstruct() -> Run:
    """`facemodels reconstruct FILE`."""
    _keep_method()
    from facemodels.cli.main import main

    return lambda path, out: main(["reconstruct", str(path), "-o", str(out), "--write", "landmarks"])


def _known(option: str) -> Run:
    """`facemodels reconstruct photo.png --landmarks FILE` or `--boxes FILE`."""
    _keep_method()
    return fuzz_data.with_known_faces(option)


def _keep_method() -> None:
    """Let `facemodels reconstruct` load its method once, and find one face, always the same, in every picture."""
    import torch

    from facemodels.cli import reconstruct, reconstruct_photos
    from facemodels.core.parameters import FaceParameters
    from facemodels.reconstruction import reconstructor, search
    from facemodels.reconstruction.detect import Detection
    from facemodels.reconstruction.face import Face
    from facemodels.reconstruction.views import View

    worker = reconstructor.Reconstructor("pgn")
    predicted = worker.method.reconstruct(torch.zeros(1, 3, worker.method.size, worker.method.size))

    def predict(images: torch.Tensor) -> FaceParameters:
        return predicted.select(torch.zeros(len(images), dtype=torch.long))

    # The network would take half of the time.
    worker.method.reconstruct = predict  # type: ignore[method-assign,assignment]
    reconstruct.Reconstructor = lambda *_: worker  # type: ignore[misc,assignment]

    def find(image: np.ndarray, *_: object, **__: object) -> list[Detection]:
        height, width = image.shape[:2]
        half = min(height, width) / 4
        box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        return [Detection(box, 0.9, np.zeros((5, 2)))]

    def follow(frames: Iterable[np.ndarray], *_: object) -> Iterator[list[Face]]:
        for image in frames:
            box = find(image)[0].box
            yield [replace(worker.predict([image], [View(0, box, 0.0, box, 0.9)])[0], track=0)]

    search.find_faces = find
    worker.follow = follow  # type: ignore[method-assign,assignment]
    reconstructor.confidences = lambda crops, views: [0.9] * len(crops)
    doubt = reconstruct_photos.landmark_doubt
    reconstruct_photos.landmark_doubt = lambda *given: doubt(*given) and None  # its faces never have the landmarks


KINDS = {
    "meshes": Kind(fuzz_meshes.samples, fuzz_meshes.draw),
    "pictures": Kind(_pictures, _reconstruct),
    "videos": Kind(_videos, _reconstruct),
    "landmarks": Kind(fuzz_data.landmarks, lambda: _known("--landmarks")),
    "boxes": Kind(fuzz_data.boxes, lambda: _known("--boxes")),
    "coefficients": Kind(fuzz_data.coefficients, fuzz_data.transfer),
    "models": Kind(fuzz_data.models, fuzz_data.convert),
    "settings": Kind(fuzz_training.settings, fuzz_training.train_with_settings),
    "checkpoints": Kind(fuzz_training.checkpoint_files, fuzz_training.resume_from_damaged),
}
