"""torch.compile for the networks of a method."""

import dataclasses
import os
import shutil
from functools import partial

import pytest
import torch

from facemodels import InputError
from facemodels.training.loop import train
from tests.training.cases import case
from tests.training.toy import Toy, config, metrics, weights


def without_compiler() -> str:
    """Why torch.compile cannot work here; empty where it can."""
    return (
        ""
        if shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")
        else "torch.compile needs a C++ compiler"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.skipif(bool(without_compiler()), reason=without_compiler() or "-")
def test_compiled_networks_train_and_are_saved_as_the_others_are(tmp_path):
    for compiled in (False, True):
        train(
            Toy,
            config(tmp_path / str(compiled), compile=compiled, dropout=0.0, normalised=True, adversarial=True, ema=0.9),
        )
    plain, compiled = weights(tmp_path / "False"), weights(tmp_path / "True")
    assert plain.keys() == compiled.keys()
    for key in plain:
        torch.testing.assert_close(compiled[key], plain[key], rtol=1e-3, atol=1e-5)
    train(
        Toy,
        config(
            tmp_path / "True", dropout=0.0, normalised=True, adversarial=True, ema=0.9, steps=31, checkpoint_every=1
        ),
        resume="auto",
    )  # not compiled


def test_the_networks_of_a_method_are_compiled_and_not_its_batches(tmp_path, monkeypatch):
    """E2FAR, traced and differentiated by the compiler but without its minute of C++: the same losses as without."""
    from torch._dynamo.backends.debugging import aot_eager

    convolutions = []

    def backend(graph, inputs):
        convolutions.append(sum("conv2d" in str(node.target) for node in graph.graph.nodes))
        return aot_eager(graph, inputs)

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend, fullgraph=True))
    lines = {}
    for compiled in (False, True):
        method, settings = case("e2far", tmp_path / str(compiled))
        train(method, dataclasses.replace(settings, compile=compiled))
        lines[compiled] = metrics(tmp_path / str(compiled))
    assert convolutions == [16]  # all of the network's, once
    for a, b in zip(lines[False], lines[True], strict=True):
        assert b == pytest.approx(a, rel=1e-3)


def test_a_compiler_that_fails_is_said_in_one_sentence(tmp_path, monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no working C++ compiler found")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    sentence = r"failed \(.*no working C\+\+ compiler found\); compile=false trains without it$"
    with pytest.raises(InputError, match=r"^compile=true: torch.compile " + sentence):
        train(Toy, config(tmp_path, compile=True))
