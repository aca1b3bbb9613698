"""Timing, a device's bandwidth, progress, tables and JSON for all benchmarks."""

import json
import platform
import statistics
import subprocess
import time
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

import facerender as fr


def sync(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turn(functions: dict, device, seconds: float = 0.6, rounds: int = 6, longest: float = 1.0) -> dict:
    """Time functions in turn.

    They take turns in blocks of many calls, round after round: a drift of the machine affects all alike, and each is
    timed with its own data in the caches, as in a loop of its own.

    Args:
        functions: name -> function without arguments.
        device: that they run on.
        seconds: to spend on each function.
        rounds: of blocks.
        longest: seconds; a function that takes longer is timed by its second call alone.

    Returns:
        Name -> {"ms": median milliseconds, "fastest_ms", "runs": number of calls}. On CUDA, "ms" is what the caller
        waits for one call (with a synchronization), and "device_ms" is the stream's time per call where many are
        queued.
    """
    times = {name: [] for name in functions}
    queued = {name: [] for name in functions}
    slow = set()
    for name, f in functions.items():
        f()
        sync(device)
        t = time.perf_counter()
        f()
        sync(device)
        if (t := time.perf_counter() - t) > longest:
            slow.add(name)
            times[name].append(t * 1e3)
    budget = seconds / rounds / (2 if device.type == "cuda" else 1)
    for _ in range(rounds):
        for name, f in functions.items():
            if name in slow:
                continue
            f()  # warms the caches, not counted
            spent = 0.0
            while spent < budget and len(times[name]) < 20000:
                t = time.perf_counter()
                f()
                sync(device)
                t = time.perf_counter() - t
                times[name].append(t * 1e3)
                spent += t
            if device.type == "cuda":
                count = max(2, min(100, int(budget * 1e3 / statistics.median(times[name]))))
                start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
                start.record()
                for _ in range(count):
                    f()
                end.record()
                sync(device)
                queued[name].append(start.elapsed_time(end) / count)
    out = {name: {"ms": statistics.median(t), "fastest_ms": min(t), "runs": len(t)} for name, t in times.items()}
    for name, t in queued.items():
        if t:
            out[name]["device_ms"] = statistics.median(t)
    return out


def copy_bandwidth(device) -> float:
    """Measure the bytes per second that a large copy reads and writes together, on the threads in use."""
    a = torch.empty(1 << 28 if device.type == "cuda" else 1 << 25, device=device)
    b = torch.empty_like(a)
    t = time_in_turn({"copy": lambda: b.copy_(a)}, device, 0.5)["copy"]
    return 2 * a.numel() * 4 / (t.get("device_ms", t["ms"]) / 1e3)


def environment(device) -> dict:
    cpu = (
        next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text().splitlines()
                if "model name" in line
            ),
            platform.processor(),
        )
        if Path("/proc/cpuinfo").exists()
        else platform.processor()
    )
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, capture_output=True, text=True
    ).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "commit": git or "unknown",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "build": fr.build_info(),
    }


def progress(items, what: str):
    """Yield the items with a progress bar on the terminal."""
    yield from tqdm(list(items), desc=what, disable=None, leave=False)


def table(rows: list[dict], columns: list[str]) -> str:
    """Format a Markdown table with aligned columns."""
    cells = [[str(row.get(c, "")) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[k]) for r in cells)) if cells else len(c) for k, c in enumerate(columns)]

    def line(values):
        return "| " + " | ".join(v.ljust(w) for v, w in zip(values, widths)) + " |"

    return "\n".join([line(columns), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, cells)])


def write_json(path, result: dict):
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(result, indent=1) + "\n")
        print(f"\nwritten: {path}")


def milliseconds(value) -> str:
    return "" if value is None else (f"{value:.3f}" if value < 10 else f"{value:.1f}")
