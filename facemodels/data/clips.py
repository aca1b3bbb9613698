"""Several frames of one person: synthetic clips and groups without end, and clips of any folder of videos.

The frames of a sample lie in a row, so that a batch of B samples of T frames is `FaceBatch` of B * T with `person` the same within each T; view(B, T, ...)
parts them. `SyntheticClips` moves a person as a video does, or, for measuring what leaks from one property into another, changes one thing and nothing
else; `SyntheticGroups` draws a person's frames independently of each other; `clips` reads videos, `rendered` keeps synthetic ones; both give a
`StoredClips`.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr
from facemodels.core.crops import Box
from facemodels.core.errors import InputError
from facemodels.core.rotation import axis_angle_rotation
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.data.cache import Cached, Shuffled, collect_samples, name_list
from facemodels.data.synthetic import CounterRNG, RandomizationConfig, Synthetic
from facemodels.data.video import open_clips, split_clip_ids
from facemodels.models.morphable import MorphableModel

# What moves in a clip: from key to key, the frames between two keys (shortest, longest; drawn once a clip) and how far keys are from the clip's own
# place, at most (0: at it; 1: as far as from one person's picture to another's). At 25 frames a second a syllable takes 4 frames, a turn of the head 15.
_TRACKS = {
    "pose": (15, 50, 0.5),
    "expression": (4, 20, 1.0),
    "light": (25, 100, 0.3),
    "camera": (15, 60, 0.25),
    "background": (15, 60, 0.6),
    "thing 0": (8, 40, 0.6),
    "thing 1": (8, 40, 0.6),
}
CONTROLLED = ("pose", "expression", "light")


class SyntheticGroups(Synthetic):
    """Endless groups of `frames` pictures of one person that have nothing else in common: each has its own pose, expression, light, camera and surroundings.

    ``SyntheticGroups(model, 112, frames=4)(seed, step, range(8))`` gives `FaceBatch` of 32: 8 people with 4 pictures each, `person` a number of 63 bits.
    """

    def __init__(self, model: MorphableModel, size: int, frames: int = 2, randomization: RandomizationConfig | None = None):
        super().__init__(model, size, randomization)
        self.frames = _at_least_one(frames)

    def _rng(self, seed, step, indices):
        keys = [seed_of(seed, step, i) for i in indices]
        rng = CounterRNG([seed_of(key, t) for key in keys for t in range(self.frames)], self.model.mean.device)
        rng.people = CounterRNG(keys, rng.device)
        return rng

    def _described(self, rng):
        faces, vertices, depth = super()._described(rng)
        faces.person = _person(rng.people).repeat_interleave(self.frames)
        return faces, vertices, depth

    def _identity(self, rng):
        return _repeated(super()._identity(rng.people), self.frames)


class SyntheticClips(Synthetic):
    """Endless clips of `frames` frames, each of one person whose head, face and light move smoothly.

    ``SyntheticClips(model, 112, frames=8)(seed, step, range(4))`` gives `FaceBatch` of 32: 4 clips with 8 frames each, `person` a number of 63 bits. No gradients
    flow. Everything varies between clips as `randomization` says; within a clip

    * identity and albedo are the same; pose, expression, light, the camera's place, the background and the things before the face go from one random key to
      the next, at rest at keys and without a jerk between (s^3 (10 - 15 s + 6 s^2), Flash and Hogan 1985); rotations on the shortest way;
    * the camera follows the face, in some clips closely and in others not at all;
    * colours, blur, the amount of noise and the quality of compression are the same, the noise itself is new in each frame.

    gap: the number of frames from one frame of a sample to the next, or (lowest, highest) to draw it from evenly: ``frames=2, gap=(5, 50)`` gives pairs that
    differ as frames of a video do. jump: share of clips in which the light does not change smoothly but all at once, and much, as when a lamp goes on.

    only: "pose", "expression" or "light": this changes, and all else is the same in all frames of a sample, also camera, background and noise (and with
    "light" so are landmarks and mask, to the last bit). Each frame is at a key of its own then, whatever the gap: poses and expressions differ as those
    of a clip do when it moves most (now and then not at all: two expressions may both be neutral), lights as those of two clips.

    Raises:
        ValueError: frames or gap below 1, gap not (lowest, highest), or another word for `only`.
    """

    def __init__(
        self,
        model: MorphableModel,
        size: int,
        frames: int = 2,
        gap: int | tuple[int, int] = 1,
        randomization: RandomizationConfig | None = None,
        jump: float = 0.1,
        only: str | None = None,
    ):
        super().__init__(model, size, randomization)
        self.frames, self.gap, self.jump, self.only = _at_least_one(frames), _range(gap), jump, only
        if only is not None and only not in CONTROLLED:
            raise ValueError(f"only must be None or one of {', '.join(CONTROLLED)}, got {only!r}")

    def _rng(self, seed, step, indices):
        return _ClipRNG(
            [seed_of(seed, step, i) for i in indices], self.frames, self.gap, self.only, self.model.mean.device
        )

    def _described(self, rng):
        identity, albedo = _repeated(super()._identity(rng.clip), self.frames)
        expression = rng.track("expression")(self._expression)
        if self.only in (None, "expression"):
            vertices = self.model.shape(identity, expression)
        else:  # products of matrices are not the same to the last bit in each of their rows
            (vertices,) = _repeated(
                [self.model.shape(identity[:: self.frames], expression[:: self.frames])], self.frames
            )
        rotation = rng.track("pose")(self._angles, fr.camera.euler_rotation, _turned_towards)
        faces, depth = self._placed(vertices, rotation, lambda points: self._follow(rng, points))
        light = rng.track("light")
        light.jump(rng.clip.uniform(1) < (1.0 if self.only else self.jump))
        faces.identity, faces.expression, faces.albedo, faces.light = (
            identity,
            expression,
            albedo,
            light(self._light).contiguous(),
        )
        faces.person = _person(rng)
        return faces, vertices, depth

    def _follow(self, rng, points):
        """(scale [N], translation [N,2]): between a camera that keeps the clip's mean square of landmarks in the picture, and one that keeps each frame's."""
        v, t = self.randomization, self.frames
        low, high = points.amin(1), points.amax(1)
        middle, side = (low + high) / 2, (high - low).amax(-1, keepdim=True)
        follow = rng.clip.uniform(1) * (self.only is None)
        middle, side = (
            (f := x.unflatten(0, (-1, t))).lerp(f.mean(1, keepdim=True), 1 - follow[:, None]).flatten(0, 1)
            for x in (middle, side)
        )
        camera = rng.track("camera")
        side = side * (v.box[0] + (v.box[1] - v.box[0]) * camera(lambda d: d.uniform(1)))
        middle = middle + v.shift * side * camera(lambda d: d.normal(2).clamp(-2, 2))
        scale = self.size / side
        return scale[:, 0], self.size / 2 - scale * middle

    def _background(self, rng):
        if not self.randomization.background:
            return super()._background(rng)
        (noise,) = _repeated([self._surroundings(rng.clip)], self.frames)
        place = 0.2 * rng.track("background")(lambda d: 2 * d.uniform(2) - 1)
        window = (0.8 * torch.eye(2, device=noise.device)).expand(
            len(noise), 2, 2
        )  # of the noise: it may move by the rest
        grid = F.affine_grid(
            torch.cat([window, place[..., None]], -1), [len(noise), 1, self.size, self.size], align_corners=True
        )
        return F.grid_sample(noise, grid, align_corners=True).clamp_(0, 1).permute(0, 2, 3, 1).contiguous()

    def _sway(self, rng, thing):
        return 0.4 * rng.track(f"thing {thing}")(lambda d: 2 * d.uniform(2) - 1)


class _ClipRNG(CounterRNG):
    """Numbers of clips: the same for all frames of a clip, but noise of its own for each frame. `clip` gives one row for a clip, `track` what changes."""

    def __init__(self, keys, frames, gap, only, device):
        super().__init__([key for key in keys for _ in range(frames)], device)
        self.clip_keys, self.frames, self.only = keys, frames, only
        self.clip = CounterRNG([seed_of(key, 0) for key in keys], device)
        steps = (
            gap[0]
            + (CounterRNG([seed_of(key, 0, 0) for key in keys], device).small(frames - 1) * (gap[1] - gap[0] + 1)).floor()
        )
        self.times = F.pad(steps.cumsum(1), (1, 0))  # [B,T], frames
        moments = torch.zeros_like(self.times) if only else self.times
        self.noise_keys = CounterRNG(
            [seed_of(key, 1, int(t)) for key, row in zip(keys, moments.tolist()) for t in row], device
        ).field_keys

    def track(self, name) -> "_Track":
        number, (shortest, longest, farthest) = 2 + list(_TRACKS).index(name), _TRACKS[name]
        keys = [seed_of(key, number) for key in self.clip_keys]
        home = CounterRNG(keys, self.device)
        span, phase, far = home.small(3).split(1, 1)
        if self.only == name:
            passed = torch.arange(float(self.frames)).expand(len(keys), -1)
        else:
            passed = (self.times[:, :1] if self.only else self.times) / (shortest + (longest - shortest) * span) + phase
        return _Track(home, keys, passed, farthest * (0.25 + 0.75 * far[:, 0]), self.frames // passed.shape[1])


class _Track:
    """Values that go from key to key: passed [B,S], how many of them by each moment; far [B], how far they are from home. The value of a moment is repeated for
    `repeats` frames, which are then equal to the last bit."""

    def __init__(self, home, keys, passed, far, repeats):
        self.home, self.repeats, device = home, repeats, home.device
        count = passed.floor()
        self.ends = [
            CounterRNG([seed_of(key, int(n) + k) for key, row in zip(keys, count.tolist()) for n in row], device)
            for k in (0, 1)
        ]
        s = (passed - count).flatten()
        self.weight, self.far = (x.to(device, non_blocking=True) for x in (s**3 * (10 - 15 * s + 6 * s * s), far))

    def jump(self, chosen):
        """The clips chosen [B,1] change at once, half way between keys, and their keys have nothing in common."""
        self.far = torch.where(chosen[:, 0], 1.0, self.far)
        self.weight = torch.where(self._of_times(chosen[:, 0]), self.weight.round(), self.weight)

    def __call__(self, draw, finished=lambda value: value, between=torch.lerp) -> Tensor:
        """draw: values [M,...] from a rng. finished: made of those when a key has its distance from home. between: (a, b, weight [M,1...])."""
        home, far = self._of_times(draw(self.home)), self._of_times(self.far)
        keys = [finished(home.lerp(value := draw(rng), _like(far, value))) for rng in self.ends]
        return between(*keys, _like(self.weight, keys[0])).repeat_interleave(self.repeats, 0)

    def _of_times(self, x):
        return x.repeat_interleave(len(self.weight) // max(len(x), 1), 0)


def _like(weight, value):
    return weight.view(-1, *[1] * (value.dim() - 1))


def _turned_towards(a, b, weight):
    """The rotations [N,3,3] at a share weight [N,1,1] of the shortest way from a to b, which are less than half a turn apart."""
    way = a.mT @ b
    axis = torch.stack([way[:, 2, 1] - way[:, 1, 2], way[:, 0, 2] - way[:, 2, 0], way[:, 1, 0] - way[:, 0, 1]], -1) / 2
    sine, cosine = axis.norm(dim=-1, keepdim=True), (way.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True) - 1) / 2
    return a @ axis_angle_rotation(weight[..., 0] * torch.atan2(sine, cosine) * axis / sine.clamp(min=1e-12))


def _repeated(parts, frames):
    return [None if p is None else p.repeat_interleave(frames, 0) for p in parts]


def _person(rng):
    return (rng.keys[:, 1] << 32 | rng.keys[:, 0]).to(rng.device, non_blocking=True)


# -------------------------------------------------------------------------------------------------------------------- clips that are kept


class StoredClips(Shuffled):
    """Frames of clips in memory or in a file, `frames` of them taken from a clip at a time; each epoch has every clip once, in another random order.

    ``StoredClips(...)(seed, start, indices)`` gives the samples whose numbers in the endless sequence of epochs are start + i for i in indices, the frames
    of each in a row and in the order of time, images in 0..1. Without state, as `Shuffled`.

    faces: all frames, images uint8. groups: for each clip the places of its frames among `faces`, int64 [n], in the order of time, n >= frames. numbers:
    int64 [N], the number of each frame in its clip. gap: (lowest, highest), how far the number of a frame is from that of the one before, drawn evenly;
    where a clip is too short for what is drawn its frames lie closer, and where frames are missing the nearest are taken; never one twice. None takes any
    frames of a group, in any order.
    """

    def __init__(self, faces: FaceBatch, groups: list[Tensor], numbers: Tensor, frames: int, gap: tuple[int, int] | None):
        super().__init__(faces)
        self.groups, self.numbers, self.frames, self.gap = (
            groups,
            numbers,
            _at_least_one(frames),
            None if gap is None else _range(gap),
        )
        self.count = len(groups)
        if not groups or min(map(len, groups)) < frames:
            raise ValueError(
                f"there must be clips, each of at least {frames} frames, got {[len(g) for g in groups][:10]}"
            )

    def __call__(self, seed: int, start: int, indices: range) -> FaceBatch:
        taken = self.faces[torch.cat([self._drawn(seed, start + i) for i in indices])]
        taken.image = taken.image.float() / 255
        return taken

    def _drawn(self, seed, number) -> Tensor:
        places = self.groups[self._place(seed, number)]
        generator = torch.Generator().manual_seed(seed_of(seed, number, 1))
        if self.gap is None:
            return places[torch.randperm(len(places), generator=generator)[: self.frames]]
        numbers = self.numbers[places].double()
        steps = torch.randint(self.gap[0], self.gap[1] + 1, (self.frames - 1,), generator=generator)
        times, length = F.pad(steps.cumsum(0), (1, 0)).double(), numbers[-1] - numbers[0]
        times = times * (length / times[-1].clamp(min=1)).clamp(max=1)
        times = times + numbers[0] + torch.rand((), generator=generator, dtype=torch.float64) * (length - times[-1])
        order = torch.arange(self.frames)
        nearest = (numbers - times[:, None]).abs().argmin(1)
        later = (nearest - order).cummax(0).values + order  # than the one before
        return places[torch.minimum(later, len(places) - self.frames + order)]


def rendered(source: SyntheticClips | SyntheticGroups, seed: int, count: int, progress: bool = True) -> StoredClips:
    """`count` samples of a source without end, in memory, images as bytes and no masks (see `Cached`)."""
    t = source.frames
    cached = Cached(
        lambda seed, step, indices: source(seed, step, range(len(indices) // t)),
        seed,
        count * t,
        t * max(1, 64 // t),
        progress,
    )
    return StoredClips(
        cached.faces, list(torch.arange(count * t).view(count, t)), torch.arange(t).repeat(count), t, (1, 1)
    )


def clips(
    path: str | Path,
    size: int = 120,
    frames: int = 2,
    gap: int | tuple[int, int] | None = (5, 50),
    every: int = 1,
    limit: int | None = None,
    detect: Callable[..., Box | None] | None = None,
    cache: str | Path | None = None,
) -> StoredClips:
    """Clips of people from a folder of videos, in the layout of `videos`, or from one video: `frames` frames of a clip at a time.

    gap: the number of frames of the video from one frame of a sample to the next, one number or (lowest, highest), see `StoredClips`; None takes any frames of
    a person, also from several videos. every, limit, cache: as for `videos`. detect: where the face is,
    ``detect(image uint8 [h,w,3]) -> (x0, y0, x1, y1) or None`` in this library's pixels; frames are cut to the square of the box's longer side
    about its middle.

    Without `detect`, frames are cut out by the landmark files, and those of a video without any to the square in the middle, all the same, which one warning
    says. Landmarks are given where there are files: `landmarks` [N,L,2], NaN, and not `visible`, where a frame has none. A cache knows a detector by its name.

    Frames without a face (none detected; no landmarks in a file that has some) are left out, so a face that leaves and comes back makes a clip with a hole.
    Clips with fewer than `frames` frames left, such as those of one frame and those without any face, are left out, with a warning that names them.
    Nobody looks who is in a frame: a file or folder is one person by definition, and where it shows two, their frames are mixed; cut such videos apart before.

    Raises:
        InputError: as `videos`, or no clip has enough frames.
    """
    try:
        _at_least_one(frames)
        gap = None if gap is None else _range(gap)
    except ValueError as error:
        raise InputError(str(error)) from None
    found, *source = open_clips(path, size, every, limit, detect)
    faces = collect_samples(str(path), *source, cache)
    which, numbers = split_clip_ids(faces)
    faces.person = torch.tensor([person for person, _ in found])[which]
    if gap is None:
        kind, names, belongs = (
            "people",
            {person: clip.name for person, clip in reversed(found)},
            faces.person,
        )  # by their first video
    else:
        kind, names, belongs = "clips", {k: clip.name for k, (_, clip) in enumerate(found)}, which
    groups = {k: belongs.eq(k).nonzero()[:, 0] for k in sorted(names)}
    short = [f"{names[k]} ({len(group)})" for k, group in groups.items() if len(group) < frames]
    groups = [group for group in groups.values() if len(group) >= frames]
    about = f"{path}: {len(short)} of {len(names)} {kind} are left out because fewer than {frames} frames of theirs can be used: {name_list(short)}"
    if not groups:
        raise InputError(f"{about}; give longer ones, or ask for fewer frames")
    if short:
        warnings.warn(about, stacklevel=2)
    return StoredClips(faces, groups, numbers, frames, gap)


def _at_least_one(frames):
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    return frames


def _range(gap):
    """(lowest, highest) of a number or of the two."""
    low, high = (gap, gap) if isinstance(gap, int) else gap
    if not 1 <= low <= high:
        raise ValueError(
            f"gap must be frames from one to the next, at least 1, one number or (lowest, highest), got {gap}"
        )
    return low, high
