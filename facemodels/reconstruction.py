"""Faces in photographs and videos: found, cropped, given to a method, and put back into the picture they came from.

`reconstruct` does it in one call; `Reconstructor` keeps the network for many calls, and follows faces through the frames of a video. What a network says of a crop
becomes a `Face` in the pixels of the whole picture.

Heads that stand askew are turned upright before the network sees them, as far as networks are seldom trained on such pictures, and what it says is turned back.

A face is cropped twice: first by the detector's box, then around the landmarks that were seen in it, as the crops are that methods are trained on (3DDFA calls this two-step
initialisation). In a video the second crop of a frame is the first of the next one, so that a frame takes one pass of the network, and the detector looks for new faces, and for
whether the old ones are still there, every few frames.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import facerender as fr

from . import load_model
from .data.augment import turned_light
from .data.crops import Box, cut_turned, landmark_box, read_picture
from .detect import find_faces, first_crop
from .errors import InputError
from .fit_camera import Camera
from .methods import device_named, load_method
from .methods.face_method import FaceMethod
from .morphable import MorphableModel
from .refine import Refined
from .surface import nearest_rotation

BATCH = 32  # crops that go through the network together
EVERY = 10  # frames of a video from one search for faces to the next
ASKEW = math.radians(20)  # heads that lean further are turned upright


@dataclass(frozen=True)
class Face:
    """One face of a picture.

    box: the detector's, or the square that was given, pixels; score: its, 0..1. crop: the square that the network saw, turned anticlockwise about its middle by `turn` radians.
    identity [I], expression [E] and albedo [A]: coefficients of the morphable model. rotation [3,3], scale pixels per mm, translation [2]: the head in the picture, by weak
    perspective: a point p of the head, mm, y up and z out of the face, lies at x = translation_x + scale (R p)_x, y = translation_y - scale (R p)_y, pixels with y down.
    landmarks [68,3]: pixels of the picture, z towards the viewer. light [9,3]: spherical harmonics of the preset "deep3d" in camera space. albedo and light are None for methods that
    do not tell them. track: which face of a video it is, counted from 0; None in a photograph.
    """

    box: Box
    score: float
    crop: Box
    identity: Tensor
    expression: Tensor
    rotation: Tensor
    scale: float
    translation: Tensor
    landmarks: Tensor
    albedo: Tensor | None = None
    light: Tensor | None = None
    track: int | None = None
    turn: float = 0.0

    @property
    def degrees(self) -> tuple[float, float, float]:
        """(pitch, yaw, roll): the head's rotation is Rz(roll) Ry(yaw) Rx(pitch); positive yaw turns it to its left, to the right in the picture; positive pitch downwards."""
        return tuple(fr.camera.euler_angles(self.rotation[None])[0].rad2deg().tolist())

    def vertices(self, model: MorphableModel) -> Tensor:
        """[V,3] mm, without pose."""
        return model.shape(self.identity[None], self.expression[None])[0]

    def camera(self, size: tuple[int, int]) -> Camera:
        """Of a picture of `size` (H, W)."""
        return Camera(torch.tensor([self.scale]), self.rotation[None], torch.zeros(1, 2), size, tuple(self.translation.tolist()))


def reconstruct(images, method: str | Path | FaceMethod | None = None, boxes: Sequence | None = None, landmarks: Sequence | None = None, device: str = "cpu", threshold: float = 0.5, refine: int = 0):
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
    given = [None] * len(pictures) if boxes is None and landmarks is None else [boxes if boxes is not None else landmarks] if single else list(boxes if boxes is not None else landmarks)
    if len(given) != len(pictures):
        raise InputError(f"boxes or landmarks must be a list for each of the {len(pictures)} pictures, got {len(given)}")
    worker = Reconstructor(method, device, threshold, refine)
    arrays = [checked(picture if isinstance(picture, np.ndarray) else read_picture(picture)) for picture in pictures]
    found = worker(arrays, given if boxes is not None else None, given if boxes is None and landmarks is not None else None)
    return found[0] if single else found


