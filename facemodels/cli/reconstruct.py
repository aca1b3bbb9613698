"""facemodels reconstruct: photographs, folders, videos and webcams in; faces out."""

import functools
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from tqdm import tqdm

from facemodels.core.errors import InputError
from facemodels.io.files import atomic_write, check_writable
from facemodels.io.images import PICTURE_SUFFIXES, read_picture
from facemodels.io.landmarks import check_inside, read_landmarks, sidecar
from facemodels.io.video import VIDEO_SUFFIXES, crop_to_even, open_video, video_writers
from facemodels.methods import registry
from facemodels.reconstruction.detect import check_detector
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.files import (
    DEFAULT_OUTPUTS,
    FILES,
    OUTPUTS,
    check_outputs,
)
from facemodels.reconstruction.overlays import PICTURES
from facemodels.reconstruction.reconstructor import DETECT_EVERY, Reconstructor
from facemodels.reconstruction.refine import ITERATIONS
from facemodels.reconstruction.texture import photo_texture
from facemodels.reconstruction.tracking import smoothed

TOGETHER = 8  # pictures whose faces go through the network together


def configure(parser):
    parser.description = "Reconstruct the faces of photographs, folders and videos."
    parser.epilog = f"""examples:
  facemodels reconstruct photo.jpg -o out
  facemodels reconstruct holiday/ clip.mp4 -o out --write overlay,landmarks,pose,obj,arkit
  facemodels reconstruct photo.jpg -o out --refine                     a better shape, in a second a face
  facemodels reconstruct photo.jpg -o out --landmarks photo.pts        68, 21 or 5 points in place of the search for faces
  facemodels reconstruct webcam -o out                                 what it shows until Ctrl-C, kept as webcam.mp4

--write, separated by commas (default: {",".join(DEFAULT_OUTPUTS)}); of a video, pictures become a video and tables have a row a frame:
  overlay, landmarks, depth, normals, pose    pictures; landmarks and pose (degrees) as files too
  obj, ply, glb, viewer                       meshes, millimetres (GLB: metres), with the photograph as texture, hidden sides by symmetry; viewer: one HTML page
  texture                                     that texture as a picture
  coefficients                                of the morphable model, with camera and landmarks, as .npz and .json
  arkit                                       the 52 expression curves as .csv

Files begin with the picture's name, and those of single faces with NAME_0, NAME_1, ..., the largest face first (of a video: in the order in which they appear). The exit code is 0 if every input was
read and has a face; each that was not or has none is named, and the others are done all the same."""
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="pictures, folders of them, videos (" + " ".join(VIDEO_SUFFIXES) + "), or webcam, webcam:1, ...",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where the results go; made if it is not there",
    )
    parser.add_argument("--write", default=",".join(DEFAULT_OUTPUTS), metavar="WORDS", help=f"of {', '.join(OUTPUTS)}")
    parser.add_argument(
        "--method",
        metavar="METHOD",
        help=f"weights that ship ({', '.join(registry.weight_names())}), or a checkpoint's folder (default: the best of them)",
    )
    parser.add_argument(
        "--refine",
        action="store_const",
        const=ITERATIONS,
        default=0,
        help="photographs: fit each face to the picture from there: a better shape, with albedo and light, in about a second a face",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="another morphable model: shapes are carried over to it (needs its file; default: the method's own)",
    )
    parser.add_argument(
        "--landmarks",
        type=Path,
        metavar="PATH",
        help="a file of a photograph's landmarks, or a folder with one named as each photograph: faces are not searched there",
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="FILE",
        help='JSON, {"photo.jpg": [[x0, y0, x1, y1], ...]} in pixels: faces of these photographs are not searched',
    )
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="least score of a face that is found, 0..1 (default: 0.5)"
    )
    parser.add_argument(
        "--every",
        type=int,
        default=DETECT_EVERY,
        metavar="N",
        help=f"frames of a video from one search for faces to the next (default: {DETECT_EVERY})",
    )
    parser.add_argument(
        "--smooth",
        type=float,
        default=1.2,
        metavar="FRAMES",
        help="deviation of a video's temporal filter, 0 for none (default: 1.2)",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(options) -> int:
    words = list(dict.fromkeys(w for w in options.write.split(",") if w))
    if not 0 < options.threshold < 1 or options.every < 1 or options.smooth < 0:
        raise InputError(
            f"--threshold must be in 0..1, --every at least 1 and --smooth at least 0, got {options.threshold}, {options.every} and {options.smooth}"
        )
    known = GivenFaces(options.landmarks, options.boxes)
    worker = Reconstructor(options.method, options.device, options.threshold, options.refine)
    carry = CoefficientTransfer(worker.model, options.model)
    check_outputs(words, carry.model)
    check_writable(options.output)
    photos, clips, failed = sorted_inputs(options.inputs)
    if clips and options.refine:
        raise InputError(
            f"{clips[0]}: --refine takes photographs; it would take a second for each face of each frame of a video"
        )
    for message in failed:
        complain(message)
    if len(photos) > 1 and options.landmarks is not None and not options.landmarks.is_dir():
        raise InputError(
            f"{options.landmarks}: landmarks of one photograph, and there are {len(photos)}; give a folder with a file named as each"
        )
    for name in known.unmatched(photos):
        failed.append(f"{options.boxes}: {name} is none of the photographs")
        complain(failed[-1])
    if clips or any(known.searched(photo) for photo in photos):
        check_detector()
    bad, names = len(failed), unique_names([*photos, *clips])
    write = Writer(options.output, words, carry)
    for group in grouped(
        tqdm(photos, desc="pictures", unit="picture", disable=None if len(photos) > 1 else True), TOGETHER
    ):
        bad += do_photos(worker, group, names, known, write)
    for clip in clips:
        try:
            bad += do_video(worker, clip, names[clip], options, write)
        except InputError as error:
            complain(error)
            bad += 1
    if write.count:
        print(f"{write.count} files in {options.output}")
    return 1 if bad else 0


def complain(message):
    tqdm.write(f"facemodels reconstruct: {message}", file=sys.stderr)


def sorted_inputs(inputs: list[str]) -> tuple[list[Path], list, list[str]]:
    """(pictures, videos and webcams, complaints about what is neither)."""
    photos, clips, failed = [], [], []
    for text in inputs:
        path = Path(text)
        if text == "webcam" or text.startswith("webcam:") and text[7:].isdigit():
            clips.append(text)
        elif path.is_dir():
            files = [f for f in sorted(path.rglob("*")) if f.is_file() and not f.name.startswith(".")]
            inside = (
                [f for f in files if f.suffix.lower() in PICTURE_SUFFIXES],
                [f for f in files if f.suffix.lower() in VIDEO_SUFFIXES],
            )
            photos, clips = photos + inside[0], clips + inside[1]
            if not any(inside):
                failed.append(
                    f"{path}: a folder without pictures ({', '.join(PICTURE_SUFFIXES)}) or videos ({', '.join(VIDEO_SUFFIXES)})"
                )
        elif not path.is_file():
            failed.append(f"{path}: there is no such file or folder")
        else:
            (clips if path.suffix.lower() in VIDEO_SUFFIXES else photos).append(path)
    return list(dict.fromkeys(photos)), list(dict.fromkeys(clips)), failed


def unique_names(paths: list) -> dict:
    """What the files of each input begin with: its name without the suffix, with it where two would be the same, and then with numbers."""
    stems = [Path(str(p).replace(":", "_")).stem for p in paths]
    names, taken = {}, set()
    for path, stem in zip(paths, stems):
        name = stem if stems.count(stem) == 1 else Path(str(path)).name
        number = 2
        base = name
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        names[path] = name
    return names


def grouped(items, count) -> Iterator[list]:
    group = []
    for item in items:
        group.append(item)
        if len(group) == count:
            yield group
            group = []
    if group:
        yield group


class GivenFaces:
    """Landmarks and boxes that were given."""

    def __init__(self, landmarks: Path | None, boxes: Path | None):
        if landmarks is not None and not landmarks.exists():
            raise InputError(f"{landmarks}: there is no such landmark file or folder")
        self.path, self.table = landmarks, None
        if boxes is not None:
            try:
                self.table = json.loads(boxes.read_text())
                self.table = {
                    str(name): [tuple(float(v) for v in box) for box in found] for name, found in self.table.items()
                }
                if any(
                    len(box) != 4 or not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]
                    for found in self.table.values()
                    for box in found
                ):
                    raise ValueError("a box is x0, y0, x1, y1 with x0 < x1 and y0 < y1")
            except (OSError, ValueError, TypeError, AttributeError) as error:
                raise InputError(
                    f'{boxes}: expected {{"photo.jpg": [[x0, y0, x1, y1], ...]}} as JSON ({error})'
                ) from None

    def landmarks(self, photo: Path, image: np.ndarray):
        if self.path is None:
            return None
        file = sidecar(self.path / photo.name) if self.path.is_dir() else self.path
        if file is None:
            return None
        points = read_landmarks(file).points
        check_inside(points, image.shape[:2], file)
        return [points]

    def boxes(self, photo: Path):
        return None if self.table is None else self.table.get(photo.name, self.table.get(str(photo)))

    def searched(self, photo: Path) -> bool:
        """Whether nothing is known of a photograph's faces."""
        return self.boxes(photo) is None and (
            self.path is None or (self.path.is_dir() and sidecar(self.path / photo.name) is None)
        )

    def unmatched(self, photos: list[Path]) -> list[str]:
        """The names with boxes that are no photograph's."""
        return [name for name in self.table or () if not any(name in (photo.name, str(photo)) for photo in photos)]


