"""Measures of landmark accuracy: the normalised mean error as 3DDFA's benchmark computes it (Zhu et al. 2016), and what is made of it.

For a face with labels g and predictions p (68 points), NME = mean over points of |p - g| / sqrt(w h), w and h the extent of that face's labels in the picture.
All in percent. "Mean" in published tables is the balanced one, of three means over bins of yaw, and "std" is the standard deviation of the three; the mean of
all faces is another number. Plain numpy.
"""

import numpy as np

BINS = {
    "yaw_0_30": (0, 30),
    "yaw_30_60": (30, 60),
    "yaw_60_90": (60, np.inf),
}  # |yaw| above the first number (from 0 on) up to the second


def nme(predicted: np.ndarray, labels: np.ndarray, boxed: np.ndarray | None = None) -> np.ndarray:
    """NME of each face, percent [N]: predicted and labels [N,L,2]. Points that a face has no label for are NaN in `labels`, and do not count. boxed [N,K,2]: the points
    whose box divides; None for the labels."""
    return _nme(predicted, labels, 2, boxed)


def nme_3d(predicted: np.ndarray, labels: np.ndarray, depth: str, boxed: np.ndarray | None = None) -> np.ndarray:
    """NME over three coordinates, percent [N]: predicted and labels [N,L,3], z in the same scale as x and y.

    Depth is known up to a shift. depth: "min_z" subtracts the smallest z of each set of points, prediction and labels alike (3DDFA, 2DASL); "mean_z" the mean
    (SADRNet). The two are not comparable: name the one that was used. The divisor is that of `nme`, without z.
    """
    rules = {"min_z": np.min, "mean_z": np.mean}
    if depth not in rules:
        raise ValueError(f"depth must be one of {', '.join(rules)}, got {depth!r}")
    sets = []
    for points in (predicted, labels):
        points = np.array(points, np.float64)
        points[..., 2] -= rules[depth](points[..., 2], axis=-1, keepdims=True)
        sets.append(points)
    return _nme(*sets, 3, boxed)


def _nme(predicted, labels, dimensions, boxed):
    predicted, labels = np.asarray(predicted, np.float64), np.asarray(labels, np.float64)
    if predicted.shape != labels.shape or labels.ndim != 3 or labels.shape[-1] != dimensions:
        raise ValueError(
            f"predicted and labels must both be [N,L,{dimensions}], got {list(predicted.shape)} and {list(labels.shape)}"
        )
    around = labels[..., :2] if boxed is None else np.asarray(boxed, np.float64)
    extent = np.nanmax(around, axis=1) - np.nanmin(around, axis=1)
    known = ~np.isnan(labels).any(-1)
    distance = np.linalg.norm(predicted - labels, axis=-1).sum(-1, where=known) / known.sum(-1)
    return 100 * distance / np.sqrt(extent.prod(-1))


def by_yaw(errors: np.ndarray, yaw: np.ndarray) -> dict:
    """Errors [N] of faces with these yaws [N], degrees, by bins of |yaw|: [0,30], (30,60], (60,inf).

    Returns yaw_0_30, yaw_30_60, yaw_60_90: their means; balanced: the mean of the three; std_of_bins: their standard deviation (of the population: divided by 3);
    plain: the mean of all faces; images_yaw_0_30 ...: how many. NaN is the mean of a bin without faces, and then what is made of all three.
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
    """Percent of faces whose error [N] is above the threshold; one that is not finite is above any."""
    return 100 * float((~(np.asarray(errors) <= threshold)).mean())


def cumulative_curve(errors: np.ndarray, largest: float = 10.0, points: int = 101) -> tuple[np.ndarray, np.ndarray]:
    """The cumulative error distribution: thresholds [points] from 0 to `largest`, and the percent of faces whose error [N] is at most each."""
    thresholds = np.linspace(0, largest, points)
    ordered = np.sort(np.asarray(errors, np.float64))  # NaN last
    return thresholds, 100 * np.searchsorted(ordered, thresholds, side="right") / max(len(ordered), 1)
