"""The four schemes of 2DASL: what is learned from pictures with 2D landmarks x2d alone.

The network sees a picture twice. In the first pass, x2d is marked in the landmark channel; the parameters that it
predicts have 3D landmarks X3d and their projections y2d. In the second pass, y2d is marked in place of x2d, and gives
X3d' and x2d'. `DASL.scheme_losses` (method.py) makes both passes; the losses of each scheme are here.

    l2d      2D landmark self-prediction consistency: y2d is x2d
    l3d      3D landmark self-prediction consistency: X3d' is X3d
    cycle    cycle consistency over 2D landmarks: x2d' is x2d
    critic   self-critic: a critic tells pairs of a picture and the true parameters from pairs with predicted ones, and
             the network learns to deceive it
"""

from torch import Tensor

from facemodels.losses import adversarial_loss, critic_loss, landmark_loss


def l2d_loss(predicted: Tensor, known: Tensor, weights: Tensor, unit: float, squared: bool) -> Tensor:
    """L_2d-con: weighted distance of the first pass's landmarks to the known ones.

    Args:
        predicted: [N,P,2] or, where depth is known, [N,P,3], pixels: y2d.
        known: The same of x2d; NaN where the weight is 0.
        weights: [N,P].
        unit: Pixels by which distances are divided.
        squared: Squared distances, or distances.
    """
    return landmark_loss(predicted / unit, known / unit, weights, squared)


def l3d_loss(second: Tensor, first: Tensor) -> Tensor:
    """L_3d-con: mean squared difference of both passes' 3D landmarks [N,68,3], mm."""
    return (second - first).square().mean()


def cycle_loss(predicted: Tensor, known: Tensor, weights: Tensor, unit: float, squared: bool) -> Tensor:
    """L_cyc: weighted distance of the second pass's landmarks x2d' to the known ones; see `l2d_loss`."""
    return landmark_loss(predicted / unit, known / unit, weights, squared)


def self_critic_loss(scores: Tensor) -> Tensor:
    """L_sc: log(1 - C) of the critic's logits [N] of predictions, which the network minimizes.

    Where labeled faces are rendered and the others are photographs, the critic tells them apart by the picture alone,
    whatever the parameters. This form then has hardly any gradient and does no harm; the form -log C does (see
    docs/notes/dasl.md). The scheme has something to say where both kinds are photographs, as in the paper.
    """
    return adversarial_loss(scores)


def critic_training_loss(true: Tensor, predicted: Tensor) -> Tensor:
    """-log C(true) - log(1 - C(predicted)) of logits [N], which the critic minimizes."""
    return critic_loss(true, predicted)
