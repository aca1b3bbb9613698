"""Faces of photographs and videos: detected, cropped, given to a method, and put back into the whole picture.

`reconstruct` does it in one call. `Reconstructor` keeps the networks for many calls, and follows faces through the
frames of a video.

A face is cropped twice: first by the detector's box, then around the landmarks that were predicted there, as the
training crops of the methods are (3DDFA calls this two-step initialization). In a video, the second crop of a frame is
the first of the next one, so a frame takes one pass of the network; every few frames the detector looks for new faces
and checks the old ones.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facemodels.core.crops import Box, cut_rotated
from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.io.images import as_rgb, read_picture
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method
from facemodels.models.load import load_model
from facemodels.reconstruction.detect import find_faces, first_crop
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.refine import Refined
from facemodels.reconstruction.tracking import is_inside, match_boxes
from facemodels.reconstruction.views import (
    View,
    recrop,
    roll_angle,
    to_picture,
    view_of_landmarks,
)

BATCH = 32  # crops that go through the network together
DETECT_EVERY = 10  # frames of a video from one search for faces to the next


def reconstruct(
    images: Any,
    method: str | Path | FaceMethod | None = None,
    boxes: Sequence[Any] | None = None,
    landmarks: Sequence[Any] | None = None,
    device: str = "cpu",
    threshold: float = 0.5,
    refine: int = 0,
) -> Any:
    """Reconstruct the faces of one or several pictures.

    Args:
        images: A picture or a sequence of them: paths, or uint8 arrays [h,w,3] in sRGB.
        method: A `FaceMethod`, the name of weights that ship, or the folder of a checkpoint; None is the best of the
            weights that ship.
        boxes: Boxes (x0, y0, x1, y1) of upright faces in pixels, as a detector gives them: a list for each picture.
        landmarks: Landmarks [L,2] in pixels, L = 68, 21 or 5, of faces: a list for each picture. Without boxes or
            landmarks, faces are detected.
        device: "cpu", "cuda", "cuda:1" ..., or "auto".
        threshold: Minimum score of a detected face, 0..1.
        refine: Steps of a fit to the picture after the network (see `Refined`); 0 for none.

    Returns:
        A list of `Face` for each picture: the largest first, or in the order of boxes or landmarks. For a single
        picture, that list alone.

    Raises:
        InputError: A picture that cannot be read, a method or a device that does not exist, or both boxes and
            landmarks.
    """
    if boxes is not None and landmarks is not None:
        raise InputError("give boxes or landmarks, not both")
    single = isinstance(images, (str, Path, np.ndarray))
    pictures = [images] if single else list(images)
    known = boxes if boxes is not None else landmarks
    given = [None] * len(pictures) if known is None else [known] if single else list(known)
    if len(given) != len(pictures):
        raise InputError(
            f"boxes or landmarks must be a list for each of the {len(pictures)} pictures, got {len(given)}"
        )
    worker = Reconstructor(method, device, threshold, refine)
    arrays = [as_rgb(picture if isinstance(picture, np.ndarray) else read_picture(picture)) for picture in pictures]
    found = worker(arrays, given if boxes is not None else None, given if landmarks is not None else None)
    return found[0] if single else found


class Reconstructor:
    """A method and a detector, ready for many pictures: ``Reconstructor("dasl")([image])``.

    Args:
        method: See `reconstruct`.
        device: See `reconstruct`.
        threshold: Minimum score of a detected face, 0..1.
        refine: Steps of a fit to each picture; 0 for none. The frames of videos are never refined.

    Attributes:
        method: The method, on its device.
        model: Its morphable model, on the CPU, where pictures and files of faces are made.
    """

    def __init__(
        self,
        method: str | Path | FaceMethod | None = None,
        device: str = "cpu",
        threshold: float = 0.5,
        refine: int = 0,
    ) -> None:
        self.method = method.eval() if isinstance(method, FaceMethod) else load_method(method, parse_device(device))
        self.refined = Refined(self.method, refine) if refine else None
        self.threshold = threshold
        own = self.method.model
        self.model = own if own.mean.device.type == "cpu" else load_model(self.method.config.model)

    def __call__(
        self,
        images: Sequence[np.ndarray],
        boxes: Sequence[Any] | None = None,
        landmarks: Sequence[Any] | None = None,
    ) -> list[list[Face]]:
        """Reconstruct the faces of pictures.

        Args:
            images: uint8 [h,w,3], sRGB.
            boxes: For each picture a list of boxes (x0, y0, x1, y1), pixels, or None: faces are detected.
            landmarks: For each picture a list of landmarks [L,2], pixels, or None. Landmarks take precedence.

        Returns:
            The faces of each picture: the largest first, or in the order of landmarks or boxes.
        """
        views: list[View] = []
        exact: list[bool] = []  # whether the crop lies around landmarks that are given
        for n, image in enumerate(images):
            points = None if landmarks is None else landmarks[n]
            given = None if boxes is None else boxes[n]
            if points is not None:
                views += [view_of_landmarks(n, np.asarray(p, np.float64)[:, :2]) for p in points]
                exact += [len(p) == 68 for p in points]
                continue
            found = self._detected(n, image) if given is None else [_view_of_box(n, box) for box in given]
            views, exact = views + found, exact + [False] * len(found)
        faces = self.predict(images, views)
        again: Sequence[int] = [k for k, known in enumerate(exact) if not known]
        for k in again:
            views[k] = recrop(faces[k], views[k])
        if self.refined is not None:
            again = range(len(views))
        for k, face in zip(again, self.predict(images, [views[k] for k in again], self.refined)):
            faces[k] = face
        return [[face for face, view in zip(faces, views) if view.picture == n] for n in range(len(images))]

    def predict(self, images: Sequence[np.ndarray], views: list[View], method: FaceMethod | None = None) -> list[Face]:
        """One pass of the network, or of another method, over crops of pictures."""
        method = method or self.method
        size, device = self.method.size, next(self.method.parameters()).device
        faces: list[Face] = []
        for k in range(0, len(views), BATCH):
            some = views[k : k + BATCH]
            pixels = torch.from_numpy(np.stack([cut_rotated(images[v.picture], v.crop, size, v.turn) for v in some]))
            with torch.no_grad():
                found = method.reconstruct(pixels.to(device).permute(0, 3, 1, 2).float() / 255).to("cpu")
            faces += [to_picture(found.select(slice(n, n + 1)), size, view) for n, view in enumerate(some)]
        return faces

    def follow(self, frames: Iterable[np.ndarray], every: int = DETECT_EVERY) -> Iterator[list[Face]]:
        """Reconstruct the faces of each frame of a video.

        Args:
            frames: uint8 [h,w,3], sRGB.
            every: Frames from one search for faces to the next.

        Yields:
            The faces of each frame; `Face.track` tells who is who.
        """
        tracks: dict[int, Face] = {}
        missed: set[int] = set()  # tracks that the last search did not find: a single search may fail
        count = 0
        for number, image in enumerate(frames):
            if number % every == 0 or not tracks:
                numbers = list(tracks)
                found = self._detected(0, image, longest=640)
                pairs = match_boxes([v.crop for v in found], [tracks[t].crop for t in numbers])
                lost = {numbers[j] for j in set(range(len(numbers))) - {j for _, j in pairs}}
                kept = {t: tracks[t] for t in lost - missed}
                missed = set(kept)
                tracks = kept | {
                    numbers[j]: replace(tracks[numbers[j]], box=found[i].box, score=found[i].score) for i, j in pairs
                }
                for i in sorted(set(range(len(found))) - {i for i, _ in pairs}):
                    tracks[count], count = self.predict([image], [found[i]])[0], count + 1
            numbers = sorted(tracks)
            views = [
                recrop(face, View(0, face.crop, face.turn, face.box, face.score))
                for face in (tracks[t] for t in numbers)
            ]
            predicted = self.predict([image], views)
            tracks = {t: replace(face, track=t) for t, face in zip(numbers, predicted) if is_inside(face, image.shape)}
            yield list(tracks.values())

    def _detected(self, picture: int, image: np.ndarray, longest: int = 960) -> list[View]:
        return [
            View(picture, first_crop(d.box), roll_angle(d.points), d.box, d.score)
            for d in find_faces(image, self.threshold, longest=longest)
        ]


def _view_of_box(picture: int, box: Box) -> View:
    x0, y0, x1, y1 = map(float, box)
    return View(picture, first_crop((x0, y0, x1, y1)), 0.0, (x0, y0, x1, y1), 1.0)
