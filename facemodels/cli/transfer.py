"""facemodels transfer: coefficients of one model as those of another, or the expression of one person's photograph or video on another's photograph."""

from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from tqdm import tqdm

from facemodels.core.errors import InputError, one_line
from facemodels.export import mesh_of
from facemodels.export import write as write_mesh
from facemodels.fitting.transfer import Transfer
from facemodels.io.files import atomic_write, check_writable
from facemodels.io.images import read_picture
from facemodels.io.video import VIDEO_SUFFIXES, crop_to_even, open_video, video_writers
from facemodels.models.morphable import MorphableModel
from facemodels.reconstruction.face import Face
from facemodels.reconstruction.files import write_curves
from facemodels.reconstruction.reconstructor import Reconstructor
from facemodels.reconstruction.texture import UNLIT, draw_textured, photo_texture
from facemodels.reconstruction.tracking import smoothed


def configure(parser):
    parser.description = "Carry the expression of one photograph or video to the face of another photograph, or coefficients from one model to another."
    parser.epilog = """examples:
  facemodels transfer smile.jpg calm.jpg -o out            the face of calm.jpg with the expression of smile.jpg: calm_transfer.png, .glb and _arkit.csv
  facemodels transfer talk.mp4 calm.jpg -o out             that of every frame: calm_transfer.mp4
  facemodels transfer out/coefficients.npz --from FLAME2020/generic_model.pkl --to builtin -o curves.npz
                                     also writes curves.csv: the 52 ARKit curves, a row for each frame

Of photographs, the largest face counts. COEFFICIENTS.npz holds `expression` [N,E], N frames, or `identity` [1,I], or both, and `joints` [N,J,3] for a model with a jaw, as facemodels fit
writes them; the output holds the same arrays of the other model."""
    parser.add_argument("input", type=Path, metavar="SOURCE", help="a photograph or video, or COEFFICIENTS.npz")
    parser.add_argument("onto", type=Path, nargs="?", metavar="TARGET", help="a photograph")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="MODEL",
        help="of coefficients: the model that they belong to, builtin or a model file",
    )
    parser.add_argument("--to", dest="target", metavar="MODEL", help="of coefficients: the model to carry them to")
    parser.add_argument(
        "--method",
        metavar="METHOD",
        help="of photographs: weights that ship, or a checkpoint's folder (default: the best that ship)",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="a folder; of coefficients, OUT.npz"
    )


def run(options) -> int:
    from facemodels.models.load import load_model

    if options.onto is not None:
        return transfer_expression(options.input, options.onto, options.output, options.method)
    if options.source is None or options.target is None:
        raise InputError(
            f"{options.input}: coefficients need --from and --to, the models; of photographs give two, SOURCE and TARGET"
        )
    if options.output.suffix.lower() != ".npz":
        raise InputError(f"{options.output}: the output is a .npz file")
    source, target = load_model(options.source), load_model(options.target)
    given = read_coefficients(options.input, source)
    transfer = Transfer(source, target)
    identity, out = given.get("identity"), {}
    if identity is not None:
        out["identity"] = transfer.identity(identity)
    if "expression" in given or "joints" in given:
        out["expression"], joints = transfer.expression(given.get("expression"), identity, given.get("joints"))
        if joints is not None:
            out["joints"] = joints
    np.savez(options.output, **{name: value.cpu().numpy() for name, value in out.items()})
    frames = len(out["expression"]) if "expression" in out else 0
    carried = (["identity"] if identity is not None else []) + ([f"{frames} frames"] if frames else [])
    print(
        f"{options.output}  {source.name} to {target.name} over {len(transfer.vertices)} corresponding vertices: {', '.join(carried)}"
    )
    if frames and target.blendshapes:
        table = options.output.with_suffix(".csv")
        write_curves(table, target.expression_names, out["expression"].cpu().numpy())
        print(f"{table}  {target.num_expression} curves")
    return 0


