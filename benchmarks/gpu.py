"""One command for a machine with a GPU: builds, tests, sanitizes and measures, and writes it all down.

python -m benchmarks.gpu [--output benchmarks/results]

In order: the build with CUDA; the whole test suite (CPU against CUDA bit for bit, graphs, streams, determinism); compute-sanitizer's four
tools over small sizes, where it is found; python -m benchmarks.ops on CUDA, with the peers that are installed. A step that fails is
reported and the next one runs all the same; the exit code is 0 only if all passed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SANITIZED = ["tests/test_rasterize.py", "tests/test_ops.py"]
SANITIZED_TESTS = "cuda and (equals_the_reference or same_bits or coverage or empty or not_drawn or subset or cuda_equals_cpu) and not cpu-"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0], epilog="example: python -m benchmarks.gpu --quick")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results", help="folder for gpu.json and gpu.md")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, and memcheck alone of the sanitizers")
    parser.add_argument("--no-build", action="store_true", help="use the library as it is")
    options = parser.parse_args(arguments)
    if not _torch("torch.cuda.is_available()"):
        print("benchmarks.gpu: torch finds no CUDA device here. Run it on a machine with an NVIDIA GPU, nvcc and a CUDA build of torch.", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    steps = []
    if not options.no_build:
        steps.append(("build", [sys.executable, "setup.py", "build_ext", "--inplace"], {"FACERENDER_CUDA": "1"}))
    steps.append(("tests", [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], {}))
    sanitizer = shutil.which("compute-sanitizer")
    for tool in ("memcheck",) if options.quick else ("memcheck", "racecheck", "initcheck", "synccheck"):
        if sanitizer:
            command = [sanitizer, "--tool", tool, "--error-exitcode", "1", "--target-processes", "all", "--kernel-name-exclude", "kns=at::"]
            command += [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *SANITIZED, "-k", SANITIZED_TESTS]
            steps.append((tool, command, {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}))
    ops_json = options.output / "ops_cuda.json"
    ops = [sys.executable, "-m", "benchmarks.ops", "--device", "cuda", "--json", str(ops_json)] + ["--quick"] * options.quick
    steps.append(("benchmarks", ops, {}))

    report, outputs = [], {}
    for k, (name, command, environment) in enumerate(steps):
        print(f"\n[{k + 1}/{len(steps)}] {name}: {' '.join(command)}", flush=True)
        start = time.time()
        run = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        lines = []
        for line in run.stdout:
            lines.append(line)
            print(line, end="", flush=True)
        code = run.wait()
        outputs[name] = "".join(lines)
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        report.append({"step": name, "passed": code == 0, "seconds": round(time.time() - start, 1), "last_line": last})
    if not sanitizer:
        report.append({"step": "compute-sanitizer", "passed": None, "seconds": 0, "last_line": "not found on the path: not run"})
    environment = json.loads(_torch("__import__('json').dumps(__import__('benchmarks.common', fromlist=['x']).environment(torch.device('cuda')))"))
    result = {"environment": environment, "steps": report}
    if ops_json.exists():
        result["ops"] = json.loads(ops_json.read_text())
    (options.output / "gpu.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.output / "gpu.md").write_text(markdown(result, outputs))
    print(f"\nwritten: {options.output / 'gpu.json'} and gpu.md")
    return 0 if all(step["passed"] is not False for step in report) else 1


def _torch(expression: str):
    run = subprocess.run([sys.executable, "-c", f"import torch; print({expression})"], cwd=ROOT, capture_output=True, text=True)
    out = run.stdout.strip().splitlines()[-1] if run.stdout.strip() else ""
    return out if out not in ("True", "False") else out == "True"


def markdown(result: dict, outputs: dict) -> str:
    e = result["environment"]
    lines = [f"# CUDA: {e['device']}", "", f"Commit {e['commit']}, {e['date']}, torch {e['torch']}, Python {e['python']}, built for {e['build']['archs']}.", ""]
    lines += ["| step | result | seconds | last line |", "|---|---|---|---|"]
    for s in result["steps"]:
        verdict = {True: "passed", False: "FAILED", None: "not run"}[s["passed"]]
        lines.append(f"| {s['step']} | {verdict} | {s['seconds']} | {s['last_line'][:160]} |")
    return "\n".join(lines) + "\n\n" + outputs.get("benchmarks", "")


if __name__ == "__main__":
    sys.exit(main())
