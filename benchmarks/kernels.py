"""The time of every op on CUDA, as a replayed graph, and of each of its kernels.

python -m benchmarks.kernels [--quick] [--only OP ...] [--json FILE]

The replay of a graph leaves out the cost of Python and of launches (benchmarks.ops measures what a caller waits). The
images of a batch show a head turned by up to 40 degrees either way. Floor: the time for everything that must be read
and written once, at the bandwidth of a large copy on this device.
"""

import argparse
import statistics

import torch

import facerender as fr

from . import common
from .meshes import face_mesh
from .peers import Scene

SETTINGS = [
    (70_789, 64, 224),
    (70_789, 1, 224),
    (70_789, 64, 112),
    (70_789, 16, 512),
    (70_789, 4, 1024),
    (18_000, 64, 224),
    (5_000, 64, 224),
    (5_000, 64, 1024),
]


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.kernels --quick",
    )
    parser.add_argument("--quick", action="store_true", help="the first two settings alone")
    parser.add_argument("--only", nargs="+", metavar="OP", help="ops, by the names in the table")
    parser.add_argument(
        "--once",
        action="store_true",
        help="run each op once, between cudaProfilerStart and Stop, and time nothing",
    )
    parser.add_argument("--json", help="also write the numbers here")
    options = parser.parse_args(arguments)
    if not (torch.cuda.is_available() and fr.has_cuda_kernels()):
        raise SystemExit(
            "benchmarks.kernels: needs a CUDA device, and facerender built with CUDA "
            "(FACERENDER_CUDA=1 python setup.py build_ext --inplace)."
        )
    device = torch.device("cuda")
    settings = SETTINGS[:1] if options.once else SETTINGS[:2] if options.quick else SETTINGS
    result = {"environment": common.environment(device), "rows": []}
    if not options.once:
        result["copy_bandwidth_gb_per_s"] = common.copy_bandwidth(device) / 1e9
        print(f"{result['environment']['device']}, copy bandwidth {result['copy_bandwidth_gb_per_s']:.0f} GB/s\n")
    for triangles, batch, size in settings:
        ops, triangles, covered = cases(triangles, batch, size, device)
        ops = {name: case for name, case in ops.items() if not options.only or name in options.only}
        if options.once:
            return once([run for run, _ in ops.values()])
        rows = []
        for name, (run, moved) in ops.items():
            row = {
                "op": name,
                "triangles": triangles,
                "batch": batch,
                "pixels": size,
                "covered": round(covered, 3),
                "us": replayed(run),
            }
            row |= {"floor_us": moved / result["copy_bandwidth_gb_per_s"] / 1e3, "kernels_us": kernels_of(run)}
            rows.append(row)
        result["rows"] += rows
        print(f"## {triangles:,} triangles, batch {batch}, {size} pixels, {covered:.0%} covered\n")
        shown = [
            {
                "op": r["op"],
                "us": f"{r['us']:.1f}",
                "floor": f"{r['floor_us']:.1f}",
                "kernels": ", ".join(f"{k} {v:.1f}" for k, v in r["kernels_us"].items()),
            }
            for r in rows
        ]
        print(common.table(shown, ["op", "us", "floor", "kernels"]) + "\n", flush=True)
        torch.cuda.empty_cache()
    common.write_json(options.json, result)
    return result


