"""``dshc encode``: images or embeddings to a file of packed codes."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..index.encode_in_parts import encode_in_parts
from ..progress import progress
from ..runs.encoding import is_code_file, read_input
from ..runs.run_folder import is_run_file
from ..storage import CodeFile, check_can_write
from .console import remark, say
from .open_run import open_run

__all__ = ["check_out", "describe_codes", "run_encode"]


def run_encode(
    run_folder: Path, source: str, *, out: Path, root: str | None, labels: str | None, overwrite: bool
) -> None:
    """Encode every item of ``source`` by a run and write ``out``; an existing file is kept unless asked."""
    check_out(out, overwrite)
    run = open_run(run_folder)
    check_can_write(out)
    dataset = read_input(source, run, root=root, labels=labels)
    if dataset.reading is not None:
        remark(f"dshc: {dataset.reading.line()}")
    with progress(f"encoding {dataset.n_items:,} items") as update:
        file = encode_in_parts(run, dataset, out, on_items=update)
    say(describe_codes(out, file))


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse what is no place for a code file."""
    if out.suffix != ".safetensors":
        raise InputError(f"--out must name a .safetensors file, got {out}")
    if is_run_file(out):
        raise InputError(f"--out must not be one of a run's own files, got {out}")
    if out.exists():
        if not overwrite:
            raise InputError(f"{out}: exists; --overwrite replaces it")
        if not is_code_file(out):  # embeddings and weights end in .safetensors, too
            raise InputError(
                f"--out must name a new file or a code file, {out} is neither, and is left as it is"
            )


def describe_codes(out: Path, file: CodeFile) -> str:
    """The line that tells what a code file holds."""
    known = [name for name, part in (("labels", file.labels), ("ids", file.ids)) if part is not None]
    codes = "1 code" if len(file) == 1 else f"{len(file)} codes"
    return f"{out}: {codes} of {file.n_bits} bits, {' and '.join(known) or 'no labels or ids'}"
