"""Losses that the methods share, as pure functions of tensors.

Each is one paper's formula with that paper's constants as defaults, so that a method file reads as its paper does. The prediction comes first, the target
second; what comes back is a scalar, the mean over the batch (`rotation_angle` alone keeps its batch), without the weight that the method gives it. Images are
[N,H,W,C], as the renderer makes them.

All are differentiable at every input, where a residual is zero too, and of an empty batch or mask they are zero, not NaN. Arithmetic is in float32 (float64 for
float64 input), inside autocast too.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from facemodels.core.landmarks import INNER_LIPS, NOSE_RIDGE, NUM_LANDMARKS

HALF = (torch.bfloat16, torch.float16)


def _in_float32(loss):
    """Sums of 16-bit terms lose what a loss is about: half-precision arguments become float32, and autocast stops at the function."""

    @functools.wraps(loss)
    def wrapped(*arguments, **named):
        device = next(v.device.type for v in (*arguments, *named.values()) if isinstance(v, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*[_widened(v) for v in arguments], **{k: _widened(v) for k, v in named.items()})

    return wrapped


def _widened(value):
    return value.float() if isinstance(value, Tensor) and value.dtype in HALF else value


def _check_shapes(**tensors):
    """Broadcasting would hide a wrong pairing: [N,68,2] against [68,2] or [N,1,2] gives a number, but not the loss."""
    if len({t.shape for t in tensors.values()}) > 1:
        raise ValueError(
            "shapes must be equal, got " + ", ".join(f"{name} {list(t.shape)}" for name, t in tensors.items())
        )


def _mean(values: Tensor) -> Tensor:
    return values.sum() / max(values.numel(), 1)


# ----------------------------------------------------------------------------------------------------------------------- landmarks


def deep3d_landmark_weights(device: torch.device | str | None = None) -> Tensor:
    """[68]: 20 for the ridge of the nose below its root (28..30) and the inner lips (60..67), 1 for the others (Deng et al. 2019, released code)."""
    weights = torch.ones(NUM_LANDMARKS, device=device)
    weights[NOSE_RIDGE] = 20
    weights[INNER_LIPS] = 20
    return weights


def mean_one(weights: Tensor) -> Tensor:
    """Weights [...,P], not negative, scaled to a mean of 1 over P: the losses below are then weighted means over the points that have weight, the same for few
    visible points as for many. A row of zeros stays zero."""
    return weights * (weights.shape[-1] / weights.sum(-1, keepdim=True).clamp(min=1e-12))


def _point_differences(predicted, target, weights):
    """predicted - target [N,P,D] and weights [N,P]; a point without weight may be NaN in the target (a landmark that nobody labelled)."""
    _check_shapes(predicted=predicted, target=target)
    points = predicted.shape[1]
    if weights.shape not in ((points,), predicted.shape[:2]):
        raise ValueError(
            f"weights must be [{points}] or {list(predicted.shape[:2])} for points {list(predicted.shape)}, got {list(weights.shape)}"
        )
    weights = weights.to(predicted.dtype).expand(predicted.shape[:2])
    return torch.where(weights[..., None] != 0, predicted - target, 0), weights


@_in_float32
def landmark_loss(predicted: Tensor, target: Tensor, weights: Tensor | None = None, squared: bool = True) -> Tensor:
    """Weighted squared distance of landmarks: sum w |p - p*|^2 / (N P). (Deng et al. 2019; weight 1.6e-3 for pixels of a 224 crop.) With squared=False the distance
    itself, in which few points that are far off weigh less.

    predicted, target: [N,P,2] or [N,P,3], pixels or mm. weights: [P] or [N,P]; None for `deep3d_landmark_weights` of 68 points. Points of weight 0 may be NaN in
    the target. With `mean_one(weights)` this is 2DASL's weighted distance (Tu et al. 2019), whose weights have a sum of 1.
    """
    if weights is None:
        if predicted.shape[1] != 68:
            raise ValueError(f"weights: the default is for 68 landmarks, got {predicted.shape[1]}")
        weights = deep3d_landmark_weights(predicted.device)
    difference, weights = _point_differences(predicted, target, weights)
    distance = difference.square().sum(-1)
    return _mean(weights * (distance if squared else (distance + 1e-12).sqrt()))


@_in_float32
def wing_loss(
    predicted: Tensor, target: Tensor, weights: Tensor | None = None, omega: float = 10.0, epsilon: float = 2.0
) -> Tensor:
    """Wing loss of Feng et al. (2018), mean over coordinates: omega ln(1 + |x|/epsilon) where |x| < omega, |x| - C beyond, with the C that joins them.

    predicted, target: [N,P,D], pixels; weights: [P] or [N,P], None for 1, as in `landmark_loss`. omega, epsilon in pixels.
    """
    weights = predicted.new_ones(predicted.shape[1]) if weights is None else weights
    difference, weights = _point_differences(predicted, target, weights)
    size = difference.abs()
    far = size - omega + omega * math.log1p(omega / epsilon)
    return _mean(weights[..., None] * torch.where(size < omega, omega * torch.log1p(size / epsilon), far))


# -------------------------------------------------------------------------------------------------------------------------- images


@_in_float32
def photometric_loss(rendered: Tensor, image: Tensor, mask: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Mean over the mask of the colour distance: sum m sqrt(epsilon + |I' - I|^2) / max(sum m, 1). (Deng et al. 2019; weight 1.92.)

    rendered, image: [N,H,W,C], 0..1. mask: [N,H,W], bool or 0..1: where the face was drawn, times how likely the pixel is skin. No gradient flows to the mask: a
    renderer could otherwise shrink the face instead of matching it.
    """
    _check_shapes(rendered=rendered, image=image)
    _check_shapes(mask=mask, pixels=rendered[..., 0])
    mask = mask.detach().to(rendered.dtype)
    distance = (epsilon + (rendered - image).square().sum(-1)).sqrt()
    return (mask * distance).sum() / mask.sum().clamp(min=1)


