"""python -m facerender MESH -o OUT.png: renders a mesh file."""

import argparse
import math
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch

from . import camera, interpolate, lighting, rasterize, sample_texture, sh_shade
from .colour import to_linear, to_srgb
from .meshes import Mesh, MeshError, load_mesh

PASSES = ("shaded", "normals", "depth", "albedo", "face_id")
BACKGROUND = (0.955, 0.955, 0.95)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m facerender",
        description="Renders an OBJ, PLY or GLB file. The camera frames the mesh by itself; z points at the viewer, y up.",
        epilog="example: python -m facerender head.ply -o head.png --size 768 --turntable head.gif",
    )
    parser.add_argument("mesh", type=Path, help="OBJ, PLY or GLB file, with vertex colours or a texture if it has them")
    parser.add_argument("-o", "--output", type=Path, help="the picture (PNG or JPEG); MESH.png by default, unless a turntable is asked for")
    parser.add_argument("--pass", dest="what", choices=PASSES, default="shaded", help="what to draw (default: shaded)")
    parser.add_argument("--size", type=int, default=512, help="height and width in pixels (default: 512)")
    parser.add_argument("--yaw", type=float, default=0.0, help="turn to the mesh's left, degrees")
    parser.add_argument("--pitch", type=float, default=0.0, help="nod down, degrees")
    parser.add_argument("--orthographic", action="store_true", help="no perspective")
    parser.add_argument("--samples", type=int, default=3, help="samples a pixel along each side, against jagged outlines (default: 3)")
    parser.add_argument("--turntable", type=Path, help="also write one turn, as .gif or .mp4")
    parser.add_argument("--frames", type=int, default=48, help="frames of the turntable (default: 48)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    options = parser.parse_args(arguments)
    try:
        if not options.mesh.is_file():
            raise MeshError(f"{options.mesh}: there is no such file")
        output = options.output or (None if options.turntable else options.mesh.with_suffix(".png"))
        check_options(options, output)
        mesh = load_mesh(options.mesh).to(options.device)
        if output:
            write_image(output, draw(mesh, options, options.yaw))
            print(f"{output}  {options.size}x{options.size}  {options.what}, {len(mesh.vertices):,} vertices, {len(mesh.faces):,} triangles")
        if options.turntable:
            write_turntable(options.turntable, mesh, options)
            print(f"{options.turntable}  {options.frames} frames")
    except (MeshError, OSError, RuntimeError) as error:
        print(f"facerender: {error}", file=sys.stderr)
        return 1
    return 0


def check_options(options, output):
    if not 1 <= options.size <= 4096 or not 1 <= options.samples <= 8 or options.size * options.samples > 16384:
        raise MeshError(f"--size must be 1 to 4096, --samples 1 to 8, and their product at most 16384, got {options.size} and {options.samples}")
    if options.frames < 1:
        raise MeshError(f"--frames must be at least 1, got {options.frames}")
    if output and output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise MeshError(f"{output}: pictures are written as .png or .jpg")
    if options.turntable and options.turntable.suffix.lower() not in (".gif", ".mp4"):
        raise MeshError(f"{options.turntable}: turntables are written as .gif or .mp4")
    if options.device.split(":")[0] not in ("cpu", "cuda"):
        raise MeshError(f"--device must be cpu or cuda, got {options.device}")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise MeshError(f"--device {options.device}: torch finds no CUDA device here; leave it out to render on the CPU")
    for path in (output, options.turntable):
        if path and not path.parent.is_dir():
            raise MeshError(f"{path}: the folder {path.parent} does not exist")


def draw(mesh: Mesh, options, yaw: float) -> np.ndarray:
    """One picture of the mesh, uint8 [H,W,3]."""
    side = options.size * (1 if options.what == "face_id" else options.samples)  # ids cannot be averaged
    angles = torch.tensor([[math.radians(options.pitch), math.radians(yaw), 0.0]], device=mesh.vertices.device)
    rotation = camera.euler_rotation(angles)
    vertices = mesh.vertices[None]
    clip = camera.framing(vertices, (side, side), "orthographic" if options.orthographic else "pinhole", rotation=rotation)
    fragments = rasterize(clip, mesh.faces, (side, side))
    hit = (fragments.face_id >= 0)[..., None]
    # Shading in linear light, and averaging too; the file is sRGB.
    if options.what in ("shaded", "normals"):
        normals = mesh.normals[None] @ rotation.transpose(1, 2)
        pixel_normals = torch.nn.functional.normalize(interpolate(normals, mesh.faces, fragments), dim=-1)
    if options.what in ("shaded", "albedo"):
        image = albedo_image(mesh, fragments)
        if options.what == "shaded":
            facing = torch.where(pixel_normals[..., 2:] < 0, -pixel_normals, pixel_normals) if mesh.open else pixel_normals
            light = lighting.studio(device=vertices.device)
            image = sh_shade(image.contiguous(), facing.contiguous(), light)
        image = to_srgb(average(torch.where(hit, image, to_linear(image.new_tensor(BACKGROUND))), options.size))
    elif options.what == "normals":
        image = average(torch.where(hit, pixel_normals * 0.5 + 0.5, pixel_normals.new_ones(())), options.size)
    elif options.what == "depth":
        depth = fragments.depth[..., None]
        near = depth[hit].min() if hit.any() else depth.min()
        far = depth[hit].max() if hit.any() else depth.max()
        image = average(torch.where(hit, 1 - 0.85 * (depth - near) / (far - near).clamp(min=1e-9), torch.zeros_like(depth)).expand(-1, -1, -1, 3), options.size)
    else:
        image = torch.where(hit, id_colours(fragments.face_id), torch.ones(3, device=vertices.device))
    return (image[0].clamp(0, 1) * 255).round().byte().cpu().numpy()


def albedo_image(mesh: Mesh, fragments):
    """Linear albedo [1,H,W,3]: the texture where there is one, times the colours."""
    colour = interpolate(mesh.colours[None], mesh.faces, fragments)
    if mesh.texture is not None:
        uv = interpolate(mesh.uv[None], mesh.faces, fragments)
        colour = colour * sample_texture(mesh.texture[None], uv, wrap="repeat")
    return colour


def average(image, size):
    """Boxes of samples to pixels."""
    samples = image.shape[1] // size
    return image.reshape(image.shape[0], size, samples, size, samples, 3).mean((2, 4))


def id_colours(face_id):
    """A colour for each id, so that neighbours differ."""
    hashed = (face_id.long() * 2654435761) & 0xFFFFFF
    return torch.stack([(hashed >> shift & 255).float() / 255 * 0.8 + 0.15 for shift in (16, 8, 0)], -1)


def write_image(path: Path, pixels: np.ndarray):
    iio.imwrite(path, pixels)


def write_turntable(path: Path, mesh: Mesh, options):
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = iter
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
        raise MeshError(f"{path}: writing .mp4 needs imageio-ffmpeg. Run: pip install imageio-ffmpeg, or write a .gif") from None


if __name__ == "__main__":
    sys.exit(main())
