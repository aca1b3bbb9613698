"""Samples that are decoded or rendered once and kept, in memory or in a file, and taken in another order in each epoch.

`Shuffled` is what training takes batches from. `Cached` renders an endless source into one. `collect_samples` is how
sources of photographs decode their files (in threads, with `load_in_threads`), report which of them are damaged, and
keep the crops for the next run.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from facemodels.core.errors import InputError, one_line
from facemodels.core.progress import progress as core_progress
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch, Source

Name = TypeVar("Name")
Loaded = TypeVar("Loaded")
Sample: TypeAlias = dict[
    str, np.ndarray
]  # one sample of a `FaceBatch` by field: image uint8 [3,S,S], landmarks [L,2], ...
Samples: TypeAlias = Iterator[tuple[str, Sample | InputError]]  # with names


class SampleSource(NamedTuple):
    """What `collect_samples` takes to read samples from files.

    Attributes:
        files: everything that is read.
        settings: what the samples depend on besides the files, plain values, the kind of source among them.
        samples: makes the samples.
    """

    files: list[Path]
    settings: dict[str, Any]
    samples: Callable[[], Samples]


class Shuffled:
    """Endless epochs over faces whose images are uint8, each in another random order.

    ``Shuffled(faces)(seed, start, indices)`` gives the samples whose numbers in the endless sequence of epochs are
    start + i for i in indices, images in 0..1. Stateless: the same numbers give the same samples. `faces.image` may lie
    in a file (`collect_samples` with a cache): only what is taken is read.

    Args:
        faces: the faces.
        places: int64 [M], indices of the faces that take part; None for all.

    Raises:
        ValueError: there are no faces, or images are not uint8.
    """

    def __init__(self, faces: FaceBatch, places: Tensor | None = None) -> None:
        if faces.image.dtype != torch.uint8 or len(faces) == 0:
            raise ValueError(
                f"faces must be at least one, with images of uint8, got {len(faces)} of {faces.image.dtype}"
            )
        self.faces, self.places, self.count = faces, places, len(faces) if places is None else len(places)
        # The epoch of the last sample and its order. One tuple, replaced as a whole: threads may be in different
        # epochs.
        self._epoch: tuple[tuple[int, int], Tensor] | None = None

    def __call__(self, seed: int, start: int, indices: range) -> FaceBatch:
        """Return samples `start` + i of the endless sequence of epochs, for i in indices."""
        places = torch.stack([self._place(seed, start + i) for i in indices])
        taken = self.faces[places if self.places is None else self.places[places]]
        taken.image = taken.image.float() / 255
        return taken

    def _place(self, seed: int, number: int) -> Tensor:
        """The index, int64 [], of a sample of the endless sequence."""
        key = (seed, number // self.count)
        epoch = self._epoch
        if epoch is None or epoch[0] != key:
            order = torch.randperm(self.count, generator=torch.Generator().manual_seed(seed_of(*key)))
            epoch = self._epoch = (key, order)
        return epoch[1][number % self.count]


class Cached(Shuffled):
    """Samples of an endless source in memory, images as bytes and without masks; rendered in blocks, kept on the CPU.

    Args:
        source: renders them, on its own device.
        seed: seed of the samples.
        count: number of samples.
        block: samples rendered at a time.
        progress: whether to show a progress bar in a terminal.
    """

    def __init__(self, source: Source, seed: int, count: int, block: int = 64, progress: bool = True) -> None:
        parts: list[FaceBatch] = []
        images: Tensor | None = None
        what = f"rendering {count:,} samples, {block} at a time"
        for k in core_progress(range(0, count, block), what, quiet=not progress):
            faces = source(seed, k // block, range(min(block, count - k)))
            if images is None:
                _check_memory(count * faces.image[0].numel(), count)
                images = torch.empty(count, *faces.image.shape[1:], dtype=torch.uint8)
            images[k : k + len(faces)] = (faces.image * 255).round().byte()
            # Never all of them as floats.
            parts.append(replace(faces, image=faces.image.new_empty(len(faces), 0), mask=None).to("cpu"))
        batch = FaceBatch.concatenate(parts)
        super().__init__(batch if images is None else replace(batch, image=images))


def _check_memory(needed: int, count: int) -> None:
    """Refuse a cache of so many bytes that it cannot lie in this machine's memory."""
    if not hasattr(os, "sysconf"):  # Windows
        return
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory:
        raise InputError(
            f"a cache of {count:,} samples takes {needed / 1e9:.0f} GB, and this machine has {memory / 1e9:.0f} GB of "
            "memory; give a lower cache, or cache=0, which renders new samples in every step"
        )


def load_in_threads(
    names: Iterable[Name], load: Callable[[Name], Loaded], desc: str = "reading pictures"
) -> Iterator[tuple[Name, Loaded | InputError]]:
    """Iterate over (name, load(name)) in the order of the names, or (name, the InputError that load raised).

    Args:
        names: passed to `load`, which runs in threads: decoders release the interpreter.
        load: loads one.
        desc: title of the progress bar.
    """
    names = list(names)

    def attempt(name: Name) -> Loaded | InputError:
        try:
            return load(name)
        except InputError as error:
            return error

    def samples(pool: ThreadPoolExecutor) -> Iterator[tuple[Name, Loaded | InputError]]:
        for k in range(0, len(names), 256):  # not all at once: pictures would pile up where the consumer is slow
            yield from zip(names[k : k + 256], pool.map(attempt, names[k : k + 256]))

    with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
        yield from core_progress(samples(pool), desc, len(names))


