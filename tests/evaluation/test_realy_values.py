"""REALY's errors on made-up files, beside those that the authors' program printed for the same files."""

import json

import numpy as np
import pytest

from facemodels import ModelData, MorphableModel
from facemodels.evaluation import realy
from tests.evaluation.sphere_scans import FACES, RADIUS, UNIT, Stub, cube_sphere, parse, placed, write_picture

# Errors of nose, mouth, forehead and cheek, mm, by identity and expression of the prediction. Printed by
# github.com/czh-98/REALY at commit 3f13e9adcac8cbcfd4ac7db23e2c7c4f63174e8a with Python 3.11.7, numpy 2.1.3,
# scipy 1.17.1, trimesh 5.2.0, rtree 1.4.1, and CHOLMOD of sksparse-minimal 0.3 in place of scikit-sparse.
THEIRS = {
    ((2.0, 3.0), 4.0): [1.2234612, 0.794157, 4.1116316, 0.9525099],
    ((-3.0, -2.0), -8.0): [0.9113547, 1.0562617, 2.4763248, 2.4006059],
    ((0.0, 6.0), -3.0): [0.5600296, 1.3150967, 6.9101355, 2.3455349],
}


def front(x, y):
    """Unit directions [N,3] of points [N] on the front of the ball, which is seen along z."""
    x, y = np.broadcast_arrays(x, y)
    return np.stack([x, y, np.sqrt(1 - x**2 - y**2)], 1)


def ellipse(count, x, y, width, height):
    angle = np.pi - np.arange(count) * 2 * np.pi / count
    return front(x + width * np.cos(angle), y + height * np.sin(angle))


def face_points():
    """Directions [85,3] of the keypoints, laid out as on a face."""
    jaw = np.linspace(-1.3, 1.3, 17)
    return np.concatenate(
        [
            front(0.8 * np.sin(jaw), 0.1 - 0.85 * np.cos(jaw)),
            front(np.linspace(-0.6, -0.15, 5), 0.47),
            front(np.linspace(0.15, 0.6, 5), 0.47),
            front(0.0, np.linspace(0.3, -0.05, 4)),
            front(np.linspace(-0.15, 0.15, 5), -0.15),
            ellipse(6, -0.37, 0.28, 0.14, 0.06),
            ellipse(6, 0.37, 0.28, 0.14, 0.06),
            ellipse(12, 0.0, -0.43, 0.26, 0.11),
            ellipse(8, 0.0, -0.43, 0.18, 0.04),
            front(np.array([0, 0, -0.22, 0.22, 0, 0, 0, 0, -0.5, 0.5, 0, 0, 0, 0, 0, 0, 0]), -0.1),
        ]
    )


def lumpy(unit):
    """A ball with lumps, mm, at directions [N,3]."""
    x, y, z = unit.T
    radius = RADIUS + 2 * np.sin(3 * x + 1) + 1.5 * np.sin(4 * y - 1) + np.cos(5 * z + 2 * x)
    along = np.stack([np.sin(2 * z), np.cos(3 * x), np.sin(2 * y + x)], 1)
    return placed(radius[:, None] * unit + 1.5 * along, shift=(10.0, -20.0, 30.0))


def write_mesh(path, vertices, faces=()):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"v {x:.9f} {y:.9f} {z:.9f}\n" for x, y, z in vertices]
    path.write_text("".join(lines + [f"f {a} {b} {c}\n" for a, b, c in np.asarray(faces, int).reshape(-1, 3) + 1]))


def write_data(folder):
    """Write the lumpy ball as scan 3, in units of 10 mm, and the ball's keypoints as REALY's file of a mesh."""
    unit, faces = cube_sphere(20)
    x, y, z = unit.T
    parts = {
        "nose": (np.abs(x) < 0.28) & (np.abs(y - 0.07) < 0.33),
        "mouth": (np.abs(x) < 0.4) & (np.abs(y + 0.43) < 0.25),
        "forehead": (np.abs(x) < 0.75) & (y > 0.15),
        "cheek": (np.abs(x) < 0.8) & (np.abs(x) > 0.2) & (np.abs(y + 0.2) < 0.35),
    }
    for name, inside in parts.items():
        used, triangles = np.unique(faces[(inside & (z > 0))[faces].all(1)], return_inverse=True)
        write_mesh(folder / "REALY_scan_region" / "3" / f"{name}.obj", lumpy(unit[used]) / 10, triangles)
    write_mesh(folder / "REALY_HIFI3D_keypoints" / "3.obj", lumpy(face_points()) / 10)
    (folder / "metrical_scale.txt").write_text("1\n2\n10\n")
    write_picture(folder / "REALY_image" / "3.png")
    triangles, weights = corners()
    rows = [[int(triangle), *row[:2]] for triangle, row in zip(triangles, weights)]
    (folder / "ball.txt").write_text(json.dumps(rows))
    return folder


def corners():
    """Where the keypoints lie on the prediction, a ball of flat triangles: triangles [85], weights [85,3]."""
    weights = np.einsum("nk,fkc->nfc", face_points(), np.linalg.inv(UNIT[FACES]))  # of all triangles' corners
    triangles = weights.min(2).argmax(1)
    weights = weights[np.arange(len(weights)), triangles]
    return triangles, weights / weights.sum(1, keepdims=True)


def model():
    """Identity: millimeters of radius, and waves; expression: longer along y."""
    triangles, weights = corners()
    waves = UNIT * np.sin(5 * UNIT[:, :1] - 2 * UNIT[:, 1:2])
    return MorphableModel(
        ModelData(
            "ball",
            RADIUS * UNIT,
            np.stack([UNIT, waves]),
            (UNIT * [0, 1, 0])[None],
            FACES,
            landmark_index=FACES[triangles[:68]],
            landmark_weights=weights[:68],
        )
    )


@pytest.mark.parametrize("identity, expression", THEIRS)
def test_errors_of_regions_are_those_of_the_authors_program(identity, expression, tmp_path):
    data = write_data(tmp_path)
    options = parse(realy, "--keypoints", str(data / "ball.txt"))
    found = realy.run(Stub(list(identity), expression=expression, model=model()), data, options).results
    errors = [found[f"frontal_{region}_mm"] for region in ("nose", "mouth", "forehead", "cheek")]
    assert errors == pytest.approx(THEIRS[identity, expression], rel=1e-4)  # measured: at most 1.1e-6
