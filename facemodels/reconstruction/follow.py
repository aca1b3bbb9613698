"""Following the faces of a video from frame to frame: `Follower`.

A face is predicted in each frame from the crop around its landmarks of the frame before. Every few frames, and whenever
something changed, faces are searched anew. A track ends where its face can no longer be seen, at a cut, and where it
suddenly looks like somebody else; a face that comes back where it was, and looks the same, goes on with its track.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from facemodels.reconstruction.face import Face
from facemodels.reconstruction.face_check import confidences, face_crops
from facemodels.reconstruction.tracking import face_size, is_inside, is_same
from facemodels.reconstruction.views import View, recrop
from facerender._checks import brief_repr

if TYPE_CHECKING:
    from facemodels.reconstruction.reconstructor import Reconstructor

DETECT_EVERY = 15  # frames of a video from one search for faces to the next: half a second, as a rule
LONGEST = 640  # pixels to which the longer side of a frame is reduced for a search
FRAME = 24  # pixels of the small frames that show cuts
CUT = 0.8  # correlation of two frames' small versions, below which there is a cut between them
KEEP = 0.25  # of the threshold: the score below which a face is no longer followed
SUDDEN = 0.75  # correlation of the crops of two frames, below which one person does not follow the other
LIKENESS = 0.7  # correlation with the mean of a track, above which a face that comes back is the same person
RETURN = 50  # frames after which a face that comes back is a new one
THUMBNAIL = 8  # pixels of the crops that are compared


@brief_repr
@dataclass
class Track:
    """One person.

    Attributes:
        face: the latest face.
        looks: [192], what the face looks like: a mean over its frames.
        latest: [192], the same of its last frame.
        seen: number of its last frame.
    """

    face: Face
    looks: Tensor
    latest: Tensor
    seen: int


class Follower:
    """Follows faces through the frames of a video.

    Args:
        worker: finds and predicts them.
        every: frames from one search to the next.
    """

    def __init__(self, worker: "Reconstructor", every: int = DETECT_EVERY) -> None:
        self.worker, self.every = worker, every
        self.tracks: dict[int, Track] = {}
        self.lost: dict[int, Track] = {}
        self.count = 0  # of tracks
        self.frame = -1
        self.before: np.ndarray | None = None

    def step(self, image: np.ndarray) -> list[Face]:
        """Find the faces of the next frame.

        Args:
            image: uint8 [h,w,3], sRGB.

        Returns:
            Its faces with their tracks.
        """
        self.frame += 1
        small = _small(image)
        if self.before is not None and is_cut(self.before, small):
            self.tracks, self.lost = {}, {}
        self.before = small
        changed = self._go_on(image)
        if changed or self.frame % self.every == 0 or not self.tracks:
            self._search(image)
        self.lost = {k: track for k, track in self.lost.items() if self.frame - track.seen <= RETURN}
        return [replace(self.tracks[k].face, track=k) for k in sorted(self.tracks)]

    def _go_on(self, image: np.ndarray) -> bool:
        """Predict each track in a new frame; return whether one ended."""
        numbers = sorted(self.tracks)
        if not numbers:
            return False
        before = [self.tracks[k].face for k in numbers]
        views = [recrop(f, View(0, f.crop, f.turn, f.box, f.score)) for f in before]
        faces = self.worker.predict([image], views)
        crops = face_crops([image], faces, views)
        ended = False
        for k, face, score, looks in zip(numbers, faces, confidences(crops, views), appearance(crops)):
            track = self.tracks[k]
            twice = any(is_same(face, self.tracks[j].face) for j in numbers if j < k and j in self.tracks)
            gone = score < KEEP * self.worker.threshold or not is_inside(face, image.shape)
            if gone or twice or float(looks @ track.latest) < SUDDEN:
                self.lost[k] = self.tracks.pop(k)
                ended = True
            else:
                self.tracks[k] = Track(replace(face, score=score), _mean(track.looks, looks), looks, self.frame)
        return ended

    def _search(self, image: np.ndarray) -> None:
        """Search a frame, and begin tracks of faces that have none."""
        thorough = not self.tracks and self.frame % self.every == 0
        known = [track.face.crop for track in self.tracks.values()]
        found = self.worker.find([image], [0], LONGEST, thorough, known)
        new = [one for one in found if not any(is_same(one[0], track.face) for track in self.tracks.values())]
        if not new:
            return
        looks = appearance(face_crops([image], [face for face, _ in new], [view for _, view in new]))
        room = len(new) if self.worker.most is None else max(0, self.worker.most - len(self.tracks))
        for (face, _), own in list(zip(new, looks))[:room]:
            number = self._returned(face, own)
            if number is None:
                number, self.count = self.count, self.count + 1
            self.tracks[number] = Track(face, own, own, self.frame)

    def _returned(self, face: Face, looks: Tensor) -> int | None:
        """The lost track that a face goes on with; it is removed from those."""
        best, most = None, LIKENESS
        for number, track in self.lost.items():
            near = float((face.landmarks - track.face.landmarks)[:, :2].mean(0).norm()) < 2 * face_size(track.face)
            likeness = float(looks @ track.looks)
            if near and likeness > most:
                best, most = number, likeness
        if best is not None:
            del self.lost[best]
        return best


def appearance(crops: Tensor) -> Tensor:
    """What faces look like, for comparing them from frame to frame.

    Args:
        crops: [N,3,64,64] in 0..1.

    Returns:
        [N,192] of length 1; dot products are correlations.
    """
    small = F.adaptive_avg_pool2d(crops, THUMBNAIL).flatten(1)
    return F.normalize(small - small.mean(1, keepdim=True), dim=1)


def _mean(before: Tensor, now: Tensor) -> Tensor:
    return F.normalize(0.9 * before + 0.1 * now, dim=0)


def _small(image: np.ndarray) -> np.ndarray:
    """A frame reduced to a few pixels, float [24,24,3]."""
    step = max(1, min(image.shape[:2]) // (4 * FRAME))  # a sample of its pixels is enough
    small = Image.fromarray(np.ascontiguousarray(image[::step, ::step])).resize((FRAME, FRAME), Image.Resampling.BOX)
    return np.asarray(small, np.float64)


def is_cut(before: np.ndarray, now: np.ndarray) -> bool:
    """Whether two small frames do not belong to one scene."""
    return _correlation(before, now) < CUT


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    power = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / power if power > 0 else 0.0
