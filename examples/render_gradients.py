"""Fit a face to a picture by gradients through the renderer: shape, pose and outline, in millimeters.

python examples/render_gradients.py -o fitted.png    # the picture, the first guess and the fitted face, side by side
"""

import argparse

import torch

import facemodels
import facerender as fr
from facemodels.core.alignment import similarity

SIZE = (224, 224)  # pixels

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-o", "--output", help="write the picture, the first guess and the fitted face side by side")
parser.add_argument("--steps", type=int, default=60, help="steps of the optimizer (default: 60)")
options = parser.parse_args()

torch.manual_seed(0)
model = facemodels.load_model("builtin")  # vertices in millimeters, y up, z towards the viewer
albedo, light = model.albedo(), fr.lighting.studio()  # linear color [1,V,3]; spherical harmonics [1,9,3]


def render(identity: torch.Tensor, angles: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Linear image [N,H,W,3] of coefficients [N,100], angles [N,3] in radians and translation [N,3] in millimeters."""
    vertices = model.shape(identity)  # [N,V,3]
    rotation = fr.camera.euler_rotation(angles)  # pitch, yaw, roll
    clip = fr.camera.deep3d(vertices, rotation, translation, size=SIZE[0], units_per_decimeter=100)
    if not fr.in_view(clip).all():  # an empty picture has no gradient: say why, and do not go on
        raise SystemExit(f"nothing to fit: {fr.camera.why_out_of_view(clip, SIZE)}")
    normals = fr.vertex_normals(vertices, model.topology) @ rotation.mT
    image, _ = fr.render_face(clip, normals, albedo, light, model.topology, SIZE)
    fragments = fr.rasterize(clip, model.topology, SIZE, barycentrics=False)
    return fr.edge_gradients(image, fragments, clip, model.topology)  # outlines pull too


with torch.no_grad():
    person, turn, place = torch.randn(1, model.num_identity), [[0.1, 0.5, -0.05]], [[8.0, 30.0, -310.0]]
    photo = render(person, torch.tensor(turn), torch.tensor(place))

identity = torch.zeros(1, model.num_identity, requires_grad=True)
angles = torch.zeros(1, 3, requires_grad=True)
translation = torch.tensor([[0.0, 20.0, -300.0]], requires_grad=True)
first = render(identity, angles, translation).detach()
optimizer = torch.optim.Adam(
    [{"params": [identity], "lr": 0.1}, {"params": [angles], "lr": 0.03}, {"params": [translation], "lr": 1.0}]
)
for step in range(options.steps + 1):
    image = render(identity, angles, translation)
    loss = (image - photo).abs().mean()  # over all pixels: over those of the face alone, shrinking it would help
    if step % 10 == 0 or step == options.steps:
        print(f"step {step:3d}  loss {loss.item():.4f}  yaw {angles[0, 1].rad2deg().item():5.1f} degrees")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

with torch.no_grad():
    face = model.regions["face"]
    true, *found = (model.shape(c)[0, face] for c in (person, torch.zeros_like(person), identity))
    # Aligned, since size and distance look alike: unaligned vertices say little of the shape.
    guessed, fitted = ((similarity(v, true)(v) - true).norm(dim=-1).median().item() for v in found)
print(f"shape: {fitted:.2f} mm off (the mean face: {guessed:.2f} mm)")

if options.output:
    import imageio.v3 as iio

    row = fr.color.to_srgb(torch.cat([photo, first, image.detach()], 2)[0])
    iio.imwrite(options.output, (row * 255).round().byte().numpy())
    print(options.output)