def once(runs) -> dict:
    """Run each op once to warm up, and once between the calls that start and stop a profiler."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStart()
    for run in runs:
        run()
    torch.cuda.synchronize()
    torch.cuda.cudart().cudaProfilerStop()
    return {}


def cases(triangles, batch, size, device):
    """Make the inputs of all ops.

    Args:
        triangles: how many the head has, or a mesh (vertices, faces).
        batch: how many images.
        size: of the images, pixels.
        device: for all tensors.

    Returns:
        Op -> (function that runs it, bytes that it must move); the head's number of triangles; the share of covered
        pixels.
    """
    s = Scene(*(face_mesh(triangles) if isinstance(triangles, int) else triangles), size, batch, device)
    yaw = torch.linspace(-0.7, 0.7, batch, device=device)[:, None] if batch > 1 else torch.zeros(1, 1, device=device)
    x, z = s.clip[..., 0], s.clip[..., 2] * 4
    clip = torch.stack(
        [yaw.cos() * x + yaw.sin() * z, s.clip[..., 1], (yaw.cos() * z - yaw.sin() * x) / 4, s.clip[..., 3]], -1
    )
    points = clip[..., :3].contiguous()
    topology = fr.Topology(s.faces, clip.shape[1])
    normals, light = fr.vertex_normals(points, topology), fr.lighting.studio(batch, device=device)
    fragments = fr.rasterize(clip, s.faces, (size, size))
    image, seen = fr.render_face(clip, normals, s.colors, light, s.faces, (size, size))
    grad_bary = torch.randn_like(fragments.bary)
    V, P, ids = batch * clip.shape[1], batch * size * size, 12 * s.faces.shape[0]
    ops = torch.ops.facerender
    lit = (clip, normals, s.colors, light, s.faces, seen, 1)
    return (
        {
            "rasterize": (lambda: fr.rasterize(clip, s.faces, (size, size)), 16 * V + ids + 20 * P),
            "rasterize, ids and depth": (
                lambda: fr.rasterize(clip, s.faces, (size, size), barycentrics=False),
                16 * V + ids + 8 * P,
            ),
            "rasterize backward": (
                lambda: ops.rasterize_backward(grad_bary, None, clip, s.faces, fragments.face_id[..., None], False),
                32 * V + ids + 16 * P,
            ),
            "interpolate": (lambda: fr.interpolate(s.colors, s.faces, fragments), 12 * V + ids + 28 * P),
            "interpolate backward": (
                lambda: ops.interpolate_backward(
                    s.grad, s.colors, s.faces, fragments.face_id, fragments.bary, True, True, False
                ),
                24 * V + ids + 40 * P,
            ),
            "render_face": (
                lambda: fr.render_face(clip, normals, s.colors, light, s.faces, (size, size)),
                40 * V + ids + 16 * P,
            ),
            "render_face backward": (
                lambda: ops.render_face_backward(s.grad, *lit, True, True, True, True, False),
                80 * V + ids + 16 * P,
            ),
            "the same, in order": (
                lambda: ops.render_face_backward(s.grad, *lit, True, True, True, True, True),
                80 * V + ids + 16 * P,
            ),
            "vertex_normals": (lambda: fr.vertex_normals(points, topology), 24 * V + ids),
        },
        len(s.faces),
        float((fragments.face_id >= 0).float().mean()),
    )


def replayed(run, repeats: int = 20, rounds: int = 5) -> float:
    """Return the microseconds of one replay, the median of some rounds of many."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    for _ in range(3):
        graph.replay()
    times = []
    for _ in range(rounds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / repeats * 1e3)
    return statistics.median(times)


def kernels_of(run, repeats: int = 5) -> dict[str, float]:
    """Return the microseconds of each kernel of a call."""
    from torch.profiler import ProfilerActivity, profile

    run()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as found:
        for _ in range(repeats):
            run()
        torch.cuda.synchronize()
    times = {}
    for event in found.key_averages():
        if event.device_time_total > 0:
            name = short(event.key)
            times[name] = times.get(name, 0.0) + event.device_time_total / repeats
    return dict(sorted(times.items(), key=lambda item: -item[1]))


def short(kernel: str) -> str:
    """Return a kernel's name without namespaces, types and arguments; torch's fills are all "fill"."""
    if "FillFunctor" in kernel or "Memset" in kernel:
        return "fill"
    return kernel.split("<")[0].split("(anonymous namespace)::")[-1].split("::")[-1].split(" ")[-1].split("(")[0]


if __name__ == "__main__":
    main()
