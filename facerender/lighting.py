"""Lights as spherical-harmonic coefficients [N,9,3] for `sh_shade` and `render_face`. Plain torch."""

import math

import torch
from torch import Tensor

from ._checks import GEOMETRY, check_choice, check_tensor
from .shading import PRESETS

_C0, _C1, _C2 = math.sqrt(1 / (4 * math.pi)), math.sqrt(3 / (4 * math.pi)), math.sqrt(15 / (4 * math.pi))
_A = {"deep3d": (math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8)), "deca": (1.0, 2 * math.pi / 3, math.pi / 4)}

# name -> the factor of (1, x, y, z, xy, yz, xz, 3z^2 - 1, x^2 - y^2) and the band in which each stands
_FACTORS = {
    "standard": ([_C0, _C1, _C1, _C1, _C2, _C2, _C2, _C2 / (2 * math.sqrt(3)), _C2 / 2], [0, 3, 1, 2, 4, 5, 7, 6, 8]),
    "deep3d": (
        [a * f for a, f in zip([_A["deep3d"][0]] + [_A["deep3d"][1]] * 3 + [_A["deep3d"][2]] * 5, [_C0, -_C1, -_C1, _C1, _C2, -_C2, -_C2, _C2 / (2 * math.sqrt(3)), _C2 / 2])],
        [0, 3, 1, 2, 4, 5, 7, 6, 8],
    ),
    "deca": (
        [a * f for a, f in zip([1.0] + [_A["deca"][1]] * 3 + [_A["deca"][2]] * 5, [_C0, _C1, _C1, _C1, _C2, _C2, _C2, _C2 / (2 * math.sqrt(3)), _C2 / 2])],
        [0, 1, 2, 3, 4, 6, 5, 8, 7],
    ),
}


def sh_basis(normals: Tensor, preset: str = "deep3d") -> Tensor:
    """The nine basis functions of a preset (see `sh_shade`) at normals [...,3]: [...,9]."""
    check_tensor("normals", normals, (..., 3), GEOMETRY)
    check_choice("preset", preset, PRESETS)
    x, y, z = normals.unbind(-1)
    terms = [torch.ones_like(x), x, y, z, x * y, y * z, x * z, 3 * z * z - 1, x * x - y * y]
    factors, bands = _FACTORS[preset]
    out = [None] * 9
    for term, factor, band in zip(terms, factors, bands):
        out[band] = factor * term
    return torch.stack(out, -1)


def ambient_and_directional(ambient: Tensor, direction: Tensor, intensity: Tensor, preset: str = "deep3d") -> Tensor:
    """Coefficients of an ambient light and a distant one, so that a Lambertian surface of albedo 1 has the colour
    ``ambient + intensity * max(0, n . d)`` up to the third band (Ramamoorthi and Hanrahan 2001).

    ambient [N,3]; direction [N,3], towards the light, any length; intensity [N,3] -> [N,9,3].
    """
    check_tensor("direction", direction, ("N", 3), GEOMETRY)
    d = torch.nn.functional.normalize(direction, dim=-1)
    # max(0, cos) = 1/4 + cos/2 + 5/16 (cos^2 - 1/3) * 3/2 + ...: per band l, the factor of the addition theorem.
    band = torch.tensor([math.pi] + [2 * math.pi / 3] * 3 + [math.pi / 4] * 5, dtype=d.dtype, device=d.device)
    lobe = sh_basis(d, "standard") * band  # [N,9], coefficients over the orthonormal basis
    coefficients = lobe[:, :, None] * intensity[:, None, :]
    base = torch.zeros_like(coefficients)
    base[:, 0] = ambient / _C0
    return convert(coefficients + base, "standard", preset)


def convert(coefficients: Tensor, source: str, target: str) -> Tensor:
    """Coefficients [N,9,3] of one preset as those of another that give the same colours."""
    check_tensor("coefficients", coefficients, ("N", 9, 3), GEOMETRY)
    check_choice("source", source, PRESETS), check_choice("target", target, PRESETS)
    (f0, b0), (f1, b1) = _FACTORS[source], _FACTORS[target]
    order = [b0[b1.index(k)] for k in range(9)]
    ratio = [f0[b1.index(k)] / f1[b1.index(k)] for k in range(9)]
    return coefficients[:, order] * torch.tensor(ratio, dtype=coefficients.dtype, device=coefficients.device)[:, None]


def deep3d_coefficients(gamma: Tensor) -> Tensor:
    """The 27 lighting numbers of Deep3DFaceReconstruction [N,27] (three channels of nine, 0.8 to be added to the first band) as [N,9,3]."""
    check_tensor("gamma", gamma, ("N", 27), GEOMETRY)
    first = torch.zeros(9, dtype=gamma.dtype, device=gamma.device)
    first[0] = 0.8
    return (gamma.reshape(-1, 3, 9) + first).transpose(1, 2)


def studio(batch: int = 1, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", preset: str = "deep3d") -> Tensor:
    """A soft light from the upper left in front, for pictures of meshes: [N,9,3]."""
    one = torch.ones(batch, 1, dtype=dtype, device=device)
    ambient = one * torch.tensor([0.34, 0.35, 0.38], dtype=dtype, device=device)
    key = one * torch.tensor([-0.45, 0.55, 0.8], dtype=dtype, device=device)
    intensity = one * torch.tensor([0.82, 0.79, 0.74], dtype=dtype, device=device)
    return ambient_and_directional(ambient, key, intensity, preset)