def collect_samples(
    source: str,
    files: Iterable[Path],
    settings: dict[str, Any],
    samples: Callable[[], Samples],
    cache: str | Path | None,
) -> FaceBatch:
    """Collect all samples of a source, with uint8 images.

    Samples that are InputErrors are left out, and one warning says how many and which.

    Args:
        source: names the data in messages.
        files: everything that is read; a cache is found again by their names, sizes and times.
        settings: what the samples depend on besides the files, plain values, the kind of source among them.
        samples: makes the samples, see `load_in_threads`; all with the same fields and shapes.
        cache: None keeps images in memory. Or a folder for files that are written once, completely or not at all, and
            from then on mapped into memory, so a data set may be larger than memory. Other processes of the machine
            that want the same files wait for the first.

    Raises:
        InputError: no sample is left, or the cache cannot be written or is damaged.
    """
    if cache is None:
        content = bytearray()
        labels, shape, complaint = _gather(source, samples(), content.extend)
        return _to_batch(torch.frombuffer(content, dtype=torch.uint8).view(shape), labels, complaint)
    stats = [(str(file.resolve()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([_LAYOUT, settings, stats], sort_keys=True).encode()).hexdigest()[:24]
    kept = Path(cache) / f"faces-{key}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _locked(kept.with_suffix(".lock")):
            if not kept.is_dir():
                _write(source, samples(), kept)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{kept}: the crops could not be kept there ({reason}); "
            "free some space, or choose another folder for the cache"
        ) from error
    try:
        with open(kept / "labels.npz", "rb") as opened, np.load(opened) as file:
            labels = dict(file)
        shape, complaint = tuple(labels.pop("shape").tolist()), str(labels.pop("complaint"))
        # Copy on write: torch wants memory that could be written to, and nothing may reach the file.
        images = np.memmap(kept / "images.bin", np.uint8, "c", shape=shape)
    except Exception as error:  # whatever numpy throws at a damaged file
        raise InputError(f"{kept}: damaged ({one_line(error)}); delete it, and it will be made anew") from None
    return _to_batch(torch.from_numpy(images), labels, complaint)


_LAYOUT = 1  # version of the files below and of how crops are cut; another number invalidates all caches


def _write(source: str, samples: Samples, kept: Path) -> None:
    """Write the folder `kept`, under another name until all of it is on the disk."""
    partial = kept.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    try:
        partial.mkdir()
        with open(partial / "images.bin", "wb") as file:
            labels, shape, complaint = _gather(source, samples, file.write)
            file.flush()
            os.fsync(file.fileno())
        with open(partial / "labels.npz", "wb") as file:
            arrays: dict[str, Any] = {"shape": np.array(shape), "complaint": np.array(complaint), **labels}
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, kept)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _gather(
    source: str, samples: Samples, write: Callable[[bytes], Any]
) -> tuple[dict[str, np.ndarray], tuple[int, ...], str]:
    """Write the bytes of all images, one after the other.

    Returns:
        The other fields, each [N,...]; the shape of all images; and a sentence about samples that are left out, or "".
    """
    labels: dict[str, list[np.ndarray]] = {}
    count, shape, skipped = 0, (), list[tuple[str, InputError]]()
    for name, sample in samples:
        if isinstance(sample, InputError):
            skipped.append((name, sample))
            continue
        image = sample["image"]
        shape = shape or image.shape
        if image.dtype != np.uint8 or image.shape != shape or (count and sample.keys() - {"image"} != labels.keys()):
            found = f"{sorted(sample)} and {image.dtype} {list(image.shape)}"
            raise ValueError(
                f"{name}: samples of {source} must have the same fields and uint8 images {list(shape)}, got {found}"
            )
        write(image.tobytes())
        count += 1
        for field in sample.keys() - {"image"}:
            labels.setdefault(field, []).append(sample[field])
    if not count:
        raise InputError(
            f"{source}: none of {len(skipped)} pictures can be used; the first: {skipped[0][1]}"
            if skipped
            else f"{source}: there are no pictures"
        )
    complaint = ""
    if skipped:
        complaint = (
            f"{source}: {len(skipped)} of {count + len(skipped)} pictures are left out: "
            f"{name_list([n for n, _ in skipped])}; the first because: {skipped[0][1]}"
        )
    return {field: np.stack(values) for field, values in labels.items()}, (count, *shape), complaint


def _to_batch(images: Tensor, labels: dict[str, np.ndarray], complaint: str) -> FaceBatch:
    if complaint:
        warnings.warn(complaint, stacklevel=4)  # at the line that asked the source for its faces
    tensors: dict[str, Any] = {field: torch.from_numpy(values) for field, values in labels.items()}
    return FaceBatch(images, **tensors)


def name_list(names: list[str]) -> str:
    """Join the first ten names, and say how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock between the processes of this machine; the system releases it when a process dies."""
    import fcntl  # missing on Windows, and only caches need it

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
