"""What is printed on a terminal and into a pipe: names from outside change neither, whatever they hold."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dshc.cli.app import app
from dshc.cli.console import prepare_streams, remark, say, table, working
from dshc.progress import progress, visible
from dshc.storage import CodeFile

NASTY = "[draft] a[/b]1 :cat: \x1b]0;title\x07\x1b[31m\r\n\t\x9b2J \u202egnp.exe\u2066 \udcff é \\"
SHOWN = r"[draft] a[/b]1 :cat: \x1b]0;title\x07\x1b[31m\r\n\t\x9b2J \u202egnp.exe\u2066 \udcff é" + " \\"
ASCII = SHOWN.replace("é", r"\xe9")
CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""What rich itself writes: colours, and the cursor under a bar."""


def on_a_terminal(
    act: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *, encoding: str = "utf-8", columns: int = 400
) -> str:
    """What ``act`` writes while stdout and stderr are a terminal."""
    master, slave = pty.openpty()
    received = bytearray()

    def listen() -> None:
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(master, 1 << 16):
                received.extend(data)

    listener = threading.Thread(target=listen)
    listener.start()
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(os.fdopen(os.dup(slave), "w", encoding=encoding, errors="strict"))
            for _ in range(2)
        ]
        os.close(slave)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            patch.setenv("COLUMNS", str(columns))
            patch.setenv("TERM", "xterm-256color")
            for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
                patch.delenv(name, raising=False)
            act()
    listener.join()
    os.close(master)
    return received.decode(encoding)


def in_a_pipe(act: Callable[[], None], monkeypatch: pytest.MonkeyPatch, *, encoding: str = "utf-8") -> str:
    """What ``act`` writes while stdout and stderr are files."""
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding=encoding, errors="strict", newline="\n")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        act()
        stream.flush()
    return buffer.getvalue().decode(encoding)


def run_app(*arguments: object) -> Callable[[], None]:
    def act() -> None:
        with contextlib.suppress(SystemExit):
            app([str(argument) for argument in arguments])

    return act


def plain(output: str) -> str:
    """What a terminal was sent, without what rich draws with."""
    return CURSOR.sub("", output).replace("\r\n", "\n")


def without_controls(output: str) -> bool:
    """Whether nothing but colours, line ends and the returns of a bar steers the terminal."""
    left = plain(output).replace("\r", "")
    return not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", left)


@given(st.text(st.characters()))
def test_visible_text_is_one_line_that_steers_nothing(text: str) -> None:
    shown = visible(text)
    assert shown.splitlines() in ([shown], [])
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not {unicodedata.bidirectional(letter) for letter in shown} & {
        "LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI",
    }  # fmt: skip
    shown.encode()
    assert visible(shown) == shown
    visible(text, "ascii").encode("ascii")
    visible(text, "cp437").encode("cp437")


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"], exclude_characters="\u061c")))
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert visible(text) == text and visible(text, "utf-8") == text


