"""Faces of photographs and videos: detected, cropped, given to a method, and put back into the whole picture.

`reconstruct` does it in one call. `Reconstructor` keeps the networks for many calls, and follows faces through the
frames of a video.

A face is cropped twice: first by the detector's box, then around the landmarks that were predicted there, as the
training crops of the methods are (3DDFA calls this two-step initialization). In a video, the second crop of a frame is
the first of the next one, so a frame takes one pass of the network; every few frames the detector looks for new faces.

A second network looks at each result, and says whether it is a face (`face_check`). Pictures in which the usual search
finds nothing are searched at four orientations and three sizes (`search`).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facemodels.core.crops import Box, cut_rotated
from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.core.landmarks import NUM_LANDMARKS
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method
from facemodels.models.load import load_model
from facemodels.reconstruction.detect import first_crop
from facemodels.reconstruction.face import Face, Origin
from facemodels.reconstruction.face_check import confidences, disagreement, face_crops
from facemodels.reconstruction.follow import DETECT_EVERY, Follower
from facemodels.reconstruction.inputs import Inputs, boxes_of, each_picture, landmarks_of, open_inputs
from facemodels.reconstruction.landmark_check import warn_of_landmarks
from facemodels.reconstruction.refine import ITERATIONS, Refined
from facemodels.reconstruction.search import LONGEST, candidates, other_turns, thorough_candidates
from facemodels.reconstruction.tracking import face_size, is_inside, is_same, overlap
from facemodels.reconstruction.views import View, recrop, to_picture, view_of_landmarks

BATCH = 32  # crops that go through the network together
DISAGREEMENT = 0.35  # of a face's size: the detector's points lie nearer to its landmarks
KNOWN = 0.25  # overlap with the crop of a face that is known
TOLERANCE = 0.8  # of the smallest size, which people know roughly


def reconstruct(
    images: Any,
    method: str | Path | FaceMethod | None = None,
    boxes: Any = None,
    landmarks: Any = None,
    device: torch.device | str | None = None,
    threshold: float = 0.5,
    refine: bool | int = False,
    bgr: bool = False,
    most: int | None = None,
    smallest: float | None = None,
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
        threshold: How likely a face that was found must be one, 0..1; see `Face.confidence`.
        refine: Fit each face to its picture after the network, as `--refine` of the command does: a better shape, about
            a second per face (see `Refined`). A number is that of the steps. Not for videos.
        bgr: Arrays and tensors hold blue, green, red, as OpenCV reads them.
        most: The largest of the faces that are found in each picture, at most so many; None: all. Boxes and landmarks
            that are given are all done.
        smallest: The height of the smallest faces that are wanted, from the brows to the chin, in pixels. Those of less
            than about a fortieth of the picture's longer side are only found if they are asked for, which takes longer.

    Returns:
        Of one picture, a list of `Face`: the largest first, or in the order of boxes or landmarks. Of several, such a
        list for each. Of a video, an iterator of such lists, one for each frame; `Face.track` tells who is who.

    Raises:
        InputError: An input that cannot be read or is of another kind, or a method or a device that does not exist.
    """
    if boxes is not None and landmarks is not None:
        raise InputError("give boxes or landmarks, not both")
    return Reconstructor(method, device, threshold, refine, most, smallest)(images, boxes, landmarks, bgr)


