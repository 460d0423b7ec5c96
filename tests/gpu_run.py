"""The GPU command, `make test-gpu`: every op test on the device, then compute-sanitizer, then a summary to commit.

Stops with one line where there is no GPU or no CUDA build. Writes docs/results/gpu-test.md.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch

import dshc_fast

ROOT = Path(__file__).resolve().parents[1]
OP_TESTS = (
    "test_abi", "test_average_precision", "test_center_codes_from_logits", "test_class_softmax_loss",
    "test_class_softmax_linear_loss", "test_class_softmax_loss_inplace", "test_class_softmax_loss_options",
    "test_codes_from_features", "test_codes_from_logits", "test_cuda_device", "test_errors",
    "test_hamming_distance", "test_hamming_histogram", "test_hamming_radius", "test_hamming_topk",
    "test_mean_average_precision", "test_metrics_modules", "test_multilabel_codes", "test_pack_codes",
    "test_registration", "test_retrieval_curves",
)  # fmt: skip
# Small enough for the sanitizers, which slow a kernel down a thousand times.
SANITIZED = ("test_hamming_topk", "test_hamming_radius", "test_average_precision", "test_class_softmax_loss")


def run(command: list[str], **variables: str) -> tuple[int, str]:
    print("$", " ".join(command), flush=True)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)  # fmt: skip
    print(done.stdout[-3000:], flush=True)
    return done.returncode, done.stdout


def last_line(text: str, pattern: str) -> str:
    found = [line.strip(" =") for line in text.splitlines() if re.search(pattern, line)]
    return found[-1] if found else "no summary line"


def main() -> int:
    if not torch.cuda.is_available():
        print(f"test-gpu: no CUDA device here (torch {torch.__version__}); nothing was run", file=sys.stderr)
        return 2
    if not dshc_fast.build_info()["cuda"]:
        print(
            "test-gpu: this build has no CUDA kernels; put nvcc on the path and `pip install .` again",
            file=sys.stderr,
        )
        return 2
    files = [f"tests/{name}.py" for name in OP_TESTS]
    rows = []
    code, text = run([sys.executable, "-m", "pytest", "-q", *files])
    rows.append(("op tests on the device", code, last_line(text, r"passed|failed")))
    sanitizer = shutil.which("compute-sanitizer")
    for tool in ("memcheck", "racecheck"):
        if sanitizer is None:
            rows.append((f"compute-sanitizer {tool}", 1, "compute-sanitizer is not on the path"))
            continue
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", "--target-processes", "all"]
        pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-k", "cuda and not large and not huge"]
        code, text = run([*command, *pytest, *(f"tests/{name}.py" for name in SANITIZED)])
        rows.append((f"compute-sanitizer {tool}", code, last_line(text, r"ERROR SUMMARY|RACECHECK SUMMARY")))
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = [
        "# GPU tests",
        "",
        f"`make test-gpu`, {torch.cuda.get_device_name()}, torch {torch.__version__}, commit {commit.stdout.strip()}, "
        f"{datetime.date.today().isoformat()}.",
        "",
        "| check | result | |",
        "| --- | --- | --- |",
        *(f"| {name} | {'passed' if code == 0 else 'FAILED'} | {summary} |" for name, code, summary in rows),
    ]
    target = ROOT / "docs" / "results" / "gpu-test.md"
    target.write_text("\n".join(lines) + "\n")
    print("\n".join(lines[4:]), f"wrote {target}", sep="\n")
    return int(any(code for _, code, _ in rows))


if __name__ == "__main__":
    raise SystemExit(main())
