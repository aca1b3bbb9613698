"""Clips: one person in all frames, smooth and realistic motion, pairs that differ in one property; clips of videos."""

import math

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

import facerender as fr
from facemodels import MorphableModel, load_model
from facemodels.core.errors import InputError
from facemodels.data import FaceBatch
from facemodels.data.clips import (
    CONTROLLED,
    StoredClips,
    SyntheticClips,
    SyntheticGroups,
    clips,
    rendered,
)
from facemodels.data.synthetic import RandomizationConfig
from tests.data.pictures import five, write_frames
from tests.data_sets import DATA, needs_data
from tests.tiny_model import tiny

PLAIN = RandomizationConfig(occluded=0.0, degraded=0.0)
# imageio's, where ffmpeg ends before it is told to
unclosed = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
LABELS = ("identity", "expression", "albedo", "rotation", "scale", "translation", "light", "landmarks")


@pytest.fixture(scope="module")
def model():
    return load_model("builtin")


def by_clip(x, frames):
    return x.unflatten(0, (-1, frames))


def turns(rotation):
    """Degrees between each rotation [B,T,3,3] and the next."""
    way = rotation[:, :-1].mT @ rotation[:, 1:]
    return torch.acos(((way.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)).rad2deg()


# ---- synthetic -------------------------------------------------------------


@pytest.mark.parametrize("kind", [SyntheticClips, SyntheticGroups])
def test_a_clip_is_of_one_person_and_another_clip_of_another(model, kind):
    faces = kind(model, 16, frames=3, randomization=PLAIN).labels(0, 0, range(5))
    for name in ("identity", "albedo", "person"):
        value = by_clip(getattr(faces, name), 3)
        assert (value == value[:, :1]).all(), name
        assert len(value[:, 0].unique(dim=0)) == 5, name
    assert faces.person.dtype == torch.int64 and (faces.person >= 0).all()
    again = kind(model, 16, frames=3, randomization=PLAIN).labels(0, 1, range(5))
    assert not torch.isin(again.person, faces.person).any()
    for name in ("expression", "rotation", "light"):
        value = by_clip(getattr(faces, name), 3).flatten(2)
        assert (value[:, 1:] != value[:, :-1]).any(-1).all(), name


@pytest.mark.parametrize(
    "source", [lambda m: SyntheticClips(m, 48, frames=3, gap=(2, 9)), lambda m: SyntheticGroups(m, 48, frames=3)]
)
def test_a_clip_does_not_depend_on_the_batch_it_is_made_in(model, source):
    source = source(model)
    whole, again = source(3, 7, range(4)), source(3, 7, range(4))
    parts = FaceBatch.concatenate([source(3, 7, range(1)), source(3, 7, range(1, 4))])
    for name in (k for k, v in vars(whole).items() if v is not None):
        assert torch.equal(getattr(whole, name), getattr(again, name)), name
        torch.testing.assert_close(
            getattr(whole, name).float(), getattr(parts, name).float(), rtol=1e-3, atol=2e-2, msg=name
        )
    assert (whole.image - source(3, 8, range(4)).image).abs().mean() > 0.05
    known = source.labels(3, 7, range(4))
    for name in (*LABELS, "person"):
        torch.testing.assert_close(getattr(known, name), getattr(whole, name), rtol=1e-5, atol=1e-4, msg=name)


def test_a_longer_clip_begins_with_the_shorter_one(model):
    """Tracks are functions of time. The camera is not: it frames the mean face of the frames that are asked for."""
    short, long = (SyntheticClips(model, 16, frames=t, randomization=PLAIN).labels(2, 0, range(3)) for t in (4, 9))
    for name in ("rotation", "expression", "light", "identity"):
        torch.testing.assert_close(
            by_clip(getattr(short, name), 4), by_clip(getattr(long, name), 9)[:, :4], rtol=1e-4, atol=1e-5, msg=name
        )


def test_tracks_are_smooth_and_really_move(model):
    """Over four seconds; between frames a head turns by less than 7 degrees (175 a second), and not by nothing."""
    frames = 100
    faces = SyntheticClips(model, 112, frames=frames, randomization=PLAIN, jump=0.0).labels(0, 0, range(24))
    rotation = by_clip(faces.rotation, frames)
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3).expand_as(rotation), rtol=0, atol=1e-5)
    step = turns(rotation)
    assert step.max() < 7 and (step[:, 1:] - step[:, :-1]).abs().max() < 1.5
    assert 0.2 < step.mean() < 2
    away = turns(torch.stack([rotation[:, 0], rotation[:, 30]], 1))
    assert away.median() > 4
    expression = by_clip(faces.expression, frames)
    assert expression.min() >= 0 and expression.max() <= 1
    change = (expression[:, 1:] - expression[:, :-1]).abs()
    assert change.max() < 0.5 and (expression.amax(1) - expression.amin(1)).amax(-1).median() > 0.2
    light = by_clip(faces.light, frames)
    assert (
        (light[:, 1:] - light[:, :-1]).abs().amax((-1, -2)) < 0.05 * light[:, :-1].abs().amax((-1, -2)) + 0.02
    ).all()
    assert ((light[:, 0] - light[:, -1]).abs().amax((-1, -2)) > 0.01).float().mean() > 0.8
    pixels = by_clip(faces.landmarks, frames)
    moved = (pixels[:, 1:] - pixels[:, :-1]).norm(dim=-1)
    assert moved.max() < 8 and moved.mean() > 0.2
    assert ((pixels > -25) & (pixels < 137)).all()


