"""Fit the built-in model to a photo by gradient descent: torch.optim on landmarks and pixels, through the renderer.

python examples/fit_gradients.py photo.jpg -o fitted.png    # the photo, the first guess and the fit, side by side

Landmarks and the first guess come from the network; `facemodels.fit_image` does the same job with more care.
"""

import argparse

import imageio.v3 as iio
import numpy as np
import torch

import facemodels
import facerender as fr

SIZE = 224  # pixels a side of the crop that is fitted

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("photo", help="a photo of a face")
parser.add_argument("-o", "--output", default="fitted.png", help="the picture (default: fitted.png)")
parser.add_argument("--steps", type=int, default=150, help="steps of the optimizer (default: 150)")
options = parser.parse_args()

faces = facemodels.reconstruct(options.photo)
if not faces:
    raise SystemExit(f"{options.photo}: no face was found")
face, model = faces[0], facemodels.load_model("builtin")

# A square around the landmarks becomes the picture, linear [1,S,S,3].
points = face.landmarks[:, :2]
low, side = points.amin(0), 1.5 * (points.amax(0) - points.amin(0)).max()
corner = (points.amax(0) + low - side) / 2
columns, rows = (((torch.arange(SIZE) + 0.5) * side / SIZE + c).long().clamp(min=0) for c in corner)
pixels = torch.from_numpy(np.array(iio.imread(options.photo)[..., :3]))
photo = pixels[rows.clamp(max=len(pixels) - 1)[:, None], columns.clamp(max=pixels.shape[1] - 1)]
photo = fr.color.to_linear(photo[None].float() / 255)
marks = (points - corner) * SIZE / side  # [68,2] pixels of the crop

# What is moved, in units in which steps of one size suit all: pose, coefficients, albedo, light.
start = {
    "identity": torch.zeros(1, model.num_identity),
    "expression": face.expression[None].clone(),
    "albedo": torch.zeros(1, model.num_albedo),
    "angles": fr.camera.euler_angles(face.rotation[None]),  # pitch, yaw, roll in radians
    "scale": (face.scale * SIZE / side).log(),  # pixels to a millimeter
    "place": (face.translation - corner) * SIZE / side,  # pixels
    "light": fr.lighting.studio(),  # [1,9,3]
}
rates = {
    "identity": 0.03,
    "expression": 0.01,
    "albedo": 0.05,
    "angles": 0.01,
    "scale": 0.01,
    "place": 0.3,
    "light": 0.02,
}
# Pixels that count: those of the face below the brows, since hair lies over foreheads.
brow = model.landmarks(model.mean[None])[0, 17:27, 1].max()
skin = torch.zeros(model.num_vertices, dtype=torch.bool)
skin[model.regions["face"]] = True
skin &= model.mean[:, 1] < brow
counted = torch.cat([skin[model.faces.long()].all(1), torch.tensor([False])])  # the last is that of no face, -1
free = {name: value.clone().requires_grad_() for name, value in start.items()}


def render(p: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Linear image [1,S,S,3] over the photo, face ids, and the 68 landmarks in pixels."""
    vertices = model.shape(p["identity"], p["expression"].clamp(0, 1))
    rotation = fr.camera.euler_rotation(p["angles"])
    up = torch.stack([p["place"][0], SIZE - p["place"][1]])[None]  # from the lower left corner
    clip = fr.camera.weak_perspective(vertices, p["scale"].exp()[None], rotation, up, (SIZE, SIZE))
    normals = fr.vertex_normals(vertices, model.topology) @ rotation.mT
    size = (SIZE, SIZE)
    image, ids = fr.render_face(clip, normals, model.albedo(p["albedo"]), p["light"], model.topology, size, photo)
    turned = model.landmarks(vertices, rotation) @ rotation.mT
    landmarks = p["place"] + p["scale"].exp() * turned[0, :, :2] * torch.tensor([1.0, -1.0])
    return image, ids, landmarks


optimizer = torch.optim.Adam([{"params": [value], "lr": rates[name]} for name, value in free.items()])
with torch.no_grad():
    first = render(free)[0]
for step in range(options.steps + 1):
    image, ids, landmarks = render(free)
    photometric = (image - photo)[counted[ids.long()]].abs().mean()
    distance = (landmarks - marks).norm(dim=-1).mean()
    prior = free["identity"].square().mean() + free["albedo"].square().mean() + free["expression"].square().mean()
    if step % 50 == 0 or step == options.steps:
        print(f"step {step:3d}  pixels {photometric.item():.4f}  landmarks {distance.item():.2f} pixels")
    optimizer.zero_grad()
    (10 * photometric + 0.3 * distance + 0.1 * prior).backward()
    optimizer.step()

shown = fr.color.to_srgb(torch.cat([photo, first, image.detach()], 2).clamp(0, 1))[0]
iio.imwrite(options.output, (shown * 255).round().byte().numpy())
print(options.output)
