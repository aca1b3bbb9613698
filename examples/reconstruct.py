"""Reconstruct the faces of a photo: overlay, meshes and numbers.

python examples/reconstruct.py photo.jpg -o out
"""

import argparse
from pathlib import Path

import imageio.v3 as iio

import facemodels

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo", type=Path)
parser.add_argument("-o", "--output", type=Path, default=Path("out"), help="folder (default: out)")
parser.add_argument("--method", default=None, help="weights that ship, or a checkpoint (default: the best that ship)")
options = parser.parse_args()

options.output.mkdir(parents=True, exist_ok=True)
faces = facemodels.reconstruct(options.photo, options.method)
if not faces:
    raise SystemExit(f"{options.photo}: no face was found")
for number, face in enumerate(faces):
    pitch, yaw, roll = face.degrees  # up, to the left of the picture, clockwise
    print(f"face {number}: pitch {pitch:.1f}, yaw {yaw:.1f}, roll {roll:.1f} degrees, {len(face.vertices)} vertices")
    if face.model.blendshapes:  # ARKit's, as of the weights that ship
        smile = (face.arkit["mouthSmileLeft"] + face.arkit["mouthSmileRight"]) / 2
        print(f"  smile {smile:.2f} of 1, found with a confidence of {face.confidence:.2f}")
    face.mesh().save(options.output / f"face_{number}.glb")
iio.imwrite(options.output / "overlay.png", facemodels.overlay(faces[0].picture, faces))
print(options.output / "overlay.png")
