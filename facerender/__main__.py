"""The command ``python -m facerender MESH -o OUT.png``: renders a mesh file."""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import camera, interpolate, lighting, rasterize, sample_texture, sh_shade
from .color import to_linear, to_srgb
from .meshes import Mesh, MeshError, load_mesh, need
from .rasterize import Fragments

PASSES = ("shaded", "normals", "depth", "albedo", "face_id")
BACKGROUND = (0.955, 0.955, 0.95)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit code: 0, or 1 after a sentence about what was wrong."""
    options = parser().parse_args(arguments)
    try:
        if not options.mesh.is_file():
            raise MeshError(f"{options.mesh}: there is no such file")
        output = options.output or (None if options.turntable else options.mesh.with_suffix(".png"))
        check_options(options, output)
        mesh = load_mesh(options.mesh).to(options.device)
        if output:
            write_image(output, draw(mesh, options, options.yaw))
            counts = f"{len(mesh.vertices):,} vertices, {len(mesh.faces):,} triangles"
            print(f"{output}  {options.size}x{options.size}  {options.what}, {counts}")
        if options.turntable:
            write_turntable(options.turntable, mesh, options)
            print(f"{options.turntable}  {options.frames} frames")
    except (MeshError, OSError, RuntimeError) as error:
        print(f"facerender: {error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    made = argparse.ArgumentParser(
        prog="python -m facerender",
        description="Renders an OBJ, PLY or GLB file. "
        "The camera frames the mesh by itself; z points at the viewer, y up.",
        epilog="example: python -m facerender head.ply -o head.png --size 768 --turntable head.gif",
    )
    add = made.add_argument
    add("mesh", type=Path, help="OBJ, PLY or GLB file, with vertex colors or a texture if it has them")
    add("-o", "--output", type=Path, help="picture (PNG or JPEG); default: MESH.png, unless a turntable is asked for")
    add("--pass", dest="what", choices=PASSES, default="shaded", help="what to draw (default: shaded)")
    add("--size", type=int, default=512, help="height and width in pixels (default: 512)")
    add("--yaw", type=float, default=0.0, help="turn to the mesh's left, degrees")
    add("--pitch", type=float, default=0.0, help="nod down, degrees")
    add("--orthographic", action="store_true", help="no perspective")
    add(
        "--samples", type=int, default=3, help="samples per pixel along each side, against jagged outlines (default: 3)"
    )
    add("--turntable", type=Path, help="also write one turn, as .gif or .mp4")
    add("--frames", type=int, default=48, help="frames of the turntable (default: 48)")
    add("--device", default="cpu", help="cpu or cuda (default: cpu)")
    return made


def check_options(options: argparse.Namespace, output: Path | None) -> None:
    """Raise a MeshError where options cannot be used, before anything is read or drawn."""
    if not 1 <= options.size <= 4096 or not 1 <= options.samples <= 8 or options.size * options.samples > 16384:
        raise MeshError(
            "--size must be 1 to 4096, --samples 1 to 8, and their product at most 16384, "
            f"got {options.size} and {options.samples}"
        )
    if options.frames < 1:
        raise MeshError(f"--frames must be at least 1, got {options.frames}")
    if output and output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise MeshError(f"{output}: pictures are written as .png or .jpg")
    if options.turntable and options.turntable.suffix.lower() not in (".gif", ".mp4"):
        raise MeshError(f"{options.turntable}: turntables are written as .gif or .mp4")
    if options.device.split(":")[0] not in ("cpu", "cuda"):
        raise MeshError(f"--device must be cpu or cuda, got {options.device}")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise MeshError(
            f"--device {options.device}: torch finds no CUDA device here; leave it out to render on the CPU"
        )
    for path in (output, options.turntable):
        if path and not path.parent.is_dir():
            raise MeshError(f"{path}: the folder {path.parent} does not exist")
    need("imageio.v3", "writing pictures")


def draw(mesh: Mesh, options: argparse.Namespace, yaw: float) -> np.ndarray:
    """Draw one picture of the mesh, uint8 [H,W,3], at a yaw in degrees."""
    side = options.size * (1 if options.what == "face_id" else options.samples)  # ids cannot be averaged
    angles = torch.tensor([[math.radians(options.pitch), math.radians(yaw), 0.0]], device=mesh.vertices.device)
    rotation = camera.euler_rotation(angles)
    projection = "orthographic" if options.orthographic else "pinhole"
    clip = camera.framing(mesh.vertices[None], (side, side), projection, rotation=rotation)
    fragments = rasterize(clip, mesh.faces, (side, side))
    hit = (fragments.face_id >= 0)[..., None]
    # Shading in linear light, and averaging too; the file is sRGB.
    if options.what in ("shaded", "albedo"):
        color = albedo_image(mesh, fragments)
        if options.what == "shaded":
            normals = normal_image(mesh, rotation, fragments)
            facing = torch.where(normals[..., 2:] < 0, -normals, normals) if mesh.open else normals
            color = sh_shade(color, facing, lighting.studio(device=mesh.vertices.device))
        behind = to_linear(color.new_tensor(BACKGROUND))
        image = to_srgb(average(torch.where(hit, color, behind), options.size))
    elif options.what == "normals":
        normals = normal_image(mesh, rotation, fragments)
        image = average(torch.where(hit, normals * 0.5 + 0.5, normals.new_ones(())), options.size)
    elif options.what == "depth":
        depth = fragments.depth[..., None]
        near = depth[hit].min() if hit.any() else depth.min()
        far = depth[hit].max() if hit.any() else depth.max()
        gray = 1 - 0.85 * (depth - near) / (far - near).clamp(min=1e-9)
        image = average(torch.where(hit, gray, torch.zeros_like(depth)).expand(-1, -1, -1, 3), options.size)
    else:
        image = torch.where(hit, id_colors(fragments.face_id), torch.ones(3, device=mesh.vertices.device))
    return (image[0].clamp(0, 1) * 255).round().byte().cpu().numpy()


def normal_image(mesh: Mesh, rotation: Tensor, fragments: Fragments) -> Tensor:
    """Return unit normals in camera space [1,H,W,3]; 0 on background."""
    normals = mesh.normals[None] @ rotation.transpose(1, 2)
    return torch.nn.functional.normalize(interpolate(normals, mesh.faces, fragments), dim=-1)


def albedo_image(mesh: Mesh, fragments: Fragments) -> Tensor:
    """Return linear albedo [1,H,W,3]: vertex colors, times the texture where there is one."""
    color = interpolate(mesh.colours[None], mesh.faces, fragments)
    if mesh.texture is not None and mesh.uv is not None:
        uv = interpolate(mesh.uv[None], mesh.faces, fragments)
        color = color * sample_texture(mesh.texture[None], uv, wrap="repeat")
    return color


def average(image: Tensor, size: int) -> Tensor:
    """Average squares of samples [N,H,W,3] to pixels [N,size,size,3]."""
    samples = image.shape[1] // size
    return image.reshape(image.shape[0], size, samples, size, samples, 3).mean((2, 4))


def id_colors(face_id: Tensor) -> Tensor:
    """Return a color for each id, [...,3], so that neighbors differ."""
    hashed = (face_id.long() * 2654435761) & 0xFFFFFF
    return torch.stack([(hashed >> shift & 255).float() / 255 * 0.8 + 0.15 for shift in (16, 8, 0)], -1)


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write a picture, uint8 [H,W,3]."""
    need("imageio.v3", "writing pictures").imwrite(path, pixels)


def write_turntable(path: Path, mesh: Mesh, options: argparse.Namespace) -> None:
    """Draw one turn about the vertical axis and write it as .gif or .mp4."""
    iio = need("imageio.v3", "writing pictures")
    tqdm = need("tqdm", "drawing a turntable").tqdm
    turn = [options.yaw + 360 * k / options.frames for k in range(options.frames)]
    frames = [draw(mesh, options, yaw) for yaw in tqdm(turn, desc="turntable", disable=None)]
    if path.suffix.lower() == ".gif":
        iio.imwrite(path, frames, duration=1000 / 24, loop=0)
        return
    even = options.size // 2 * 2  # video wants even sides
    if even == 0:
        raise MeshError(f"{path}: a video needs --size 2 or more")
    try:
        iio.imwrite(path, [f[:even, :even] for f in frames], fps=24, plugin="FFMPEG", macro_block_size=1)
    except ImportError:
        raise MeshError(
            f"{path}: writing .mp4 needs imageio-ffmpeg. Run: pip install imageio-ffmpeg, or write a .gif"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
