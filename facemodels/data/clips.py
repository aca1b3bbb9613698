"""Several frames of one person: endless rendered clips and groups, and clips of any folder of videos.

The frames of a sample follow each other, so a batch of B samples of T frames is a `FaceBatch` of B * T with the same
`person` within each T; view(B, T, ...) separates them. `SyntheticClips` moves a person as a video does or, to measure
what leaks from one property into another, changes one property and nothing else. `SyntheticGroups` draws the frames of
a person independently. `rendered` keeps such samples in memory, `clips` reads videos; both return `StoredClips`.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

import facerender as fr
from facemodels.core.errors import InputError
from facemodels.core.rotation import axis_angle_rotation
from facemodels.core.seeding import seed_of
from facemodels.data import FaceBatch
from facemodels.data.cache import Cached, Shuffled, collect_samples, name_list
from facemodels.data.counter_rng import CounterRNG
from facemodels.data.synthetic import RandomizationConfig, Synthetic, _Scene
from facemodels.data.video import Detector, open_clips, split_clip_ids
from facemodels.models.morphable import MorphableModel

# What changes within a clip, from one random key to the next. Per track: fewest and most frames between two keys (drawn
# once a clip), and how far keys may lie from the clip's own value (0: at it; 1: as far as two pictures of a person
# differ). At 25 frames a second, a syllable takes 4 frames and a turn of the head 15.
_TRACKS = {
    "pose": (15, 50, 0.5),
    "expression": (4, 20, 1.0),
    "light": (25, 100, 0.3),
    "camera": (15, 60, 0.25),
    "background": (15, 60, 0.6),
    "occluder 0": (8, 40, 0.6),
    "occluder 1": (8, 40, 0.6),
}
CONTROLLED = ("pose", "expression", "light")


class _GroupRNG(CounterRNG):
    """Numbers for groups: `people` has a row per group, the rest a row per frame."""

    def __init__(self, keys: list[int], frames: int, device: torch.device) -> None:
        super().__init__([seed_of(key, t) for key in keys for t in range(frames)], device)
        self.people = CounterRNG(keys, device)


class SyntheticGroups(Synthetic[_GroupRNG]):
    """Endless groups of pictures of one person, each with its own pose, expression, light, camera and surroundings.

    ``SyntheticGroups(model, 112, frames=4)(seed, step, range(8))`` renders 32 faces: 8 people with 4 pictures each.
    `person` is a number of 63 bits.

    Args:
        model: the morphable model; its device renders.
        size: side of the pictures in pixels.
        frames: pictures per person.
        randomization: how much faces vary; None for the defaults.

    Raises:
        ValueError: frames is below 1.
    """

    def __init__(
        self, model: MorphableModel, size: int, frames: int = 2, randomization: RandomizationConfig | None = None
    ) -> None:
        super().__init__(model, size, randomization)
        self.frames = _at_least_one(frames)

    def _rng(self, seed: int, step: int, indices: range) -> _GroupRNG:
        return _GroupRNG([seed_of(seed, step, i) for i in indices], self.frames, self.model.mean.device)

    def _scene(self, rng: _GroupRNG) -> _Scene:
        return super()._scene(rng)._replace(person=_person(rng.people).repeat_interleave(self.frames))

    def _identity(self, rng: CounterRNG) -> tuple[Tensor, Tensor | None]:
        assert isinstance(rng, _GroupRNG)
        identity, albedo = super()._identity(rng.people)
        return _repeat(identity, self.frames), None if albedo is None else _repeat(albedo, self.frames)


class SyntheticClips(Synthetic["_ClipRNG"]):
    """Endless clips, each of one person whose head, face and light move smoothly.

    ``SyntheticClips(model, 112, frames=8)(seed, step, range(4))`` renders 32 faces: 4 clips of 8 frames each. `person`
    is a number of 63 bits. No gradients flow. Everything varies between clips as `randomization` says; within a clip

    * identity and albedo are constant; pose, expression, light, the camera's place, the background and the occluders go
      from one random key to the next, at rest at keys and without jerk between (s^3 (10 - 15 s + 6 s^2), Flash and
      Hogan 1985), rotations on the shortest way;
    * the camera follows the face, closely in some clips and not at all in others;
    * colors, blur, the amount of noise and the quality of compression are constant; the noise itself is new in each
      frame.

    Args:
        model: the morphable model; its device renders.
        size: side of the pictures in pixels.
        frames: frames per clip.
        gap: frames of the video from one frame of a sample to the next, or (lowest, highest) to draw it uniformly:
            ``frames=2, gap=(5, 50)`` gives pairs that differ as frames of a video do.
        randomization: how much clips vary; None for the defaults.
        jump: share of clips in which the light changes abruptly and much, as when a lamp is switched on.
        only: "pose", "expression" or "light": only this changes; everything else is constant within a sample, camera,
            background and noise included, and with "light" landmarks and mask to the last bit. Each frame then lies at
            a key of its own, whatever the gap: poses and expressions differ as those of a clip do when it moves most
            (sometimes not at all: two expressions may both be neutral), lights as those of two clips.

    Raises:
        ValueError: frames or gap is below 1, gap is not (lowest, highest), or `only` is another word.
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
    ) -> None:
        super().__init__(model, size, randomization)
        self.frames, self.gap, self.jump, self.only = _at_least_one(frames), _gap_range(gap), jump, only
        if only is not None and only not in CONTROLLED:
            raise ValueError(f"only must be None or one of {', '.join(CONTROLLED)}, got {only!r}")

    def _rng(self, seed: int, step: int, indices: range) -> "_ClipRNG":
        return _ClipRNG(
            [seed_of(seed, step, i) for i in indices], self.frames, self.gap, self.only, self.model.mean.device
        )

    def _scene(self, rng: "_ClipRNG") -> _Scene:
        identity, albedo = self._identity(rng.clip)
        identity, albedo = _repeat(identity, self.frames), None if albedo is None else _repeat(albedo, self.frames)
        expression = rng.track("expression")(self._expression)
        if self.only in (None, "expression"):
            vertices = self.model.shape(identity, expression)
        else:  # equal rows of a matrix product may differ in the last bit
            vertices = _repeat(self.model.shape(identity[:: self.frames], expression[:: self.frames]), self.frames)
        rotation = rng.track("pose")(self._angles, fr.camera.euler_rotation, _slerp)
        camera = self._place(vertices, rotation, lambda points: self._camera(rng, points))
        light = rng.track("light")
        light.jump(rng.clip.uniform(1) < (1.0 if self.only else self.jump))
        return _Scene(identity, expression, albedo, light(self._light).contiguous(), vertices, camera, _person(rng))

    def _camera(self, rng: "_ClipRNG", points: Tensor) -> tuple[Tensor, Tensor]:
        """Draw scale [N] and translation [N,2].

        The camera keeps a square in the picture that lies between the mean of the clip's squares of landmarks and that
        of each frame, at a share that is drawn once a clip.
        """
        r, t = self.randomization, self.frames
        low, high = points.amin(1), points.amax(1)
        center, side = (low + high) / 2, (high - low).amax(-1, keepdim=True)
        follow = rng.clip.uniform(1) * (self.only is None)
        center, side = (
            (f := x.unflatten(0, (-1, t))).lerp(f.mean(1, keepdim=True), 1 - follow[:, None]).flatten(0, 1)
            for x in (center, side)
        )
        camera = rng.track("camera")
        side = side * (r.box[0] + (r.box[1] - r.box[0]) * camera(lambda key: key.uniform(1)))
        center = center + r.shift * side * camera(lambda key: key.normal(2).clamp(-2, 2))
        scale = self.size / side
        return scale[:, 0], self.size / 2 - scale * center

    def _background(self, rng: "_ClipRNG") -> Tensor:
        if not self.randomization.background:
            return super()._background(rng)
        noise = _repeat(self._surroundings(rng.clip), self.frames)
        place = 0.2 * rng.track("background")(lambda key: 2 * key.uniform(2) - 1)
        # A window onto the noise, 0.8 of its side: it may move by the rest.
        window = (0.8 * torch.eye(2, device=noise.device)).expand(len(noise), 2, 2)
        grid = F.affine_grid(
            torch.cat([window, place[..., None]], -1), [len(noise), 1, self.size, self.size], align_corners=True
        )
        return F.grid_sample(noise, grid, align_corners=True).clamp_(0, 1).permute(0, 2, 3, 1).contiguous()

    def _occluder_motion(self, rng: "_ClipRNG", occluder: int) -> Tensor:
        return 0.4 * rng.track(f"occluder {occluder}")(lambda key: 2 * key.uniform(2) - 1)


