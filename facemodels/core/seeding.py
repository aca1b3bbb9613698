"""Seeds for random generators."""

import torch

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, and the multipliers of splitmix64 (Steele, Lea, Flood 2014)
_MULTIPLIERS = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_64_BITS = 0xFFFFFFFFFFFFFFFF


def seed_of(*numbers: int) -> int:
    """Mix several numbers into one seed of 63 bits (as splitmix64 does)."""
    state = _GOLDEN
    for n in numbers:
        state = (state ^ (n & _64_BITS)) * _MULTIPLIERS[0] & _64_BITS
        state ^= state >> 27
        state = state * _MULTIPLIERS[1] & _64_BITS
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF


def seed_everything(*numbers: int) -> None:
    """Seed torch's global generators with `seed_of` the numbers; dropout and the like draw from them."""
    torch.manual_seed(seed_of(*numbers))
