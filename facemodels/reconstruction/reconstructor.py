"""Faces in photographs and videos: found, cropped, given to a method, and put back into the picture they came from.

`reconstruct` does it in one call; `Reconstructor` keeps the network for many calls, and follows faces through the frames of a video. What a network says of a crop
becomes a `Face` in the pixels of the whole picture.

Heads that stand askew are turned upright before the network sees them, as far as networks are seldom trained on such pictures, and what it says is turned back.

A face is cropped twice: first by the detector's box, then around the landmarks that were seen in it, as the crops are that methods are trained on (3DDFA calls this two-step
initialisation). In a video the second crop of a frame is the first of the next one, so that a frame takes one pass of the network, and the detector looks for new faces, and for
whether the old ones are still there, every few frames.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facemodels.core.crops import cut_rotated
from facemodels.core.device import parse_device
from facemodels.core.errors import InputError
from facemodels.io.images import as_rgb, read_picture
from facemodels.methods.face_method import FaceMethod
from facemodels.methods.registry import load_method
from facemodels.models.load import load_model
from facemodels.reconstruction.crops import View, around_landmarks, closer, leaning, to_picture
from facemodels.reconstruction.detect import find_faces, first_crop
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.refine import Refined
from facemodels.reconstruction.tracking import _inside, _matched

BATCH = 32  # crops that go through the network together
EVERY = 10  # frames of a video from one search for faces to the next


def reconstruct(
    images,
    method: str | Path | FaceMethod | None = None,
    boxes: Sequence | None = None,
    landmarks: Sequence | None = None,
    device: str = "cpu",
    threshold: float = 0.5,
    refine: int = 0,
):
    """Faces of photographs, in one call.

    Args:
        images: a picture or several: paths, or uint8 arrays [h,w,3] sRGB.
        method: a `FaceMethod`, the name of weights that ship, or a checkpoint's folder; None takes the best that ship.
        boxes, landmarks: what is known of the faces, a list for each picture: boxes (x0, y0, x1, y1) of upright faces as a detector gives them, or landmarks [L,2], 68, 21 or 5
            pixel places. Without either, faces are searched.
        threshold: least score of a face that is found.
        refine: so many steps of a fit to the picture follow what the network says (see `refine.Refined`); 0 for none.

    Returns:
        For each picture the list of its `Face`s, the largest first, or in the order of boxes or landmarks; for a single picture that list itself.

    Raises:
        InputError: a picture that cannot be read, a method or a device that is not there; boxes and landmarks both.
    """
    if boxes is not None and landmarks is not None:
        raise InputError("give boxes or landmarks, not both")
    single = isinstance(images, (str, Path, np.ndarray))
    pictures = [images] if single else list(images)
    given = (
        [None] * len(pictures)
        if boxes is None and landmarks is None
        else [boxes if boxes is not None else landmarks]
        if single
        else list(boxes if boxes is not None else landmarks)
    )
    if len(given) != len(pictures):
        raise InputError(
            f"boxes or landmarks must be a list for each of the {len(pictures)} pictures, got {len(given)}"
        )
    worker = Reconstructor(method, device, threshold, refine)
    arrays = [as_rgb(picture if isinstance(picture, np.ndarray) else read_picture(picture)) for picture in pictures]
    found = worker(
        arrays, given if boxes is not None else None, given if boxes is None and landmarks is not None else None
    )
    return found[0] if single else found


class Reconstructor:
    """A method and a detector, ready to be used again and again. ``Reconstructor("dasl")([image])`` gives the faces of a picture. refine: as `reconstruct` has it, for pictures alone."""

    def __init__(
        self,
        method: str | Path | FaceMethod | None = None,
        device: str = "cpu",
        threshold: float = 0.5,
        refine: int = 0,
    ):
        self.method = method.eval() if isinstance(method, FaceMethod) else load_method(method, parse_device(device))
        self.refined = Refined(self.method, refine) if refine else None
        self.threshold = threshold
        # What is made of faces is made on the CPU.
        self.model = (
            self.method.model if self.method.model.mean.device.type == "cpu" else load_model(self.method.config.model)
        )

    def __call__(
        self, images: Sequence[np.ndarray], boxes: Sequence | None = None, landmarks: Sequence | None = None
    ) -> list[list[Face]]:
        """The faces of pictures, uint8 [h,w,3], the largest first; of boxes or landmarks, a list for each picture (None: searched; landmarks go before boxes), in their order."""
        views, exact = [], []  # of all faces of all pictures
        for n, image in enumerate(images):
            given = landmarks is not None and landmarks[n] is not None
            if given:
                found = [around_landmarks(n, np.asarray(p, np.float64)[:, :2]) for p in landmarks[n]]
            elif boxes is not None and boxes[n] is not None:
                found = [View(n, first_crop(b), 0.0, tuple(map(float, b)), 1.0) for b in boxes[n]]
            else:
                found = [
                    View(n, first_crop(d.box), leaning(d.points), d.box, d.score)
                    for d in find_faces(image, self.threshold)
                ]
            views, exact = views + found, exact + [given and len(p) == 68 for p in (landmarks[n] if given else found)]
        faces = self.see(images, views)
        again = [k for k, known in enumerate(exact) if not known]
        for k in again:
            views[k] = closer(faces[k], views[k])
        if self.refined is not None:
            again = range(len(views))
        for k, face in zip(again, self.see(images, [views[k] for k in again], self.refined)):
            faces[k] = face
        return [[face for face, view in zip(faces, views) if view.picture == n] for n in range(len(images))]

    def see(self, images: Sequence[np.ndarray], views: list["View"], method: Refined | None = None) -> list[Face]:
        """One pass of the network, or of another method, over crops of pictures."""
        method = method or self.method
        faces, size = [], self.method.size
        device = next(self.method.parameters()).device
        for k in range(0, len(views), BATCH):
            some = views[k : k + BATCH]
            pixels = torch.from_numpy(np.stack([cut_rotated(images[v.picture], v.crop, size, v.turn) for v in some]))
            with torch.no_grad():
                found = method.reconstruct(pixels.to(device).permute(0, 3, 1, 2).float() / 255).to("cpu")
            faces += [to_picture(found.select(slice(n, n + 1)), size, view) for n, view in enumerate(some)]
        return faces

    def follow(self, frames: Iterable[np.ndarray], every: int = EVERY) -> Iterator[list[Face]]:
        """The faces of each frame of a video, `track` telling who is who."""
        tracks: dict[int, Face] = {}
        missed: set[int] = set()  # that the last search did not find: one search may fail
        count = 0
        for number, image in enumerate(frames):
            if number % every == 0 or not tracks:
                numbers = list(tracks)
                found = [
                    View(0, first_crop(d.box), leaning(d.points), d.box, d.score)
                    for d in find_faces(image, self.threshold, longest=640)
                ]
                pairs = _matched([v.crop for v in found], [tracks[t].crop for t in numbers])
                lost = {numbers[j] for j in set(range(len(numbers))) - {j for _, j in pairs}}
                kept = {t: tracks[t] for t in lost - missed}
                missed = set(kept)
                tracks = kept | {
                    numbers[j]: replace(tracks[numbers[j]], box=found[i].box, score=found[i].score) for i, j in pairs
                }
                for i in sorted(set(range(len(found))) - {i for i, _ in pairs}):
                    tracks[count], count = self.see([image], [found[i]])[0], count + 1
            numbers = sorted(tracks)
            seen = self.see(
                [image],
                [
                    closer(tracks[t], View(0, tracks[t].crop, tracks[t].turn, tracks[t].box, tracks[t].score))
                    for t in numbers
                ],
            )
            tracks = {t: replace(face, track=t) for t, face in zip(numbers, seen) if _inside(face, image.shape)}
            yield list(tracks.values())


# ------------------------------------------------------------------------------------------------------------------------------- time