class CoefficientTransfer:
    """Faces as the method gives them, or carried over to another morphable model."""

    def __init__(self, source, target: str | None):
        self.model, self.transfer = source, None
        if target is not None:
            from facemodels.fitting.transfer import Transfer
            from facemodels.models.load import load_model

            self.model = load_model(target)
            if self.model.rows.shape != source.rows.shape or not torch.equal(self.model.rows, source.rows):
                self.transfer = Transfer(source, self.model)

    def __call__(self, faces: list[Face]) -> list[Face]:
        if self.transfer is None:
            return faces
        identity = faces[0].identity[None]
        expression, _ = self.transfer.expression(torch.stack([f.expression for f in faces]), identity, None)
        return [
            f.with_parameters(identity=self.transfer.identity(identity)[0], expression=e, albedo=None)
            for f, e in zip(faces, expression)
        ]


class Writer:
    """Writes what was asked for, and counts it."""

    def __init__(self, folder: Path, words: list[str], carry: CoefficientTransfer):
        self.folder, self.carry, self.count = folder, carry, 0
        self.pictures, self.files = [w for w in words if w in PICTURES], [w for w in words if w in FILES]

    def photo(self, name: str, image: np.ndarray, faces: list[Face]) -> list[Path]:
        faces = [self.carry([face])[0] for face in faces]
        paths = []
        for word in self.pictures:
            path = self.folder / f"{name}_{word}.png"
            with atomic_write(path) as part:
                iio.imwrite(part, PICTURES[word](image, faces, self.carry.model), extension=".png")
            paths.append(path)
        for k, face in enumerate(faces):
            paths += self.face(f"{name}_{k}", [face], [0], image)
        self.count += len(paths)
        return paths

    def face(self, name, faces, frames, image) -> list[Path]:
        texture = functools.cache(lambda: photo_texture(image, faces[0], self.carry.model))
        return [
            path
            for word in self.files
            for path in FILES[word](self.folder / name, faces, frames, texture, self.carry.model)
        ]


