"""Published measurements of adult heads, and where they are taken on the template.

Means of men and women and standard deviations within a sex, mm, rounded, after

* L. G. Farkas, Anthropometry of the Head and Face, 2nd ed., 1994 (young North American adults) for the face;
* Z. Zhuang and B. Bradtmiller, Head-and-face anthropometric survey of U.S. respirator users, J. Occup. Environ. Hyg. 2
  (2005) for the head's length and breadth, the lower jaw and the neck;
* J. A. Heathcote, Why do old men have big ears?, BMJ 311 (1995) for the ear's growth of 0.22 mm a year.

The rows marked "drawn" are not published measurements: they are prominences for which the literature gives angles or
pictures, with deviations that keep faces plausible. Measurements correlate through four factors: size, on which all
load; length against breadth (Zhuang et al. 2010 find these two as the first components of head shape); build, which
acts on soft tissue; age. Their loadings are set by hand so that correlations between measurements are the 0.2 to 0.5
that surveys report, and those with build the 0.4 to 0.8 reported for neck and jaw. The figures were written down from
memory of these tables; single ones may be off by a millimeter.
"""

from dataclasses import dataclass

import numpy as np

Point = tuple[float, float, float]


@dataclass(frozen=True)
class Measurement:
    """A measurement between two places of the head, mm.

    Attributes:
        name: with the abbreviations of the anthropometric landmarks.
        points: two places on the template, mm; a pair of opposite places for a breadth.
        axis: "distance" between them, or the component of it along "x", "y" or "z".
        men: mean of men; women: mean of women; deviation: standard deviation within a sex.
        size: loading of the factor, its correlation with the measurement; length, build and age likewise.
        drawn: not a published measurement, see the module.
    """

    name: str
    points: tuple[Point, Point]
    axis: str
    men: float
    women: float
    deviation: float
    size: float
    length: float
    build: float
    age: float
    drawn: bool = False


def _breadth(x: float, y: float, z: float) -> tuple[Point, Point]:
    """Return a place on the left half and its mirror image."""
    return (x, y, z), (-x, y, z)


