"""One command for a machine with a GPU: builds, tests, sanitizes and measures, and writes the results.

python -m benchmarks.gpu [--output benchmarks/results] [--only STEP ...] [--quick]

The steps, in order:

    build       the library with CUDA
    kernels     the time of each op and of its kernels (benchmarks.kernels)
    variants    other ways to do the same work (benchmarks.variants)
    cuda-tests  the tests that need a GPU: CPU against CUDA bit for bit, graphs, streams, determinism
    memcheck, racecheck, initcheck, synccheck    compute-sanitizer over small sizes
    counters    Nsight Compute's counters of each kernel
    peers       every op as a caller waits for it, and other renderers (benchmarks.ops)
    plot        a chart of the peers (benchmarks.plots)
    training    a training step of each method (benchmarks.training)
    tests       all tests

A step whose tool is missing is reported as not run. After a step that fails the next one runs all the same. The exit
code is 0 only if no step failed.
"""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
CUDA_TESTS = [
    *(
        f"tests/facerender/test_{name}.py"
        for name in ("ops", "rasterize", "topology", "edges", "camera", "lighting", "texture")
    ),
    "tests/models/test_morphable.py",
    "tests/losses/test_all_losses.py",
]
KERNELS = (
    "fill",
    "prepare",
    "draw",
    "draw_deferred",
    "resolve",
    "shade",
    "shade_backward",
    "forward",
    "backward",
    "fragments_backward",
    "normals",
    "sum_light_gradients",
)
SANITIZED = ["tests/facerender/test_rasterize.py", "tests/facerender/test_ops.py"]
SANITIZED_TESTS = (
    "cuda and (equals_the_reference or same_bits or coverage or empty or not_drawn or subset or cuda_equals_cpu) "
    "and not cpu-"
)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__.splitlines()[0],
        epilog="example: python -m benchmarks.gpu --only build kernels",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "benchmarks/results",
        help="folder for gpu.json, gpu.md and the steps' JSON",
    )
    parser.add_argument(
        "--only", nargs="+", metavar="STEP", help="these steps alone; without build the library is used as it is"
    )
    parser.add_argument("--quick", action="store_true", help="fewer sizes, and memcheck alone of the sanitizers")
    options = parser.parse_args(arguments)
    if not _torch("torch.cuda.is_available()"):
        print(
            "benchmarks.gpu: torch finds no CUDA device. Run it on a machine with an NVIDIA GPU, nvcc and a CUDA build "
            "of torch.",
            file=sys.stderr,
        )
        return 2
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    steps = steps_of(options)
    if unknown := [name for name in options.only or () if name not in steps]:
        print(f"benchmarks.gpu: --only {unknown[0]}: the steps are {', '.join(steps)}", file=sys.stderr)
        return 2
    steps = [(name, *step) for name, step in steps.items() if not options.only or name in options.only]
    ops_json = options.output / "ops_cuda.json"
    report, outputs = [], {}
    for k, (name, command, environment) in enumerate(steps):
        if isinstance(command, str):
            report.append({"step": name, "passed": None, "seconds": 0, "last_line": f"{command} is not on the path"})
            continue
        print(f"\n[{k + 1}/{len(steps)}] {name}: {' '.join(command)}", flush=True)
        start = time.time()
        run = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = []
        for line in run.stdout:
            lines.append(line)
            print(line, end="", flush=True)
        code = run.wait()
        outputs[name] = "".join(lines)
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        report.append({"step": name, "passed": code == 0, "seconds": round(time.time() - start, 1), "last_line": last})
    code = "__import__('benchmarks.common', fromlist=['x']).environment(torch.device('cuda'))"
    environment = json.loads(_torch(f"__import__('json').dumps({code})"))
    result = {"environment": environment, "steps": report}
    if ops_json.exists():
        result["ops"] = json.loads(ops_json.read_text())
    (options.output / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.output / "gpu.md").write_text(markdown(result, outputs))
    print(f"\nwritten: {options.output / 'gpu.json'} and gpu.md")
    return 0 if all(step["passed"] is not False for step in report) else 1


def steps_of(options) -> dict[str, tuple]:
    """Return name -> (command, or the name of the missing tool; additional environment variables)."""
    python, quick = sys.executable, ["--quick"] * options.quick
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    parallel = []
    if importlib.util.find_spec("xdist") is not None:
        # pytest-benchmark refuses to run in parallel
        parallel = ["-n", str(min(os.cpu_count() or 1, 12)), "-p", "no:benchmark"]
    steps = {
        "build": ([python, "setup.py", "build_ext", "--inplace"], {"FACERENDER_CUDA": "1"}),
        "kernels": (
            [python, "-m", "benchmarks.kernels", "--json", str(options.output / "kernels_cuda.json"), *quick],
            {},
        ),
        "variants": ([python, "-m", "benchmarks.variants", "--json", str(options.output / "variants_cuda.json")], {}),
        "cuda-tests": ([*tests, *parallel, "-k", "cuda and not kernels", *CUDA_TESTS], {}),
    }
    for tool in ("memcheck",) if options.quick else ("memcheck", "racecheck", "initcheck", "synccheck"):
        command = [
            "compute-sanitizer",
            "--tool",
            tool,
            "--error-exitcode",
            "1",
            "--target-processes",
            "all",
            "--kernel-name-exclude",
            "kns=at::",
            *tests,
            "-x",
            *SANITIZED,
            "-k",
            SANITIZED_TESTS,
        ]
        steps[tool] = (command if shutil.which(command[0]) else command[0], {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"})
    counters = [
        "ncu",
        "--clock-control",
        "none",
        "--set",
        "full",
        "--profile-from-start",
        "off",
        "--kernel-name-base",
        "function",
        "-k",
        f"regex:^({'|'.join(KERNELS)})$",
    ]
    steps["counters"] = (
        [*counters, python, "-m", "benchmarks.kernels", "--once"] if shutil.which("ncu") else "ncu",
        {},
    )
    steps["peers"] = (
        [python, "-m", "benchmarks.ops", "--device", "cuda", "--json", str(options.output / "ops_cuda.json"), *quick],
        {},
    )
    steps["plot"] = ([python, "-m", "benchmarks.plots", str(options.output / "ops_cuda.json")], {})
    steps["training"] = (
        [python, "-m", "benchmarks.training", "--presets", "gpu", "--json", str(options.output / "training_cuda.json")],
        {},
    )
    steps["tests"] = ([*tests, *parallel], {})
    return steps


def _torch(expression: str):
    """Evaluate an expression with torch in a process of its own; True and False come back as such."""
    run = subprocess.run(
        [sys.executable, "-c", f"import torch; print({expression})"], cwd=ROOT, capture_output=True, text=True
    )
    out = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
    return out if out not in ("True", "False") else out == "True"


def markdown(result: dict, outputs: dict) -> str:
    e = result["environment"]
    lines = [
        f"# CUDA: {e['device']}",
        "",
        f"Commit {e['commit']}, {e['date']}, torch {e['torch']}, Python {e['python']}, "
        f"built for {e['build']['archs']}.",
        "",
    ]
    lines += ["| step | result | seconds | last line |", "|---|---|---|---|"]
    for s in result["steps"]:
        verdict = {True: "passed", False: "FAILED", None: "not run"}[s["passed"]]
        lines.append(f"| {s['step']} | {verdict} | {s['seconds']} | {s['last_line'][:160]} |")
    return "\n".join(lines) + "\n\n" + outputs.get("kernels", "") + "\n" + outputs.get("peers", "")


if __name__ == "__main__":
    sys.exit(main())
