"""One run a folder."""

import os
import signal
import subprocess
import sys

import pytest

from facemodels import InputError
from facemodels.training.lock import folder_lock
from facemodels.training.loop import train
from tests.training.toy import Toy, config, metrics, same, weights

HOLD = """
import sys, time
from pathlib import Path
from facemodels.training.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_in_a_folder_is_refused_and_a_killed_one_leaves_no_lock(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        for resume in ("never", "auto"):
            with pytest.raises(InputError, match="another run is training in this folder"):
                train(Toy, config(tmp_path), resume=resume)
        assert list(tmp_path.iterdir()) == []
        other.kill()
    train(Toy, config(tmp_path))
    train(Toy, config(tmp_path, steps=40), resume="auto")  # this process's own first run has ended


def test_a_run_that_fails_gives_its_folder_back(tmp_path):
    with pytest.raises(InputError, match="not finite"):
        train(Toy, config(tmp_path, poison=2))
    with folder_lock(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_and_ends_in_the_same_bits_later(number, tmp_path):
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip("this process was started to ignore the signal, as by nohup")

    def ask(step):
        if step == 13:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        train(Toy, config(tmp_path / "parts"), after_step=ask)
    assert (tmp_path / "parts" / "checkpoints" / "step-000000014").is_dir()
    train(Toy, config(tmp_path / "parts"), resume="auto")
    train(Toy, config(tmp_path / "whole"))
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


@pytest.mark.parametrize("name", ["file", "file/below", "zero\0byte", "n" * 300])
def test_a_folder_that_cannot_be_made_is_named_in_one_sentence(name, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match="the folder of the run cannot be"), folder_lock(tmp_path / name):
        pass
