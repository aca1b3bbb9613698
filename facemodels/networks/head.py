"""Heads: the fully connected layers that turn features into numbers."""

import torch
from torch import Tensor, nn

RIDGE = 1e-3  # regularization, relative to the mean variance of a feature


def regression_head(inputs: int, hidden: tuple[int, ...], outputs: int, normalized: bool = True) -> nn.Sequential:
    """Make fully connected layers [N,inputs] -> [N,outputs], each but the last with ReLU. Outputs start near zero.

    Args:
        inputs: size of the feature vector.
        hidden: sizes of the hidden layers.
        outputs: how many numbers.
        normalized: batch norm after each hidden layer, for short trainings at high learning rates (see
            docs/notes/networks.md); False for dropout of a half, as papers have it.
    """
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [
            nn.Linear(inputs, width),
            *(
                [nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
                if normalized
                else [nn.ReLU(inplace=True), nn.Dropout(0.5)]
            ),
        ]
        inputs = width
    last = nn.Linear(inputs, outputs)
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)


@torch.no_grad()
def fit_linear(layer: nn.Linear, features: Tensor, targets: Tensor) -> None:
    """Set a linear layer to the ridge regression of targets [N,outputs] on features [N,inputs]."""
    x, y = features.double(), targets.double()
    centered = x - x.mean(0)
    square = centered.mT @ centered
    square += RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=x.dtype, device=x.device)
    weight = torch.linalg.solve(square, centered.mT @ (y - y.mean(0)))
    layer.weight.copy_(weight.mT)
    layer.bias.copy_(y.mean(0) - x.mean(0) @ weight)
