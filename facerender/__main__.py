"""The command ``python -m facerender MESH -o OUT.png``: renders a mesh file."""

import argparse
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import camera, interpolate, lighting, rasterize, sh_shade
from .color import to_linear, to_srgb
from .meshes import Mesh, MeshError, load_mesh, mesh_albedo, need
from .meshes.load import check_file
from .rasterize import Fragments

PASSES = ("shaded", "normals", "depth", "albedo", "face_id")
BACKGROUND = (0.955, 0.955, 0.95)  # sRGB, of the shaded and the albedo pass
EXAMPLES = """\
examples:
  python -m facerender head.ply -o head.png --size 768
  python -m facerender head.obj -o head.png --yaw 35 --light=-1,1,1 --background transparent
  python -m facerender head.glb -o head.jpg --size 1280x720 --fov 60 --distance 350
  python -m facerender head.glb --turntable head.mp4 --frames 96 --pass normals

exit codes: 0 done, also where nothing of the mesh is in the picture, as of one without area: that is said, and an
empty picture written; 1 a file cannot be read or written; 2 an option cannot be used
"""


class OptionError(ValueError):
    """An option that cannot be used; the message is one sentence for the user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        Its exit code: 0, also where nothing of the mesh is in the picture, which is said; 1 after a sentence about a
        file; 2 after one about an option.
    """
    options = parser().parse_args(arguments)
    try:
        check_options(options)
        check_file(options.mesh)
        output = options.output or (None if options.turntable else options.mesh.with_suffix(".png"))
        check_outputs(options, output)
        mesh = load_mesh(options.mesh, lambda note: print(f"facerender: {note}", file=sys.stderr)).to(options.device)
        if output:
            pixels = draw(mesh, options, options.yaw)
            write_image(output, pixels)
            counts = f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} triangles"
            say(f"{output}  {pixels.shape[1]}x{pixels.shape[0]}  {options.what}, {counts}")
        if options.turntable:
            write_turntable(options.turntable, mesh, options)
            say(f"{options.turntable}  {options.frames} frames")
    except OptionError as error:
        print(f"facerender: {error}", file=sys.stderr)
        return 2
    except (MeshError, RuntimeError) as error:
        print(f"facerender: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        about = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        print(f"facerender: {about}", file=sys.stderr)
        return 1
    return 0


def say(line: str) -> None:
    """Print a line; where the reader of standard output has gone, as `head` does, the work goes on without.

    What its encoding lacks, as file names may hold it, is written with backslashes.

    Raises:
        MeshError: Standard output cannot be written, as on a full disk.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), flush=True)
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # so that Python does not try it again at its end
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise MeshError(
                f"standard output cannot be written ({error.strerror or error}); the picture is complete"
            ) from None


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m facerender",
        description="Renders an OBJ, PLY, GLB or glTF file. "
        "The camera frames the mesh by itself; x points right, y up and z at the viewer.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("mesh", type=Path, help="OBJ, PLY, GLB or glTF file, with vertex colors or a texture if it has them")
    add("-o", "--output", type=Path, help="picture (PNG or JPEG); default: MESH.png, unless a turntable is asked for")
    add("--pass", dest="what", choices=PASSES, default="shaded", help="what to draw (default: shaded)")
    add("--size", default="512", metavar="PIXELS", help="side of the picture, or WIDTHxHEIGHT (default: 512)")
    add(
        "--samples", type=int, default=3, help="samples per pixel along each side, against jagged outlines (default: 3)"
    )
    group = made.add_argument_group(
        "pose, in degrees, in the convention of 300W-LP; the mesh turns about the middle of its bounding box"
    )
    group.add_argument("--yaw", type=float, default=0.0, help="positive: a face turns to the left of the picture")
    group.add_argument("--pitch", type=float, default=0.0, help="positive: a face looks up")
    group.add_argument("--roll", type=float, default=0.0, help="positive: clockwise in the picture")
    group = made.add_argument_group("camera")
    group.add_argument(
        "--fov",
        type=float,
        help="field of view over the shorter side of the picture, 1 to 150 degrees (default: 20, that of a portrait)",
    )
    group.add_argument(
        "--distance",
        type=float,
        help="of the camera from the middle of the mesh, in the mesh's unit (default: the mesh fills 85 %% of the "
        "shorter side)",
    )
    group.add_argument("--orthographic", action="store_true", help="no perspective")
    group = made.add_argument_group("light and background")
    group.add_argument(
        "--light",
        default="studio",
        help="studio (soft, from the upper left), flat (the same from everywhere), or X,Y,Z: the direction towards a "
        "light, as --light=-1,1,1 (default: studio)",
    )
    group.add_argument(
        "--background",
        metavar="COLOR",
        help="a name (white), #rrggbb, or transparent for PNG (default: light gray; of normals and ids white, of depth "
        "black)",
    )
    group = made.add_argument_group("more")
    group.add_argument("--turntable", type=Path, help="also write one turn, as .gif or .mp4")
    group.add_argument("--frames", type=int, default=48, help="frames of the turntable (default: 48)")
    group.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    return made


def check_options(options: argparse.Namespace) -> None:
    """Replace --size, --light and --background by what they mean: (height, width), coefficients, a color or None.

    Raises:
        OptionError: an option cannot be used.
    """
    options.size = picture_size(options.size)
    height, width = options.size
    most = max(options.size) * options.samples
    if not 1 <= min(options.size) <= max(options.size) <= 4096 or not 1 <= options.samples <= 8 or most > 16384:
        raise OptionError(
            "--size must be 1 to 4096, --samples 1 to 8, and their product at most 16384, "
            f"got {width}x{height} and {options.samples}"
        )
    if options.frames < 1:
        raise OptionError(f"--frames must be at least 1, got {options.frames}")
    for name in ("yaw", "pitch", "roll"):
        if not math.isfinite(getattr(options, name)):
            raise OptionError(f"--{name} must be a number of degrees, got {getattr(options, name)}")
    if options.orthographic and (options.fov is not None or options.distance is not None):
        raise OptionError("--fov and --distance have no effect without perspective; leave out --orthographic")
    if options.fov is not None and not 1 <= options.fov <= 150:
        raise OptionError(f"--fov must be 1 to 150 degrees, got {options.fov:g}")
    if options.distance is not None and not 0 < options.distance <= 1e12:
        raise OptionError(f"--distance must be positive, in the mesh's unit, got {options.distance:g}")
    if options.device.split(":")[0] not in ("cpu", "cuda"):
        raise OptionError(f"--device must be cpu or cuda, got {options.device}")
    options.light = light(options.light)
    options.alpha = options.background == "transparent"
    if options.alpha and options.turntable:
        raise OptionError("--background transparent is for .png; a turntable needs a color")
    if options.alpha and options.output and options.output.suffix.lower() != ".png":
        raise OptionError(f"--background transparent is for .png, and {options.output.name} has no transparency")
    options.background = None if options.alpha or options.background is None else color(options.background)


def picture_size(words: str) -> tuple[int, int]:
    """Return (height, width) of "512" or "640x480"."""
    sides = words.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise OptionError(f"--size must be a number of pixels or WIDTHxHEIGHT, such as 640x480, got {words}")
    return int(sides[-1]), int(sides[0])


def light(words: str) -> Tensor:
    """Return the coefficients [1,9,3] of --light."""
    if words == "studio":
        return lighting.studio()
    if words == "flat":
        return lighting.ambient_and_directional(torch.ones(1, 3), torch.ones(1, 3), torch.zeros(1, 3))
    try:
        direction = torch.tensor([[float(number) for number in words.split(",")]])
    except ValueError:
        direction = torch.zeros(1, 0)
    length = direction.norm()
    if direction.shape[1] != 3 or not 0 < length < math.inf:
        raise OptionError(f"--light must be studio, flat or three numbers X,Y,Z, such as --light=-1,1,1, got {words}")
    return lighting.ambient_and_directional(torch.full((1, 3), 0.25), direction, torch.full((1, 3), 0.85))


def color(words: str) -> tuple[float, float, float]:
    """Return the sRGB color of --background, in 0..1."""
    try:
        red, green, blue = need("PIL.ImageColor", "--background").getrgb(words)[:3]
    except ValueError:
        raise OptionError(f"--background must be the name of a color, #rrggbb or transparent, got {words}") from None
    return red / 255, green / 255, blue / 255


def check_outputs(options: argparse.Namespace, output: Path | None) -> None:
    """Raise a MeshError where a file cannot be written or drawn, before anything is read."""
    if output and output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise MeshError(f"{output}: pictures are written as .png or .jpg")
    if options.turntable and options.turntable.suffix.lower() not in (".gif", ".mp4"):
        raise MeshError(f"{options.turntable}: turntables are written as .gif or .mp4")
    if options.turntable and options.turntable.suffix.lower() == ".mp4" and min(options.size) < 2:
        raise MeshError(f"{options.turntable}: a video needs --size 2 or more")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise MeshError(
            f"--device {options.device}: torch finds no CUDA device here; leave it out to render on the CPU"
        )
    for path, option in ((output, "-o"), (options.turntable, "--turntable")):
        if path and not path.parent.is_dir():
            raise MeshError(f"{path}: the folder {path.parent} does not exist")
        if path and path.is_dir():
            raise MeshError(f"{path}: expected the name of a file to write, found a folder")
        if path and not os.access(path if path.exists() else path.parent, os.W_OK):
            raise MeshError(f"{path}: cannot be written (permission denied); give another folder with {option}")
    need("imageio.v3", "writing pictures")
    need("PIL", "writing pictures")


def draw(mesh: Mesh, options: argparse.Namespace, yaw: float) -> np.ndarray:
    """Draw one picture of the mesh, uint8 [H,W,3] or, with transparency, [H,W,4], at a yaw in degrees."""
    device = mesh.vertices.device
    samples = 1 if options.what == "face_id" else options.samples  # ids cannot be averaged
    size = options.size[0] * samples, options.size[1] * samples
    angles = torch.tensor([[options.pitch, yaw, options.roll]], device=device).deg2rad()
    rotation = camera.euler_rotation(angles).mT  # which has the opposite signs and order
    projection = "orthographic" if options.orthographic else "pinhole"
    fov = math.radians(20 if options.fov is None else options.fov)
    clip = camera.framing(mesh.vertices[None], size, projection, rotation=rotation, fov=fov, distance=options.distance)
    fragments = rasterize(clip, mesh.faces, size)
    hit = (fragments.face_id >= 0)[..., None]
    if not hit.any():
        warn_of_empty_picture(clip, options)
    linear = options.what in ("shaded", "albedo")  # shading in linear light, and averaging too; the file is sRGB
    if linear:
        image, behind = mesh_albedo(mesh, fragments), BACKGROUND
        if options.what == "shaded":
            normals = normal_image(mesh, rotation, fragments)
            facing = torch.where(normals[..., 2:] < 0, -normals, normals) if mesh.open else normals
            image = sh_shade(image, facing, options.light.to(device))
    elif options.what == "normals":
        image, behind = normal_image(mesh, rotation, fragments) * 0.5 + 0.5, (1.0, 1.0, 1.0)
    elif options.what == "depth":
        depth = fragments.depth[..., None]
        near = depth[hit].min() if hit.any() else depth.min()
        far = depth[hit].max() if hit.any() else depth.max()
        gray = 1 - 0.85 * (depth - near) / (far - near).clamp(min=1e-9)
        image, behind = gray.expand(-1, -1, -1, 3), (0.0, 0.0, 0.0)
    else:
        image, behind = id_colors(fragments.face_id), (1.0, 1.0, 1.0)
    ground = image.new_tensor(options.background or behind)
    if options.alpha:
        ground = torch.zeros_like(ground)  # colors are weighted by how much of the pixel is covered
    averaged = average(torch.where(hit, image, to_linear(ground) if linear else ground), samples)
    if options.alpha:
        cover = average(hit.to(image.dtype), samples)
        averaged = averaged / cover.clamp(min=1e-6)
    averaged = to_srgb(averaged) if linear else averaged
    if options.alpha:
        averaged = torch.cat([averaged, cover], -1)
    return (averaged[0].clamp(0, 1) * 255).round().byte().cpu().numpy()


def warn_of_empty_picture(clip: Tensor, options: argparse.Namespace) -> None:
    """Say on standard error, once, that nothing of the mesh is in the picture, and why."""
    if getattr(options, "warned", False):
        return
    options.warned = True
    reason = camera.why_out_of_view(clip, options.size)[0] or "it covers no pixel center: seen edge-on, or without area"
    print(f"facerender: {options.mesh}: nothing of the mesh is in the picture: {reason}", file=sys.stderr)


def normal_image(mesh: Mesh, rotation: Tensor, fragments: Fragments) -> Tensor:
    """Return unit normals in camera space [1,H,W,3]; 0 on background."""
    normals = mesh.normals[None] @ rotation.transpose(1, 2)
    return torch.nn.functional.normalize(interpolate(normals, mesh.faces, fragments), dim=-1)


def average(image: Tensor, samples: int) -> Tensor:
    """Average squares of samples [N,H*samples,W*samples,C] to pixels [N,H,W,C]."""
    n, height, width, channels = image.shape
    return image.reshape(n, height // samples, samples, width // samples, samples, channels).mean((2, 4))


def id_colors(face_id: Tensor) -> Tensor:
    """Return a color for each id, [...,3], so that neighbors differ."""
    hashed = (face_id.long() * 2654435761) & 0xFFFFFF
    return torch.stack([(hashed >> shift & 255).float() / 255 * 0.8 + 0.15 for shift in (16, 8, 0)], -1)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a MeshError that names the file where it cannot be written, as on a full disk."""
    try:
        yield
    except OSError as error:
        raise MeshError(f"{path}: cannot be written ({error.strerror or error})") from error


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write a picture, uint8 [H,W,3] or [H,W,4]."""
    with writing(path):
        need("imageio.v3", "writing pictures").imwrite(path, pixels)


def write_turntable(path: Path, mesh: Mesh, options: argparse.Namespace) -> None:
    """Draw one turn about the vertical axis and write it as .gif or .mp4."""
    iio = need("imageio.v3", "writing pictures")
    tqdm = need("tqdm", "drawing a turntable").tqdm
    turn = [options.yaw + 360 * k / options.frames for k in range(options.frames)]
    frames = [draw(mesh, options, yaw) for yaw in tqdm(turn, desc="turntable", disable=None)]
    with writing(path):
        if path.suffix.lower() == ".gif":
            iio.imwrite(path, frames, duration=1000 / 24, loop=0)
            return
        height, width = (side // 2 * 2 for side in options.size)  # video wants even sides
        write_video(path, [f[:height, :width] for f in frames])


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    """Write frames uint8 [H,W,3] of even sides as H.264, 24 a second, in BT.709 and tagged so."""
    av = need("av", "writing .mp4")
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=24, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = context.color_range = 1
        for frame in frames:
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            yuv = rgb.reformat(
                format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG"
            )
            file.mux(stream.encode(yuv))
        file.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main())
