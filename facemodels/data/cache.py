"""Samples of an endless source, made once and kept: renderings are then cheap enough to train on again and again."""

import torch
from tqdm import tqdm

from ..training import seed_of
from . import Faces


class Cached:
    """`count` samples of a source, in memory, images as bytes and no masks; taken in another random order in each epoch.

    ``Cached(source, seed, count)(order_seed, start, indices)`` gives the samples whose numbers in the endless sequence of epochs are
    start + i for i in indices. Made in blocks on the source's device; kept on the CPU.
    """

    def __init__(self, source, seed: int, count: int, block: int = 64, progress: bool = True):
        self.count, parts = count, []
        for k in tqdm(range(0, count, block), desc="rendering samples", disable=None if progress else True, leave=False):
            faces = source(seed, k // block, range(min(block, count - k)))
            faces.image, faces.mask = (faces.image * 255).round().byte(), None
            parts.append(faces.to("cpu"))
        self.faces = Faces.joined(parts)
        self._now = None, None

    def __call__(self, seed: int, start: int, indices: range) -> Faces:
        places = torch.stack([self._place(seed, start + i) for i in indices])
        taken = Faces(**{k: None if v is None else v[places] for k, v in vars(self.faces).items()})
        taken.image = taken.image.float() / 255
        return taken

    def _place(self, seed, number):
        epoch = (seed, number // self.count)
        now = self._now  # one tuple, replaced as a whole: threads may be in different epochs
        if now[0] != epoch:
            now = self._now = epoch, torch.randperm(self.count, generator=torch.Generator().manual_seed(seed_of(*epoch)))
        return now[1][number % self.count]