# -------------------------------------------------------------------------------------------------------------------------- photographs


def do_photos(worker, photos: list[Path], names, known: GivenFaces, write: Writer) -> int:
    """How many of them could not be read or have no face."""
    began, images, given = time.perf_counter(), {}, {}
    for photo in photos:
        try:
            images[photo] = read_picture(photo)
            given[photo] = known.landmarks(photo, images[photo])
        except InputError as error:
            images.pop(photo, None)
            complain(error)
    bad = len(photos) - len(images)
    if not images:
        return bad
    try:
        found = worker(list(images.values()), [known.boxes(p) for p in images], [given[p] for p in images])
    except InputError as error:
        if len(images) > 1:  # one of them: they are done one by one
            return bad + sum(do_photos(worker, [photo], names, known, write) for photo in images)
        complain(f"{next(iter(images))}: {error}")
        return bad + 1
    for (photo, image), faces in zip(images.items(), found):
        if not faces:
            complain(
                f"{photo}: no face was found; --threshold below {worker.threshold:g} finds less certain ones, --boxes and --landmarks say where it is"
            )
            bad += 1
            continue
        try:
            paths = write.photo(names[photo], image, faces)
        except InputError as error:
            complain(f"{photo}: {error}")
            bad += 1
            continue
        now = time.perf_counter()
        tqdm.write(
            f"{photo}: {described(faces)}; {now - began:.2f} s -> "
            + ", ".join(p.name for p in paths[:6])
            + (f" and {len(paths) - 6} more" if len(paths) > 6 else "")
        )
        began = now
    return bad


def described(faces: list[Face]) -> str:
    angles = "; ".join("pitch {:.0f} yaw {:.0f} roll {:.0f}".format(*f.degrees) for f in faces[:3]) + (
        "; ..." if len(faces) > 3 else ""
    )
    return f"{len(faces)} face{'s' if len(faces) > 1 else ''} ({angles})"


# ------------------------------------------------------------------------------------------------------------------------------- videos


