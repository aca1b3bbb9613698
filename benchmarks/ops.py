"""The time of every op, forward and backward, and of other renderers on the same work.

python -m benchmarks.ops [--device cpu|cuda] [--json FILE]

Two parts. First the peers that are installed: one mesh of 93,000 triangles, one image, one thread on the CPU;
visibility, depth and three interpolated colors, taking turns in one run. Then each op by itself over sizes, batches
and meshes, beside its floor: the time for its tensors alone at the device's measured copy bandwidth.
"""

import argparse

import torch

import facerender as fr

from . import common
from .meshes import face_mesh
from .peers import PEERS, Scene, installed, ours, ours_fused

PEER_MESH = 12 * 88 * 88  # 92,928 triangles


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ops",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.ops --device cpu --json ops.json",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() and fr.has_cuda_kernels() else "cpu")
    parser.add_argument("--json", help="also write the numbers here")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224, 512, 1024])
    parser.add_argument("--batches", type=int, nargs="+", help="default: 1 and 8 on the CPU, 1 to 256 on CUDA")
    parser.add_argument("--triangles", type=int, nargs="+", default=[5_000, 18_000, 74_000])
    parser.add_argument(
        "--mesh", help="an OBJ, PLY or GLB file for the comparison with peers, in place of the head made by formula"
    )
    parser.add_argument("--quick", action="store_true", help="the comparison with peers and a few rows only")
    parser.add_argument("--peers-only", action="store_true")
    parser.add_argument(
        "--slow-peers", action="store_true", help="pytorch3d on the CPU too, which takes seconds to minutes an image"
    )
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    options.batches = options.batches or ([1, 8] if device.type == "cpu" else [1, 8, 64, 256])
    if options.quick:
        options.sizes, options.batches, options.triangles = (
            options.sizes[:2],
            options.batches[:1],
            options.triangles[-1:],
        )
    threads = torch.get_num_threads()
    result = {"environment": common.environment(device)}
    if device.type == "cpu":
        torch.set_num_threads(1)
    result["peers"] = compare(options, device)
    torch.set_num_threads(threads)
    if device.type == "cpu":
        result["threads"] = scaling(threads)
    if not options.peers_only:
        result["copy_bandwidth_gb_per_s"] = common.copy_bandwidth(device) / 1e9
        where = f"{threads} threads" if device.type == "cpu" else "CUDA"
        print(f"\n## Each op, {where}, copy bandwidth {result['copy_bandwidth_gb_per_s']:.1f} GB/s\n")
        result["ops"] = each_op(options, device, result["copy_bandwidth_gb_per_s"] * 1e9)
    common.write_json(options.json, result)
    return result


def compare(options, device) -> list[dict]:
    if options.mesh:
        from facerender.meshes import load_mesh

        mesh = load_mesh(options.mesh)
        meshes, name = [(mesh.vertices, mesh.faces)], options.mesh
    else:
        meshes = [face_mesh(n) for n in ([PEER_MESH] if device.type == "cpu" else options.triangles)]
        name = "head made by formula (benchmarks.meshes)"
    batch = 1 if device.type == "cpu" else 64
    print(f"## Peers: batch {batch}, {'one CPU thread' if device.type == 'cpu' else device}; {name}\n")
    rows, missing = [], {}
    for (vertices, faces), size in common.progress([(m, size) for m in meshes for size in options.sizes], "peers"):
        scene = Scene(vertices, faces, size, batch, device)
        names = [p for p in PEERS if p != "pytorch3d" or device.type == "cuda" or options.slow_peers]
        peers, not_here = installed(scene, names)
        missing |= not_here
        mine = {"rasterize + interpolate": ours(scene), "render_face": ours_fused(scene)}
        for part, which in enumerate(("forward", "backward")):
            runs = {k: pair[part] for k, pair in (mine | peers).items() if pair[part]}
            for peer in [k for k in runs if k in peers]:
                try:
                    runs[peer]()
                    common.sync(device)
                except RuntimeError as error:  # out of memory, say
                    missing[f"{peer}, {which}, {len(faces):,} triangles, {size} pixels"] = str(error).splitlines()[0][
                        :120
                    ]
                    del runs[peer]
            times = common.time_in_turn(runs, device)
            row = {
                "triangles": len(faces),
                "vertices": len(vertices),
                "pixels": size,
                "pass": which,
                "batch": batch,
                "ms": {k: t["ms"] for k, t in times.items()},
            }
            if device.type == "cuda":
                row["device_ms"] = {k: t.get("device_ms", t["ms"]) for k, t in times.items()}
            best = min((t["ms"] for k, t in times.items() if k in peers), default=None)
            if best:
                row["best_peer"] = min((k for k in times if k in peers), key=lambda k: times[k]["ms"])
                row["ratio"] = {k: best / times[k]["ms"] for k in mine}
            rows.append(row)
        if device.type == "cuda":
            del scene, peers, mine, runs
            torch.cuda.empty_cache()
    names = list(dict.fromkeys(k for r in rows for k in r["ms"]))
    shown = [
        {
            "triangles": f"{r['triangles']:,}",
            "pixels": r["pixels"],
            "pass": r["pass"],
            **{k: common.milliseconds(v) for k, v in r["ms"].items()},
            "ratio": f"{r['ratio']['rasterize + interpolate']:.1f}" if "ratio" in r else "",
            "ratio fused": f"{r['ratio']['render_face']:.1f}" if "ratio" in r else "",
        }
        for r in rows
    ]
    print(common.table(shown, ["triangles", "pixels", "pass", *names, "ratio", "ratio fused"]))
    print(
        "\nMilliseconds, medians, as a caller waits. ratio: the fastest peer's time over ours (rasterize + "
        "interpolate; fused: render_face)."
    )
    for name, why in missing.items():
        print(f"{name}: not measured ({why})")
    return rows


