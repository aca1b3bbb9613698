"""The benchmark of training: the parts of a step add up to the step."""

import pytest
import torch

from tests.training.toy import Toy, config


@pytest.mark.parametrize("adversarial", [False, True])
def test_the_parts_of_a_step_add_up_to_it_and_no_time_is_counted_twice(tmp_path, adversarial):
    from benchmarks.training import Clock, clocked, from_step, walk

    seen = []

    class Watched(Toy):
        def batch(self, step, indices, device):
            seen.append(step)
            return super().batch(step, indices, device)

    clock = Clock(torch.device("cpu"))
    with clock.renderer(), clock.optimizer():
        seconds, _ = walk(
            clocked(from_step(Watched, 5), clock),
            config(tmp_path, adversarial=adversarial, prefetch=0, steps=50),
            4,
            torch.device("cpu"),
            clock,
        )
    assert seen == list(range(5, 12)) and len(seconds) == 4
    spent = clock.spent
    assert sum(spent.values()) <= sum(seconds) and spent["rendering"] == 0
    assert min(spent[part] for part in ("data", "network", "loss", "backward", "optimizer")) > 0 and clock.open == []


def test_the_renderer_within_a_batch_is_not_counted_as_data(monkeypatch):
    import facerender
    from benchmarks import training as benchmark

    ticks = iter(range(100))
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(ticks))
    clock = benchmark.Clock(torch.device("cpu"))
    plain, topology = facerender.vertex_normals, facerender.Topology(torch.tensor([[0, 1, 2]], dtype=torch.int32), 3)
    with clock.renderer():
        clock.reset()
        with clock("data"):
            facerender.vertex_normals(torch.rand(1, 3, 3), topology)
    assert facerender.vertex_normals is plain
    assert clock.spent["rendering"] == 1 and clock.spent["data"] == 2
