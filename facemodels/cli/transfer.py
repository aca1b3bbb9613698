"""facemodels transfer: expressions from face to face in photographs and videos, or coefficients from model to model."""

import io
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from facemodels.cli.fit import MESH_SUFFIXES
from facemodels.core.errors import InputError, one_line
from facemodels.core.progress import progress
from facemodels.export import mesh_of
from facemodels.export import write as write_mesh
from facemodels.fitting.transfer import Transfer
from facemodels.io.files import check_not_inputs, check_writable, no_such_file, write_atomically
from facemodels.io.images import load_picture, write_picture
from facemodels.io.results import result_folder
from facemodels.io.video import Video, is_video, open_video
from facemodels.io.video_writer import video_writers
from facemodels.models.arkit import arkit_curves, arkit_weights, has_arkit
from facemodels.models.builtin.expressions import NAMES as ARKIT
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.files import write_curves
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.texture import UNLIT, draw_textured, photo_texture
from facemodels.reconstruction.tracking import smoothed

_OTHER_MESHES = (".stl", ".fbx")  # meshes that facemodels fit does not read


def configure(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.description = (
        "Transfer the expression of a photograph or video to the face of another photograph, or coefficients\n"
        "from one model to another."
    )
    parser.epilog = """examples:
  facemodels transfer smile.jpg calm.jpg -o out
      the face of calm.jpg with the expression of smile.jpg: calm_transfer.png, .glb and _arkit.csv
  facemodels transfer talk.mp4 calm.jpg -o out
      with that of every frame: calm_transfer.mp4
  facemodels transfer coefficients.npz --from FLAME2020/generic_model.pkl --to builtin -o out.npz
      also writes out.csv: ARKit's 52 curves, a row for each frame

In photographs, the largest face counts. COEFFICIENTS.npz holds expression [N,E] of N frames, or
identity [1,I], or both, and joints [N,J,3] for a model with a jaw, as facemodels fit and
facemodels reconstruct write them; the output holds the same arrays for the other model, or
unchanged where both models are the same.

The curves in out.csv are the coefficients as they are. A network's coefficients of a neutral face
are not all 0 (up to 0.16); calm_transfer_arkit.csv and facemodels reconstruct --write arkit
subtract what was measured on neutral faces, which the .npz does not hold."""
    parser.add_argument("input", type=Path, metavar="SOURCE", help="a photograph, a video, or COEFFICIENTS.npz")
    parser.add_argument("onto", type=Path, nargs="?", metavar="TARGET", help="a photograph")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="MODEL",
        help="for coefficients: the model that they belong to, builtin or a model file",
    )
    parser.add_argument("--to", dest="target", metavar="MODEL", help="for coefficients: the model to transfer them to")
    parser.add_argument(
        "--method",
        metavar="METHOD",
        help="for photographs: shipped weights, or the folder of a checkpoint (default: the best shipped weights)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="a folder; for coefficients, OUT.npz"
    )


def run(options: Namespace) -> int:
    """Run the command and return its exit code."""
    for path in filter(None, (options.input, options.onto)):
        if path.suffix.lower() in (*MESH_SUFFIXES, *_OTHER_MESHES):
            other = path.suffix.lower() not in MESH_SUFFIXES
            readable = path.with_suffix(".obj") if other else path
            raise InputError(
                f"{path}: a mesh, but transfer takes photographs, videos or coefficients; "
                + (f"save it as {readable}, then " if other else "")
                + f"facemodels fit {readable} -o FIT fits a model to it and writes FIT/coefficients.npz, which "
                "transfer --from builtin --to MODEL takes"
            )
        if path.suffix.lower() == ".json":
            raise InputError(f"{path}: coefficients are read from .npz; give {path.with_suffix('.npz')}")
        if path.suffix.lower() == ".npz" and options.onto is not None:
            raise InputError(f"{path}: coefficients go alone, with --from and --to, the models, and -o OUT.npz")
    if options.onto is not None:
        if given := [f"--{name}" for name, value in (("from", options.source), ("to", options.target)) if value]:
            raise InputError(
                f"{' and '.join(given)}: for coefficients; with two photographs, the method says which model it is"
            )
        return transfer_expression(options.input, options.onto, options.output, options.method)
    if options.method is not None:
        raise InputError("--method: for photographs; coefficients have --from and --to")
    if options.source is None or options.target is None:
        raise InputError(
            f"{options.input}: coefficients need --from and --to, the models; of photographs give two, SOURCE and "
            "TARGET"
        )
    if options.output.suffix.lower() != ".npz":
        raise InputError(f"{options.output}: the output is a .npz file")
    transfer_coefficients(options.input, options.source, options.target, options.output)
    return 0


# Coefficients.


