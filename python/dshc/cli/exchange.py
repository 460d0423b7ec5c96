"""``dshc export`` and ``dshc import``: codes to databases and other libraries, and back."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..exchange import export, load
from ..exchange.exporting import as_exported, check_target
from ..storage import check_can_write
from .console import say, stopped
from .encode import check_out, describe_codes

__all__ = ["run_export", "run_import"]


def run_export(source: Path, to: str, out: str, *, table: str | None, overwrite: bool) -> None:
    """Export a code file; say what was written and how to search in it."""
    check_target(to, table)  # before a large file is read
    codes = as_exported(source)
    with _cleaned_up():
        written = export(codes, to, out, table=table, overwrite=overwrite)
    number = "1 code" if len(codes) == 1 else f"{len(codes)} codes"
    say(f"{written.where}: {number} of {codes.n_bits} bits, {written.what}")
    say(f"search: {written.search}")


def run_import(
    path: Path, from_: str, *, out: Path, n_bits: int | None, bit_order: str, overwrite: bool
) -> None:
    """Read codes of another program into a code file; an existing file is kept unless asked."""
    check_out(out, overwrite)
    file = load(path, from_, n_bits=n_bits, bit_order=bit_order)
    check_can_write(out)
    file.save(out)
    say(describe_codes(out, file))


@contextlib.contextmanager
def _cleaned_up() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does, by an exception: what is half written is removed.

    Some libraries (usearch) make an error of their own of it, in the place of which the first one is raised again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
        signal.SIGINT: signal.default_int_handler,
    }
    before = {number: found for number, found in usual.items() if signal.getsignal(number) == found}
    asked: list[BaseException] = []

    def stop(number: int, frame: Any) -> None:
        name = signal.Signals(number).name
        asked.append(
            KeyboardInterrupt() if name == "SIGINT" else stopped("stopped, nothing was written", name)
        )
        raise asked[-1]

    try:
        for number in before:
            signal.signal(number, stop)
        yield
    except Exception:
        if asked:
            raise asked[0] from None
        raise
    else:
        if asked:  # passed over altogether
            raise asked[0]
    finally:
        for number, found in before.items():
            signal.signal(number, found)
