"""Random numbers from hashes: at the ends of their range."""

import pytest
import torch

from facemodels.data.counter_rng import CounterRNG


@pytest.mark.parametrize("bits", [0, 2**32 - 1])
def test_numbers_of_the_smallest_and_the_largest_hash_are_finite_and_choose_what_there_is(bits, monkeypatch):
    rng = CounterRNG([1, 2, 3], torch.device("cpu"))
    monkeypatch.setattr(rng, "_bits", lambda keys, k: torch.full((3, k), bits, dtype=torch.int64))
    uniform = rng.uniform(2)
    assert (uniform > 0).all() and (uniform < 1).all()
    assert rng.cpu_normal(2).isfinite().all() and rng.normal_field(5).isfinite().all()
    for count in (*range(1, 100), 1000, 2**20):
        assert ((uniform * count).long() < count).all()