def test_rotations_go_the_shortest_way(model):
    """Between two keys a head turns about one axis: by a share of the whole rotation."""
    rotation = by_clip(
        SyntheticClips(model, 16, frames=80, randomization=RandomizationConfig(pitch=25.0, roll=35.0))
        .labels(4, 0, range(10))
        .rotation,
        80,
    )
    way = rotation[:, :-1].mT @ rotation[:, 1:]
    axis = torch.stack(
        [way[..., 2, 1] - way[..., 1, 2], way[..., 0, 2] - way[..., 2, 0], way[..., 1, 0] - way[..., 0, 1]], -1
    )
    angle = axis.norm(dim=-1)
    clear = (angle[:, :-1] > 1e-2) & (angle[:, 1:] > 1e-2)
    same = torch.cosine_similarity(axis[:, :-1], axis[:, 1:], dim=-1)[clear]
    assert clear.sum() > 300 and (same > 0.9999).float().mean() > 0.97  # but for those with a key between them


def test_a_pair_lies_as_far_apart_as_the_gap_says(model):
    near, far = (
        SyntheticClips(model, 16, gap=gap, randomization=PLAIN).labels(0, 0, range(60)) for gap in (1, (15, 50))
    )
    step = [turns(by_clip(faces.rotation, 2)).mean() for faces in (near, far)]
    assert step[1] > 5 * step[0] and step[1] > 5
    first, long = (
        SyntheticClips(model, 16, frames=t, gap=g, randomization=PLAIN).labels(0, 0, range(4))
        for t, g in ((2, 6), (7, 1))
    )
    torch.testing.assert_close(
        by_clip(first.expression, 2)[:, 1], by_clip(long.expression, 7)[:, 6], rtol=1e-4, atol=1e-5
    )


def test_the_light_of_some_clips_jumps(model):
    def steps(jump):
        light = by_clip(
            SyntheticClips(model, 16, frames=120, randomization=PLAIN, jump=jump).labels(0, 0, range(8)).light, 120
        ).flatten(2)
        return (light[:, 1:] - light[:, :-1]).norm(dim=-1)

    smooth, jumps = steps(0.0), steps(1.0)
    assert smooth.max() < 0.2
    assert ((jumps > 1e-5).sum(1) >= 1).all() and ((jumps > 1e-5).sum(1) <= 6).all() and jumps.amax(1).median() > 0.3


