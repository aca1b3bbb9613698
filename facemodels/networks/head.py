"""What turns features into numbers."""

from torch import nn


def regression_head(inputs: int, hidden: tuple[int, ...], outputs: int, normalised: bool = True) -> nn.Sequential:
    """Fully connected layers [N,inputs] -> [N,outputs], each but the last with ReLU; it begins near zero.

    normalised: with batch norm, for short trainings at high rates (without, every ReLU of one of UH-E2FAR's heads was dead after 1500 steps); else with dropout of a half.
    """
    layers = []
    for width in hidden:
        layers += [
            nn.Linear(inputs, width),
            *(
                [nn.BatchNorm1d(width), nn.ReLU(inplace=True)]
                if normalised
                else [nn.ReLU(inplace=True), nn.Dropout(0.5)]
            ),
        ]
        inputs = width
    last = nn.Linear(inputs, outputs)
    nn.init.normal_(last.weight, std=1e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
