"""Where a photo shows the outline of a face: along the normals of the outline that a fit draws, the place at which the colours change most.

A cheek's outline is what a picture says of its depth whatever the light. Contours have long been followed so, one search along each normal (Harris and Stennett 1990, Blake and Isard 1998); here
neighbours search together, since what lies behind a face has edges of its own.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

# Lengths in pixels of the picture that is searched.
REACH = 8  # to either side
SIDE = 4  # of what is compared on the two sides of a place
NEIGHBOURS = 6.0  # standard deviation of the weights of neighbours along the outline
NOISE = 0.02  # of a colour of sRGB, standard deviation: what even areas differ by
FARTHER = 0.3, 6.0  # how much a place must be better than one that is nearer: 0.3 / 2 for each square of 6 pixels
LEAST = 1.0  # of a place that is believed: the colours differ by more than their deviations


@torch.no_grad()
def outline_offsets(photo: Tensor, points: Tensor, outwards: Tensor) -> tuple[Tensor, Tensor]:
    """How far from the points of an outline the photo's is.

    Args:
        photo: [H,W,3], sRGB in 0..1. points: [M,2], pixels. outwards: [M,2], unit vectors across the outline, away from the face.

    Returns:
        (offsets [M] in pixels along `outwards`, within REACH, and bool [M]: where an outline is seen.)
    """
    if not len(points):
        return points.new_zeros(0), torch.zeros(0, dtype=torch.bool, device=points.device)
    along = torch.arange(-REACH - SIDE, REACH + SIDE + 1, device=points.device, dtype=points.dtype)
    places = (points[:, None] + along[:, None] * outwards[:, None]) * (
        2 / points.new_tensor([photo.shape[1], photo.shape[0]])
    ) - 1
    colours = grid_sample(photo.movedim(-1, 0)[None], places[None], padding_mode="border", align_corners=False)[
        0
    ].movedim(0, -1)  # [M,P,3]
    sides = colours.unfold(1, SIDE, 1)  # [M,P-SIDE+1,3,SIDE]
    mean, variance = sides.mean(-1), sides.var(-1, unbiased=False).sum(-1)
    step = (mean[:, SIDE:] - mean[:, :-SIDE]).square().sum(-1) / (
        variance[:, SIDE:] + variance[:, :-SIDE] + 3 * NOISE**2
    )
    offsets = along[SIDE - 1 : -SIDE] + 0.5  # between the last of the one side and the first of the other
    near = torch.exp(-torch.cdist(points, points).square() / (2 * NEIGHBOURS**2))
    score = near @ step.log1p() / near.sum(1, keepdim=True) - FARTHER[0] / 2 * (offsets / FARTHER[1]).square()
    best, place = score.max(1)
    return offsets[place], best > LEAST