def test_labels_describe_each_frame(model):
    faces = SyntheticClips(
        model, 96, frames=3, gap=8, randomization=RandomizationConfig(occluded=0.0, degraded=0.0, background=0.0)
    )(0, 0, range(3))
    vertices = model.shape(faces.identity, faces.expression)
    clip = fr.camera.weak_perspective(vertices, faces.scale, faces.rotation, faces.translation, (96, 96))
    assert torch.equal((fr.rasterize(clip, model.topology, (96, 96)).face_id >= 0).float(), faces.mask)
    pixels = fr.camera.to_pixels(
        fr.camera.weak_perspective(model.landmarks(vertices), faces.scale, faces.rotation, faces.translation, (96, 96)),
        (96, 96),
    )
    torch.testing.assert_close(pixels, faces.landmarks, rtol=0, atol=1e-2)


def test_background_and_things_before_the_face_stay_the_same_ones_and_move(model):
    faces = SyntheticClips(
        model, 64, frames=40, randomization=RandomizationConfig(occluded=0.0, degraded=0.0, frontal=1.0)
    )(0, 0, range(4))
    image, mask = by_clip(faces.image, 40), by_clip(faces.mask, 40)
    corner = (mask[..., :6, :6] == 0).flatten(2).all(-1)
    step = (
        (image[:, 1:, :, :6, :6] - image[:, :-1, :, :6, :6]).abs().flatten(2).mean(-1)[corner[:, 1:] & corner[:, :-1]]
    )
    assert len(step) > 40 and 0 < step.mean() < 0.02  # of new ones it would be 0.2
    one, (covered, bare) = (
        range(6),
        (
            RandomizationConfig(occluded=o, degraded=0.0, background=0.0, yaw=0.0, pitch=0.0, roll=0.0)
            for o in (1.5, 0.0)
        ),
    )
    hidden = by_clip(
        SyntheticClips(model, 64, 20, randomization=bare)(0, 0, one).mask
        - SyntheticClips(model, 64, 20, randomization=covered)(0, 0, one).mask,
        20,
    )
    share, near, far = (
        hidden.mean(),
        (hidden[:, 1:] - hidden[:, :-1]).abs().mean(),
        (hidden[:, 0] - hidden[:, -1]).abs().mean(),
    )
    assert share > 0.02 and near < 0.15 * share < far  # of new ones near and far would be alike, and larger


def test_a_clip_has_one_camera_and_new_noise_in_every_frame(model):
    """A gray wall: how noisy it is and its color are the clip's, the noise is the frame's."""
    faces = SyntheticClips(
        model,
        32,
        frames=3,
        randomization=RandomizationConfig(occluded=0.0, degraded=1.0, background=0.0, box=(2.8, 2.8), yaw=0.0),
    )(0, 0, range(30))
    wall = by_clip(faces.image[:, :, :8, :6], 3)
    free = (by_clip(faces.mask[:, :12, :10], 3) == 0).flatten(1).all(-1)  # also of what blur brings
    wall = wall[free].flatten(3)
    deviation, differ = wall.std(-1).mean(-1), (wall[:, 1] - wall[:, 0]).std(-1).mean(-1)
    noisy = deviation[:, 0] > 0.01  # compression swallows less
    assert noisy.sum() >= 3
    assert (differ[noisy] > 0.7 * deviation[noisy, 0]).all()
    assert (deviation[noisy].amax(1) < 2 * deviation[noisy].amin(1)).all()
    color = wall.mean(-1)
    assert (color - color[:, :1]).abs().max() < 0.03 < color[:, 0].std(0).min()


@pytest.mark.parametrize("only", CONTROLLED)
def test_a_controlled_pair_differs_in_one_thing_only(model, only):
    """In labels to the last bit and in the pixels that the change does not reach, noise and compression included."""
    faces = SyntheticClips(
        model, 64, frames=2, gap=(5, 50), randomization=RandomizationConfig(degraded=0.0, occluded=0.6), only=only
    )(0, 0, range(7))
    changed = {"pose": "rotation"}.get(only, only)
    for name in (*LABELS, "person"):
        first, second = getattr(faces, name).view(7, 2, -1).unbind(1)
        if name == changed:
            assert (first != second).any(1).float().mean() > 0.8
        elif name != "landmarks" or only == "light":
            assert torch.equal(first, second), name
    a, b = by_clip(faces.image, 2).unbind(1)
    mask_a, mask_b = by_clip(faces.mask, 2).unbind(1)
    outside = ((mask_a == 0) & (mask_b == 0))[:, None].expand_as(a)  # background, and things before the face
    assert outside.float().mean() > 0.1 and (a - b)[outside].abs().max() < 1e-5
    assert (a - b)[~outside].abs().mean() > 0.005
    if only == "light":
        assert torch.equal(mask_a, mask_b) and torch.equal(*by_clip(faces.visible, 2).unbind(1))
        assert (a - b)[~outside].abs().mean() > 0.02
    else:
        assert not torch.equal(by_clip(faces.landmarks, 2)[:, 0], by_clip(faces.landmarks, 2)[:, 1])


