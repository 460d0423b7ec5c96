"""Which machine figures were measured on, and from which state of the program they are."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

__all__ = ["commit", "made_on", "processor"]


def made_on() -> dict[str, Any]:
    """What figures depend on; ``gpu`` is the name of the device in use, and empty without one; ``commit`` is empty
    outside a checkout."""
    import torch

    import dshc_fast

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        "torch": torch.__version__,
        "version": dshc_fast.__version__,
        "commit": commit(),
        "date": datetime.date.today().isoformat(),
    }


def processor() -> str:
    """As the system calls it."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
        fields = {
            name.strip(): value.strip()
            for name, _, value in (line.partition(":") for line in first.splitlines())
        }
        return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def commit(checkout: Path | None = None) -> str:
    """Of a checkout (None: the one that this file is part of); empty where it is none, or there is no git."""
    here = Path(__file__).resolve().parents[2] if checkout is None else checkout
    if not (here / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=here, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
