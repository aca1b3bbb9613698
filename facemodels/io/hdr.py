"""HDR and wide gamuts to sRGB, as a table for FFmpeg's filter lut3d.

Sources: SMPTE ST 2084 (PQ), ITU-R BT.2100 (HLG, its reference display of 1000 cd/m2), BT.2020 and BT.709 (primaries),
BT.2408 (203 cd/m2 for the white of graphics).
"""

from pathlib import Path

import numpy as np
import torch

from facerender import color

# FFmpeg's numbers (ITU-T H.273) of the transfer functions and primaries that are converted.
TRANSFERS = {16: "pq", 18: "hlg"}
PRIMARIES = {9: "bt2020", 11: "p3", 12: "p3"}

WHITE = 203.0  # cd/m2 of a white sheet in HDR
PEAK = 1000.0  # cd/m2 that become full white; what is brighter is cut
KNEE = 0.5  # linear, of white: what is darker, and most skin is, keeps its brightness

# Linear RGB to linear BT.709, white D65.
_TO_BT709 = {
    "bt2020": np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]),
    "p3": np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]]),
}
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])  # of BT.2020


def to_srgb(coded: np.ndarray, transfer: str | None, primaries: str | None) -> np.ndarray:
    """Convert colors to sRGB.

    Args:
        coded: [...,3] in 0..1.
        transfer: "pq", "hlg", or None for standard dynamic range.
        primaries: "bt2020", "p3", or None for those of sRGB.

    Returns:
        [...,3] in 0..1.
    """
    if transfer == "pq":
        linear = _pq(coded) / WHITE
    elif transfer == "hlg":
        scene = _hlg(coded)
        linear = scene * (scene @ _LUMINANCE)[..., None] ** 0.2 * (PEAK / WHITE)
    else:
        linear = color.to_linear(torch.from_numpy(coded)).numpy()
    if primaries is not None:
        linear = linear @ _TO_BT709[primaries].T
    linear = np.maximum(linear, 0)
    if transfer is not None:
        linear = linear * _tone(linear.max(-1, keepdims=True))
    return color.to_srgb(torch.from_numpy(linear)).numpy()


def _pq(coded: np.ndarray) -> np.ndarray:
    """cd/m2 of a PQ signal."""
    power = np.maximum(coded, 0) ** (1 / 78.84375)
    return 10_000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (1 / 0.1593017578125)


def _hlg(coded: np.ndarray) -> np.ndarray:
    """Light of the scene, 0..1, of an HLG signal."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12)


def _tone(brightest: np.ndarray) -> np.ndarray:
    """The factor that maps the brightest channel, 1 for white, from 0..PEAK / WHITE to 0..1."""
    reach = (PEAK / WHITE - KNEE) / (1 - KNEE)
    over = ((np.minimum(brightest, PEAK / WHITE) - KNEE) / (1 - KNEE)).clip(0)
    mapped = KNEE + (1 - KNEE) * over * (1 + over / reach**2) / (1 + over)
    return np.where(brightest > KNEE, mapped / np.maximum(brightest, KNEE), 1.0)


def write_cube(path: Path, transfer: str | None, primaries: str | None, size: int = 33) -> None:
    """Write `to_srgb` as a .cube file of size^3 colors."""
    axis = np.linspace(0, 1, size)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red changes fastest
    table = to_srgb(np.stack([red, green, blue], -1).reshape(-1, 3), transfer, primaries)
    rows = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in table.tolist())
    path.write_text(f"LUT_3D_SIZE {size}\n{rows}\n")