def scaling(threads: int) -> list[dict]:
    """Measure the efficiency of threads: time on one over (threads x time on all)."""

    def at(count, run):
        def on_threads():
            if torch.get_num_threads() != count:
                torch.set_num_threads(count)
            return run()

        return on_threads

    vertices, faces = face_mesh(PEER_MESH)
    rows = []
    for batch, size in ((1, 224), (1, 512), (8, 224)):
        scene = Scene(vertices, faces, size, batch, torch.device("cpu"))
        f, b = ours_fused(scene)
        g, h = ours(scene)
        row = {"batch": batch, "pixels": size, "threads": threads}
        for name, run in (
            ("render_face", f),
            ("render_face backward", b),
            ("rasterize + interpolate", g),
            ("their backward", h),
        ):
            times = common.time_in_turn({n: at(n, run) for n in (1, threads)}, scene.device, 0.8, 10)
            row[name] = times[1]["ms"] / (threads * times[threads]["ms"])
        rows.append(row)
    torch.set_num_threads(threads)
    print(f"\n## Efficiency of {threads} threads (time on one thread / threads / time on all)\n")
    print(
        common.table(
            [{k: f"{v:.2f}" if isinstance(v, float) else v for k, v in r.items()} for r in rows], list(rows[0])
        )
    )
    return rows


def each_op(options, device, bandwidth: float) -> list[dict]:
    rows = []
    settings = [(t, b, s) for t in options.triangles for b in options.batches for s in options.sizes]
    for triangles, batch, size in common.progress(settings, "ops"):
        pixels = batch * size * size
        if pixels * 40 > (2 << 30 if device.type == "cpu" else 40 << 30):
            continue  # outputs and gradients would not fit into memory
        for name, forward, backward, read, written in cases(triangles, batch, size, device):
            times = common.time_in_turn({"forward": forward, "backward": backward}, device, 0.1, 2)
            row = {
                "op": name,
                "triangles": triangles,
                "batch": batch,
                "pixels": size,
                "floor_ms": (read + written) / bandwidth * 1e3,
            }
            for part, t in times.items():
                row[f"{part}_ms"] = t.get("device_ms", t["ms"])
                row[f"{part}_wall_ms"] = t["ms"]
            rows.append(row)
    shown = [{**r, **{k: common.milliseconds(r[k]) for k in ("forward_ms", "backward_ms", "floor_ms")}} for r in rows]
    print(common.table(shown, ["op", "triangles", "batch", "pixels", "forward_ms", "backward_ms", "floor_ms"]))
    print("\nfloor: the bytes of the forward pass's inputs and outputs at the measured copy bandwidth.")
    return rows


def cases(triangles, batch, size, device):
    """Yield each op: name, forward, backward, bytes read, bytes written."""
    vertices, faces = face_mesh(triangles)
    s = Scene(vertices, faces, size, batch, device)
    topology = fr.Topology(s.faces, s.clip.shape[1])
    V, P = batch * s.clip.shape[1], batch * size * size
    normals = fr.vertex_normals(s.clip[..., :3].contiguous(), topology)
    light = fr.lighting.studio(batch, device=device)
    clip, colors, normals, light = (t.detach().clone().requires_grad_() for t in (s.clip, s.colors, normals, light))
    position = clip.detach()[..., :3].contiguous().requires_grad_()
    fragments = fr.rasterize(clip, s.faces, (size, size))
    fixed = fr.Fragments(fragments.face_id, fragments.bary.detach().requires_grad_(), fragments.depth.detach())
    pixel_normals, pixel_albedo = (
        fr.interpolate(t, s.faces, fixed).detach().requires_grad_() for t in (normals, colors)
    )

    def case(name, run, leaves, read, written):
        out = run()
        grad = torch.randn_like(out)

        def forward():
            with torch.no_grad():
                return run()

        return name, forward, lambda: torch.autograd.grad(out, leaves, grad, retain_graph=True), read, written

    ids = 12 * s.faces.shape[0]
    yield case("rasterize", lambda: fr.rasterize(clip, s.faces, (size, size)).bary, (clip,), 16 * V + ids, 20 * P)
    yield case(
        "interpolate 3",
        lambda: fr.interpolate(colors, s.faces, fixed),
        (colors, fixed.bary),
        12 * V + ids + 16 * P,
        12 * P,
    )
    yield case("vertex_normals", lambda: fr.vertex_normals(position, topology), (position,), 12 * V + ids, 12 * V)
    yield case(
        "sh_shade vertices", lambda: fr.sh_shade(colors, normals, light), (colors, normals, light), 24 * V, 12 * V
    )
    yield case(
        "sh_shade pixels",
        lambda: fr.sh_shade(pixel_albedo, pixel_normals, light),
        (pixel_albedo, pixel_normals, light),
        24 * P,
        12 * P,
    )
    yield case(
        "render_face",
        lambda: fr.render_face(clip, normals, colors, light, s.faces, (size, size))[0],
        (clip, normals, colors, light),
        40 * V + ids,
        16 * P,
    )

    def composed():
        f = fr.rasterize(clip, s.faces, (size, size))
        return fr.sh_shade(fr.interpolate(colors, s.faces, f), fr.interpolate(normals, s.faces, f), light)

    yield case("the same, op by op", composed, (clip, normals, colors, light), 40 * V + ids, 16 * P)
    image = fr.interpolate(colors, s.faces, fixed).detach()
    yield case("edge_gradients", lambda: fr.edge_gradients(image, fragments, clip, topology), (clip,), 12 * P, 12 * P)


if __name__ == "__main__":
    main()