class _ClipRNG(CounterRNG):
    """Numbers for clips: the same for all frames of a clip, except `noise`, which differs between moments.

    `clip` has a row per clip; `track` gives what changes within a clip.

    Attributes:
        clip: numbers with a row per clip.
        times: [B,T], the moment of each frame, counted in frames of the video.
    """

    def __init__(
        self, keys: list[int], frames: int, gap: tuple[int, int], only: str | None, device: torch.device
    ) -> None:
        super().__init__([key for key in keys for _ in range(frames)], device)
        self.clip_keys, self.frames, self.only = keys, frames, only
        self.clip = CounterRNG([seed_of(key, 0) for key in keys], device)
        gaps = CounterRNG([seed_of(key, 0, 0) for key in keys], device).cpu_uniform(frames - 1)
        steps = gap[0] + (gaps * (gap[1] - gap[0] + 1)).floor()
        self.times = F.pad(steps.cumsum(1), (1, 0))
        moments = torch.zeros_like(self.times) if only else self.times
        self.noise_keys = CounterRNG(
            [seed_of(key, 1, int(t)) for key, row in zip(keys, moments.tolist()) for t in row], device
        ).field_keys

    def track(self, name: str) -> "_Track":
        """The track of a name in `_TRACKS`."""
        number, (shortest, longest, farthest) = 2 + list(_TRACKS).index(name), _TRACKS[name]
        keys = [seed_of(key, number) for key in self.clip_keys]
        home = CounterRNG(keys, self.device)
        span, phase, distance = home.cpu_uniform(3).split(1, 1)
        if self.only == name:
            passed = torch.arange(float(self.frames)).expand(len(keys), -1)
        else:
            passed = (self.times[:, :1] if self.only else self.times) / (shortest + (longest - shortest) * span) + phase
        return _Track(home, keys, passed, farthest * (0.25 + 0.75 * distance[:, 0]), self.frames // passed.shape[1])


class _Track:
    """Values that move from key to key.

    Args:
        home: numbers of the clips' own values, around which the keys lie.
        keys: one key per clip.
        passed: [B,S], how many keys each of S moments lies behind.
        distance: [B], how far keys lie from home.
        repeats: frames per moment; they are equal to the last bit.
    """

    def __init__(self, home: CounterRNG, keys: list[int], passed: Tensor, distance: Tensor, repeats: int) -> None:
        self.home, self.repeats, device = home, repeats, home.device
        count = passed.floor()
        self.ends = [
            CounterRNG([seed_of(key, int(n) + k) for key, row in zip(keys, count.tolist()) for n in row], device)
            for k in (0, 1)
        ]
        s = (passed - count).flatten()
        weight = s**3 * (10 - 15 * s + 6 * s * s)
        self.weight, self.distance = (x.to(device, non_blocking=True) for x in (weight, distance))

    def jump(self, chosen: Tensor) -> None:
        """Let the chosen clips, bool [B,1], change abruptly halfway between keys that are unrelated."""
        self.distance = torch.where(chosen[:, 0], 1.0, self.distance)
        self.weight = torch.where(self._per_moment(chosen[:, 0]), self.weight.round(), self.weight)

    def __call__(
        self,
        draw: Callable[[CounterRNG], Tensor],
        finish: Callable[[Tensor], Tensor] = lambda value: value,
        interpolate: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.lerp,
    ) -> Tensor:
        """Return the values of all frames, [N,...].

        Args:
            draw: draws values [M,...].
            finish: makes the final quantity of values that have their distance from home.
            interpolate: takes the values at both keys and weights [M,1,...].
        """
        home, distance = self._per_moment(draw(self.home)), self._per_moment(self.distance)
        start, end = (finish(home.lerp(value := draw(rng), _like(distance, value))) for rng in self.ends)
        return _repeat(interpolate(start, end, _like(self.weight, start)), self.repeats)

    def _per_moment(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(len(self.weight) // max(len(x), 1), 0)


def _like(weight: Tensor, value: Tensor) -> Tensor:
    """Weights [M] with as many dimensions as the value."""
    return weight.view(-1, *[1] * (value.dim() - 1))


def _slerp(a: Tensor, b: Tensor, weight: Tensor) -> Tensor:
    """Interpolate rotations on the shortest way.

    Args:
        a: [N,3,3].
        b: [N,3,3], less than half a turn from a.
        weight: [N,1,1], 0 for a, 1 for b.
    """
    way = a.mT @ b
    axis = torch.stack([way[:, 2, 1] - way[:, 1, 2], way[:, 0, 2] - way[:, 2, 0], way[:, 1, 0] - way[:, 0, 1]], -1) / 2
    sine, cosine = axis.norm(dim=-1, keepdim=True), (way.diagonal(dim1=1, dim2=2).sum(-1, keepdim=True) - 1) / 2
    return a @ axis_angle_rotation(weight[..., 0] * torch.atan2(sine, cosine) * axis / sine.clamp(min=1e-12))


def _repeat(values: Tensor, frames: int) -> Tensor:
    return values.repeat_interleave(frames, 0)


def _person(rng: CounterRNG) -> Tensor:
    """The samples' keys as int64 [N]."""
    return (rng.keys[:, 1] << 32 | rng.keys[:, 0]).to(rng.device, non_blocking=True)


class StoredClips(Shuffled):
    """Frames of clips in memory or in a file; each epoch takes `frames` of every clip once, in another random order.

    ``StoredClips(...)(seed, start, indices)`` gives the samples whose numbers in the endless sequence of epochs are
    start + i for i in indices: the frames of each one after the other in the order of time, images in 0..1. Stateless,
    as `Shuffled`.

    Args:
        faces: all frames, images uint8.
        groups: for each clip the indices of its frames in `faces`, int64 [n], in the order of time, n >= frames.
        numbers: int64 [N], the number of each frame in its clip.
        frames: frames per sample.
        gap: (lowest, highest) difference between the numbers of consecutive frames, drawn uniformly. Where a clip is
            too short for what is drawn, its frames lie closer; where frames are missing, the nearest are taken; none is
            taken twice. None takes any frames of a group, in any order.

    Raises:
        ValueError: there is no clip, or one with fewer than `frames` frames; gap is not (lowest, highest).
    """

    def __init__(
        self, faces: FaceBatch, groups: list[Tensor], numbers: Tensor, frames: int, gap: tuple[int, int] | None
    ) -> None:
        super().__init__(faces)
        self.groups, self.numbers, self.frames = groups, numbers, _at_least_one(frames)
        self.gap = None if gap is None else _gap_range(gap)
        self.count = len(groups)
        if not groups or min(map(len, groups)) < frames:
            raise ValueError(
                f"there must be clips, each of at least {frames} frames, got {[len(g) for g in groups][:10]}"
            )

    def __call__(self, seed: int, start: int, indices: range) -> FaceBatch:
        """Return samples `start` + i of the endless sequence of epochs, for i in indices."""
        taken = self.faces[torch.cat([self._draw_frames(seed, start + i) for i in indices])]
        taken.image = taken.image.float() / 255
        return taken

    def _draw_frames(self, seed: int, number: int) -> Tensor:
        """Indices in `faces` of one sample's frames, int64 [frames]."""
        places = self.groups[int(self._place(seed, number))]
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
        later = (nearest - order).cummax(0).values + order  # each after the one before
        return places[torch.minimum(later, len(places) - self.frames + order)]


def rendered(source: SyntheticClips | SyntheticGroups, seed: int, count: int, progress: bool = True) -> StoredClips:
    """Render samples of an endless source into memory, images as bytes and without masks (see `Cached`).

    Args:
        source: renders them.
        seed: seed of the samples.
        count: number of samples, clips or groups.
        progress: whether to show a progress bar in a terminal.
    """
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
    detect: Detector | None = None,
    cache: str | Path | None = None,
) -> StoredClips:
    """Read clips of people from a folder of videos in the layout of `videos`, or from one video.

    Without `detect`, frames are cropped by the landmark files. All those of a video without any are cropped to the
    square in the middle, which one warning says. Where there are landmark files, the frames have `landmarks` [N,L,2],
    NaN and not `visible` where a frame has none.

    Frames without a face (none detected; no landmarks in a file that has some) are left out, so a face that leaves and
    comes back makes a clip with a hole. Clips with fewer than `frames` frames left are left out too, with a warning
    that names them. Who is in a frame is not checked: a file or folder is one person by definition; where it shows two,
    their frames are mixed, so cut such videos apart before.

    Args:
        path: the folder, or one video file.
        size: side of the crops in pixels.
        frames: frames of a clip per sample.
        gap: frames of the video from one frame of a sample to the next, one number or (lowest, highest), see
            `StoredClips`; None takes any frames of a person, also from several videos.
        every: takes the frames 0, every, 2 every, ... of a video.
        limit: most frames of a video; None for all.
        detect: where the face is, ``detect(image uint8 [h,w,3]) -> (x0, y0, x1, y1) or None`` in pixels whose first has
            its center at (0.5, 0.5); frames are cropped to the square of the box's longer side about its center. A
            cache knows a detector by its name.
        cache: see `collect_samples`.

    Raises:
        InputError: as `videos`, or no clip has enough frames.
    """
    try:
        _at_least_one(frames)
        gap = None if gap is None else _gap_range(gap)
    except ValueError as error:
        raise InputError(str(error)) from None
    found, source = open_clips(path, size, every, limit, detect)
    faces = collect_samples(str(path), *source, cache)
    which, numbers = split_clip_ids(faces)
    faces.person = torch.tensor([person for person, _ in found])[which]
    if gap is None:
        # People are named by their first video.
        kind, names, belongs = "people", {person: clip.name for person, clip in reversed(found)}, faces.person
    else:
        kind, names, belongs = "clips", {k: clip.name for k, (_, clip) in enumerate(found)}, which
    of_name = {k: belongs.eq(k).nonzero()[:, 0] for k in sorted(names)}
    short = [f"{names[k]} ({len(group)})" for k, group in of_name.items() if len(group) < frames]
    groups = [group for group in of_name.values() if len(group) >= frames]
    about = (
        f"{path}: {len(short)} of {len(names)} {kind} are left out "
        f"because fewer than {frames} of their frames can be used: {name_list(short)}"
    )
    if not groups:
        raise InputError(f"{about}; give longer ones, or ask for fewer frames")
    if short:
        warnings.warn(about, stacklevel=2)
    return StoredClips(faces, groups, numbers, frames, gap)


def _at_least_one(frames: int) -> int:
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    return frames


def _gap_range(gap: int | Sequence[int]) -> tuple[int, int]:
    """Return (lowest, highest) of a number or of the two."""
    low, high = (gap, gap) if isinstance(gap, int) else gap
    if not 1 <= low <= high:
        raise ValueError(
            f"gap must be frames from one to the next, at least 1, one number or (lowest, highest), got {gap}"
        )
    return low, high
