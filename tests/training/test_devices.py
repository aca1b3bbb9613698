"""A training step on a pretended CUDA device: no mixed devices, no needless waiting."""

from functools import partial

import pytest

from facemodels.training.checkpoint import checkpoints, load_weights
from facemodels.training.config import configured
from facemodels.training.distributed import Processes
from facemodels.training.loop import Run

slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize("name, changes, waits", [
    ("e2far", {}, 1),
    ("e2far", {"cache": 8}, 1),
    ("dasl", {"stage1": 0}, 2),
    slow("dasl", {"stage1": 0, "cache": 8, "trunk": "mobilenet_05", "channel": "soft", "extra": True}, 2),
    ("pgn", {"stage1": 0}, 4),
    ("pgn", {"stage1": 0, "cache": 8, "pose": "regressed", "landmarks": "direct"}, 1),
    slow("cycle", {"stage1": 0, "detached": 0}, 1),
    slow("cycle", {
        "stage1": 0, "detached": 0, "cache": 8, "compose_pose": "render", "compose_expression": "texture",
        "pair": "swap",
    }, 1),
])  # fmt: skip
def test_on_a_cuda_device_a_step_mixes_no_devices_and_waits_for_its_outcome_alone(tmp_path, name, changes, waits):
    """Once for each optimizer group, and once for each singular value decomposition, which checks its convergence.

    Making a batch does not wait at all.
    """
    from facemodels.methods.registry import method_class
    from tests.pretended import CUDA, pretended_cuda

    kind = method_class(name)
    with pretended_cuda() as waited:
        settings = kind.PRESETS["smoke"] | {"output": str(tmp_path), "ema": 0.9} | changes
        run = Run(kind, configured(kind.config_class, settings), Processes(0, 1, CUDA))
        run.begin("never")
        run.method.prepare_data()
        run.open_log()
        run.training_step(run.make_batch(0))  # what is made on the device once and kept
        run.step = 1
        waited.clear()
        batch = run.make_batch(1)
        assert not waited
        parts = run.training_step(batch)
        assert len(waited) == waits, "\n".join(map(str, waited))
        assert all(p.device == CUDA for p in [*parts.values(), *run.method.parameters()])
        run.validate()
        run.save_panel(batch)
        run.save()
    run.log.close()
    load_weights(kind(run.config), checkpoints(tmp_path / "checkpoints")[-1])
