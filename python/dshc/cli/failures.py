"""How the command line fails: one line on stderr, and an exit code that says whose fault it is."""

from __future__ import annotations

import contextlib
import dis
import os
import re
import sys
import traceback
import warnings
from typing import Any

from typer.core import TyperGroup

from .console import prepare_streams, shown

__all__ = ["Debug", "OneLineErrors"]

# Where a message of a library goes on in a new line; another line break is part of a name, and shown.
_NEXT_LINE = re.compile(r"""(?<=[.:;,!?)\]}'"])[ \t]*\n\s*""")


class Debug:
    """Whether failures show their traceback (``dshc --debug``)."""

    on = False


class OneLineErrors(TyperGroup):
    """Ends every failure with one line on stderr; exit code 2: wrong input, 1: a defect, 130: Ctrl-C."""

    def main(self, *args: Any, **options: Any) -> Any:
        if not options.pop("standalone_mode", True):
            return super().main(*args, standalone_mode=False, **options)
        prepare_streams()
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                code = super().main(*args, standalone_mode=False, **options)
                sys.stdout.flush()
        except KeyboardInterrupt:
            code = 130
        except BrokenPipeError:  # the reader of our output (head, less) has gone; nobody is left to tell
            code = 1
        except Exception as error:
            code = _fail(error)
        _let_go_of_stdout()
        sys.exit(code if isinstance(code, int) else 0)


def _let_go_of_stdout() -> None:
    """What is left in the buffer and cannot be written is dropped, for Python would try again as it ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)


def _fail(error: Exception) -> int:
    if Debug.on:
        for line in traceback.format_exc().rstrip().split("\n"):
            _tell(line)
    if hasattr(error, "format_message"):  # a usage error of typer
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        if message := _line(error.format_message()):  # empty where the help has been shown
            _tell(f"dshc: {message}{hint}")
        return getattr(error, "exit_code", 2)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        _tell(f"dshc: {_file_name(error.filename)}: {error.strerror}")
        return 2
    if type(error).__name__ == "Abort":  # what some versions of typer make of Ctrl-C
        return 130
    if isinstance(error, (ValueError, OSError, ImportError)) or _raised_by_us(error):
        _tell(f"dshc: {_line(str(error)) or type(error).__name__}")
        return 2
    _tell(f"dshc: defect, {type(error).__name__}: {_line(str(error))} (dshc --debug ... shows the traceback)")
    return 1


def _raised_by_us(error: Exception) -> bool:
    """Whether a ``raise`` of this project made it: then its message is meant for the user.

    A TypeError or RuntimeError that Python or a library raises is nobody's wrong input but a defect of ours.
    """
    trace = error.__traceback__
    if not isinstance(error, (TypeError, RuntimeError)) or trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    package = trace.tb_frame.f_globals.get("__name__", "").split(".")[0]
    instruction = trace.tb_frame.f_code.co_code[trace.tb_lasti]
    return package in ("dshc", "dshc_fast") and dis.opname[instruction] == "RAISE_VARARGS"


def _tell(line: str) -> None:
    print(shown(line, sys.stderr), file=sys.stderr)


def _line(text: str) -> str:
    return _NEXT_LINE.sub(" ", text.strip())


def _file_name(name: object) -> str:
    return os.fsdecode(name) if isinstance(name, (str, bytes, os.PathLike)) else str(name)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings of our own as one line; what libraries warn about among themselves stays out of sight."""
    if category is UserWarning:
        _tell(f"dshc: warning: {_line(str(message))}")
