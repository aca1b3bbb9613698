"""examples/render_gradients.py runs as it stands."""

import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio

ROOT = Path(__file__).parents[2]


def test_the_loss_falls_and_the_picture_shows_three_faces(tmp_path):
    out = tmp_path / "fitted.png"
    command = [
        sys.executable,
        "-W",
        "error",
        str(ROOT / "examples/render_gradients.py"),
        "--steps",
        "10",
        "-o",
        str(out),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    losses = [float(line.split()[3]) for line in ran.stdout.splitlines() if line.startswith("step")]
    assert len(losses) == 2 and losses[1] < 0.6 * losses[0]
    pixels = iio.imread(out)
    assert pixels.shape == (224, 3 * 224, 3)
    for k in range(3):
        face = pixels[:, k * 224 : (k + 1) * 224].sum(-1) > 0
        assert 0.15 < face.mean() < 0.8
