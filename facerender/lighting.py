"""Lights as spherical-harmonic coefficients [N,9,3] for `sh_shade` and `render_face`. Plain torch.

After Ramamoorthi and Hanrahan 2001. Colors are linear.
"""

import math

import torch
from torch import Tensor

from ._checks import GEOMETRY, check_choice, check_tensor
from .shading import PRESETS

_C0, _C1, _C2 = math.sqrt(1 / (4 * math.pi)), math.sqrt(3 / (4 * math.pi)), math.sqrt(15 / (4 * math.pi))
_A0, _A1, _A2 = math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)  # deep3d's factors of the three bands
_DECA1 = 2 * math.pi / 3  # deca's Lambert factor of band 1
_DECA2 = math.pi / 4  # and of band 2

# name -> the factor of each of (1, x, y, z, xy, yz, xz, 3z^2 - 1, x^2 - y^2), and the coefficient that goes with it
_FACTORS: dict[str, tuple[list[float], list[int]]] = {
    "standard": (
        [_C0, _C1, _C1, _C1, _C2, _C2, _C2, _C2 / (2 * math.sqrt(3)), _C2 / 2],
        [0, 3, 1, 2, 4, 5, 7, 6, 8],
    ),
    "deep3d": (
        [
            a * f
            for a, f in zip(
                [_A0] + [_A1] * 3 + [_A2] * 5,
                [_C0, -_C1, -_C1, _C1, _C2, -_C2, -_C2, _C2 / (2 * math.sqrt(3)), _C2 / 2],
                strict=True,
            )
        ],
        [0, 3, 1, 2, 4, 5, 7, 6, 8],
    ),
    "deca": (
        [
            a * f
            for a, f in zip(
                [1.0] + [_DECA1] * 3 + [_DECA2] * 5,
                [_C0, _C1, _C1, _C1, _C2, _C2, _C2, _C2 / (2 * math.sqrt(3)), _C2 / 2],
                strict=True,
            )
        ],
        [0, 1, 2, 3, 4, 6, 5, 8, 7],
    ),
}


def sh_basis(normals: Tensor, preset: str = "deep3d") -> Tensor:
    """Evaluate the nine basis functions of a preset.

    Args:
        normals: unit vectors [...,3].
        preset: as in `sh_shade`.

    Returns:
        [...,9], in the preset's order.
    """
    check_tensor("normals", normals, (..., 3), GEOMETRY)
    check_choice("preset", preset, PRESETS)
    x, y, z = normals.unbind(-1)
    terms = [torch.ones_like(x), x, y, z, x * y, y * z, x * z, 3 * z * z - 1, x * x - y * y]
    factors, places = _FACTORS[preset]
    out = [x] * 9  # every place is filled below
    for term, factor, place in zip(terms, factors, places, strict=True):
        out[place] = factor * term
    return torch.stack(out, -1)


def ambient_and_directional(ambient: Tensor, direction: Tensor, intensity: Tensor, preset: str = "deep3d") -> Tensor:
    """Return the coefficients of an ambient light and a distant one (Ramamoorthi and Hanrahan 2001).

    A Lambertian surface of albedo 1 gets the color ``ambient + intensity * max(0, n . d)``, with the maximum
    approximated by its bands 0 to 2.

    Args:
        ambient: linear color, [N,3] or [3].
        direction: d, [N,3] or [3], towards the light, of any length, in the space of the normals.
        intensity: linear color of the distant light, [N,3] or [3].
        preset: basis of the coefficients, as in `sh_shade`.

    Returns:
        Coefficients [N,9,3].
    """
    sizes: dict[str, int] = {}
    ambient, direction, intensity = (
        value[None] if isinstance(value, Tensor) and value.dim() == 1 else value
        for value in (ambient, direction, intensity)
    )
    for name, value in (("ambient", ambient), ("direction", direction), ("intensity", intensity)):
        check_tensor(name, value, ("N|1", 3), GEOMETRY, sizes)
    ambient, direction, intensity = torch.broadcast_tensors(ambient, direction, intensity)
    d = torch.nn.functional.normalize(direction, dim=-1)
    # max(0, cos) = 1/4 + cos/2 + 5/16 (cos^2 - 1/3) * 3/2 + ...: per band l, the factor of the addition theorem.
    band = torch.tensor([math.pi] + [2 * math.pi / 3] * 3 + [math.pi / 4] * 5, dtype=d.dtype, device=d.device)
    lobe = sh_basis(d, "standard") * band  # [N,9], coefficients over the orthonormal basis
    coefficients = lobe[:, :, None] * intensity[:, None, :]
    base = torch.zeros_like(coefficients)
    base[:, 0] = ambient / _C0
    return convert(coefficients + base, "standard", preset)


def convert(coefficients: Tensor, source: str, target: str) -> Tensor:
    """Convert coefficients of one preset to those of another that give the same colors.

    Args:
        coefficients: [N,9,3].
        source: preset of `coefficients`, as in `sh_shade`.
        target: preset of the result.

    Returns:
        Coefficients [N,9,3].
    """
    check_tensor("coefficients", coefficients, ("N", 9, 3), GEOMETRY)
    check_choice("source", source, PRESETS)
    check_choice("target", target, PRESETS)
    (f0, b0), (f1, b1) = _FACTORS[source], _FACTORS[target]
    order = [b0[b1.index(k)] for k in range(9)]
    ratio = [f0[b1.index(k)] / f1[b1.index(k)] for k in range(9)]
    factors = torch.tensor(ratio, dtype=coefficients.dtype, device=coefficients.device)
    return coefficients[:, order] * factors[:, None]


def deep3d_coefficients(gamma: Tensor) -> Tensor:
    """Convert the lighting numbers of Deep3DFaceReconstruction to coefficients of the preset "deep3d".

    Args:
        gamma: [N,27], three color channels of nine, to whose first number 0.8 is to be added.

    Returns:
        Coefficients [N,9,3].
    """
    check_tensor("gamma", gamma, ("N", 27), GEOMETRY)
    first = torch.zeros(9, dtype=gamma.dtype, device=gamma.device)
    first[0] = 0.8
    return (gamma.reshape(-1, 3, 9) + first).transpose(1, 2)


def studio(
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    preset: str = "deep3d",
) -> Tensor:
    """Return a soft light from the upper left in front, for pictures of meshes.

    Args:
        batch: N.
        dtype: float32 or float64.
        device: where the coefficients are made.
        preset: basis of the coefficients, as in `sh_shade`.

    Returns:
        Coefficients [N,9,3].
    """
    one = torch.ones(batch, 1, dtype=dtype, device=device)
    ambient = one * torch.tensor([0.34, 0.35, 0.38], dtype=dtype, device=device)
    key = one * torch.tensor([-0.45, 0.55, 0.8], dtype=dtype, device=device)
    intensity = one * torch.tensor([0.82, 0.79, 0.74], dtype=dtype, device=device)
    return ambient_and_directional(ambient, key, intensity, preset)