@_in_float32
def census_loss(first: Tensor, second: Tensor, mask: Tensor, radius: int = 3) -> Tensor:
    """Soft census (ternary) distance, blind to brightness: what is compared are signs of differences to the neighbours. (Liu et al. 2019, DDFlow, released code.)

    With grey values 0..255 and the differences d of a pixel's neighbours to it, t = d / sqrt(0.81 + d^2) for each image; h = sum over the patch of
    (t1 - t2)^2 / (0.1 + (t1 - t2)^2); the loss is sum m (h + 0.01)^0.4 / (2 sum m + 1e-6). At h = 0 it is 0.01^0.4 / 2 = 0.079, not 0.

    first, second: [N,H,W,3] or [N,H,W,1], 0..1. mask: [N,H,W], what is visible in both; without gradient; the `radius` pixels along the border never count.
    DDFlow adds the loss of both directions, each with its own mask.
    """
    _check_shapes(first=first, second=second)
    _check_shapes(mask=mask, pixels=first[..., 0])
    height, width = first.shape[1:3]
    if min(height, width) <= 2 * radius:
        raise ValueError(
            f"images must be at least {2 * radius + 1} pixels high and wide, as the patch is, got {list(first.shape)}"
        )
    mask = mask.detach().to(first.dtype)[:, radius : height - radius, radius : width - radius]
    first, second = _grey(first), _grey(second)
    hamming = torch.zeros_like(mask)
    # A pair of pixels adds the same to the patch of either: half of the offsets see every pair. One offset at a time stays in a CPU's cache.
    for down, right in [(y, x) for y in range(radius + 1) for x in range(-radius, radius + 1) if (y, x) > (0, 0)]:
        change = (_soft_sign(first, down, right) - _soft_sign(second, down, right)).square()
        pair = change / (0.1 + change)
        left = max(0, -right)
        for y, x in (
            (0, left),
            (down, left + right),
        ):  # where a pair lies whose first, whose second pixel is the patch's centre
            hamming = hamming + pair[:, radius - y : height - radius - y, radius - x : width - radius - x]
    return (mask * (hamming + 0.01) ** 0.4).sum() / (2 * mask.sum() + 1e-6)