def do_video(worker, clip, name: str, options, write: Writer) -> int:
    """Two passes over the frames: first the faces of all frames, which are then smoothed, then what is drawn. Returns 1 where it broke off or has no face."""
    began, broken, found = time.perf_counter(), None, []
    if isinstance(clip, str):
        clip = recorded(clip, write.folder / f"{name}.mp4")
    rate, count, frames = open_video(clip)
    bar, short = tqdm(total=count, desc=f"{name}: faces", unit="frame", disable=None, leave=False), FrameBuffer()
    try:
        for faces in worker.follow(short.through(frames), options.every):
            found.append(faces)
            bar.update()
    except InputError as error:
        broken = error
    finally:
        bar.close()
    if broken is not None or not found:
        complain(
            f"{broken or clip}; "
            + (f"the {len(found)} frames before are done" if found else "it has no readable frame")
        )
    tracks = long_enough(found)
    if not tracks:
        if found:
            complain(f"{clip}: no face was found in {len(found)} frames")
        return 1
    found = smoothed([[f for f in faces if f.track in tracks] for faces in found], options.smooth)
    order = {track: n for n, track in enumerate(sorted(tracks))}
    faces_of = {t: [(k, f) for k, faces in enumerate(found) for f in faces if f.track == t] for t in order}
    # Of each face, the frame that its texture is taken from: where it looks at the camera, and is large.
    best = {t: max(those, key=lambda kf: kf[1].scale * float(kf[1].rotation[2, 2]))[0] for t, those in faces_of.items()}
    carried = {t: dict(zip((k for k, _ in those), write.carry([f for _, f in those]))) for t, those in faces_of.items()}
    shown = {}
    paths = [write.folder / f"{name}_{word}.mp4" for word in write.pictures]
    if paths or write.files:
        with video_writers(paths, rate) as out:
            # Where the video is read again, to its end, where ffmpeg ends by itself: stopping it takes a second.
            again = short.frames[: len(found)] or (
                open_video(clip)[2] if broken is None else itertools.islice(open_video(clip)[2], len(found))
            )
            for k, frame in tqdm(
                enumerate(again), total=len(found), desc=f"{name}: drawing", unit="frame", disable=None, leave=False
            ):
                now = [carried[f.track][k] for f in found[k]]
                for word, writer in zip(write.pictures, out):
                    writer.append_data(crop_to_even(PICTURES[word](frame, now, write.carry.model)))
                if k in best.values():
                    shown[k] = frame
    for t, n in order.items():
        numbers = [k for k, _ in faces_of[t]]
        first = numbers.index(best[t])
        faces = [carried[t][k] for k in numbers]
        texture = functools.cache(lambda t=t, face=faces[first]: photo_texture(shown[best[t]], face, write.carry.model))
        # Meshes show the frame of the texture; tables have all frames in their order.
        for word in write.files:
            those, these = (
                ([faces[first]], [best[t]]) if word in ("obj", "ply", "glb", "viewer", "texture") else (faces, numbers)
            )
            paths += FILES[word](write.folder / f"{name}_{n}", those, these, texture, write.carry.model)
    write.count += len(paths)
    seconds = time.perf_counter() - began
    people = f"{len(order)} face{'s' if len(order) > 1 else ''} in {len(found)} frames"
    tqdm.write(
        f"{clip}: {people}; {seconds:.1f} s, {len(found) / seconds:.1f} frames/s -> "
        + ", ".join(p.name for p in paths[:6])
        + (f" and {len(paths) - 6} more" if len(paths) > 6 else "")
    )
    return 1 if broken else 0


class FrameBuffer:
    """`frames` that went `through`, all of them while they fit into `room` bytes, else none: a short video is decoded once."""

    def __init__(self, room: int = 256 << 20):
        self.room, self.frames = room, []

    def through(self, frames):
        for frame in frames:
            self.room -= frame.nbytes
            if self.room < 0:
                self.frames.clear()
            else:
                self.frames.append(frame)
            yield frame


def recorded(camera: str, path: Path) -> Path:
    """What a webcam shows until Ctrl-C, as a video file."""
    rate, _, frames = open_video(camera)
    with video_writers([path], rate) as (out,):
        try:
            for frame in tqdm(
                frames, desc=f"{camera}: recording, Ctrl-C ends it", unit="frame", disable=None, leave=False
            ):
                out.append_data(crop_to_even(frame))
        except KeyboardInterrupt:
            pass
    if not path.is_file():
        raise InputError(f"{camera}: it shows nothing")
    return path


def long_enough(found: list[list[Face]]) -> set[int]:
    """Tracks that are in more than a few frames, or in all that there are: what is found once is seldom a face."""
    counts = {}
    for faces in found:
        for face in faces:
            counts[face.track] = counts.get(face.track, 0) + 1
    return {t for t, n in counts.items() if n >= min(5, len(found))}
