"""How fast faces are reconstructed: each step for one face, and a whole video from its file to the file with the overlay.

python -m benchmarks.reconstruct [--methods NAME ...] [--video FILE] [--threads N] [--json FILE]

    network    one crop, and a batch of 32, through the method to coefficients, pose and landmarks
    mesh       coefficients to the vertices of the whole head
    crop       cutting a face out of a photograph and resampling it
    detect     the detector on a photograph of 1280 x 720 and of 640 x 360 pixels, as videos are searched
    overlay    a face of about 300 pixels drawn over a picture of 1280 x 720
    video      `facemodels reconstruct VIDEO --write overlay`: frames a second over everything: decoding twice, finding, following, smoothing, drawing, encoding

Medians, milliseconds. The methods are the weights that ship; without --video, the video is made of a photograph that scikit-image carries, moved about.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

from facemodels import outputs, weights
from facemodels.cli import main as facemodels
from facemodels.data.crops import cut
from facemodels.detect import find_faces
from facemodels.reconstruction import Reconstructor

from . import common


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reconstruct", description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="names of weights that ship, or checkpoints' folders (default: all that ship)")
    parser.add_argument("--video", type=Path, help="default: a photograph that is moved about, 60 frames of 1280 x 720")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    result = {"environment": common.environment(torch.device("cpu")), "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        video = options.video or moving(Path(folder) / "moving.mp4")
        frame = next(iter(iio.imiter(video, plugin="FFMPEG")))
        for name in common.progress(options.methods or weights.names(), "methods"):
            result["runs"].append({"method": Path(name).name} | measure(name, frame, video, Path(folder), options.repeat))
    columns = ["method", "network_ms", "network_of_32_ms_a_face", "mesh_ms", "crop_ms", "detect_720_ms", "detect_360_ms", "overlay_ms", "video_frames_per_s"]
    print(common.table([{k: f"{v:.2f}" if isinstance(v, float) else v for k, v in run.items()} for run in result["runs"]], columns))
    common.write_json(options.json, result)
    return result


def moving(path: Path, count: int = 60) -> Path:
    """A video in which a face wanders about."""
    from skimage.data import astronaut

    photo = np.pad(astronaut(), ((150, 150), (500, 500), (0, 0)), mode="edge")
    places = [(round(46 + 40 * np.sin(k / 9)), round(116 + 110 * np.sin(k / 14))) for k in range(count)]
    iio.imwrite(path, np.stack([photo[y : y + 720, x : x + 1280] for y, x in places]), plugin="FFMPEG", fps=25, codec="libx264")
    return path


def measure(name, frame, video, folder, repeat) -> dict:
    worker = Reconstructor(name)
    method, model = worker.method, worker.model
    faces = worker([frame])[0]
    if not faces:
        raise SystemExit(f"{video}: no face in its first frame")
    face, size = faces[0], method.size
    crops = torch.rand(32, 3, size, size)
    small = frame[::2, ::2].copy()

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
        "mesh_ms": timed(lambda: face.vertices(model)),
        "crop_ms": timed(lambda: cut(frame, face.crop, size)),
        "detect_720_ms": timed(lambda: find_faces(frame, longest=1280)),
        "detect_360_ms": timed(lambda: find_faces(small)),
        "overlay_ms": timed(lambda: outputs.overlay(frame, [face], model)),
    }
    frames = sum(1 for _ in iio.imiter(video, plugin="FFMPEG"))
    began = time.perf_counter()
    if facemodels(["reconstruct", str(video), "-o", str(folder / "out"), "--write", "overlay", "--method", str(name)]) != 0:
        raise SystemExit(f"{video}: could not be reconstructed")
    return run | {"video_frames_per_s": frames / (time.perf_counter() - began), "video_frames": frames}


if __name__ == "__main__":
    main()
