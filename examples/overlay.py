"""Draw your own overlay on a photo: the face, lit anew, with half of it left as it is.

python examples/overlay.py photo.jpg -o overlay.png
"""

import argparse
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

import facemodels
import facerender as fr
from facerender.color import to_srgb

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo", nargs="?", help="default: a photo of scikit-image")
parser.add_argument("-o", "--output", type=Path, default=Path("overlay.png"), help="picture (default: overlay.png)")
options = parser.parse_args()

if options.photo is None:
    from skimage.data import astronaut

    options.photo = astronaut()
faces = facemodels.reconstruct(options.photo)
if not faces:
    raise SystemExit("no face was found")
face = faces[0]  # the largest
model, vertices = face.model, face.vertices[None]  # [1,V,3] mm

# The camera of the face puts the mesh where the face lies in the picture.
clip = face.camera().clip(vertices)  # [1,V,4]
normals = fr.vertex_normals(vertices, model.topology) @ face.rotation.mT
light = fr.lighting.ambient_and_directional(  # from the left of the picture; linear colors
    ambient=torch.tensor([0.4, 0.4, 0.45]), direction=torch.tensor([-1.0, 0.5, 0.7]), intensity=torch.tensor([1.2] * 3)
)
image, face_id = fr.render_face(
    clip, normals, model.albedo(), light, model.topology, face.size
)  # linear colors [1,H,W,3]; face_id is -1 where there is no head

drawn = (255 * to_srgb(image[0])).numpy()
left = np.arange(face.size[1]) < float(face.landmarks[30, 0])  # of the tip of the nose
shown = ((face_id[0] >= 0).numpy() & left)[..., None]
iio.imwrite(options.output, np.where(shown, drawn, face.picture).round().astype(np.uint8))
print(face)
print(options.output)
