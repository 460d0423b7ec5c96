"""What GPU figures depend on: device, driver, versions, commit, date."""

from __future__ import annotations

import shutil
import subprocess

import timing
import torch

import dshc_fast
from gpu.records import Records

ASKED = ("driver_version", "clocks.max.sm", "clocks.max.memory", "power.limit")


def record(records: Records, rehearsal: bool) -> None:
    """Once a run, by the first process that can."""
    if not any(records.all("about")):
        commits = [run["commit"] for run in records.all("run")]
        records.add("about", **describe(rehearsal, commits[-1] if commits else None))


def nvidia_smi() -> dict[str, str]:
    """What the driver says, or nothing where its tool is missing."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    index = torch.cuda.current_device()
    done = subprocess.run([tool, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader", f"--id={index}"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    answers = done.stdout.strip().split(", ")
    return (
        dict(zip(ASKED, answers, strict=True)) if done.returncode == 0 and len(answers) == len(ASKED) else {}
    )


def describe(rehearsal: bool, commit: str | None) -> dict[str, object]:
    """`commit`: for a copy of the sources without their repository; None: what git says."""
    host = timing.machine()
    if commit is not None:
        host["commit"] = commit
    about = {"device": "none: a rehearsal on the CPU, no figure means anything"}
    if not rehearsal:
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        major, minor = torch.cuda.get_device_capability()
        about = {"device": properties.name, "compute_capability": f"{major}.{minor}",
                 "multiprocessors": properties.multi_processor_count, "memory_bytes": properties.total_memory,
                 **nvidia_smi()}  # fmt: skip
    info = dshc_fast.build_info()
    versions = {"cuda_runtime": info["cuda_runtime"], "torch_cuda": torch.version.cuda}
    return {**about, **versions, **{key: host[key] for key in ("torch", "dshc_fast", "python", "commit", "processor",
                                                               "cores", "date")}}  # fmt: skip
