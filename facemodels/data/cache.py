"""Samples that are made once and kept, in memory or in a file that is read as it is needed, and taken in another random order in each epoch.

`Shuffled` is what training takes batches from; `Cached` renders an endless source into one; `collect_samples` is how sources of photographs decode their files
(`load_in_threads`: in threads), say which of them are damaged, and keep the crops for the next run.
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

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from facemodels.core.errors import InputError, one_line
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch


class Shuffled:
    """Endless epochs over faces whose images are uint8, each in another random order.

    ``Shuffled(faces)(seed, start, indices)`` gives the samples whose numbers in the endless sequence of epochs are start + i for i in indices, images
    in 0..1. Without state: the same numbers give the same samples. `faces.image` may lie in a file (`collect_samples` with a cache): only what is taken is read.
    places: int64 [M], the faces that take part; None for all.
    """

    def __init__(self, faces: FaceBatch, places: Tensor | None = None):
        if faces.image.dtype != torch.uint8 or len(faces) == 0:
            raise ValueError(
                f"faces must be at least one, with images of uint8, got {len(faces)} of {faces.image.dtype}"
            )
        self.faces, self.places, self.count = faces, places, len(faces) if places is None else len(places)
        self._now = None, None

    def __call__(self, seed: int, start: int, indices: range) -> FaceBatch:
        places = torch.stack([self._place(seed, start + i) for i in indices])
        taken = self.faces[places if self.places is None else self.places[places]]
        taken.image = taken.image.float() / 255
        return taken

    def _place(self, seed, number) -> Tensor:
        epoch = (seed, number // self.count)
        now = self._now  # one tuple, replaced as a whole: threads may be in different epochs
        if now[0] != epoch:
            now = self._now = (
                epoch,
                torch.randperm(self.count, generator=torch.Generator().manual_seed(seed_of(*epoch))),
            )
        return now[1][number % self.count]


class Cached(Shuffled):
    """`count` samples of an endless source, in memory, images as bytes and no masks. Made in blocks on the source's device; kept on the CPU."""

    def __init__(self, source, seed: int, count: int, block: int = 64, progress: bool = True):
        parts, images = [], None
        for k in tqdm(
            range(0, count, block), desc="rendering samples", disable=None if progress else True, leave=False
        ):
            faces = source(seed, k // block, range(min(block, count - k)))
            if images is None:
                images = torch.empty(count, *faces.image.shape[1:], dtype=torch.uint8)
            images[k : k + len(faces)] = (faces.image * 255).round().byte()
            faces.image, faces.mask = faces.image.new_empty(len(faces), 0), None  # not all of them at once in floats
            parts.append(faces.to("cpu"))
        super().__init__(replace(FaceBatch.concatenate(parts), image=images))


# ------------------------------------------------------------------------------------------------------------ files of photographs

Sample = dict[str, np.ndarray]  # one sample of `FaceBatch` by field: image uint8 [3,S,S], landmarks [L,2], ...


def load_in_threads(names: Iterable, load: Callable, desc: str = "reading pictures") -> Iterator[tuple]:
    """(name, load(name)) in the order of the names, or (name, the InputError that load raised). Threads: decoders let go of the interpreter."""
    names = list(names)

    def tried(name):
        try:
            return load(name)
        except InputError as error:
            return error

    with (
        ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool,
        tqdm(total=len(names), desc=desc, disable=None, leave=False) as bar,
    ):
        for k in range(0, len(names), 256):  # not all at once: pictures would pile up before a slow disk
            for name, sample in zip(names[k : k + 256], pool.map(tried, names[k : k + 256])):
                yield name, sample
                bar.update()


Samples = Iterator[tuple[str, Sample | InputError]]  # with names


def collect_samples(
    source: str, files: Iterable[Path], settings: dict, samples: Callable[[], Samples], cache: str | Path | None
) -> FaceBatch:
    """All samples of a source as `FaceBatch` with uint8 images. Those that are InputErrors are left out, and one warning says how many and which.

    source: for people, which data these are. settings: what the samples depend on besides the files (plain values), which kind of source it is among them.
    samples: makes them, see `load_in_threads`; all with the same fields and shapes. cache: None keeps images in memory; or a folder for files that are made once,
    whole or not at all, and from then on mapped into memory, so that a data set may be larger than it. They are found again by the names, sizes and times
    of `files` and by `settings`; other processes of the machine that want the same wait for the first.

    Raises:
        InputError: no sample is left, or the cache cannot be written or is damaged.
    """
    if cache is None:
        images = bytearray()
        labels, shape, complaint = _gather(source, samples(), images.extend)
        return _faces(torch.frombuffer(images, dtype=torch.uint8).view(shape), labels, complaint)
    stats = [(str(file.resolve()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps([_LAYOUT, settings, stats], sort_keys=True).encode()).hexdigest()[:24]
    kept = Path(cache) / f"faces-{key}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _alone(kept.with_suffix(".lock")):
            if not kept.is_dir():
                _write(source, samples(), kept)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{kept}: the crops could not be kept there ({reason}); free some space, or choose another folder for the cache"
        ) from error
    try:
        with open(kept / "labels.npz", "rb") as opened, np.load(opened) as file:
            labels = dict(file)
        shape, complaint = tuple(labels.pop("shape").tolist()), str(labels.pop("complaint"))
        # Copy on write: torch wants memory that could be written to, and nothing may reach the file.
        images = np.memmap(kept / "images.bin", np.uint8, "c", shape=shape)
    except Exception as error:  # whatever numpy throws at a damaged file
        raise InputError(f"{kept}: damaged ({one_line(error)}); delete it, and it will be made anew") from None
    return _faces(torch.from_numpy(images), labels, complaint)


_LAYOUT = 1  # of the files below and of how crops are cut; another number makes everything anew


def _write(source, samples, kept):
    """The folder `kept`, under another name until all of it is on the disk."""
    partial = kept.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    try:
        partial.mkdir()
        with open(partial / "images.bin", "wb") as file:
            labels, shape, complaint = _gather(source, samples, file.write)
            file.flush()
            os.fsync(file.fileno())
        with open(partial / "labels.npz", "wb") as file:
            np.savez(file, shape=np.array(shape), complaint=np.array(complaint), **labels)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, kept)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _gather(source, samples, put) -> tuple[dict[str, np.ndarray], tuple[int, ...], str]:
    """Puts the images' bytes away, one after the other. Returns the other fields [N,...], the images' shape and the complaint about what is left out."""
    labels, count, shape, skipped = {}, 0, None, []
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
        put(image.tobytes())
        count += 1
        for field in sample.keys() - {"image"}:
            labels.setdefault(field, []).append(sample[field])
    if not count:
        raise InputError(
            f"{source}: "
            + (
                f"none of {len(skipped)} pictures can be used; the first: {skipped[0][1]}"
                if skipped
                else "there are no pictures"
            )
        )
    complaint = ""
    if skipped:
        complaint = f"{source}: {len(skipped)} of {count + len(skipped)} pictures are left out: {name_list([n for n, _ in skipped])}; the first because: {skipped[0][1]}"
    return {field: np.stack(values) for field, values in labels.items()}, (count, *shape), complaint


def _faces(images, labels, complaint):
    if complaint:
        warnings.warn(complaint, stacklevel=4)  # at the line that asked the source for its faces
    return FaceBatch(images, **{field: torch.from_numpy(values) for field, values in labels.items()})


def name_list(names: list[str]) -> str:
    """The first ten names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


@contextmanager
def _alone(path: Path):
    """Only one process of this machine is within, for one path; the system lets the next one in when a process dies."""
    import fcntl  # which Windows lacks; nothing but a cache needs it

    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