class Reconstructor:
    """A method and a detector, ready for many pictures: ``Reconstructor("dasl")([image])``.

    Args:
        method: See `reconstruct`.
        device: See `reconstruct`.
        threshold: See `reconstruct`.
        refine: See `reconstruct`. The frames of videos are never refined.
        most: See `reconstruct`.
        smallest: See `reconstruct`.

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
        most: int | None = None,
        smallest: float | None = None,
    ) -> None:
        if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
            raise InputError(f"threshold must be a score in 0..1, got {threshold!r}")
        if not isinstance(refine, (int, type(None))) or int(refine or 0) < 0:
            raise InputError(f"refine must be True, False or a number of steps, got {refine!r}")
        if most is not None and (not isinstance(most, Integral) or isinstance(most, bool) or most < 1):
            raise InputError(f"most must be a whole number of faces, at least 1, got {most!r}")
        if smallest is not None and (
            not isinstance(smallest, Real) or isinstance(smallest, bool) or not 1 <= smallest < math.inf
        ):
            raise InputError(f"smallest must be the height of a face in pixels, at least 1, got {smallest!r}")
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
        self.threshold, self.most, self.smallest = threshold, most, smallest
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
        searched: list[int] = []
        for n, image in enumerate(images):
            size = image.shape[0], image.shape[1]
            points = None if landmarks is None else landmarks[n]
            given = None if boxes is None else boxes[n]
            if points is not None:
                known = landmarks_of(points, size)
                views += [view_of_landmarks(n, p) for p in known]
                marks += known
            elif given is not None:
                found = [View(n, first_crop(box), 0.0, box, 1.0) for box in boxes_of(given, size)]
                views, marks = views + found, marks + [None] * len(found)
            else:
                searched.append(n)
        exact = [points is not None and len(points) == NUM_LANDMARKS for points in marks]
        faces, views = self.settle(images, views, exact)
        for face, points in zip(faces, marks):
            if points is not None:
                warn_of_landmarks(face, points)
        for face, view in self.find(images, searched):
            faces.append(face)
            views.append(view)
        if self.refined is not None:
            faces = [
                replace(refined, score=face.score)
                for refined, face in zip(self.predict(images, views, self.refined), faces)
            ]
        faces = [replace(f, source=inputs.pictures[view.picture].source) for f, view in zip(faces, views)]
        return [[face for face, view in zip(faces, views) if view.picture == n] for n in range(len(images))]

    def settle(
        self, images: Sequence[np.ndarray], views: list[View], exact: Sequence[bool] | None = None
    ) -> tuple[list[Face], list[View]]:
        """Predict faces, and once more around the landmarks that were found.

        Args:
            images: the pictures.
            views: first crops.
            exact: whether a crop lies around landmarks already, and needs no second pass; None: none does.

        Returns:
            The faces, and the crops of their last pass.
        """
        views = list(views)
        faces = self.predict(images, views)
        again = [k for k in range(len(views)) if exact is None or not exact[k]]
        for k in again:
            views[k] = recrop(faces[k], views[k])
        for k, face in zip(again, self.predict(images, [views[k] for k in again])):
            faces[k] = face
        return faces, views

    def look(self, images: Sequence[np.ndarray], views: list[View]) -> list[tuple[Face, View]]:
        """Faces of candidates, each with the view of its last pass; `Face.score` is how likely it is a face."""
        if not views:
            return []
        faces, views = self.settle(images, views)
        scores = confidences(face_crops(images, faces, views), views)
        return [
            (replace(face, score=score if self._is_possible(face, view, images) else 0.0), view)
            for face, view, score in zip(faces, views, scores)
        ]

    @staticmethod
    def _is_possible(face: Face, view: View, images: Sequence[np.ndarray]) -> bool:
        """Whether a face lies in its picture, and where the detector saw it."""
        return is_inside(face, images[view.picture].shape) and disagreement(face, view) < DISAGREEMENT

    def find(
        self,
        images: Sequence[np.ndarray],
        pictures: Sequence[int],
        longest: int = LONGEST,
        thorough: bool = True,
        known: Sequence[Box] = (),
    ) -> list[tuple[Face, View]]:
        """Find the faces of pictures.

        Args:
            images: all pictures, uint8 [h,w,3].
            pictures: numbers of those to search.
            longest: pixels to which their longer side is reduced for the usual search.
            thorough: whether pictures in which it finds nothing are searched thoroughly.
            known: crops of faces that are known, and are not looked at again.

        Returns:
            Faces with the views of their last pass, picture by picture, largest first.
        """
        views = [v for n in pictures for v in candidates(n, images[n], longest, self.smallest)]
        views = [v for v in views if not any(overlap(v.crop, crop) > KNOWN for crop in known)]
        found = self.look(images, views)
        # What the detector takes for a face, and is none as it stands, may be turned; but not where there is a face.
        faces = [one for one in found if one[0].score >= self.threshold]
        doubtful = [
            k
            for k, (face, view) in enumerate(found)
            if face.score < self.threshold
            and not any(v.picture == view.picture and overlap(f.crop, views[k].crop) > KNOWN for f, v in faces)
        ]
        turned = self.look(images, [turn for k in doubtful for turn in other_turns(views[k])])
        for n, k in enumerate(doubtful):
            found[k] = max(found[k], *turned[3 * n : 3 * n + 3], key=lambda one: one[0].score)
        kept = [one for n in pictures for one in self._distinct([f for f in found if f[1].picture == n])]
        if thorough:
            without = set(pictures) - {view.picture for _, view in kept}
            for n in sorted(without):
                kept += self._distinct(self.look(images, thorough_candidates(n, images[n], self.smallest)))
        return sorted(kept, key=lambda one: one[1].picture)

    def _distinct(self, found: list[tuple[Face, View]]) -> list[tuple[Face, View]]:
        """Those that are faces, each once, largest first, as many as are wanted."""
        kept: list[tuple[Face, View]] = []
        for face, view in sorted(found, key=lambda one: disagreement(*one) - one[0].score):
            big_enough = self.smallest is None or face_size(face) >= TOLERANCE * self.smallest
            if face.score >= self.threshold and big_enough and not any(is_same(face, other) for other, _ in kept):
                kept.append((face, view))
        return sorted(kept, key=lambda one: -face_size(one[0]))[: self.most]

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
        follower = Follower(self, every)
        for image in frames:
            yield follower.step(image)
