"""Smooth versions of a step and of the maximum, shared by all parts of the built-in model."""

import numpy as np


def smoothstep(x: np.ndarray | float, low: float, high: float) -> np.ndarray:
    """Return the cubic smoothstep of x: 0 below low, 1 above high, without a kink between."""
    x = np.clip((x - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def smooth_max(a: np.ndarray, b: np.ndarray | float, width: float) -> np.ndarray:
    """Return the maximum of a and b, rounded where they differ by less than width: at most width / 4 larger there."""
    return np.maximum(a, b) + width * 0.25 * np.maximum(1 - np.abs(a - b) / width, 0) ** 2
