"""How the command line fails: one line on stderr, and an exit code that says whose fault it is."""

from __future__ import annotations

import dis
import sys
import traceback
import warnings
from typing import Any

from typer.core import TyperGroup

__all__ = ["Debug", "OneLineErrors"]


class Debug:
    """Whether failures show their traceback (``dshc --debug``)."""

    on = False


class OneLineErrors(TyperGroup):
    """Ends every failure with one line on stderr; exit code 2: wrong input, 1: a defect, 130: Ctrl-C."""

    def main(self, *args: Any, **options: Any) -> Any:
        if not options.pop("standalone_mode", True):
            return super().main(*args, standalone_mode=False, **options)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                code = super().main(*args, standalone_mode=False, **options)
        except KeyboardInterrupt:
            code = 130
        except BrokenPipeError:  # the reader of our output (head, less) has gone; nobody is left to tell
            sys.stderr.close()
            code = 1
        except Exception as error:
            code = _fail(error)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(error: Exception) -> int:
    if Debug.on:
        traceback.print_exc()
    if hasattr(error, "format_message"):  # a usage error of typer
        context = getattr(error, "ctx", None)
        hint = f" (see {context.command_path} --help)" if context is not None else ""
        print(f"dshc: {_line(error.format_message())}{hint}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        print(f"dshc: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    if type(error).__name__ == "Abort":  # what some versions of typer make of Ctrl-C
        return 130
    if isinstance(error, (ValueError, OSError, ImportError)) or _raised_by_us(error):
        print(f"dshc: {_line(str(error)) or type(error).__name__}", file=sys.stderr)
        return 2
    text = f"dshc: defect, {type(error).__name__}: {_line(str(error))} (dshc --debug ... shows the traceback)"
    print(text, file=sys.stderr)
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


def _line(text: str) -> str:
    return " ".join(text.split())


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    """Warnings of our own as one line; what libraries warn about among themselves stays out of sight."""
    if category is UserWarning:
        print(f"dshc: warning: {_line(str(message))}", file=sys.stderr)
