"""The parameters that 2DASL predicts: a 3x4 camera matrix, shape and expression (62 numbers, Zhu et al. 2016, 3DDFA).

Raw parameters [N,12+S+K] are the rows of [f R | t], in pixels with y up from the lower left corner, then the
coefficients. Of a morphable model with more coefficients, the 40 and 10 directions that move its vertices most are
taken.
"""

from typing import NamedTuple

import torch
from torch import Tensor

import facerender as fr
from facemodels.data import FaceBatch
from facemodels.models.morphable import MorphableModel
from facemodels.models.sampling import random_coefficients
from facerender._checks import brief_repr

CAMERA = 12  # the first parameters: the rows of the camera matrix


@brief_repr
class Reduced(NamedTuple):
    """The directions that move a model's vertices most; shape = identity @ to_shape, identity = shape @ from_shape.

    Attributes:
        to_shape: [I,S], maps the model's coefficients to reduced ones, by least squares over vertex positions.
        from_shape: [S,I], maps reduced coefficients to the model's.
        to_expression: [E,K], as `to_shape`.
        from_expression: [K,E], as `from_shape`.
    """

    to_shape: Tensor
    from_shape: Tensor
    to_expression: Tensor
    from_expression: Tensor


def reduce_basis(model: MorphableModel, shape: int = 40, expression: int = 10) -> Reduced:
    """Find the principal directions of a model's random people and expressions, over the vertices of its face.

    Args:
        model: The morphable model.
        shape: How many directions of identity; all if the model has fewer.
        expression: How many of expression.
    """
    people = random_coefficients(model, 4096, torch.Generator().manual_seed(0))
    to_shape, from_shape = _principal(model, model.identity_basis, None, shape)
    to_expression, from_expression = _principal(model, model.expression_basis, people.expression, expression)
    return Reduced(to_shape, from_shape, to_expression, from_expression)


def _principal(model: MorphableModel, basis: Tensor, samples: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """Return (to [K,k], from [k,K]) of the k directions of a basis [K,V,3] that move the face's vertices most.

    samples: Coefficients [M,K] as they occur; None for a normal distribution of unit variance. A neutral face has
    expression 0, so second moments are taken, not variances.
    """
    face = model.regions.get("face", slice(None))
    flat = basis[:, face].flatten(1).double()
    gram = flat @ flat.T
    identity = torch.eye(len(gram), dtype=torch.float64, device=gram.device)
    moment = identity if samples is None else samples.double().T @ samples.double() / len(samples)
    root = torch.linalg.cholesky(moment + 1e-9 * moment.trace() / len(moment) * identity)
    _, directions = torch.linalg.eigh(root.T @ gram @ root)
    from_reduced = (
        root @ directions.flip(1)[:, :count]
    ).T  # [k,K]: a unit of a new direction is one standard deviation
    to_reduced = gram @ from_reduced.T @ torch.linalg.inv(from_reduced @ gram @ from_reduced.T)
    return to_reduced.float(), from_reduced.float()


def parameters_of(faces: FaceBatch, to_shape: Tensor, to_expression: Tensor) -> Tensor:
    """Return the raw parameters [N,12+S+K] of labeled faces; t_z is 0.

    Args:
        faces: Faces with camera and coefficients.
        to_shape: [I,S], see `Reduced`.
        to_expression: [E,K].
    """
    assert faces.scale is not None and faces.rotation is not None and faces.translation is not None
    assert faces.identity is not None and faces.expression is not None
    affine = torch.cat(
        [
            faces.scale[:, None, None] * faces.rotation,
            torch.cat([faces.translation, torch.zeros_like(faces.scale[:, None])], 1)[..., None],
        ],
        2,
    )
    return torch.cat([affine.flatten(1), faces.identity @ to_shape, faces.expression @ to_expression], 1)


def pose_of(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weak-perspective camera of raw parameters (as 3DDFA's released code does).

    The scale is the mean length of the first two rows. These are made a rotation, which the released code, with its
    rows as they are, does not ensure.

    Returns:
        rotation [N,3,3], scale [N] pixels per mm, translation [N,2] pixels with y up from the lower left corner.
    """
    affine = parameters[:, :CAMERA].view(-1, 3, 4)
    first, second = affine[:, 0, :3], affine[:, 1, :3]
    scale = (first.norm(dim=1) + second.norm(dim=1)) / 2
    return fr.camera.rotation_from_axes(first, second), scale, affine[:, :2, 3]
