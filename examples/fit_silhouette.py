"""Fit a silhouette by gradients of outlines: shape and pose of the built-in model, or a shape without a model.

python examples/fit_silhouette.py -o fitted.png    # the target, the first guess and the fitted silhouette, side by side
python examples/fit_silhouette.py --free           # every vertex moves by itself

The loss compares ALL pixels of the drawn silhouette with those of the target. A loss over the pixels that the shape
covers (``loss[face_id >= 0]``) says nothing of the rest of the target: any shape inside it has a loss of 0, so the fit
shrinks. ``--masked`` shows that: the loss falls to 0, and the overlap with it.

An outline alone leaves open what lies within it, and how far the head is turned: fit colors or landmarks for that.
"""

import argparse

import torch

import facemodels
import facerender as fr

SIZE = (224, 224)  # pixels

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("-o", "--output", help="write the target, the first guess and the fit side by side")
parser.add_argument("--steps", type=int, default=100, help="steps of the optimizer (default: 100)")
parser.add_argument("--free", action="store_true", help="move every vertex instead of the model's shape and pose")
parser.add_argument("--masked", action="store_true", help="the wrong loss, over covered pixels only")
options = parser.parse_args()

torch.manual_seed(0)
model = facemodels.load_model("builtin")  # vertices in millimeters, y up, z towards the viewer


def silhouette(vertices: torch.Tensor, angles: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Silhouettes [N,H,W,1], 1 inside, of vertices [N,V,3] and translations [N,3] in mm and angles [N,3] in radians."""
    rotation = fr.camera.euler_rotation(angles)
    clip = fr.camera.deep3d(vertices, rotation, translation, size=SIZE[0], units_per_decimeter=100)
    if not fr.in_view(clip).all():  # nothing drawn has no gradient: say why, and do not go on
        raise SystemExit(f"nothing to fit: {fr.camera.why_out_of_view(clip, SIZE)}")
    fragments = fr.rasterize(clip, model.topology, SIZE, barycentrics=False)
    mask = (fragments.face_id >= 0)[..., None].to(clip.dtype)  # without gradient
    return fr.edge_gradients(mask, fragments, clip, model.topology)  # with that of its outline


def overlap(a: torch.Tensor, b: torch.Tensor) -> float:
    """Intersection over union of two silhouettes."""
    return (((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5) | (b > 0.5)).sum()).item()


with torch.no_grad():
    person, turn, place = torch.randn(1, model.num_identity), [[0.1, 0.5, -0.05]], [[8.0, 30.0, -310.0]]
    target = silhouette(model.shape(person), torch.tensor(turn), torch.tensor(place))

identity, angles = torch.zeros(1, model.num_identity), torch.zeros(1, 3)
translation, offsets = torch.tensor([[0.0, 20.0, -300.0]]), torch.zeros(1, model.num_vertices, 3)
rates = [(offsets, 0.3)] if options.free else [(identity, 0.1), (angles, 0.02), (translation, 1.0)]
optimizer = torch.optim.Adam([{"params": [tensor.requires_grad_()], "lr": rate} for tensor, rate in rates])
with torch.no_grad():
    first = silhouette(model.shape(identity) + offsets, angles, translation)
for step in range(options.steps + 1):
    mask = silhouette(model.shape(identity) + offsets, angles, translation)
    difference = (mask - target).abs()
    loss = difference[mask > 0.5].mean() if options.masked else difference.mean()
    if step % 20 == 0 or step == options.steps:
        print(f"step {step:3d}  loss {loss.item():.4f}  overlap (IoU) {overlap(mask, target):.3f}")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

if options.output:
    import imageio.v3 as iio

    row = torch.cat([target, first, mask.detach()], 2)[0, ..., 0]
    iio.imwrite(options.output, (row * 255).round().byte().numpy())
    print(options.output)