def _grey(image):
    return 255 * (
        image[..., 0]
        if image.shape[-1] == 1
        else 0.2989 * image[..., 0] + 0.5870 * image[..., 1] + 0.1140 * image[..., 2]
    )


def _soft_sign(grey, down, right):
    """t of the pairs of a pixel with the one `down` below and `right` beside it: [N,H,W] -> [N,H-down,W-|right|]."""
    height, width = grey.shape[1:]
    difference = (
        grey[:, down:, max(0, right) : width + min(0, right)]
        - grey[:, : height - down, max(0, -right) : width - max(0, right)]
    )
    return difference * (0.81 + difference.square()).rsqrt()


# ArcFace's places of the eyes, the tip of the nose and the corners of the mouth in its 112-pixel crop; published with the first pixel's centre at 0, here at 0.5.
ARCFACE_POINTS = ((38.7946, 52.1963), (74.0318, 52.0014), (56.5252, 72.2366), (42.0493, 92.8655), (71.2299, 92.7041))


@_in_float32
def face_crop(images: Tensor, points: Tensor, size: int = 112) -> Tensor:
    """The crop that ArcFace networks take: [N,3,size,size], -1..1, black beyond the image.

    images: [N,H,W,3], 0..1. points: [N,5,2] pixels (centre of the first pixel at 0.5), see `facemodels.core.landmarks.five_points`; the similarity, without reflection, that takes them to
    `ARCFACE_POINTS` with the least squares. No gradient flows to the points (nor in Deng et al. 2019). Five equal points give one colour.
    """
    if points.shape[1:] != (5, 2):
        raise ValueError(f"points must be [N,5,2], got {list(points.shape)}")
    height, width = images.shape[1:3]
    points = points.detach().to(images.dtype)
    centre = points.mean(1)
    x, y = (points - centre[:, None]).unbind(-1)
    goal_x, goal_y = (sum(values) / 5 for values in zip(*ARCFACE_POINTS))
    # The least squares in the plane as complex numbers: crop = (p + iq) / |x|^2 image. Sampling needs the inverse.
    p = sum(x[:, k] * (gx - goal_x) + y[:, k] * (gy - goal_y) for k, (gx, gy) in enumerate(ARCFACE_POINTS))
    q = sum(x[:, k] * (gy - goal_y) - y[:, k] * (gx - goal_x) for k, (gx, gy) in enumerate(ARCFACE_POINTS))
    back = (x.square() + y.square()).sum(1) / (p.square() + q.square()).clamp(min=1e-12)
    a, b = (back * p)[:, None, None], (back * q)[:, None, None]
    pixels = (torch.arange(size, dtype=images.dtype, device=images.device) + 0.5) * (112 / size)
    u, v = pixels[None, None, :] - goal_x, pixels[None, :, None] - goal_y
    column = a * u + b * v + centre[:, 0, None, None]
    row = a * v - b * u + centre[:, 1, None, None]
    grid = torch.stack([2 * column / width - 1, 2 * row / height - 1], -1)
    return 2 * F.grid_sample(images.movedim(-1, 1), grid, align_corners=False) - 1


