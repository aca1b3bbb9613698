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

from facemodels.core.crops import cut_rotated
from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.core.landmarks import NUM_LANDMARKS
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method
from facemodels.models.load import load_model
from facemodels.reconstruction.detect import find_faces, first_crop
from facemodels.reconstruction.face import Face, Origin
from facemodels.reconstruction.inputs import Inputs, boxes_of, each_picture, landmarks_of, open_inputs
from facemodels.reconstruction.landmark_check import warn_of_landmarks
from facemodels.reconstruction.refine import ITERATIONS, Refined
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
    boxes: Any = None,
    landmarks: Any = None,
    device: torch.device | str | None = None,
    threshold: float = 0.5,
    refine: bool | int = False,
    bgr: bool = False,
) -> Any:
    """Reconstruct the faces of a picture, of several, or of a video.

    Args:
        images: A picture, several, or a video. A picture is a path; an array or a tensor [h,w,3] or [3,h,w] in sRGB
            (uint8, uint16, or floats in 0..1; gray and transparency are taken too); a PIL image; an open file or its
            bytes. Several are a list of these, a batch [N,h,w,3] or [N,3,h,w], or a folder. A video is its path,
            "webcam", or an iterator of its frames.
        method: A `FaceMethod`, the name of weights that ship, or the folder of a checkpoint; None is the best of the
            weights that ship.
        boxes: Boxes of upright faces in pixels, as a detector gives them: of one picture [x0, y0, x1, y1] or a list of
            these; of several, a list with that for each picture, or with None where faces are to be detected.
        landmarks: Landmarks in pixels, [68,2], [21,2] or [5,2]: of one picture those of a face or a list of these; of
            several, a list with that for each picture. Without boxes or landmarks, faces are detected.
        device: "cpu", "cuda", "cuda:1" ..., or "auto"; None: where a `FaceMethod` is, and the CPU for others. A
            `FaceMethod` is moved there.
        threshold: Minimum score of a detected face, 0..1.
        refine: Fit each face to its picture after the network, as `--refine` of the command does: a better shape, about
            a second a face (see `Refined`). A number is that of the steps. Not for videos.
        bgr: Arrays and tensors hold blue, green, red, as OpenCV reads them.

    Returns:
        Of one picture, a list of `Face`: the largest first, or in the order of boxes or landmarks. Of several, such a
        list for each. Of a video, an iterator of such lists, one for each frame; `Face.track` tells who is who.

    Raises:
        InputError: An input that cannot be read or is of another kind, or a method or a device that does not exist.
    """
    if boxes is not None and landmarks is not None:
        raise InputError("give boxes or landmarks, not both")
    return Reconstructor(method, device, threshold, refine)(images, boxes, landmarks, bgr)


class Reconstructor:
    """A method and a detector, ready for many pictures: ``Reconstructor("dasl")([image])``.

    Args:
        method: See `reconstruct`.
        device: See `reconstruct`.
        threshold: Minimum score of a detected face, 0..1.
        refine: See `reconstruct`. The frames of videos are never refined.

    Attributes:
        method: The method, on its device.
        model: Its morphable model, on the CPU, where pictures and files of faces are made.
        origin: The `Origin` of its faces.

    Raises:
        InputError: A method or a device that does not exist, or an argument out of its range.
    """

    def __init__(
        self,
        method: str | Path | FaceMethod | None = None,
        device: torch.device | str | None = None,
        threshold: float = 0.5,
        refine: bool | int = False,
    ) -> None:
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise InputError(f"threshold must be a score in 0..1, got {threshold!r}")
        if not isinstance(refine, (int, type(None))) or int(refine or 0) < 0:
            raise InputError(f"refine must be True, False or a number of steps, got {refine!r}")
        if device is not None and not isinstance(device, (str, torch.device)):
            raise InputError(f'device must be "cpu", "cuda", "cuda:1" ... or "auto", got {device!r}')
        if isinstance(method, FaceMethod):
            self.method = method.eval()
            if device is not None:
                self.method.to(parse_device(device) if isinstance(device, str) else device)
        else:
            self.method = load_method(method, "cpu" if device is None else device)
        steps = ITERATIONS if refine is True else int(refine or 0)
        self.refined = Refined(self.method, steps) if steps else None
        self.threshold = threshold
        own = self.method.model
        self.model = own if own.mean.device.type == "cpu" else load_model(self.method.config.model)
        self.origin = Origin(self.model, str(self.method.config.model), self.method.neutral)

    def __call__(self, images: Any, boxes: Any = None, landmarks: Any = None, bgr: bool = False) -> Any:
        """Reconstruct the faces of a picture, of several, or of a video.

        Args:
            images: See `reconstruct`.
            boxes: See `reconstruct`.
            landmarks: See `reconstruct`; where a picture has boxes too, its landmarks are taken.
            bgr: See `reconstruct`.

        Returns:
            See `reconstruct`.

        Raises:
            InputError: See `reconstruct`.
        """
        inputs = open_inputs(images, bgr)
        if inputs.frames is not None:
            if boxes is not None or landmarks is not None:
                raise InputError("boxes and landmarks are for pictures; the faces of a video are detected")
            if self.refined is not None:
                raise InputError(
                    "refine is for pictures; it would take a second for each face of each frame of a video"
                )
            return self.follow(inputs.frames)
        found = self._reconstruct(
            inputs, each_picture(boxes, inputs, "boxes"), each_picture(landmarks, inputs, "landmarks")
        )
        return found[0] if inputs.single else found

    def _reconstruct(self, inputs: Inputs, boxes: list[Any] | None, landmarks: list[Any] | None) -> list[list[Face]]:
        assert inputs.pictures is not None
        images = [picture.pixels for picture in inputs.pictures]
        views: list[View] = []
        marks: list[np.ndarray | None] = []  # that are given; the crop lies around all 68
        for n, image in enumerate(images):
            size = image.shape[0], image.shape[1]
            points = None if landmarks is None else landmarks[n]
            given = None if boxes is None else boxes[n]
            if points is not None:
                known = landmarks_of(points, size)
                views += [view_of_landmarks(n, p) for p in known]
                marks += known
                continue
            if given is None:
                found = self._detected(n, image)
            else:
                found = [View(n, first_crop(box), 0.0, box, 1.0) for box in boxes_of(given, size)]
            views, marks = views + found, marks + [None] * len(found)
        faces = self.predict(images, views)
        again: Sequence[int] = [k for k, points in enumerate(marks) if points is None or len(points) != NUM_LANDMARKS]
        for k in again:
            views[k] = recrop(faces[k], views[k])
        if self.refined is not None:
            again = range(len(views))
        for k, face in zip(again, self.predict(images, [views[k] for k in again], self.refined)):
            faces[k] = face
        for face, points in zip(faces, marks):
            if points is not None:
                warn_of_landmarks(face, points)
        faces = [replace(f, source=inputs.pictures[view.picture].source) for f, view in zip(faces, views)]
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
            for n, view in enumerate(some):
                face = to_picture(found.select(slice(n, n + 1)), size, view)
                height, width = images[view.picture].shape[:2]
                faces.append(replace(face, origin=self.origin, size=(height, width)))
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
