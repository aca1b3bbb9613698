"""Samples that are kept: their order in each epoch, and crops on disk that are complete or absent."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from facemodels import load_model
from facemodels.core.errors import InputError
from facemodels.data import FaceBatch
from facemodels.data import cache as cache_module
from facemodels.data.cache import Cached, Shuffled, collect_samples
from facemodels.data.synthetic import Synthetic


def numbered(count):
    """Faces that can be told apart: the first byte is the number."""
    image = torch.zeros(count, 3, 2, 2, dtype=torch.uint8)
    image[:, 0, 0, 0] = torch.arange(count)
    return FaceBatch(
        image, landmarks=torch.arange(count).float()[:, None, None].expand(-1, 5, 2), person=torch.arange(count)
    )


def test_every_epoch_has_every_face_once_in_another_order():
    store = Shuffled(numbered(10))
    first, second = (store(3, 10 * k, range(10)).person.tolist() for k in range(2))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second
    assert store(4, 0, range(10)).person.tolist() != first


def test_a_batch_is_found_by_its_numbers_alone():
    """Also across the end of an epoch, and by another process that saw no batch before."""
    store = Shuffled(numbered(10))
    store(3, 50, range(4))
    a, b = store(3, 7, range(6)), FaceBatch.concatenate([Shuffled(numbered(10))(3, 7 + k, range(1)) for k in range(6)])
    assert torch.equal(a.person, b.person)
    assert (
        a.image.dtype == torch.float32
        and torch.equal((a.image[:, 0, 0, 0] * 255).round().long(), a.person)
        and a.image.max() <= 1
    )
    assert torch.equal(a.landmarks[:, 0, 0].long(), a.person)


def test_a_cache_larger_than_the_memory_is_refused_before_it_is_rendered():
    def source(seed, step, indices):
        return FaceBatch(torch.zeros(len(indices), 3, 120, 120))

    with pytest.raises(InputError, match=r"a cache of 90,000,000 samples takes 3888 GB, and .* give a lower cache"):
        Cached(source, 0, 90_000_000, progress=False)


def test_rendered_samples_are_those_of_the_source():
    source = Synthetic(load_model("builtin"), 32)
    cached, direct = (
        Cached(source, 1, 6, block=4, progress=False),
        FaceBatch.concatenate([source(1, 0, range(4)), source(1, 1, range(2))]),
    )
    got = cached(0, 0, range(6))
    where = [int((direct.identity - i).abs().sum(1).argmin()) for i in got.identity]
    assert sorted(where) == list(range(6))
    assert (got.image - direct.image[where].clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6 and got.mask is None


def test_a_store_wants_bytes_and_at_least_one_face():
    with pytest.raises(ValueError, match="uint8"):
        Shuffled(FaceBatch(torch.zeros(2, 3, 4, 4)))
    with pytest.raises(ValueError, match="at least one"):
        Shuffled(FaceBatch(torch.zeros(0, 3, 4, 4, dtype=torch.uint8)))


def samples_of(count, bad=(), calls=None):
    def samples():
        for k in range(count):
            if calls is not None:
                calls.append(k)
            if k in bad:
                yield f"{k}.jpg", InputError(f"{k}.jpg: broken")
            else:
                yield (
                    f"{k}.jpg",
                    {"image": np.full((3, 4, 4), k, np.uint8), "landmarks": np.full((5, 2), k, np.float32)},
                )

    return samples


def test_kept_crops_are_mapped_from_a_file_and_not_made_again(tmp_path):
    file, calls = tmp_path / "data.zip", []
    file.write_bytes(b"1")
    made, again = (
        collect_samples("set", [file], {"size": 4}, samples_of(7, calls=calls), tmp_path / "kept") for _ in range(2)
    )
    assert len(calls) == 7
    images = next((tmp_path / "kept").glob("faces-*/images.bin"))
    assert images.stat().st_size == 7 * 48
    if Path("/proc/self/maps").exists():
        assert str(images) in Path("/proc/self/maps").read_text()
    for faces in (made, again, collect_samples("set", [], {}, samples_of(7), None)):
        assert (
            faces.image.dtype == torch.uint8
            and faces.image[:, 0, 0, 0].tolist() == list(range(7))
            and faces.landmarks[:, 0, 0].tolist() == list(range(7))
        )
    batch = Shuffled(again)(0, 0, range(7))
    assert torch.equal((batch.image[:, 0, 0, 0] * 255).round(), batch.landmarks[:, 0, 0])
    again.image += 1  # a private copy
    assert collect_samples("set", [file], {"size": 4}, samples_of(7, calls=calls), tmp_path / "kept").image[
        :, 0, 0, 0
    ].tolist() == list(range(7))


def test_other_files_or_settings_are_made_anew(tmp_path):
    file, calls = tmp_path / "data.zip", []

    def make(size):
        return collect_samples("set", [file], {"size": size}, samples_of(2, calls=calls), tmp_path / "kept")

    file.write_bytes(b"1")
    make(4), make(4), make(5)
    assert len(calls) == 4
    before = file.stat().st_mtime_ns
    file.write_bytes(b"22")
    os.utime(file, ns=(before, before))
    make(4)
    assert len(calls) == 6
    os.utime(file, ns=(1, 1))
    make(4)
    assert len(calls) == 8
    for images in (tmp_path / "kept").glob("faces-*/images.bin"):
        images.write_bytes(images.read_bytes()[:-1])
    with pytest.raises(InputError, match="damaged .*; delete it"):
        make(4)


def test_who_wants_the_same_crops_meanwhile_waits_for_them(tmp_path):
    calls = []

    def slow():
        for sample in samples_of(5, calls=calls)():
            time.sleep(0.05)
            yield sample

    with ThreadPoolExecutor(3) as pool:
        for faces in pool.map(lambda _: collect_samples("set", [], {}, slow, tmp_path / "kept"), range(3)):
            assert len(faces) == 5
    assert len(calls) == 5


KILLED = """
import sys, time
from pathlib import Path
from tests.data.test_cache import samples_of
from facemodels.data.cache import collect_samples