@pytest.mark.parametrize("only", CONTROLLED)
def test_noise_and_blur_of_a_controlled_pair_are_the_same(model, only):
    """Pixels far from both outlines, which the change does not reach, are equal, whatever the camera does."""
    noisy, plain = (
        SyntheticClips(
            model, 64, randomization=RandomizationConfig(degraded=d, occluded=0.0, box=(2.5, 2.5)), only=only
        )(0, 0, range(6))
        for d in (1.0, 0.0)
    )
    a, b = by_clip(noisy.image, 2).unbind(1)
    free = (
        torch.nn.functional.max_pool2d(noisy.mask[:, None], 31, 1, 15).view(-1, 2, 64, 64).amax(1) == 0
    )  # beyond blur and blocks
    assert free.sum() > 200
    free = free[:, None].expand_as(a)
    assert ((a - b)[free].abs() > 2e-3).float().mean() < 0.01
    assert (a - by_clip(plain.image, 2)[:, 0])[free].abs().mean() > 0.01


def test_controlled_pairs_change_as_much_whatever_the_gap(model):
    near, far = (
        SyntheticClips(model, 16, gap=gap, randomization=PLAIN, only="pose").labels(0, 0, range(40)) for gap in (1, 50)
    )
    assert torch.equal(near.rotation, far.rotation) and turns(by_clip(near.rotation, 2)).median() > 5


def test_clips_of_any_model_can_be_drawn():
    for source in (
        SyntheticClips(MorphableModel(tiny()), 32, frames=3),
        SyntheticGroups(MorphableModel(tiny()), 32, frames=3),
    ):
        faces = source(0, 0, range(2))
        assert faces.image.shape == (6, 3, 32, 32) and all(
            torch.isfinite(v).all() for v in vars(faces).values() if v is not None
        )


def test_what_a_clip_cannot_be_is_refused(model):
    for kwargs, match in (
        (dict(frames=0), "frames"),
        (dict(gap=0), "gap"),
        (dict(gap=(9, 3)), "gap"),
        (dict(only="albedo"), "pose, expression, light"),
    ):
        with pytest.raises(ValueError, match=match):
            SyntheticClips(model, 16, **kwargs)


def test_rendered_clips_are_those_of_the_source(model):
    source = SyntheticClips(model, 24, frames=3)
    store = rendered(source, 1, 24, progress=False)
    got = store(0, 0, range(24))
    assert got.image.shape == (72, 3, 24, 24) and len(got.person.unique()) == 24
    assert torch.equal(by_clip(got.person, 3), by_clip(got.person, 3)[:, :1].expand(-1, 3))
    direct = FaceBatch.concatenate([source(1, 0, range(21)), source(1, 1, range(3))])  # blocks of 63 frames
    order = by_clip(direct.person, 3)[:, 0].argsort(), by_clip(got.person, 3)[:, 0].argsort()
    assert (by_clip(direct.image, 3)[order[0]] - by_clip(got.image, 3)[order[1]]).abs().max() <= 0.5 / 255 + 1e-6


# ---- stored ----------------------------------------------------------------


def stored(lengths, frames, gap, missing=()):
    """Clips whose images tell clip and frame, and that lack the frames `missing`."""
    where = [(c, k) for c, n in enumerate(lengths) for k in range(n) if k not in missing]
    image = torch.zeros(len(where), 3, 2, 2, dtype=torch.uint8)
    image[:, 0, 0, 0], image[:, 1, 0, 0] = (torch.tensor(x, dtype=torch.uint8) for x in zip(*where))
    which, numbers = (torch.tensor(x) for x in zip(*where))
    return StoredClips(
        FaceBatch(image, person=which), [which.eq(c).nonzero()[:, 0] for c in range(len(lengths))], numbers, frames, gap
    )


