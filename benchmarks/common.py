"""What every benchmark shares: timing, the device's bandwidth, progress, tables and JSON."""

import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch

import facerender as fr


def sync(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turn(functions: dict, device, seconds: float = 0.6, rounds: int = 6, longest: float = 1.0) -> dict:
    """Median milliseconds of each function; of one that takes more than `longest` seconds, those of its second call. They take turns in blocks of many calls, round after round: a drift of the machine hits all
    alike, and each is timed with its own data in the caches, as in a loop of its own.

    On CUDA, "ms" is what the caller waits for one call (with a synchronisation), and "device_ms" what a call takes of the stream's time where many are queued and nobody waits between them.
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
    """Bytes per second that a large copy reads and writes together, on the threads in use."""
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
    """Yields the items with a bar on the terminal, or a line now and then where there is none."""
    items = list(items)
    try:
        from tqdm import tqdm

        yield from tqdm(items, desc=what, disable=None, leave=False)
    except ImportError:
        for k, item in enumerate(items):
            print(f"{what} {k + 1}/{len(items)}", file=sys.stderr)
            yield item


def table(rows: list[dict], columns: list[str]) -> str:
    """Markdown, columns aligned."""
    cells = [[str(row.get(c, "")) for c in columns] for row in rows]
    widths = [max(len(c), *(len(r[k]) for r in cells)) if cells else len(c) for k, c in enumerate(columns)]
    line = lambda values: "| " + " | ".join(v.ljust(w) for v, w in zip(values, widths)) + " |"  # noqa: E731
    return "\n".join([line(columns), "|" + "|".join("-" * (w + 2) for w in widths) + "|", *map(line, cells)])


def write_json(path, result: dict):
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(result, indent=1) + "\n")
        print(f"\nwritten: {path}")


def milliseconds(value) -> str:
    return "" if value is None else (f"{value:.3f}" if value < 10 else f"{value:.1f}")
