"""Landmark accuracy: the normalized mean error of 3DDFA's benchmark (Zhu et al. 2016), and summaries of it.

For a face with labels g and predictions p, NME = mean over the points of |p - g| / sqrt(w h), where w and h are the
sides of the labels' bounding box in the picture. All errors are in percent.

The "mean" of published tables is the balanced one: the mean of the means over three bins of yaw. Their "std" is the
standard deviation of these three means. The mean over all faces is another number. Plain numpy.
"""

from collections.abc import Callable

import numpy as np

# Bins of |yaw| in degrees: above the first number (the first bin: from 0 on), up to and including the second.
BINS = {"yaw_0_30": (0, 30), "yaw_30_60": (30, 60), "yaw_60_90": (60, np.inf)}
BIN_COLUMNS = ["[0,30]", "(30,60]", "(60,90]", "mean"]  # of the published tables

_DEPTH_RULES: dict[str, Callable[..., np.ndarray]] = {"min_z": np.min, "mean_z": np.mean}


def nme(predicted: np.ndarray, labels: np.ndarray, box_points: np.ndarray | None = None) -> np.ndarray:
    """Compute the NME of each face in two dimensions.

    Args:
        predicted: [N,L,2] points.
        labels: [N,L,2] labels of the same points; NaN where a face has no label for a point, which then does not
            count.
        box_points: [N,K,2] points whose bounding box normalizes the error; None takes the labels.

    Returns:
        [N], percent; NaN where a prediction is NaN.

    Raises:
        ValueError: The shapes do not match.
    """
    return _nme(predicted, labels, 2, box_points)


def nme_3d(predicted: np.ndarray, labels: np.ndarray, depth: str, box_points: np.ndarray | None = None) -> np.ndarray:
    """Compute the NME of each face in three dimensions.

    Depth is known only up to a shift, and papers remove the shift by different rules, whose results cannot be
    compared: name the one that was used.

    Args:
        predicted: [N,L,3] points, z in the same unit as x and y.
        labels: [N,L,3] labels of the same points.
        depth: "min_z" subtracts from each set of points its least z (3DDFA, 2DASL); "mean_z" subtracts its mean
            (SADRNet).
        box_points: [N,K,2] points whose bounding box normalizes the error; None takes x and y of the labels.

    Returns:
        [N], percent.

    Raises:
        ValueError: The shapes do not match, or the rule is unknown.
    """
    if depth not in _DEPTH_RULES:
        raise ValueError(f"depth must be one of {', '.join(_DEPTH_RULES)}, got {depth!r}")
    shifted = []
    for points in (predicted, labels):
        points = np.array(points, np.float64)
        points[..., 2] -= _DEPTH_RULES[depth](points[..., 2], axis=-1, keepdims=True)
        shifted.append(points)
    return _nme(shifted[0], shifted[1], 3, box_points)


def _nme(predicted: np.ndarray, labels: np.ndarray, dimensions: int, box_points: np.ndarray | None) -> np.ndarray:
    predicted, labels = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    if predicted.shape != labels.shape or labels.ndim != 3 or labels.shape[-1] != dimensions:
        raise ValueError(
            f"predicted and labels must both be [N,L,{dimensions}], got {list(predicted.shape)} and "
            f"{list(labels.shape)}"
        )
    around = labels[..., :2] if box_points is None else np.asarray(box_points, np.float64)
    extent = np.nanmax(around, axis=1) - np.nanmin(around, axis=1)
    known = ~np.isnan(labels).any(-1)
    distance = np.linalg.norm(predicted - labels, axis=-1).sum(-1, where=known) / known.sum(-1)
    return 100 * distance / np.sqrt(extent.prod(-1))


def by_yaw(errors: np.ndarray, yaw: np.ndarray) -> dict[str, float]:
    """Summarize errors by bins of |yaw|: [0,30], (30,60] and above 60 degrees.

    Args:
        errors: [N].
        yaw: [N], degrees.

    Returns:
        yaw_0_30, yaw_30_60, yaw_60_90: the bins' means. balanced: the mean of these three. std_of_bins: their standard
        deviation (of the population). plain: the mean over all faces. images_yaw_0_30 ...: the bins' numbers of faces.
        The mean of an empty bin is NaN, and so are balanced and std_of_bins then.

    Raises:
        ValueError: The shapes do not match, or a yaw is NaN.
    """
    errors, turned = np.asarray(errors, np.float64), np.abs(np.asarray(yaw, np.float64))
    if errors.ndim != 1 or errors.shape != turned.shape:
        raise ValueError(f"errors and yaw must both be [N], got {list(errors.shape)} and {list(turned.shape)}")
    if np.isnan(turned).any():
        raise ValueError("yaw must not be NaN: a face without it belongs to no bin")
    chosen = {name: errors[((turned > low) | (low == 0)) & (turned <= high)] for name, (low, high) in BINS.items()}
    means = {name: float(e.mean()) if len(e) else np.nan for name, e in chosen.items()}
    three = np.array(list(means.values()))
    result = means | {
        "balanced": float(three.mean()),
        "std_of_bins": float(three.std()),
        "plain": float(errors.mean()) if len(errors) else np.nan,
    }
    return result | {f"images_{name}": len(e) for name, e in chosen.items()}


def failure_rate(errors: np.ndarray, threshold: float) -> float:
    """The percentage of errors [N] above a threshold; an error that is not finite is above any."""
    return 100 * float((~(np.asarray(errors) <= threshold)).mean())


def cumulative_curve(errors: np.ndarray, largest: float = 10.0, points: int = 101) -> tuple[np.ndarray, np.ndarray]:
    """Compute the cumulative error distribution.

    Args:
        errors: [N].
        largest: The last threshold.
        points: The number of thresholds.

    Returns:
        The thresholds [points], from 0 to `largest`, and for each the percentage of errors that are at most as large.
    """
    thresholds = np.linspace(0, largest, points)
    ordered = np.sort(np.asarray(errors, np.float64))  # NaN last
    return thresholds, 100 * np.searchsorted(ordered, thresholds, side="right") / max(len(ordered), 1)