MEASUREMENTS = (
    # name, places, axis, means of men and women, deviation, loadings of size, length, build and age
    Measurement("head breadth eu-eu", _breadth(73, 40, -24), "distance", 152.0, 145.5, 5.7, 0.55, -0.25, 0.15, 0.0),
    Measurement("head length g-op", ((0, 22, 97), (0, 16, -94)), "distance", 197.0, 187.5, 7.0, 0.55, 0.25, 0.1, 0.05),
    Measurement("face breadth zy-zy", _breadth(66.5, -15, 40), "distance", 138.5, 131.0, 5.0, 0.55, -0.35, 0.4, 0.05),
    Measurement("jaw breadth go-go", _breadth(57, -68, 8), "distance", 113.0, 104.0, 6.5, 0.45, -0.3, 0.55, 0.1),
    Measurement("face height n-gn", ((0, 6, 94), (0, -108.5, 86)), "y", 121.5, 112.0, 5.9, 0.5, 0.5, 0.05, 0.1),
    Measurement("nose height n-sn", ((0, 6, 94), (0, -44.5, 101)), "y", 53.5, 49.5, 3.2, 0.4, 0.4, 0.0, 0.25),
    Measurement("nose breadth al-al", _breadth(16.6, -39, 100), "distance", 36.0, 32.6, 2.8, 0.35, -0.2, 0.2, 0.25),
    Measurement("nose protrusion sn-prn", ((0, -33, 118), (0, -44.5, 101)), "z", 20.0, 19.3, 2.0, 0.3, 0.1, 0.0, 0.2),
    Measurement("nose bridge", ((5.5, -4, 95), (16, -3, 82.5)), "z", 12.5, 11.2, 1.8, 0.15, 0.1, 0.0, 0.0, True),
    Measurement("inner eye distance en-en", _breadth(15.9, -1.6, 80.6),
                "distance", 33.0, 32.0, 2.6, 0.35, -0.2, 0.1, 0.0),
    Measurement("eye fissure ex-en", ((46.6, 0.6, 74.2), (15.9, -1.6, 80.6)),
                "distance", 31.5, 30.8, 1.2, 0.3, 0.0, 0.0, -0.1),
    Measurement("mouth breadth ch-ch", _breadth(26.6, -66.3, 87.2), "distance", 54.0, 50.5, 3.4, 0.4, -0.15, 0.1, 0.2),
    Measurement("upper lip sn-sto", ((0, -44.5, 101), (0, -65.4, 102.3)), "y", 22.2, 20.0, 2.1, 0.3, 0.3, 0.0, 0.35),
    Measurement("upper vermilion ls-sto", ((0, -57.2, 104), (0, -65.4, 102.3)),
                "y", 8.0, 8.4, 1.6, 0.15, 0.0, 0.1, -0.45),
    Measurement("lower vermilion sto-li", ((0, -65.4, 102.3), (0, -75.2, 101.2)),
                "y", 9.3, 9.4, 1.6, 0.15, 0.0, 0.1, -0.4),
    Measurement("forehead tr-n", ((0, 72, 83.5), (0, 6, 94)), "y", 67.0, 63.5, 6.0, 0.35, 0.2, 0.0, 0.1),
    Measurement("ear length sa-sba", ((74.7, 18.5, -13), (73.9, -40, 1.6)), "y", 63.0, 59.0, 4.0, 0.4, 0.2, 0.0, 0.55),
    Measurement("neck breadth", _breadth(50, -140, -24), "distance", 122.0, 103.0, 8.0, 0.45, -0.2, 0.75, 0.1),
    Measurement("brow ridge", ((0, 22, 97), (0, 6, 94)), "z", 4.6, 2.4, 1.3, 0.1, 0.0, 0.0, 0.0, True),
    Measurement("brow height", ((30, 24, 92), (31.6, -5, 86)), "y", 28.0, 30.2, 2.4, 0.2, 0.2, 0.0, -0.2, True),
    Measurement("chin protrusion", ((0, -98, 96), (0, -44.5, 101)), "z", -4.5, -5.0, 3.4, 0.1, 0.1, 0.0, 0.0, True),
    Measurement("lip protrusion", ((0, -61, 106), (0, -44.5, 101)), "z", 4.6, 5.0, 2.2, 0.1, 0.0, 0.1, -0.25, True),
    Measurement("cheek fullness", ((46, -58, 74), (0, -44.5, 101)),
                "z", -29.0, -29.0, 3.0, 0.15, -0.15, 0.7, -0.15, True),
    Measurement("cheekbone prominence", ((50, -16, 76), (0, -44.5, 101)),
                "z", -24.5, -24.5, 2.4, 0.15, -0.2, 0.25, -0.15, True),
    Measurement("under the chin", ((0, -111, 64), (0, -60, 60)), "y", -51.0, -49.5, 3.4, 0.2, 0.1, -0.7, -0.3, True),
)  # fmt: skip

FACTORS = ("size", "length", "build", "age")


def loadings() -> np.ndarray:
    """Return the loadings [measurements, factors], mm for one standard deviation of each factor, within a sex."""
    return np.array([[getattr(m, f) * m.deviation for f in FACTORS] for m in MEASUREMENTS])


def covariance() -> np.ndarray:
    """Return the covariance [m,m] of the measurements of all adults, half of them men, mm^2."""
    load = loadings()
    own = np.array([m.deviation**2 for m in MEASUREMENTS]) - (load**2).sum(1)
    if (own <= 0).any():
        raise ValueError(
            "the factors explain more than the whole deviation of "
            + ", ".join(m.name for m, o in zip(MEASUREMENTS, own) if o <= 0)
        )
    half = sex_difference() / 2
    return load @ load.T + np.diag(own) + np.outer(half, half)


def sex_difference() -> np.ndarray:
    """Return the means of men less those of women, [m] mm."""
    return np.array([m.men - m.women for m in MEASUREMENTS])


def means() -> np.ndarray:
    """Return the means of all adults, [m] mm."""
    return np.array([(m.men + m.women) / 2 for m in MEASUREMENTS])


def measure(points: np.ndarray, m: Measurement) -> float:
    """Take a measurement of two points [2,3], mm."""
    d = points[0] - points[1]
    return float(np.linalg.norm(d) if m.axis == "distance" else d["xyz".index(m.axis)])


def gradient(points: np.ndarray, m: Measurement) -> np.ndarray:
    """Return the gradient [3] of a measurement of two points [2,3] to the first; to the second it is the opposite."""
    if m.axis == "distance":
        d = points[0] - points[1]
        return d / np.linalg.norm(d)
    return np.eye(3)["xyz".index(m.axis)]
