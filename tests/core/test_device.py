"""Devices by their names."""

import pytest
import torch

from facemodels import InputError
from facemodels.core.device import parse_device


def test_auto_is_cuda_where_there_is_one_and_else_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parse_device("auto") == torch.device("cpu") == parse_device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert parse_device("auto") == torch.device("cuda") and parse_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize(
    "name, count, says",
    [
        ("abacus", 0, "must be cpu, cuda or auto, got 'abacus'"),
        ("mps", 0, "must be cpu, cuda or auto, got 'mps'"),
        ("cuda", 0, "device cuda: torch finds no CUDA device here; use cpu"),
        ("cuda:2", 2, "device cuda:2: there are 2 CUDA devices here, counted from 0"),
    ],
)
def test_a_device_that_is_not_there_is_refused_by_its_name(monkeypatch, name, count, says):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(InputError, match=says):
        parse_device(name)