def slow():
    for k, sample in enumerate(samples_of(30)()):
        if k == 20:
            Path(sys.argv[1], "half").touch()
            time.sleep(60)
        yield sample

collect_samples("set", [], {}, slow, Path(sys.argv[1], "kept"))
"""


def test_crops_are_kept_whole_or_not_at_all_when_the_process_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(__file__).parents[2])
    try:
        for _ in range(600):
            if (tmp_path / "half").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        assert process.poll() is None and (tmp_path / "half").exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [p.suffix for p in (tmp_path / "kept").iterdir() if p.is_dir()] == [".partial"]  # it was in the middle
    faces = collect_samples("set", [], {}, samples_of(30), tmp_path / "kept")
    assert faces.image[:, 0, 0, 0].tolist() == list(range(30))
    assert not list((tmp_path / "kept").glob("*.partial"))


def test_a_failure_leaves_nothing_behind_and_a_full_disk_is_said(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="none of 3 pictures can be used; the first: 0.jpg: broken"):
        collect_samples("set", [], {}, samples_of(3, bad=range(3)), tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.np, "savez", full)
    with pytest.raises(InputError, match="could not be kept there .No space left on device"):
        collect_samples("set", [], {}, samples_of(3), tmp_path)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


@pytest.mark.parametrize("kept", [False, True])
def test_what_is_left_out_is_said_in_one_line_with_ten_names(tmp_path, kept):
    for _ in range(2):  # also when it is found again
        with pytest.warns(UserWarning) as caught:
            faces = collect_samples("set", [], {}, samples_of(30, bad=range(1, 30, 2)), tmp_path if kept else None)
        assert len(caught) == 1 and len(faces) == 15
        line = str(caught[0].message)
        assert (
            line.startswith("set: 15 of 30 pictures are left out: 1.jpg, 3.jpg, 5.jpg") and "19.jpg and 5 more" in line
        )
        assert "21.jpg" not in line and "\n" not in line


def test_a_mistake_in_a_source_is_not_taken_for_a_damaged_file():
    def wrong():
        yield "a", {"image": np.zeros((3, 4, 4), np.uint8)}
        yield "b", {"image": np.zeros((3, 5, 5), np.uint8)}

    with pytest.raises(ValueError, match="b: samples of set must have the same fields"):
        collect_samples("set", [], {}, wrong, None)
