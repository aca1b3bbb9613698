"""Reconstruct the faces of a photo: overlay, meshes and numbers.

python examples/reconstruct.py photo.jpg -o out
"""

import argparse
from pathlib import Path

import imageio.v3 as iio

import facemodels
from facemodels.io.images import read_picture
from facemodels.reconstruction.overlays import overlay

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo", type=Path)
parser.add_argument("-o", "--output", type=Path, default=Path("out"), help="folder (default: out)")
parser.add_argument("--method", default=None, help="weights that ship, or a checkpoint (default: the best that ship)")
options = parser.parse_args()

options.output.mkdir(parents=True, exist_ok=True)
picture = read_picture(options.photo)  # uint8 [h,w,3], sRGB
worker = facemodels.Reconstructor(options.method)
(faces,) = worker([picture])
for number, face in enumerate(faces):
    pitch, yaw, roll = face.degrees
    vertices = face.vertices(worker.model)  # [V,3] millimeters, without pose
    print(f"face {number}: pitch {pitch:.1f}, yaw {yaw:.1f}, roll {roll:.1f} degrees, {len(vertices)} vertices")
    mesh = facemodels.mesh_of(worker.model, face.identity, face.expression, face.albedo)
    facemodels.write(options.output / f"face_{number}.glb", mesh)
iio.imwrite(options.output / "overlay.png", overlay(picture, faces, worker.model))
print(options.output / "overlay.png")
