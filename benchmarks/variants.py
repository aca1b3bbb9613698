"""Other ways to do the same work on CUDA, side by side.

python -m benchmarks.variants [--json FILE]

Orders of triangles, batches in parts, light at vertices, separate ops, 16-bit attributes. Batch 64 of a head of 71,148
triangles at 224 pixels, as in benchmarks.kernels; microseconds of a graph's replay. benchmarks/results/notes.md has
what was expected of each before it was measured.
"""

import argparse

import numpy as np
import torch

import facerender as fr

from . import common
from .kernels import cases, replayed
from .meshes import face_mesh
from .peers import Scene

TRIANGLES, BATCH, SIZE = 70_789, 64, 224


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.variants",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.variants --json variants.json",
    )
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args(arguments)
    if not (torch.cuda.is_available() and fr.has_cuda_kernels()):
        raise SystemExit(
            "benchmarks.variants: needs a CUDA device, and facerender built with CUDA "
            "(FACERENDER_CUDA=1 python setup.py build_ext --inplace)."
        )
    rows = []
    for name, run in variants(torch.device("cuda")):
        rows.append({"variant": name, "us": replayed(run)})
        print(f"{name:70s} {rows[-1]['us']:8.1f} us", flush=True)
        torch.cuda.empty_cache()
    result = {"environment": common.environment(torch.device("cuda")), "rows": rows}
    common.write_json(options.json, result)
    return result


def variants(device):
    """Yield each variant: name, function that runs it."""
    vertices, faces = face_mesh(TRIANGLES)
    for order, (v, f) in orders(vertices, faces).items():
        scene = Scene(v, f, SIZE, BATCH, device)
        yield f"rasterize, triangles {order}", lambda s=scene: fr.rasterize(s.clip, s.faces, (SIZE, SIZE))
        ops, _, _ = cases((v, f), BATCH, SIZE, device)
        for name in ("render_face", "render_face backward"):
            yield f"{name}, triangles {order}", ops[name][0]
    s = Scene(vertices, faces, SIZE, BATCH, device)
    normals, light = (
        fr.vertex_normals(s.clip[..., :3].contiguous(), fr.Topology(s.faces, s.clip.shape[1])),
        fr.lighting.studio(BATCH, device=device),
    )

    def render(clip, normals, colors, light):
        return fr.render_face(clip, normals, colors, light, s.faces, (SIZE, SIZE))[0]

    for part in (32, 16, 8):

        def in_parts(part=part):
            return [
                render(*(t[k : k + part] for t in (s.clip, normals, s.colors, light))) for k in range(0, BATCH, part)
            ]

        yield f"render_face, {part} images at a time", in_parts
    yield "render_face without light", lambda: fr.render_face(s.clip, None, s.colors, None, s.faces, (SIZE, SIZE))[0]
    yield (
        "light at vertices, then render_face without light",
        lambda: fr.render_face(s.clip, None, fr.sh_shade(s.colors, normals, light), None, s.faces, (SIZE, SIZE))[0],
    )

    def op_by_op():
        fragments = fr.rasterize(s.clip, s.faces, (SIZE, SIZE))
        return fr.sh_shade(
            fr.interpolate(s.colors, s.faces, fragments), fr.interpolate(normals, s.faces, fragments), light
        )

    yield "rasterize, interpolate twice, sh_shade", op_by_op
    half = [t.half() for t in (normals, s.colors)]
    yield "render_face, normals and albedo in float16", lambda: render(s.clip, *half, light)


def orders(vertices, faces):
    """Return the mesh with its triangles in other orders: name -> (vertices, faces)."""
    vertex_order, _, along_curve = fr.locality_order(torch.from_numpy(vertices), torch.from_numpy(faces))
    shuffled = faces[np.random.default_rng(0).permutation(len(faces))]
    return {
        "by rows": (vertices, faces),
        "along a Morton curve": (vertices[vertex_order.numpy()], along_curve.numpy()),
        "shuffled": (vertices, shuffled),
    }


if __name__ == "__main__":
    main()
