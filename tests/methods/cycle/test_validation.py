"""Validation on held-out pairs: errors, leaks between pose and expression, and responses."""

import pytest
import torch
from torch import nn

import facerender as fr
from facemodels.data.clips import SyntheticClips
from tests.methods.cycle.common import properties

LEAKS = ("expression_leak_mm_per_degree", "rotation_leak_degrees_per_mm")
RESPONSES = ("rotation_response", "expression_response")


class Oracle(nn.Module):
    """Returns the true properties of the faces that were rendered last, with a change."""

    def __init__(self, change=lambda p: p):
        super().__init__()
        self.change = change

    def forward(self, image):
        return self.change(properties(self.last))


@pytest.fixture
def validate(method, monkeypatch):
    """Validation results with an oracle that applies a change in place of the network."""
    render, network = SyntheticClips.__call__, method.network

    def call(change=lambda p: p):
        method.network = oracle = Oracle(change)

        def recorded(source, *arguments):
            oracle.last = render(source, *arguments)
            return oracle.last

        monkeypatch.setattr(SyntheticClips, "__call__", recorded)
        return {k: float(v) for k, v in method.validate(torch.device("cpu")).items()}

    yield call
    method.network = network


def test_validation_of_the_truth_finds_no_error_and_no_leak(validate):
    results = validate()
    for key in ("nme_percent", "rotation_degrees", "expression_mm", "neutral_mm", *LEAKS):
        assert abs(results[key]) < 1e-2, key
    for key in RESPONSES:
        assert results[key] == pytest.approx(1, abs=1e-3), key
    assert results["photometric"] < 0.05  # a gray picture is among them
    assert results["neutral_of_mean_face_mm"] > 1 and results["expression_of_none_mm"] > 0.5


def test_leaks_are_measured_in_both_directions(validate):
    """An expression that follows the head's yaw, and a head that nods with the expression."""

    def leaky(p):
        expression = p.expression + 0.5 * p.rotation[:, 0, 2:3]
        nod = 0.02 * p.expression.sum(1)
        rotation = fr.camera.euler_rotation(torch.stack([nod, 0 * nod, 0 * nod], 1)) @ p.rotation
        return p._replace(expression=expression, rotation=rotation)

    results = validate(leaky)
    assert results["expression_leak_mm_per_degree"] > 0.01 and results["rotation_leak_degrees_per_mm"] > 0.05


def test_a_constant_prediction_neither_leaks_nor_responds(validate):
    results = validate(lambda p: p.map(lambda v: v[:1].expand_as(v).contiguous()))
    for key in (*LEAKS, *RESPONSES):
        assert results[key] < 1e-6, key
