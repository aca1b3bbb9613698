"""Heads: the fully connected layers that turn features into numbers."""

from torch import nn


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
