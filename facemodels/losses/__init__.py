"""Losses that the methods share, as pure functions of tensors.

Each is one paper's formula with that paper's constants as defaults, so that a method file reads as its paper does. The
prediction comes first, the target second. A loss is a scalar, the mean over the batch (`rotation_angle` alone keeps its
batch), without the weight that the method gives it. Images are [N,H,W,C], as the renderer makes them.

All are differentiable in every input, also where a residual is zero, and are zero, not NaN, for an empty batch or mask.
Arithmetic is in float32 (float64 for float64 input), inside autocast too.

* `landmarks`: `landmark_loss`, `wing_loss`, and weights of landmarks
* `images`: `photometric_loss`, `census_loss`
* `perceptual`: `perceptual_loss`, `face_crop`
* `regularizers` of light, albedo and coefficients: `gamma_loss`, `reflectance_loss`, `coefficient_loss`
* `vertices`: `vertex_loss`, `gram_loss`
* `parameters` of 3DDFA: `pdc_loss`, `vdc_loss`, `wpdc_loss`
* `rotations`: `rotation_angle`
* `adversarial`: `critic_loss`, `adversarial_loss`
"""

from facemodels.losses.adversarial import FORMS, adversarial_loss, critic_loss
from facemodels.losses.images import census_loss, photometric_loss
from facemodels.losses.landmarks import deep3d_landmark_weights, landmark_loss, mean_one, wing_loss
from facemodels.losses.parameters import (
    PointBasis,
    Whitening,
    pdc_loss,
    projected_points,
    vdc_loss,
    wpdc_loss,
    wpdc_weights,
)
from facemodels.losses.perceptual import ARCFACE_POINTS, face_crop, perceptual_loss
from facemodels.losses.regularizers import coefficient_loss, gamma_loss, reflectance_loss
from facemodels.losses.rotations import rotation_angle
from facemodels.losses.vertices import gram_loss, gram_matrix, shape_alone, vertex_loss

__all__ = [
    "ARCFACE_POINTS",
    "FORMS",
    "PointBasis",
    "Whitening",
    "adversarial_loss",
    "census_loss",
    "coefficient_loss",
    "critic_loss",
    "deep3d_landmark_weights",
    "face_crop",
    "gamma_loss",
    "gram_loss",
    "gram_matrix",
    "landmark_loss",
    "mean_one",
    "pdc_loss",
    "perceptual_loss",
    "photometric_loss",
    "projected_points",
    "reflectance_loss",
    "rotation_angle",
    "shape_alone",
    "vdc_loss",
    "vertex_loss",
    "wing_loss",
    "wpdc_loss",
    "wpdc_weights",
]