def perceptual_loss(rendered: Tensor, image: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
    """mean(1 - cos(F(I'), F(I))) of a face recognition network's embeddings. (Deng et al. 2019, with ArcFace as in the PyTorch release; weight 0.2.)

    rendered, image: what the network takes, for ArcFace `face_crop` of each by its own points. network: images -> embeddings [N,D], of any length; in evaluation
    mode and frozen by the caller. No gradient flows to `image`.
    """
    with torch.no_grad():
        goal = network(image)
    return _cosine_distance(network(rendered), goal)


@_in_float32
def _cosine_distance(embedding, goal):
    return _mean(1 - F.cosine_similarity(embedding, goal, dim=-1))


# ---------------------------------------------------------------------------------------------------------------- light, albedo, size


@_in_float32
def gamma_loss(coefficients: Tensor) -> Tensor:
    """Mean squared difference of light coefficients to their mean over the three colours: the light should be nearly white. (Deng et al. 2019, released code;
    weight 10.)

    coefficients: spherical harmonics [N,9,3] of the preset "deep3d"; what is the same in all colours does not count, so neither do the 0.8 that
    `facerender.lighting.deep3d_coefficients` adds.
    """
    return _mean((coefficients - coefficients.mean(-1, keepdim=True)).square())


@_in_float32
def reflectance_loss(albedo: Tensor, skin: Tensor) -> Tensor:
    """Variance of the albedo over the skin: sum |(T - mean T) m|^2 / (N sum m), with the mean over m too. (Deng et al. 2019; weight 5.)

    albedo: [N,V,3], 0..1. skin: [V], bool or 0..1.
    """
    if skin.shape != albedo.shape[1:2]:
        raise ValueError(f"skin must be [{albedo.shape[1]}] for albedo {list(albedo.shape)}, got {list(skin.shape)}")
    skin = skin.to(albedo.dtype)[:, None]
    total = skin.sum().clamp(min=1e-6)
    mean = (albedo * skin).sum(1, keepdim=True) / total
    return ((albedo - mean) * skin).square().sum() / (max(len(albedo), 1) * total)


@_in_float32
def coefficient_loss(
    identity: Tensor,
    expression: Tensor | None = None,
    albedo: Tensor | None = None,
    weights: tuple[float, float, float] = (1.0, 0.8, 1.7e-2),
) -> Tensor:
    """Weighted squared length of the coefficients, mean over the batch: how improbable a face is. (Deng et al. 2019; weight 3e-4.)

    identity [N,I], expression [N,E], albedo [N,A], in standard deviations.
    """
    given = [(w, c) for w, c in zip(weights, (identity, expression, albedo)) if c is not None]
    return sum(w * c.square().sum() for w, c in given) / max(len(identity), 1)


# -------------------------------------------------------------------------------------------------------------------------- vertices


@_in_float32
def vertex_loss(predicted: Tensor, target: Tensor, basis: Tensor) -> Tensor:
    """Squared vertex distance that a difference of coefficients makes: mean over the batch and 3V coordinates of (U (p - p*))^2. (Dou et al. 2017, UH-E2FAR: the
    loss of each of its two tasks; weights 1 for identity and 5 for expression in a public reimplementation.)

    predicted, target: [N,K]. basis: [K,V*3] mm per unit, over the vertices that count -> mm^2.
    """
    _check_shapes(predicted=predicted, target=target)
    return _mean(((predicted - target) @ basis).square())


def gram_matrix(basis: Tensor) -> Tensor:
    """U U^T / (3V) [K,K] of a basis [K,V*3], summed in float64: what `gram_loss` takes."""
    wide = basis.detach().double()
    return (wide @ wide.T / basis.shape[1]).to(basis.dtype)


def shape_alone(basis: Tensor, mean: Tensor) -> Tensor:
    """A basis [K,V,3] mm less what a small similarity of the mean [V,3] does: shifts, turns and sizes, which no picture shows. [K,V,3]"""
    centred = (mean - mean.mean(0)).double()
    axes = torch.eye(3, dtype=torch.float64, device=mean.device)
    moves = (
        [axis.expand_as(centred) for axis in axes]
        + [torch.linalg.cross(axis.expand_as(centred), centred) for axis in axes]
        + [centred]
    )
    directions = torch.linalg.qr(torch.stack([m.flatten() for m in moves], 1))[0]
    flat = basis.flatten(1).double()
    return (flat - (flat @ directions) @ directions.T).view_as(basis).to(basis.dtype)


@_in_float32
def gram_loss(predicted: Tensor, target: Tensor, gram: Tensor) -> Tensor:
    """`vertex_loss` without the vertices: mean over the batch of d^T G d, d = p - p*; equal to it for G = `gram_matrix(basis)`. [N,K], [N,K], [K,K] -> mm^2."""
    _check_shapes(predicted=predicted, target=target)
    difference = predicted - target
    return ((difference @ gram) * difference).sum() / max(len(difference), 1)


# ------------------------------------------------------------------------------------------------------------- the 62 parameters of 3DDFA


class Whitening(NamedTuple):
    """mean [K] and std [K] of raw parameters p = q std + mean; networks predict the whitened q."""

    mean: Tensor
    std: Tensor

    def raw(self, whitened: Tensor) -> Tensor:
        return whitened * self.std + self.mean

    def whitened(self, raw: Tensor) -> Tensor:
        return (raw - self.mean) / self.std


class PointBasis(NamedTuple):
    """A linear model at P of its points, mm: mean [P,3], shape [S,P,3], expression [E,P,3] per unit of the coefficients."""

    mean: Tensor
    shape: Tensor
    expression: Tensor

    def at(self, index: Tensor) -> "PointBasis":
        """At some of the points: index int64 [Q]. Zhu et al. take the 68 landmarks and 132 vertices, drawn anew in each step."""
        return PointBasis(self.mean[index], self.shape[:, index], self.expression[:, index])


@_in_float32
def projected_points(parameters: Tensor, points: PointBasis) -> Tensor:
    """The points under raw parameters, in pixels: [N,12+S+E] -> [N,P,3]; A (mean + shape + expression) + t.

    The first 12 parameters are the rows of the 3x4 matrix [A | t], A = f R in pixels per mm; then S shape and E expression coefficients (with 40 and 10, the 62
    of Zhu et al. 2016, 3DDFA). y runs up, as in the data of that family: the row in an image of height H is H + 1 - y there.
    """
    affine, moved = parameters[:, :12].view(-1, 3, 4), _shape(parameters, points)
    return moved @ affine[:, :, :3].transpose(1, 2) + affine[:, None, :, 3]


def _shape(parameters, points):
    counts = len(points.shape), len(points.expression)
    if parameters.shape[1] != 12 + sum(counts):
        raise ValueError(
            f"parameters must be [N,{12 + sum(counts)}] for {counts[0]} shape and {counts[1]} expression modes, got {list(parameters.shape)}"
        )
    basis = torch.cat([points.shape, points.expression]).flatten(1)
    return points.mean + (parameters[:, 12:] @ basis).view(-1, *points.mean.shape)


@_in_float32
def pdc_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Parameter distance cost: mean squared difference of whitened parameters [N,K]. (Zhu et al. 2016, 3DDFA.)"""
    _check_shapes(predicted=predicted, target=target)
    return _mean((predicted - target).square())


@_in_float32
def vdc_loss(predicted: Tensor, target: Tensor, whitening: Whitening, points: PointBasis) -> Tensor:
    """Vertex distance cost: mean squared coordinate difference of the projected points, px^2. (Zhu et al. 2016; released code of 3DDFA.)

    predicted, target: whitened parameters [N,12+S+E]. The depth t_z (parameter 11), which no image tells, is the target's for both.
    """
    _check_shapes(predicted=predicted, target=target)
    there = whitening.raw(target)
    here = whitening.raw(predicted)
    here = torch.cat([here[:, :11], there[:, 11:12], here[:, 12:]], 1)
    return _mean((projected_points(here, points) - projected_points(there, points)).square())


@_in_float32
def wpdc_weights(
    predicted: Tensor, target: Tensor, whitening: Whitening, points: PointBasis, pixels_per_mm: float = 0.57339936
) -> Tensor:
    """[N,12+S+E], without gradient: how far each parameter's error alone moves the points, about, the largest of a sample 1. (Released code of 3DDFA.)

    For an entry of A: |p - p*| times the norm of the coordinate that it multiplies, over the target's points; for t_x, t_y: |p - p*| sqrt(P); for shape and
    expression: pixels_per_mm |p - p*| times the norm of the mode over the points; 1e-6 added, divided by the sample's largest, t_z set to 0.

    pixels_per_mm: a typical f; the published 0.00057339936 is per micrometre, the unit of its files.
    """
    _check_shapes(predicted=predicted, target=target)
    with torch.no_grad():
        there = whitening.raw(target)
        error = (whitening.raw(predicted) - there).abs()
        shape = _shape(there, points)
        reach = torch.cat([shape.norm(dim=1), shape.new_full((len(shape), 1), shape.shape[1] ** 0.5)], 1)
        modes = torch.cat([points.shape, points.expression]).flatten(1).norm(dim=1)
        weights = (
            torch.cat(
                [(error[:, :12].view(-1, 3, 4) * reach[:, None]).flatten(1), pixels_per_mm * error[:, 12:] * modes], 1
            )
            + 1e-6
        )
        weights = weights * (torch.arange(weights.shape[1], device=weights.device) != 11)
        return weights / weights.amax(1, keepdim=True)


@_in_float32
def wpdc_loss(
    predicted: Tensor, target: Tensor, whitening: Whitening, points: PointBasis, pixels_per_mm: float = 0.57339936
) -> Tensor:
    """Weighted parameter distance cost: mean over the batch and the parameters of w (q - q*)^2, whitened, with `wpdc_weights`. (Zhu et al. 2016.)

    predicted, target: whitened parameters [N,12+S+E]. whitening: their mean and deviation. points: the model where the effect of a parameter is measured.
    """
    weights = wpdc_weights(predicted, target, whitening, points, pixels_per_mm)
    return _mean(weights * (predicted - target).square())


# -------------------------------------------------------------------------------------------------------------------------- rotations


@_in_float32
def rotation_angle(first: Tensor, second: Tensor) -> Tensor:
    """Geodesic distance on SO(3): the angle of the rotation from one to the other, radians, 0..pi. [...,3,3], [...,3,3] -> [...]

    Exact near 0 and near pi, where the arc cosine of the trace is not. The gradient is never NaN; as that of any distance it does not fade towards 0: square the angle
    for a loss that comes to rest.
    """
    _check_shapes(first=first, second=second)
    sine = torch.linalg.vector_norm(torch.linalg.cross(first, second, dim=-2).sum(-1), dim=-1) / 2
    cosine = ((first * second).sum((-1, -2)) - 1) / 2
    return torch.atan2(sine, cosine)


# -------------------------------------------------------------------------------------------------------------------------- adversarial

FORMS = ("minimax", "nonsaturating", "least_squares", "hinge")


@_in_float32
def critic_loss(real: Tensor, predicted: Tensor, form: str = "minimax") -> Tensor:
    """What a critic minimises: the mean over real scores plus the mean over predicted scores, each of any shape, before any sigmoid.

    "minimax" and "nonsaturating": -log C(real) - log(1 - C(predicted)), C = sigmoid(score) (Goodfellow et al. 2014; the self-critic of 2DASL, Tu et al. 2019, weight
    0.005). "least_squares": (real - 1)^2 + predicted^2 (Mao et al. 2017). "hinge": max(0, 1 - real) + max(0, 1 + predicted) (Lim and Ye 2017).
    """
    if form in ("minimax", "nonsaturating"):
        return _mean(F.softplus(-real)) + _mean(F.softplus(predicted))
    if form == "least_squares":
        return _mean((real - 1).square()) + _mean(predicted.square())
    if form == "hinge":
        return _mean(F.relu(1 - real)) + _mean(F.relu(1 + predicted))
    raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")


@_in_float32
def adversarial_loss(predicted: Tensor, form: str = "minimax") -> Tensor:
    """What the predictor minimises against the critic of the same form, from the critic's scores of its predictions.

    "minimax": log(1 - C), the formula of 2DASL, whose gradient fades while the critic is sure. "nonsaturating": -log C. "least_squares": (score - 1)^2.
    "hinge": -score.
    """
    if form == "minimax":
        return -_mean(F.softplus(predicted))
    if form == "nonsaturating":
        return _mean(F.softplus(-predicted))
    if form == "least_squares":
        return _mean((predicted - 1).square())
    if form == "hinge":
        return -_mean(predicted)
    raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