def transfer_coefficients(path: Path, source_name: str, target_name: str, output: Path) -> None:
    """Transfer a file of coefficients from one model to another, and print what was written.

    Args:
        path: The coefficients, see `read_coefficients`.
        source_name: Their model, builtin or a file.
        target_name: The other model.
        output: The .npz to write; curves go to a .csv beside it if the other model has blend shapes.
    """
    from facemodels.models.load import load_model

    table = output.with_suffix(".csv")
    check_not_inputs([output, table], [path, source_name, target_name])
    source, target = load_model(source_name), load_model(target_name)
    given = read_coefficients(path, source)
    transfer = Transfer(source, target)
    identity, out = given.get("identity"), {}
    if identity is not None:
        out["identity"] = transfer.identity(identity)
    if "expression" in given or "joints" in given:
        out["expression"], joints = transfer.expression(given.get("expression"), identity, given.get("joints"))
        if joints is not None:
            out["joints"] = joints
    arrays = {name: value.cpu().numpy() for name, value in out.items()}
    packed = io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type] # no array is named allow_pickle
    write_atomically({output: packed.getvalue()})
    frames = len(out["expression"]) if "expression" in out else 0
    transferred = ["identity"] if identity is not None else []
    transferred += [f"expression of {frames} frame{'s' if frames > 1 else ''}"] if frames else []
    print(
        f"{output}  {source.name} to {target.name}"
        + ("; the models are the same, so" if transfer.same else f" over {len(transfer.vertices)} matching vertices:")
        + f" {' and '.join(transferred)}"
        + (" stayed the same" if transfer.same else "")
    )
    if frames and target.blendshapes:
        curves, names = out["expression"], target.expression_names
        if arkit_weights(names) is not None:
            curves, names = arkit_curves(target, curves.cpu()), ARKIT
        write_curves(table, names, curves.cpu().numpy())
        print(
            f"{table}  {len(names)} curves, {'ARKit' if names is ARKIT else target.name}'s, as the coefficients have "
            "them; those of facemodels reconstruct --write arkit are 0 on a neutral face"
        )


def read_coefficients(path: Path, model: MorphableModel) -> dict[str, Tensor]:
    """Read coefficients of a model from an .npz.

    Args:
        path: The file; it holds identity [1,I], expression [N,E] or joints [N,J,3], or several of them.
        model: The model; coefficients may be fewer than its own.

    Returns:
        The arrays that the file holds, by name.

    Raises:
        InputError: The file is missing or damaged, holds none of them, or they are of another model.
    """
    if not path.is_file():
        raise no_such_file(path)
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {name: content[name] for name in ("identity", "expression", "joints") if name in content.files}
    except Exception as error:  # whatever numpy raises at a damaged file
        raise InputError(f"{path}: not a readable .npz file ({one_line(error)})") from None
    if damaged := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
        raise InputError(f"{path}: not a readable .npz file ({damaged[0]} is no array)")
    if not found:
        raise InputError(
            f"{path}: expected arrays named identity, expression or joints, as facemodels fit writes them, found none "
            "of them"
        )
    sizes: dict[str, tuple[int, ...]] = {
        "identity": (model.num_identity,),
        "expression": (model.num_expression,),
        "joints": (len(model.joints), 3),
    }
    for name, array in found.items():
        _check_coefficients(path, name, array, sizes[name], model)
    if "identity" in found and len(found["identity"]) != 1:
        raise InputError(
            f"{path}: identity must be of one person, [1,{model.num_identity}], "
            f"found {list(found['identity'].shape)}; transfer the people one by one"
        )
    if "joints" in found and found["joints"].shape[1] != len(model.joints):
        raise InputError(
            f"{path}: joints must be of all {len(model.joints)} joints of the model {model.name}, "
            f"found {found['joints'].shape[1]}"
        )
    frames = {name: len(found[name]) for name in ("expression", "joints") if name in found}
    if len(set(frames.values())) > 1:
        raise InputError(
            f"{path}: expression and joints must have the same number of frames, found {frames['expression']} and "
            f"{frames['joints']}"
        )
    return {
        name: torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(model.mean.device)
        for name, array in found.items()
    }


def _check_coefficients(path: Path, name: str, array: np.ndarray, size: tuple[int, ...], model: MorphableModel) -> None:
    shape = array.shape[1:]
    fits = len(shape) == len(size) and shape[1:] == size[1:] and 0 < shape[0] <= size[0]
    if array.dtype.kind not in "fiu" or not len(array) or not fits:
        raise InputError(
            f"{path}: {name} must be [N,{','.join(map(str, size))}] for the model {model.name}, "
            f"found {list(array.shape)}; give the model that it was made with"
        )
    if not np.isfinite(array).all():
        raise InputError(f"{path}: {name} holds a number that is not finite")


# Photographs and videos.


