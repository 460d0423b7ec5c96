"""What a run found, one JSON object a line, appended by every process of it as soon as it is known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

FILE = "results.jsonl"


class Records:
    """The file FOLDER/results.jsonl. Each line has a `kind`: run, about, begin, step, limit, check,
    job, row."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def add(self, kind: str, **fields: object) -> None:
        """One write a line, so that a process that dies takes no half line with it, and two that append at once mix
        none."""
        line = json.dumps({"kind": kind, **fields}) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def all(self, kind: str = "") -> Iterator[dict]:
        if not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            if kind in ("", record["kind"]):
                yield record

    def of_step(self, step: str, kind: str) -> list[dict]:
        """Those of a step since it was last begun: an earlier call may have used the same folder."""
        found: list[dict] = []
        for record in self.all():
            if record["kind"] == "begin" and record["step"] == step:
                found = []
            elif record["kind"] == kind and record.get("step") == step:
                found.append(record)
        return found