def checked(image: np.ndarray) -> np.ndarray:
    """A picture as uint8 [h,w,3]: grey ones and those with transparency too.

    Raises:
        InputError: another shape or type.
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or 0 in image.shape:
        raise InputError(f"a picture is uint8 [h,w,3], got {image.dtype} {list(image.shape)}")
    if image.ndim == 2:
        image = image[..., None]
    return np.ascontiguousarray(image[..., :3].repeat(3, -1) if image.shape[2] == 1 else image[..., :3])


class Reconstructor:
    """A method and a detector, ready to be used again and again. ``Reconstructor("dasl")([image])`` gives the faces of a picture. refine: as `reconstruct` has it, for pictures alone."""

    def __init__(self, method: str | Path | FaceMethod | None = None, device: str = "cpu", threshold: float = 0.5, refine: int = 0):
        self.method = method.eval() if isinstance(method, FaceMethod) else load_method(method, device_named(device))
        self.refined = Refined(self.method, refine) if refine else None
        self.threshold = threshold
        # What is made of faces is made on the CPU.
        self.model = self.method.model if self.method.model.mean.device.type == "cpu" else load_model(self.method.config.model)

    def __call__(self, images: Sequence[np.ndarray], boxes: Sequence | None = None, landmarks: Sequence | None = None) -> list[list[Face]]:
        """The faces of pictures, uint8 [h,w,3], the largest first; of boxes or landmarks, a list for each picture (None: searched; landmarks go before boxes), in their order."""
        views, exact = [], []  # of all faces of all pictures
        for n, image in enumerate(images):
            given = landmarks is not None and landmarks[n] is not None
            if given:
                found = [around_landmarks(n, np.asarray(p, np.float64)[:, :2]) for p in landmarks[n]]
            elif boxes is not None and boxes[n] is not None:
                found = [View(n, first_crop(b), 0.0, tuple(map(float, b)), 1.0) for b in boxes[n]]
            else:
                found = [View(n, first_crop(d.box), leaning(d.points), d.box, d.score) for d in find_faces(image, self.threshold)]
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
            pixels = torch.from_numpy(np.stack([cut_turned(images[v.picture], v.crop, size, v.turn) for v in some]))
            with torch.no_grad():
                said = method.reconstruct(pixels.to(device).permute(0, 3, 1, 2).float() / 255)
            said = type(said)(*(None if v is None else v.cpu() for v in said))
            faces += [_in_picture(said, n, size, view) for n, view in enumerate(some)]
        return faces

    def follow(self, frames: Iterable[np.ndarray], every: int = EVERY) -> Iterator[list[Face]]:
        """The faces of each frame of a video, `track` telling who is who."""
        tracks: dict[int, Face] = {}
        missed: set[int] = set()  # that the last search did not find: one search may fail
        count = 0
        for number, image in enumerate(frames):
            if number % every == 0 or not tracks:
                numbers = list(tracks)
                found = [View(0, first_crop(d.box), leaning(d.points), d.box, d.score) for d in find_faces(image, self.threshold, longest=640)]
                pairs = _matched([v.crop for v in found], [tracks[t].crop for t in numbers])
                lost = {numbers[j] for j in set(range(len(numbers))) - {j for _, j in pairs}}
                kept = {t: tracks[t] for t in lost - missed}
                missed = set(kept)
                tracks = kept | {numbers[j]: replace(tracks[numbers[j]], box=found[i].box, score=found[i].score) for i, j in pairs}
                for i in sorted(set(range(len(found))) - {i for i, _ in pairs}):
                    tracks[count], count = self.see([image], [found[i]])[0], count + 1
            numbers = sorted(tracks)
            seen = self.see([image], [closer(tracks[t], View(0, tracks[t].crop, tracks[t].turn, tracks[t].box, tracks[t].score)) for t in numbers])
            tracks = {t: replace(face, track=t) for t, face in zip(numbers, seen) if _inside(face, image.shape)}
            yield list(tracks.values())


class View(NamedTuple):
    """A crop for the network. picture: which; crop and turn: see `Face`; box and score: of the detector."""

    picture: int
    crop: Box
    turn: float
    box: Box
    score: float


def _in_picture(said, n, size, view: View) -> Face:
    """A face of a crop, in the pixels of the picture."""
    x0, y0, x1, y1 = map(float, view.crop)
    factor, c, s = (x1 - x0) / size, math.cos(view.turn), math.sin(view.turn)
    back = torch.tensor([[c, s], [-s, c]])  # of the crop's axes, right and down, in the picture
    middle = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2])
    place = lambda points: middle + factor * (points - size / 2) @ back.T  # noqa: E731
    x, y = said.translation[n].tolist()
    landmarks = torch.cat([place(said.landmarks[n, :, :2]), factor * said.landmarks[n, :, 2:]], 1)
    roll = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    light = None if said.light is None else said.light[n]
    if light is not None and view.turn:
        light = turned_light(light[None], torch.tensor([c]), torch.tensor([s]), torch.ones(1))[0]
    albedo = None if said.albedo is None else said.albedo[n]
    translation = place(torch.tensor([[x, size - y]]))[0]
    return Face(view.box, view.score, view.crop, said.identity[n], said.expression[n], roll @ said.rotation[n], float(said.scale[n]) * factor, translation, landmarks, albedo, light, turn=view.turn)


def leaning(points: np.ndarray) -> float:
    """How far a head leans anticlockwise, radians, of five points (eyes, nose, corners of the mouth); 0 up to `ASKEW`."""
    up = points[:2].mean(0) - points[3:].mean(0)
    turn = math.atan2(-up[0], -up[1]) if np.isfinite(up).all() and np.abs(up).max() > 0 else 0.0
    return turn if abs(turn) > ASKEW else 0.0


# Of 68 and 21 landmarks those of the left eye, the right eye, the nose and the corners of the mouth.
_FIVE = {68: (range(36, 42), range(42, 48), (30,), (48,), (54,)), 21: (range(6, 9), range(9, 12), (14,), (17,), (19,)), 5: ((0,), (1,), (2,), (3,), (4,))}
# Eyes, nose and mouth are less than a face: their crop is this much larger, and lies this much lower (in its own sides).
_OF_FIVE = 2.1, 0.09


def around_landmarks(picture: int, points: np.ndarray) -> "View":
    """The crop around given landmarks [L,2], 68, 21 or 5 of them.

    Raises:
        InputError: another number of landmarks, or fewer than two that are known.
    """
    if len(points) not in _FIVE:
        raise InputError(f"landmarks of a face are {', '.join(map(str, _FIVE))} points, got {len(points)}")
    turn = leaning(np.array([points[list(some)].mean(0) for some in _FIVE[len(points)]]))
    crop = turned_box(points, turn, *(_OF_FIVE if len(points) == 5 else (1.0, 0.0)))
    return View(picture, crop, turn, crop, 1.0)


def turned_box(points: np.ndarray, turn: float, larger: float = 1.0, lower: float = 0.0) -> Box:
    """`landmark_box` of points [L,2], by the directions of a crop that is turned; its square before it is turned about its middle. larger, lower: as times and share of its side."""
    c, s = math.cos(turn), math.sin(turn)
    upright = np.array([[c, -s], [s, c]])  # the crop's directions, right and down, in the picture
    x0, y0, x1, y1 = landmark_box(points @ upright.T)
    x, y = (np.array([(x0 + x1) / 2, (y0 + y1) / 2 + lower * (x1 - x0)]) @ upright).tolist()
    half = larger * (x1 - x0) / 2
    return x - half, y - half, x + half, y + half


def closer(face: Face, view: View) -> View:
    """The crop around a face's landmarks; the one it was seen in, where these lie quite elsewhere (it was no face, or the network did not see it)."""
    points = face.landmarks[:, :2].double().numpy()
    if not np.isfinite(points).all() or not np.ptp(points, axis=0).max() > 0:
        return view
    up = face.rotation[:2, 1].tolist()
    turn = math.atan2(-up[0], up[1]) if math.hypot(*up) > 0.5 else 0.0
    turn = turn if abs(turn) > ASKEW else 0.0
    new, old = turned_box(points, turn), view.crop
    side = old[2] - old[0]
    far = max(abs(new[0] + new[2] - old[0] - old[2]), abs(new[1] + new[3] - old[1] - old[3])) >= side
    return view if far or not 0.4 < (new[2] - new[0]) / side < 2.5 else view._replace(crop=new, turn=turn)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def _matched(places: list[Box], crops: list[Box]) -> list[tuple[int, int]]:
    """Pairs (place, crop) that overlap most, each at most once."""
    pairs = sorted(((overlap(p, c), i, j) for i, p in enumerate(places) for j, c in enumerate(crops)), reverse=True)
    taken, chosen = (set(), set()), []
    for value, i, j in pairs:
        if value > 0.25 and i not in taken[0] and j not in taken[1]:
            taken[0].add(i)
            taken[1].add(j)
            chosen.append((i, j))
    return chosen