def transfer_expression(source: Path, target: Path, output: Path, method: str | None) -> int:
    """Draw and write the face of a photograph with other expressions, and print what was written.

    Args:
        source: The photograph or video that the expressions are from; a video gives one for each frame.
        target: The photograph that gets them.
        output: The folder to write to.
        method: Shipped weights, or the folder of a checkpoint; None takes the best shipped weights.

    Returns:
        The exit code: 1 where a part of the video is missing or damaged, which is then printed.

    Raises:
        InputError: A file cannot be read or written, or has no face.
    """
    for path in (source, target):
        if not path.exists():
            raise no_such_file(path)
    check_writable(output)
    with result_folder(output, [source, target]):
        return _transfer_expression(source, target, output, method)


def _transfer_expression(source: Path, target: Path, output: Path, method: str | None) -> int:
    worker = Reconstructor(method)
    photo = load_picture(target).image
    onto = _largest_face(worker, photo, target)
    video: _VideoExpressions | None = None
    if is_video(source):
        video = _video_expressions(worker, source)
        expressions = video.expressions
    else:
        expressions = [_largest_face(worker, load_picture(source).image, source).expression]
    faces = [onto.with_parameters(expression=e) for e in expressions]
    texture, name = photo_texture(photo, onto, worker.model), f"{target.stem}_transfer"

    def pictures() -> Iterator[np.ndarray]:
        for face in progress(faces, f"{name}: drawing", quiet=video is None, unit="frame"):
            yield draw_textured(photo, onto, face, worker.model, texture)

    paths = [output / f"{name}.mp4" if video else output / f"{name}.png"]
    if video:
        shown = replace(video.source, aspect=Fraction(1))  # the photograph has square pixels
        with video_writers(paths, shown) as (file,):
            for picture, time in zip(pictures(), video.times):
                file.append(picture, time)
    else:
        write_picture(paths[0], next(pictures()))
    mesh = mesh_of(worker.model, onto.identity, faces[len(faces) // 2].expression, onto.albedo, name=name)
    paths.append(output / f"{name}.glb")
    write_mesh(paths[-1], replace(mesh, texture=UNLIT * texture.numpy()))
    if has_arkit(worker.model):
        paths.append(output / f"{name}_arkit.csv")
        write_curves(
            paths[-1],
            ARKIT,
            np.array([list(face.arkit.values()) for face in faces]),
            times=video.times if video else None,
        )
    missing = "" if has_arkit(worker.model) else f"; the model {worker.model.name} has no ARKit curves to write"
    print(
        f"{target} with the expression of {source}, {len(faces)} frame{'s' if len(faces) > 1 else ''} -> "
        + ", ".join(str(p) for p in paths)
        + missing
        + "".join(f"; {note}" for note in (video.source.notes if video else ()))
    )
    if video and video.problem:
        print(f"facemodels transfer: {video.problem}; the {len(faces)} frames that were read are done", file=sys.stderr)
        return 1
    return 0


class _VideoExpressions(NamedTuple):
    """The expressions of a video.

    Attributes:
        source: The video; its frames have been read.
        expressions: [E] for each frame.
        times: Seconds of each frame.
        problem: What is missing or damaged, or None.
    """

    source: Video
    expressions: list[Tensor]
    times: list[float]
    problem: InputError | None


def _video_expressions(worker: Reconstructor, path: Path) -> _VideoExpressions:
    """For each frame of a video, the expression of the face that most frames show.

    A frame without the face has the expression of the one before.
    """
    video = open_video(path)
    times: list[float] = []

    def images() -> Iterator[np.ndarray]:
        for frame in video.frames:
            times.append(frame.time)
            yield frame.image

    found, problem = [], None
    try:
        with closing(video):
            following = worker.follow(images())
            for faces in progress(following, f"{path.name}: finding faces", video.count, unit="frame"):
                found.append(faces)
    except InputError as error:
        if not found:
            raise
        problem = error
    found = smoothed(found)
    counts: dict[int | None, int] = {}
    for faces in found:
        for f in faces:
            counts[f.track] = counts.get(f.track, 0) + 1
    if not counts:
        raise InputError(f"{path}: no face was found in {len(found)} frames")
    track = max(counts, key=lambda t: counts[t])
    expression = torch.zeros_like(next(f for faces in found for f in faces).expression)
    expressions = []
    for faces in found:
        expression = next((f.expression for f in faces if f.track == track), expression)
        expressions.append(expression)
    return _VideoExpressions(video, expressions, times[: len(expressions)], problem)


def _largest_face(worker: Reconstructor, picture: np.ndarray, path: Path) -> Face:
    """The largest face of a picture; path names it in messages."""
    faces = worker([picture])[0]
    if not faces:
        raise InputError(f"{path}: no face was found")
    return faces[0]