def shown(faces, frames):
    """(clip [B,T], frame [B,T]) of the pictures."""
    byte = (faces.image[:, :2, 0, 0] * 255).round().long().view(-1, frames, 2)
    return byte[..., 0], byte[..., 1]


def test_every_epoch_has_every_clip_and_frames_lie_as_the_gap_says():
    store = stored([60, 60, 90], 3, (5, 9))
    clip, frame = shown(store(0, 0, range(600)), 3)
    assert (clip == clip[:, :1]).all() and (clip.view(200, 3, 3)[..., 0].sort(1).values == torch.arange(3)).all()
    step = frame.diff(dim=1)
    assert step.min() == 5 and step.max() == 9 and torch.bincount(step.flatten())[5:].min() > 150
    for c, n in enumerate((60, 60, 90)):
        assert frame[clip[:, 0] == c].min() == 0 and frame[clip[:, 0] == c].max() == n - 1  # ends too


def test_a_sample_is_found_by_its_numbers_alone_and_differs_in_every_epoch():
    a, b = stored([40, 50], 2, (1, 20)), stored([40, 50], 2, (1, 20))
    a(9, 0, range(3))
    whole, parts = a(5, 3, range(6)), FaceBatch.concatenate([b(5, 3 + k, range(1)) for k in (0, 1, 2, 3, 4, 5)])
    assert torch.equal(whole.image, parts.image) and whole.image.max() <= 1
    _, frame = shown(a(5, 0, range(40)), 2)
    assert len(frame.unique(dim=0)) > 30


@pytest.mark.parametrize("missing", [(), (1, 2, 3), (0, 6), range(2, 7)])
def test_short_clips_and_holes_give_other_frames_each_in_order(missing):
    """Never one frame twice, whatever is missing."""
    for frames, gap in ((3, (5, 50)), (3, (1, 1)), (2, (4, 4))):
        clip, frame = shown(stored([8], frames, gap, missing)(0, 0, range(60)), frames)
        assert (frame.diff(dim=1) > 0).all() and not np.isin(frame, list(missing)).any()
    if not missing:
        assert frame.diff(dim=1).unique().tolist() == [4]


def test_without_a_gap_any_frames_of_a_person_are_drawn():
    store = stored([10], 2, None)
    _, frame = shown(store(0, 0, range(400)), 2)
    pairs = {tuple(p) for p in frame.tolist()}
    assert len(pairs) > 80 and all(a != b for a, b in pairs)


def test_a_store_wants_clips_that_are_long_enough():
    for lengths in ([], [5, 2]):
        with pytest.raises(ValueError, match="at least 3 frames"):
            StoredClips(stored([5], 1, (1, 1)).faces, [torch.arange(n) for n in lengths], torch.arange(5), 3, (1, 1))


# ---- videos ----------------------------------------------------------------


