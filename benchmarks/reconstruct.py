"""The speed of reconstruction: each step for one face, and a whole video from its file to the file with the overlay.

python -m benchmarks.reconstruct [--methods NAME ...] [--video FILE] [--threads N] [--json FILE] [--picture FILE]

    network    one crop, and a batch of 32, through the method to coefficients, pose and landmarks
    mesh       coefficients to the vertices of the whole head
    crop       cutting a face out of a photograph and resampling it
    detect     the detector on a photograph of 1280 x 720, and at 640 pixels, the size for frames of a video
    overlay    a face of about 300 pixels drawn over an image of 1280 x 720
    video      `facemodels reconstruct VIDEO --write overlay`, frames a second over everything: decoding (twice if the
               frames take more than 256 MiB), detection, tracking, smoothing, drawing, encoding

Medians, milliseconds; OpenCV, which runs the detector, uses as many threads. By default the methods are the shipped
weights, and the video is a photograph of scikit-image, moved about. --picture FILE draws the face of that photograph
instead: overlay, landmarks and normals, and its textured mesh from other sides.
"""

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image

import facerender as fr
from facemodels.cli.main import main as facemodels
from facemodels.core.crops import cut
from facemodels.core.drawing import BACKGROUND, to_bytes
from facemodels.methods import shipped
from facemodels.reconstruction import overlays as outputs
from facemodels.reconstruction.detect import find_faces
from facemodels.reconstruction.reconstructor import Reconstructor

from . import common


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconstruct", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="names of shipped weights, or folders of checkpoints (default: all shipped weights)",
    )
    parser.add_argument("--video", type=Path, help="default: a photograph that is moved about, 60 frames of 1280 x 720")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", help="also write the numbers here")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a photograph's face, and measure nothing")
    options = parser.parse_args(arguments)
    if options.picture:
        iio.imwrite(options.picture, picture(), quality=90)
        print(options.picture)
        return {}
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    result = {"environment": common.environment(torch.device("cpu")), "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        video = options.video or moving(Path(folder) / "moving.mp4")
        frame = next(iter(iio.imiter(video, plugin="FFMPEG")))
        for name in common.progress(options.methods or shipped.weight_names(), "methods"):
            result["runs"].append(
                {"method": Path(name).name} | measure(name, frame, video, Path(folder), options.repeat)
            )
    columns = [
        "method",
        "network_ms",
        "network_of_32_ms_a_face",
        "mesh_ms",
        "crop_ms",
        "detect_720_ms",
        "detect_360_ms",
        "overlay_ms",
        "video_frames_per_s",
    ]
    print(
        common.table(
            [{k: f"{v:.2f}" if isinstance(v, float) else v for k, v in run.items()} for run in result["runs"]], columns
        )
    )
    common.write_json(options.json, result)
    return result


@torch.no_grad()
def picture(side: int = 400) -> np.ndarray:
    """Draw the face of scikit-image's photograph, uint8 [2 side, 4 side, 3]."""
    from skimage.data import astronaut

    photo = np.asarray(Image.fromarray(astronaut()).resize((2048, 2048), Image.Resampling.LANCZOS))
    worker = Reconstructor()
    ((face,),) = worker([photo])
    model = worker.model
    pieces = [photo, *(draw(photo, [face], model) for draw in (outputs.overlay, outputs.landmarks, outputs.normals))]
    cells = [
        np.asarray(Image.fromarray(p[60:820, 520:1280]).resize((side, side), Image.Resampling.LANCZOS)) for p in pieces
    ]
    texture = outputs.photo_texture(photo, face, model)
    turned = torch.tensor([[0.05, math.radians(yaw), 0.0] for yaw in (-35, 0, 35, 60)])
    head = (face.vertices - torch.tensor([0.0, -12.0, 10.0])) @ fr.camera.euler_rotation(turned).mT - torch.tensor(
        [0.0, 0.0, 1100.0]
    )
    raster = 2 * side
    clip = fr.camera.pinhole(head, raster * 1100 / 236, (raster / 2, raster / 2), (raster, raster), 400, 2500)
    fragments = fr.rasterize(clip, model.topology, (raster, raster))
    colors = fr.texture.sample_texture(
        texture[None], fr.interpolate(model.uv[None], model.uv_faces, fragments).flatten(0, 1)[None]
    )[0].view(4, raster, raster, 3)
    colors = (
        torch.where((fragments.face_id >= 0)[..., None], colors, torch.tensor(BACKGROUND))
        .view(4, side, 2, side, 2, 3)
        .mean((2, 4))
    )
    return np.concatenate([np.concatenate(cells, 1), np.concatenate(list(to_bytes(colors.clamp(0, 1))), 1)])


def moving(path: Path, count: int = 60) -> Path:
    """Write a video of a photograph that moves."""
    from skimage.data import astronaut

    photo = np.pad(astronaut(), ((150, 150), (500, 500), (0, 0)), mode="edge")
    places = [(round(46 + 40 * np.sin(k / 9)), round(116 + 110 * np.sin(k / 14))) for k in range(count)]
    iio.imwrite(
        path, np.stack([photo[y : y + 720, x : x + 1280] for y, x in places]), plugin="FFMPEG", fps=25, codec="libx264"
    )
    return path


def measure(name, frame, video, folder, repeat) -> dict:
    worker = Reconstructor(name)
    method, model = worker.method, worker.model
    faces = worker([frame])[0]
    if not faces:
        raise SystemExit(f"{video}: no face in its first frame")
    face, size = faces[0], method.size
    crops = torch.rand(32, 3, size, size)

    @torch.no_grad()
    def timed(call):
        for _ in range(3):
            call()
        times = []
        for _ in range(repeat):
            began = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - began))
        return statistics.median(times)

    run = {
        "network_ms": timed(lambda: method.reconstruct(crops[:1])),
        "network_of_32_ms_a_face": timed(lambda: method.reconstruct(crops)) / 32,
        "mesh_ms": timed(lambda: face.vertices),
        "crop_ms": timed(lambda: cut(frame, face.crop, size)),
        "detect_720_ms": timed(lambda: find_faces(frame, longest=1280)),
        "detect_360_ms": timed(lambda: find_faces(frame, longest=640)),
        "overlay_ms": timed(lambda: outputs.overlay(frame, [face], model)),
    }
    frames = sum(1 for _ in iio.imiter(video, plugin="FFMPEG"))
    began = time.perf_counter()
    if (
        facemodels(["reconstruct", str(video), "-o", str(folder / "out"), "--write", "overlay", "--method", str(name)])
        != 0
    ):
        raise SystemExit(f"{video}: could not be reconstructed")
    return run | {"video_frames_per_s": frames / (time.perf_counter() - began), "video_frames": frames}


if __name__ == "__main__":
    main()
