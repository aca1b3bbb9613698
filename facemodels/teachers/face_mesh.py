"""MediaPipe's face mesh (Kartynnik et al. 2019): 468 points of a face, good at lips, eyes and brows.

The network is in the npm package @mediapipe/face_mesh (Apache 2.0), which users get themselves, and runs with the
package ai-edge-litert. The larger network of the same package, with attention, has operators of its own and does not.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from facemodels.core.errors import InputError
from facemodels.core.landmarks import CHIN
from facemodels.core.progress import progress
from facemodels.io.files import input_error
from facerender._checks import brief_repr

SIZE, POINTS = 192, 468
AROUND = 1.5  # the side of a crop over that of the box around the landmarks
DATA, TABLE = "face_mesh_solution_packed_assets.data", "face_mesh_solution_packed_assets_loader.js"
NETWORK = "face_landmark.tflite"
GET = "npm pack @mediapipe/face_mesh gets it; unpack the file and give the folder"
# Its points that stand where iBUG's 17th to 67th do: brows, nose, eyes, outer and inner lips.
IBUG = (
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    *(168, 197, 5, 1, 98, 97, 2, 326, 327),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91),
    *(78, 81, 13, 311, 308, 402, 14, 178),
)

Network = Callable[[np.ndarray], tuple[np.ndarray, float]]


@brief_repr
class MeshPoints(NamedTuple):
    """What the network sees in N pictures.

    Attributes:
        points: float32 [N,468,3], pixels of the pictures, y down; z toward the viewer in the same scale, from any
            origin.
        score: float32 [N], 0..1, how likely it is a face.
    """

    points: np.ndarray
    score: np.ndarray


def load_network(package: str | Path) -> Network:
    """Load the network of 468 points.

    Args:
        package: The folder of the unpacked npm package @mediapipe/face_mesh, or face_landmark.tflite out of it.

    Returns:
        A function of a picture float32 [192,192,3] in 0..1: points [468,3] in its pixels, and the score 0..1.

    Raises:
        InputError: The package lacks the network, or ai-edge-litert is not installed.
    """
    content = _network_file(Path(package))
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise InputError(
            f'MediaPipe\'s network needs the package ai-edge-litert ({error}): pip install "facerender[teacher]"'
        ) from None
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise input_error(Path(package), "MediaPipe's face_landmark.tflite", f"another file ({error})") from None
    given, made = interpreter.get_input_details(), interpreter.get_output_details()
    sizes = {int(np.prod(output["shape"])): output["index"] for output in made}
    if [tuple(i["shape"]) for i in given] != [(1, SIZE, SIZE, 3)] or not {3 * POINTS, 1} <= sizes.keys():
        raise input_error(Path(package), f"a network of {POINTS} points in {SIZE} pixels", "another one")

    def run(picture: np.ndarray) -> tuple[np.ndarray, float]:
        interpreter.set_tensor(given[0]["index"], picture[None])
        interpreter.invoke()
        points = interpreter.get_tensor(sizes[3 * POINTS]).reshape(POINTS, 3)
        return points, 1 / (1 + math.exp(-float(interpreter.get_tensor(sizes[1]).item())))

    return run


def _network_file(path: Path) -> bytes:
    """The content of face_landmark.tflite, in a file of its own or packed in the npm package."""
    if path.is_file():
        return path.read_bytes()
    if not (path / DATA).is_file() and (path / "package" / DATA).is_file():
        path = path / "package"  # as npm packs it
    if not (path / DATA).is_file() or not (path / TABLE).is_file():
        raise InputError(f"{path}: expected the npm package @mediapipe/face_mesh, with {DATA} and {TABLE}; {GET}")
    found = re.search(r'"files":\s*(\[.*?\])', (path / TABLE).read_text(errors="replace"), re.DOTALL)
    try:
        files = {Path(f["filename"]).name: (f["start"], f["end"]) for f in json.loads(found.group(1) if found else "")}
        start, end = files[NETWORK]
        content = (path / DATA).read_bytes()[start:end]
    except (ValueError, KeyError, TypeError):
        raise input_error(path / TABLE, f"a table of packed files with {NETWORK}", "none") from None
    if len(content) != end - start:
        raise input_error(path / DATA, f"{end} bytes or more, as its table says", "a file that is cut off")
    return content


def predict_mesh(network: Network, images: np.ndarray, landmarks: np.ndarray) -> MeshPoints:
    """Predict the 468 points in pictures whose 68 landmarks are roughly known.

    Args:
        network: See `load_network`.
        images: uint8 [N,h,w,3], sRGB.
        landmarks: [N,68,2], pixels; they say where the face is and how it leans.
    """
    points, score = np.zeros((len(images), POINTS, 3), np.float32), np.zeros(len(images), np.float32)
    for k in progress(range(len(images)), "predicting meshes"):
        to_picture, corner = _upright(landmarks[k])
        (a, b), (c, d) = to_picture
        crop = Image.fromarray(images[k]).transform(
            (SIZE, SIZE), Image.Transform.AFFINE, (a, b, corner[0], c, d, corner[1]), Image.Resampling.BICUBIC
        )
        found, score[k] = network(np.asarray(crop, np.float32) / 255)
        points[k, :, :2] = found[:, :2] @ to_picture.T + corner
        points[k, :, 2] = -found[:, 2] * math.sqrt(abs(np.linalg.det(to_picture)))
    return MeshPoints(points, score)


def _upright(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix [2,2] and the shift [2] from pixels of the network's crop, where a face is upright, to the picture."""
    # The line from chin to brows also shows in a profile how a head leans; that of the eyes does not.
    up = landmarks[[19, 24, 27]].mean(0) - landmarks[[CHIN - 1, CHIN, CHIN + 1]].mean(0)
    lean = math.atan2(up[0], -up[1])
    turn = np.array([[math.cos(lean), -math.sin(lean)], [math.sin(lean), math.cos(lean)]])
    upright = landmarks @ turn
    low, high = upright.min(0), upright.max(0)
    to_picture = turn * (AROUND * max(float((high - low).max()), 1.0) / SIZE)
    return to_picture, turn @ ((low + high) / 2) - to_picture @ np.full(2, SIZE / 2)