def _inside(face: Face, shape) -> bool:
    x, y = face.landmarks[:, :2].mean(0).tolist()
    return 0 <= x <= shape[1] and 0 <= y <= shape[0]


# ------------------------------------------------------------------------------------------------------------------------------- time


def smoothed(frames: list[list[Face]], deviation: float = 1.2) -> list[list[Face]]:
    """A video's faces without jitter: along each track the identity and albedo are the mean (a head does not change), and pose, expression and light Gaussian means over `deviation` frames on
    either side, so that nothing lags behind. Landmarks move along with the head.

    A track is cut where it is missing in a frame. deviation: 0 leaves pose and expression as they are.
    """
    result = [list(faces) for faces in frames]
    places: dict[int, list[tuple[int, int]]] = {}
    for t, faces in enumerate(frames):
        for k, face in enumerate(faces):
            places.setdefault(face.track, []).append((t, k))
    for where in places.values():
        faces = [frames[t][k] for t, k in where]
        person = {"identity": torch.stack([f.identity for f in faces]).mean(0)}
        if faces[0].albedo is not None:
            person["albedo"] = torch.stack([f.albedo for f in faces]).mean(0)
        times = torch.tensor([t for t, _ in where])
        mean = functools.partial(_smooth, times=times, deviation=deviation)
        rotation = nearest_rotation(mean(torch.stack([f.rotation for f in faces])))
        scale = mean(torch.tensor([[f.scale] for f in faces]).log()).exp()[:, 0]
        translation = mean(torch.stack([f.translation for f in faces]))
        expression = mean(torch.stack([f.expression for f in faces]))
        light = None if faces[0].light is None else mean(torch.stack([f.light for f in faces]))
        landmarks = mean(torch.stack([f.landmarks for f in faces]))
        for n, (t, k) in enumerate(where):
            light_n = None if light is None else light[n]
            result[t][k] = replace(
                faces[n], rotation=rotation[n], scale=float(scale[n]), translation=translation[n], expression=expression[n], landmarks=landmarks[n], light=light_n, **person
            )
    return result


def _smooth(values: Tensor, times: Tensor, deviation: float) -> Tensor:
    """Gaussian means of values [T,...] of frames `times` [T], ascending, over frames that follow each other without a gap."""
    run = torch.cat([torch.zeros(1, dtype=torch.int64), (times.diff() > 1).long()]).cumsum(0)
    total, weights = values.clone(), torch.ones(len(values))
    for step in range(1, min(math.ceil(4 * deviation), len(values) - 1) + 1):
        share = math.exp(-0.5 * (step / deviation) ** 2) * (run[step:] == run[:-step]).float()
        spread = share.view(-1, *[1] * (values.dim() - 1))
        total[step:] += spread * values[:-step]
        total[:-step] += spread * values[step:]
        weights[step:] += share
        weights[:-step] += share
    return total / weights.view(-1, *[1] * (values.dim() - 1))
