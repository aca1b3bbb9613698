"""The outline of a face in a photo: along the normals of the rendered outline, where the colors change most.

A cheek's outline tells its depth whatever the light. Following contours by a search along their normals goes back to
Harris and Stennett (1990) and Blake and Isard (1998); here neighbors search together, since the background has edges of
its own.
"""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

# Lengths in pixels of the photo.
REACH = 8  # how far to search, to either side
WINDOW = 4  # how much is compared on the two sides of a place
NEIGHBORHOOD = 6.0  # standard deviation of the weights of neighbors along the outline
NOISE = 0.02  # standard deviation of an sRGB color in even areas
DISTANCE_PENALTY = 0.15  # subtracted from the score at an offset of DISTANCE_UNIT; grows with its square
DISTANCE_UNIT = 6.0
MIN_SCORE = 1.0  # of an outline that is believed: the colors differ by more than their deviations


@torch.no_grad()
def outline_offsets(photo: Tensor, points: Tensor, outwards: Tensor) -> tuple[Tensor, Tensor]:
    """Find how far the outline in a photo lies from a rendered one.

    Args:
        photo: [H,W,3], sRGB in 0..1.
        points: [M,2], pixels of the rendered outline.
        outwards: [M,2], unit vectors across the outline, away from the face.

    Returns:
        Offsets [M] in pixels along `outwards`, within `REACH`; and bool [M], where an outline was found.
    """
    if not len(points):
        return points.new_zeros(0), torch.zeros(0, dtype=torch.bool, device=points.device)
    along = torch.arange(-REACH - WINDOW, REACH + WINDOW + 1, device=points.device, dtype=points.dtype)
    to_grid = 2 / points.new_tensor([photo.shape[1], photo.shape[0]])
    places = (points[:, None] + along[:, None] * outwards[:, None]) * to_grid - 1
    planes = photo.movedim(-1, 0)[None]
    colors = grid_sample(planes, places[None], padding_mode="border", align_corners=False)[0].movedim(0, -1)  # [M,P,3]
    windows = colors.unfold(1, WINDOW, 1)  # [M,P-WINDOW+1,3,WINDOW]
    mean, variance = windows.mean(-1), windows.var(-1, unbiased=False).sum(-1)
    noise = variance[:, WINDOW:] + variance[:, :-WINDOW] + 3 * NOISE**2
    step = (mean[:, WINDOW:] - mean[:, :-WINDOW]).square().sum(-1) / noise
    offsets = along[WINDOW - 1 : -WINDOW] + 0.5  # between the last of one window and the first of the other
    near = torch.exp(-torch.cdist(points, points).square() / (2 * NEIGHBORHOOD**2))
    penalty = DISTANCE_PENALTY * (offsets / DISTANCE_UNIT).square()
    score = near @ step.log1p() / near.sum(1, keepdim=True) - penalty
    best, place = score.max(1)
    return offsets[place], best > MIN_SCORE
