"""Sources of training and evaluation data. They yield `FaceBatch`, plain tensors, and know nothing of methods.

* `synthetic`: endless rendered faces of a morphable model, with every label (`Synthetic`)
* `clips`: several frames of one person: rendered clips and groups, and clips of videos
* `folder`: photographs with landmark files beside them
* `aflw`: AFLW's crops with 21 landmarks
* `photographs`: AFLW or a folder, whichever a path holds, and landmarks that a teacher network labeled them with
* `tddfa`: 300W-LP and AFLW2000-3D: photographs with fitted Basel faces
* `video`: frames of a folder of videos, one person a file or folder
* `augment`: random changes to a batch, in pixels and labels alike
* `counter_rng`: random numbers that are hashes of a sample's key, for `synthetic` and `clips`
* `degradations`: blur and JPEG compression of image tensors
* `cache`: samples decoded or rendered once, kept in memory or in files, and shuffled anew in each epoch
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
from torch import Tensor

from facerender._checks import brief_repr

__all__ = ["FaceBatch", "Source"]


@brief_repr
@dataclass
class FaceBatch:
    """A batch of N pictures of faces for training, with their labels; a label that a source does not know is None.

    The camera is that of `facerender.camera.weak_perspective`, in whose terms networks are taught: `translation` counts
    from the lower left corner of the picture with y up. `facemodels.core.parameters.FaceParameters`, the parameters
    that methods, fitting and evaluation exchange, counts it from the upper left corner with y down. Landmarks are
    pixels with y down in both.

    A store in memory or in a file holds images as uint8; a method is given floats.

    Attributes:
        image: [N,3,H,W], sRGB in 0..1, or uint8 in a store.
        landmarks: [N,L,2] pixels, y down, or [N,L,3] where a data set labels depth; the center of pixel (i, j) lies at
            (j + 0.5, i + 0.5). NaN where a point is not labeled.
        visible: [N,L] bool, whether a landmark can be seen.
        mask: [N,H,W] in 0..1, how much of a pixel shows the face.
        identity: [N,I] coefficients.
        expression: [N,E] coefficients.
        albedo: [N,A] coefficients.
        rotation: [N,3,3], from the head to the camera.
        scale: [N], pixels per mm.
        translation: [N,2], pixels from the lower left corner, y up.
        light: [N,9,3], spherical harmonics of the preset "deep3d", in camera space.
        person: int64 [N], whose face it is, numbered within the source.
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
        """Select samples: at int64 [M] or bool [N] places, or of a slice (then without a copy)."""
        return self._map(lambda value: value[places])

    def to(self, device: torch.device | str) -> "FaceBatch":
        """Copy to a device: toward CUDA without waiting, from CUDA ready to be read."""
        waits = torch.device(device).type != "cuda"
        return self._map(lambda value: value.to(device, non_blocking=not waits))

    @staticmethod
    def concatenate(parts: "list[FaceBatch]") -> "FaceBatch":
        """Join batches that have the same labels."""
        values: dict[str, Any] = {
            f.name: None if getattr(parts[0], f.name) is None else torch.cat([getattr(p, f.name) for p in parts])
            for f in fields(FaceBatch)
        }
        return FaceBatch(**values)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "FaceBatch":
        values: dict[str, Any] = {
            f.name: None if (value := getattr(self, f.name)) is None else function(value) for f in fields(self)
        }
        return FaceBatch(**values)


# A source of samples: source(seed, step, range(32)) gives samples 0 to 31 of a step, the same for the same numbers.
Source: TypeAlias = Callable[[int, int, range], FaceBatch]