def test_what_escapes_look_like() -> None:
    assert visible(NASTY) == SHOWN
    assert visible(NASTY, "ascii") == ASCII
    assert visible("\u2028\x00\x7f\x85") == r"\u2028\x00\x7f\x85"
    assert visible("नमस्ते 👨\u200d👩 مرحبا") == "नमस्ते 👨\u200d👩 مرحبا", "joiners belong to words and pictures"
    assert visible("é", "no such encoding") == "é"
    assert visible(Path("a\nb")) == r"a\nb"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_lines(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    def act() -> None:
        say(NASTY)
        say(NASTY, style="bold")
        remark(NASTY)

    expected = ASCII if encoding == "ascii" else SHOWN
    assert in_a_pipe(act, monkeypatch, encoding=encoding).split("\n") == [expected] * 3 + [""]
    output = on_a_terminal(act, monkeypatch, encoding=encoding)
    assert plain(output) == f"{expected}\n" * 3
    assert "\x1b[1m" in output, "bold is drawn"


def test_a_long_line_is_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "word [b] " * 40
    assert plain(on_a_terminal(lambda: say(name), monkeypatch, columns=40)) == f"{name}\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_tables(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    def act() -> None:
        table(NASTY, ("id", NASTY), [(NASTY, 1), ("[red]x[/red]", np.int64(2))], numeric="lr")

    expected = ASCII if encoding == "ascii" else SHOWN
    lines = in_a_pipe(act, monkeypatch, encoding=encoding).split("\n")
    assert lines == [f"id\t{expected}", f"{expected}\t1", "[red]x[/red]\t2", ""]
    output = on_a_terminal(act, monkeypatch, encoding=encoding)
    assert without_controls(output)
    title, head, *rows, _, _ = [line.rstrip() for line in plain(output).split("\n")]
    assert title == expected and re.split(r"  +", head) == ["id", expected]
    assert [re.split(r"  +", row) for row in rows] == [[expected, "1"], ["[red]x[/red]", "2"]]


def test_a_cell_that_is_too_wide_is_folded_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    output = plain(on_a_terminal(lambda: table("", ("id",), [("x" * 90,)]), monkeypatch, columns=40))
    assert output.count("x") == 90


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_progress_and_spinners(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    def act() -> None:
        prepare_streams()
        with progress(NASTY) as update:
            update(1, 2)
        with working(NASTY):
            pass

    expected = ASCII if encoding == "ascii" else SHOWN
    output = on_a_terminal(act, monkeypatch, encoding=encoding)
    assert without_controls(output) and plain(output).count(expected) >= 2
    assert in_a_pipe(act, monkeypatch, encoding=encoding) == ""


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    """A code file whose ids and class names are as bad as a code file can hold them."""
    name = NASTY.replace("\udcff", "")
    file = CodeFile(
        np.array([[0], [1], [3]], np.uint8),
        2,
        labels=np.array([0, 1, 1]),
        ids=(name, "[draft]", "plain"),
        class_names=(name, "[b]"),
    )
    return file.save(tmp_path / "codes.safetensors")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_search_among_such_names(monkeypatch: pytest.MonkeyPatch, codes: Path, encoding: str) -> None:
    act = run_app("search", codes, "--item", 0)
    expected = (ASCII if encoding == "ascii" else SHOWN).replace(r"\udcff", "")
    lines = in_a_pipe(act, monkeypatch, encoding=encoding).split("\n")
    assert lines[1].split("\t") == [expected, "1", "0", "0", expected, expected, "yes"]
    assert lines[2].split("\t")[4:] == ["[draft]", "[b]", "no"]
    assert lines[4] == f"{expected}: 1 of 1 item at distance 2 shown"
    output = on_a_terminal(act, monkeypatch, encoding=encoding)
    assert without_controls(output)
    assert plain(output).count(expected) == 6 and " [draft] " in plain(output)


def test_json_is_exact(monkeypatch: pytest.MonkeyPatch, codes: Path) -> None:
    for output in (
        in_a_pipe(run_app("search", codes, "--item", 0, "--json"), monkeypatch, encoding="ascii"),
        on_a_terminal(run_app("search", codes, "--item", 0, "--json"), monkeypatch, encoding="ascii"),
    ):
        answer = json.loads(plain(output))
        assert answer["query"] == answer["results"][0]["label"] == NASTY.replace("\udcff", "")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_errors_show_names(monkeypatch: pytest.MonkeyPatch, encoding: str, tmp_path: Path) -> None:
    expected = ASCII if encoding == "ascii" else SHOWN
    for arguments in (
        ("search", f"{tmp_path}/{NASTY}", "--item", 0),
        ("evaluate", f"{tmp_path}/{NASTY}"),
        (NASTY,),
        ("codebook", "--out", NASTY),
        ("--debug", "codebook", "--out", NASTY),
    ):
        for output in (
            in_a_pipe(run_app(*arguments), monkeypatch, encoding=encoding),
            on_a_terminal(run_app(*arguments), monkeypatch, encoding=encoding),
        ):
            assert without_controls(output)
            last = plain(output).rstrip("\n").split("\n")[-1]
            assert last.startswith("dshc: ") and expected in last, last


def test_warnings_show_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: Path) -> None:
    other = CodeFile(np.array([[1]], np.uint8), 2, model="a\x1b[31m[b]").save(tmp_path / "a.safetensors")
    third = CodeFile(np.array([[1]], np.uint8), 2, model="b").save(tmp_path / "b.safetensors")
    output = in_a_pipe(run_app("search", other, third), monkeypatch)
    assert (
        r"dshc: warning: the codes come from different models: queries from b, database from a\x1b[31m[b]"
        in output
    )


def test_a_message_of_several_lines_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import dshc.cli.codebook as module

    def broken(*_: object, **__: object) -> None:
        raise ValueError("several things are wrong:\n\tthe first. \n\n  the second.\nAnd a name: a\n\tb\n")

    monkeypatch.setattr(module, "build", broken)
    output = in_a_pipe(run_app("codebook"), monkeypatch)
    assert output == "dshc: several things are wrong: the first. the second. And a name: a\\n\\tb\n"


@pytest.fixture
def closed() -> Iterator[TextIO]:
    """A stream that is no file and cannot be told how to treat letters it lacks."""
    yield io.StringIO()


def test_streams_without_an_encoding_are_left_alone(monkeypatch: pytest.MonkeyPatch, closed: TextIO) -> None:
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", closed)
    prepare_streams()
    say("é\x1b")
    assert closed.getvalue() == "é\\x1b\n"


@pytest.mark.deep
@pytest.mark.parametrize(
    ("shell", "code", "error"),
    [
        ("{} methods | true; exit ${{PIPESTATUS[0]}}", 1, ""),
        ("{} methods > /dev/full", 2, "dshc: [Errno 28] No space left on device\n"),
        ("{} methods >&-", 0, ""),
        ("{} methods --nothing 2>&-", 2, ""),
    ],
)
def test_streams_that_take_nothing(shell: str, code: int, error: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = shell.format(f"{shlex.quote(sys.executable)} -m dshc")
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (code, error)
