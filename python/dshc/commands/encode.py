"""``dshc encode``: images or embeddings to a file of packed codes."""

from __future__ import annotations

from pathlib import Path

from .console import say
from .sources import encode_input, open_run, read_input

__all__ = ["run_encode"]


def run_encode(
    run_folder: Path, source: str, *, out: Path, root: str | None, labels: str | None, overwrite: bool
) -> None:
    """Encode every item of ``source`` by a run and write ``out``; an existing file is kept unless asked."""
    if out.suffix != ".safetensors":
        raise ValueError(f"--out must name a .safetensors file, got {out}")
    if out.exists() and not overwrite:
        raise ValueError(f"{out}: exists; --overwrite replaces it")
    run = open_run(run_folder)
    file, _ = encode_input(run, read_input(source, run, root=root, labels=labels))
    file.save(out)
    known = [name for name, part in (("labels", file.labels), ("ids", file.ids)) if part is not None]
    say(f"{out}: {len(file)} codes of {file.n_bits} bits, {' and '.join(known) or 'no labels or ids'}")