def level(image):
    """What `write_frames` wrote into the middle, as frame numbers."""
    return ((image[:, 0, image.shape[2] // 2, image.shape[3] // 2] * 255 - 40) / 10).round().long()


def test_clips_of_frame_folders_are_of_one_folder_each(tmp_path):
    write_frames(tmp_path / "anna", 9)
    write_frames(tmp_path / "bert", 6, first=10)
    with pytest.warns(
        UserWarning,
        match="2 of 2 videos have no landmarks beside them and are cropped to the square in the middle: anna, bert",
    ) as caught:
        store = clips(tmp_path, 32, frames=3, gap=2)
    assert len(caught) == 1 and caught[0].filename == __file__
    faces = store(0, 0, range(20))
    frame = level(faces.image).view(-1, 3)
    assert (frame.diff(dim=1) == 2).all() and torch.equal(faces.person.view(-1, 3), (frame >= 10).long())
    assert sorted(frame[:2, 0].ge(10).tolist()) == [False, True] and faces.landmarks is None
    with pytest.warns(UserWarning):
        sparse = clips(tmp_path, 32, frames=2, gap=4, every=2)(0, 0, range(20))  # gaps are frames of the video
    assert (level(sparse.image).view(-1, 2).diff(dim=1) == 4).all()


def test_landmarks_go_with_their_frames_and_those_without_are_left_out(tmp_path):
    write_frames(tmp_path / "anna", 8, marks=True)
    for k in (0, 3):
        (tmp_path / "anna" / f"{k:04d}.npy").unlink()
    with pytest.warns(UserWarning, match="2 of 8 pictures are left out: anna, frame 0, anna, frame 3"):
        store = clips(tmp_path, 40, frames=6, gap=1)
    faces = store(0, 0, range(1))
    assert faces.landmarks.shape == (6, 5, 2) and not faces.landmarks.isnan().any() and faces.visible.all()
    assert store.numbers.tolist() == [1, 2, 4, 5, 6, 7]


def test_clips_that_are_too_short_are_left_out_by_name(tmp_path):
    write_frames(tmp_path / "anna", 5)
    write_frames(tmp_path / "one", 1)
    write_frames(tmp_path / "two", 2)
    with pytest.warns(UserWarning) as caught:
        store = clips(tmp_path, 16, frames=3, gap=1)
    assert any(
        "2 of 3 clips are left out because fewer than 3 of their frames can be used: one (1), two (2)" in str(w.message)
        for w in caught
    )
    assert store.count == 1 and store(0, 0, range(4)).person.unique().tolist() == [0]
    with (
        pytest.warns(UserWarning),
        pytest.raises(
            InputError, match="3 of 3 clips are left out because fewer than 9.*anna .5., one .1., two .2..*longer"
        ),
    ):
        clips(tmp_path, 16, frames=9)


def bright(image):
    """A detector: the box of what is white, None where nothing is."""
    ys, xs = np.nonzero(image[..., 0] > 240)
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) if len(xs) else None


def write_moving(path, count, hidden=(), middle=lambda k: (20 + 3 * k, 30)):
    """Write frames with a moving white square of 10 pixels (a face, to `bright`) whose blue is the frame's number."""
    path.mkdir()
    for k in range(count):
        frame = np.full((60, 90, 3), 60, np.uint8)
        if k not in hidden:
            x, y = middle(k)
            frame[y - 5 : y + 5, x - 5 : x + 5] = 255, 255, 10 * k
        Image.fromarray(frame).save(path / f"{k:03d}.png")


def test_a_detector_cuts_frames_out_and_those_without_a_face_are_left_out(tmp_path):
    """A face that leaves and comes back; one that is never there; and no word of a square in the middle."""
    write_moving(tmp_path / "anna", 12, hidden=(4, 5, 6))
    write_moving(tmp_path / "none", 3, hidden=range(3))
    with pytest.warns(UserWarning) as caught:
        store = clips(tmp_path, 20, frames=2, gap=1, detect=bright)
    lines = [str(w.message) for w in caught]
    assert (
        len(lines) == 2
        and "6 of 15 pictures are left out: anna, frame 4" in lines[0]
        and "anna, frame 4: no face was found" in lines[0]
    ), lines
    assert "1 of 2 clips are left out because fewer than 2 of their frames can be used: none (0)" in lines[1]
    faces = store(0, 0, range(40))
    assert (faces.image[:, :2, 3:-3, 3:-3] > 0.98).all() and (
        faces.image[:, :2, :, [0, -1]] > 0.6
    ).all()  # nothing but the face, wherever it is
    number = (faces.image[:, 2, 10, 10] * 25.5).round().long().view(-1, 2)
    assert (number.diff(dim=1) >= 1).all() and set(number.flatten().tolist()) == {0, 1, 2, 3, 7, 8, 9, 10, 11}
    with pytest.raises(InputError, match="none of 3 pictures can be used; the first: .*frame 0: no face was found"):
        (tmp_path / "alone").mkdir()
        (tmp_path / "none").rename(tmp_path / "alone" / "none")
        clips(tmp_path / "alone", detect=bright)


def test_a_detected_box_is_made_square_and_landmarks_follow_it(tmp_path):
    write_moving(tmp_path / "anna", 2)
    np.save(tmp_path / "anna.npy", np.stack([five(20, 30, 8), np.full((5, 2), np.nan)]))
    faces = clips(tmp_path, 40, gap=1, detect=lambda image: np.array([10, 25, 30, 35]))(0, 0, range(1))
    np.testing.assert_allclose(faces.landmarks[0], (five(20, 30, 8) - [10, 20]) * 2, atol=1e-3)
    assert faces.landmarks[1].isnan().all() and faces.visible.all(1).tolist() == [True, False]
    with pytest.raises(InputError, match="anna, frame 0: a box is .* got .nan"):
        clips(tmp_path, 40, detect=lambda image: (10, 20, float("nan"), 30))


def test_kept_frames_know_their_clip_and_another_detector_finds_anew(tmp_path):
    write_moving(tmp_path / "anna", 4)
    write_moving(tmp_path / "bert", 3)
    calls = []

    def detect(image):
        calls.append(1)
        return bright(image)

    stores = [clips(tmp_path, 12, gap=1, detect=detect, cache=tmp_path / ".kept") for _ in range(2)]
    assert (
        len(calls) == 7
        and torch.equal(*(s(1, 0, range(9)).image for s in stores))
        and stores[1].faces.person.tolist() == [0] * 4 + [1] * 3
    )
    clips(tmp_path, 12, gap=1, detect=bright, cache=tmp_path / ".kept")
    assert len(list((tmp_path / ".kept").glob("faces-*/images.bin"))) == 2


@unclosed
@pytest.mark.filterwarnings("ignore:.*square in the middle")
def test_videos_of_one_person_are_clips_of_their_own_unless_any_frames_will_do(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    (tmp_path / "anna").mkdir()
    for name, first in (("one", 40), ("two", 140)):
        iio.imwrite(
            tmp_path / "anna" / f"{name}.mp4",
            [np.full((64, 64, 3), first + 10 * k, np.uint8) for k in range(5)],
            plugin="FFMPEG",
            fps=10,
        )
    apart = clips(tmp_path, 16, gap=(1, 4))

    def level_of(store):
        return ((store(0, 0, range(60)).image[:, 0, 8, 8] * 255 - 40) / 10).round().view(-1, 2)

    assert apart.count == 2 and (level_of(apart).ge(10).sum(1) != 1).all()
    mixed = clips(tmp_path, 16, gap=None)
    assert mixed.count == 1 and (level_of(mixed).ge(10).sum(1) == 1).any()


@pytest.mark.filterwarnings("ignore")
def test_one_video_is_one_clip_and_a_damaged_one_is_named(tmp_path):
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    iio.imwrite(
        tmp_path / "anna.mp4", [np.full((64, 96, 3), 40 + 15 * k, np.uint8) for k in range(9)], plugin="FFMPEG", fps=10
    )
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    faces = clips(tmp_path / "anna.mp4", 16, frames=4, gap=2)(0, 0, range(3))
    assert ((faces.image[:, 0, 8, 8] * 255 - 40) / 15).round().view(3, 4).diff(dim=1).eq(2).all() and (
        faces.person == 0
    ).all()
    with pytest.warns(UserWarning, match="1 of 2 clips are left out .*: bad.mp4 .0."):
        assert clips(tmp_path, 16).count == 1
    for path, match in (
        (tmp_path / "none.mp4", "no such video"),
        (tmp_path / "bad.mp4", "bad.mp4: not a readable video"),
    ):
        with pytest.raises(InputError, match=match):
            clips(path, 16)
    for kwargs, match in ((dict(frames=0), "frames"), (dict(gap=0), "gap"), (dict(every=0), "every")):
        with pytest.raises(InputError, match=match):
            clips(tmp_path, 16, **kwargs)


@unclosed
@needs_data("sample_video.mp4")
def test_a_real_video_gives_pairs_that_differ():
    pytest.importorskip("imageio_ffmpeg", reason="needs imageio-ffmpeg")
    with pytest.warns(UserWarning, match="square in the middle"):
        faces = clips(DATA / "sample_video.mp4", 64, gap=(5, 50))(0, 0, range(8))
    image = faces.image.view(8, 2, 3, 64, 64)
    assert 0.005 < (image[:, 0] - image[:, 1]).abs().mean() < 0.2 and math.isfinite(image.sum())
