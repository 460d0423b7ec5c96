"""What a page of the documentation tells its reader to do, done: Python blocks and commands, in their order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from cli_runs import dshc_ok

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block in one of the languages."""
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(language, content) for language, content in found if language in languages]


def follow(page: Path) -> tuple[dict[str, Any], list[str]]:
    """Run a page in the current folder: the names that its Python defines, and what each command printed."""
    names: dict[str, Any] = {}
    printed = []
    for number, (language, content) in enumerate(blocks(page, "python", "sh"), 1):
        if language == "python":  # each goes on from those before
            exec(compile(content, f"{page.name}, block {number}", "exec"), names)
            continue
        for line in content.splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "dshc", f"{page.name}, block {number}: {line}"
            printed.append(dshc_ok(*arguments))
    return names, printed