def read_coefficients(path: Path, model: MorphableModel) -> dict[str, torch.Tensor]:
    """The arrays of a coefficient file that fit a model.

    Raises:
        InputError: the file is missing or damaged, holds none of them, or they are of another model; both sizes are named.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        with np.load(path, allow_pickle=False) as content:
            found = {name: content[name] for name in ("identity", "expression", "joints") if name in content.files}
    except Exception as error:  # whatever numpy throws at a damaged file
        raise InputError(f"{path}: not a readable .npz file ({one_line(error)})") from None
    if not found:
        raise InputError(
            f"{path}: expected arrays named identity, expression or joints, as facemodels fit writes them, found none of them"
        )
    sizes = {"identity": (model.num_identity,), "expression": (model.num_expression,), "joints": (len(model.joints), 3)}
    for name, array in found.items():
        shape, wanted = array.shape[1:], sizes[name]
        if (
            array.dtype.kind not in "fiu"
            or not len(array)
            or len(shape) != len(wanted)
            or shape[1:] != wanted[1:]
            or not 0 < shape[0] <= wanted[0]
        ):
            raise InputError(
                f"{path}: {name} must be [N,{','.join(map(str, wanted))}] for the model {model.name}, found {list(array.shape)}; give the model that it was made with"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {name} holds a number that is not finite")
    if "identity" in found and len(found["identity"]) != 1:
        raise InputError(
            f"{path}: identity must be of one person, [1,{model.num_identity}], found {list(found['identity'].shape)}; transfer the people one by one"
        )
    if "joints" in found and found["joints"].shape[1] != len(model.joints):
        raise InputError(
            f"{path}: joints must be of all {len(model.joints)} joints of the model {model.name}, found {found['joints'].shape[1]}"
        )
    frames = {name: len(found[name]) for name in ("expression", "joints") if name in found}
    if len(set(frames.values())) > 1:
        raise InputError(
            f"{path}: expression and joints must have the same number of frames, found {frames['expression']} and {frames['joints']}"
        )
    return {
        name: torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(model.mean.device)
        for name, array in found.items()
    }


# --------------------------------------------------------------------------------------------------------------------- of photographs


def transfer_expression(source: Path, target: Path, output: Path, method: str | None) -> int:
    """The face of the photograph `target` with the expression of a photograph or of each frame of a video, as `facemodels transfer` writes it."""
    check_writable(output)
    worker = Reconstructor(method)
    photo = read_picture(target)
    onto = largest(worker([photo])[0], target)
    video = source.suffix.lower() in VIDEO_SUFFIXES
    if video:
        rate, count, frames = open_video(source)
        found = smoothed(
            list(
                tqdm(
                    worker.follow(frames),
                    total=count,
                    desc=f"{source.name}: faces",
                    unit="frame",
                    disable=None,
                    leave=False,
                )
            )
        )
        seen = {}
        for faces in found:
            for f in faces:
                seen[f.track] = seen.get(f.track, 0) + 1
        if not seen:
            raise InputError(f"{source}: no face was found in {len(found)} frames")
        track, expressions = max(seen, key=seen.get), []
        for faces in found:  # a frame without the face keeps the expression of the one before
            now = next(
                (f.expression for f in faces if f.track == track),
                expressions[-1] if expressions else torch.zeros_like(onto.expression),
            )
            expressions.append(now)
    else:
        expressions = [largest(worker([read_picture(source)])[0], source).expression]
    faces = [onto.with_parameters(expression=e) for e in expressions]
    texture, name = photo_texture(photo, onto, worker.model), f"{target.stem}_transfer"
    pictures = (
        draw_textured(photo, onto, f, worker.model, texture)
        for f in tqdm(faces, desc=f"{name}: drawing", unit="frame", disable=None if video else True, leave=False)
    )
    paths = [output / f"{name}.mp4" if video else output / f"{name}.png"]
    if video:
        with video_writers(paths, rate) as (out,):
            for picture in pictures:
                out.append_data(crop_to_even(picture))
    else:
        with atomic_write(paths[0]) as part:
            iio.imwrite(part, next(pictures), extension=".png")
    mesh = replace(
        mesh_of(worker.model, onto.identity, faces[len(faces) // 2].expression, onto.albedo, name=name),
        texture=UNLIT * texture.numpy(),
    )
    paths.append(output / f"{name}.glb")
    write_mesh(paths[-1], mesh)
    if worker.model.blendshapes:
        paths.append(output / f"{name}_arkit.csv")
        write_curves(paths[-1], worker.model.expression_names, torch.stack(expressions).numpy())
    print(
        f"{target} with the expression of {source}, {len(faces)} frame{'s' if len(faces) > 1 else ''} -> "
        + ", ".join(str(p) for p in paths)
    )
    return 0


def largest(faces: list[Face], path) -> Face:
    if not faces:
        raise InputError(f"{path}: no face was found")
    return faces[0]
