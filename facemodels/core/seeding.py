"""core.seeding: TODO."""

import torch


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, well mixed (splitmix64)."""
    state = 0x9E3779B97F4A7C15
    for n in numbers:
        state = (state ^ (n & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF


def seed_everything(*numbers: int):
    """torch's global generators, for dropout and the like."""
    torch.manual_seed(seed_of(*numbers))
