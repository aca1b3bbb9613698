"""Sources of faces for training and evaluation: one file a source. They yield `FaceBatch`, plain tensors, and know no method."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = ["FaceBatch"]


@dataclass
class FaceBatch:
    """A batch of pictures of faces with what is known about them; None where a source does not know it.

    image: [N,3,H,W] sRGB in 0..1. landmarks: [N,L,2] pixels, or [N,L,3] where a data set labels depth (pixel (i, j) has its centre at (j + 0.5, i + 0.5)), NaN where a point is not
    labelled; visible: [N,L] bool. mask: [N,H,W] in 0..1, where the face is seen.
    identity [N,I], expression [N,E], albedo [N,A]: coefficients. rotation [N,3,3], scale [N] pixels per mm, translation [N,2] pixels from the
    lower left corner with y up: the camera of `facerender.camera.weak_perspective`. light: [N,9,3] of the preset "deep3d", in camera space.
    person: int64 [N], whose face it is, numbered within the source.

    A store in memory or in a file holds `image` as uint8; what a method is given is float.
    """

    image: Tensor
    landmarks: Tensor | None = None
    visible: Tensor | None = None
    mask: Tensor | None = None
    identity: Tensor | None = None
    expression: Tensor | None = None
    albedo: Tensor | None = None
    rotation: Tensor | None = None
    scale: Tensor | None = None
    translation: Tensor | None = None
    light: Tensor | None = None
    person: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, places: Tensor | slice) -> "FaceBatch":
        """The samples at int64 [M] or bool [N] places, or of a slice (then without a copy)."""
        return FaceBatch(**{f.name: None if (v := getattr(self, f.name)) is None else v[places] for f in fields(self)})

    def to(self, device) -> "FaceBatch":
        """On a device; towards CUDA without waiting, from it ready to be read."""
        waits = torch.device(device).type != "cuda"
        return FaceBatch(
            **{
                f.name: v.to(device, non_blocking=not waits) if isinstance(v := getattr(self, f.name), Tensor) else v
                for f in fields(self)
            }
        )

    @staticmethod
    def concatenate(parts: list["FaceBatch"]) -> "FaceBatch":
        """One batch of several that know the same things."""
        return FaceBatch(
            **{
                f.name: None if getattr(parts[0], f.name) is None else torch.cat([getattr(p, f.name) for p in parts])
                for f in fields(FaceBatch)
            }
        )
