"""Fit the built-in model to 68 landmarks and the pixels of a picture.

python examples/fit.py -o fitted.png    # renders a random face, fits the model to it, shows both
"""

import argparse

import torch

import facemodels
import facerender as fr
from facemodels.core.alignment import similarity
from facemodels.core.camera import Camera

SIZE = 256  # pixels

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-o", "--output", help="write the picture and the fitted face side by side")
parser.add_argument("--iterations", type=int, default=60, help="steps of the photometric stage (default: 60)")
options = parser.parse_args()

model = facemodels.load_model("builtin")


def draw(camera: Camera, identity: torch.Tensor, expression: torch.Tensor, albedo: torch.Tensor) -> torch.Tensor:
    """Linear image [1,S,S,3]."""
    vertices = model.shape(identity, expression)  # [1,V,3] millimeters
    normals = fr.vertex_normals(vertices, model.topology) @ camera.rotation.mT
    light = fr.lighting.studio()
    image, _ = fr.render_face(
        camera.clip(vertices), normals, model.albedo(albedo), light, model.topology, (SIZE, SIZE), torch.full((3,), 0.1)
    )
    return image


generator = torch.Generator().manual_seed(0)
person, smile = torch.randn(1, model.num_identity, generator=generator), torch.zeros(1, model.num_expression)
skin = torch.randn(1, model.num_albedo, generator=generator)
rotation = fr.camera.euler_rotation(torch.tensor([[0.1, 0.4, 0.0]]))  # pitch, yaw, roll in radians
camera = Camera(torch.tensor([1.0]), rotation, torch.zeros(1, 2), (SIZE, SIZE), (SIZE / 2, SIZE / 2))  # 1 pixel per mm
photo = fr.color.to_srgb(draw(camera, person, smile, skin).clamp(0, 1))[0]
landmarks = camera.pixels(model.landmarks(model.shape(person, smile)))[0]  # [68,2] pixels, y down

fit = facemodels.fit_image(photo, landmarks, model, contour="static", iterations=options.iterations, progress=False)
true = model.shape(person, smile)[0, model.regions["face"]]


def error(vertices: torch.Tensor) -> float:
    """Millimeters, after alignment: this camera leaves the size open, so unaligned vertices say little of the shape."""
    face = vertices[0, model.regions["face"]]
    return float((similarity(face, true)(face) - true).norm(dim=-1).median())


print(
    f"landmarks: {fit.landmark_error:.2f} pixels; shape: {error(model.shape(fit.identity, fit.expression)):.2f} mm off "
    f"(the mean face: {error(model.mean[None]):.2f} mm)"
)

if options.output:
    import imageio.v3 as iio

    fitted = fr.color.to_srgb(draw(fit.camera, fit.identity, fit.expression, fit.albedo).clamp(0, 1))[0]
    iio.imwrite(options.output, (torch.cat([photo, fitted], 1) * 255).round().byte().numpy())
    print(options.output)
