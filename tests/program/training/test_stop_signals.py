"""Signals that ask a training to stop, sent for real to a child process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dshc.training import stop_signals as module
from dshc.training.stop_signals import stop_signals

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")

# The file alone, without its package: torch takes a while to load.
START = f"""
import importlib.util, os, signal, sys, time
spec = importlib.util.spec_from_file_location("stop_signals", {str(Path(module.__file__))!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
stop_signals = module.stop_signals

def say(*words):
    print(*words, flush=True)

def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
"""

LOOP = """
with stop_signals() as stop:
    say("ready")
    until(lambda: stop.asked)
    say(stop.signal_name)
    sys.stdin.readline()
    say("again")
    sys.stdin.readline()
say("left", stop.signal_name)
sys.stdin.readline()
"""


def child(program: str) -> subprocess.Popen[str]:
    # The child of a test that runs in the background would inherit an ignored SIGINT.
    fresh = "import signal\nfor s in (2, 15, 1): signal.signal(s, signal.SIG_DFL)\n"
    fresh += "signal.signal(2, signal.default_int_handler)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", fresh + START + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process


def line(process: subprocess.Popen[str]) -> str:
    found = process.stdout.readline().strip()
    assert found, process.communicate()[1]
    return found


def go_on(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_is_noted_and_the_second_acts(name: str) -> None:
    with child(LOOP) as process:
        assert line(process) == "ready"
        process.send_signal(signal.Signals[name])
        assert line(process) == name
        process.send_signal(signal.Signals[name])
        _, errors = process.communicate(timeout=20)
        assert process.returncode == -signal.Signals[name]
        assert ("KeyboardInterrupt" in errors) == (name == "SIGINT")


def test_one_of_another_kind_is_noted_too_and_the_first_is_named() -> None:
    with child(LOOP) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGHUP)
        assert line(process) == "SIGHUP"
        process.send_signal(signal.SIGTERM)
        go_on(process)
        assert line(process) == "again"
        go_on(process)
        assert line(process) == "left SIGHUP"
        process.send_signal(signal.SIGTERM)  # which ends it again, the block being left
        process.wait(timeout=20)
        assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("name", NAMES)
def test_what_is_ignored_stays_so(name: str) -> None:
    program = f"""
signal.signal(signal.{name}, signal.SIG_IGN)
with stop_signals() as stop:
    for _ in range(3):
        os.kill(os.getpid(), signal.{name})
    time.sleep(0.05)
    say(stop.asked, stop.signal_name, signal.getsignal(signal.{name}) == signal.SIG_IGN)
say(signal.getsignal(signal.{name}) == signal.SIG_IGN)
"""
    with child(program) as process:
        output, errors = process.communicate(timeout=20)
        assert output.split() == ["False", "None", "True", "True"], errors


def test_a_forked_child_leaves_ctrl_c_to_its_parent_and_ends_by_sigterm() -> None:
    program = """
with stop_signals() as stop:
    ready, tell = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.write(tell, b"r")
        time.sleep(20)
        os._exit(3)
    os.read(ready, 1)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGINT):
        os.kill(worker, number)
    time.sleep(0.2)
    say(os.waitpid(worker, os.WNOHANG)[0])
    os.kill(worker, signal.SIGTERM)
    _, status = os.waitpid(worker, 0)
    say(os.WTERMSIG(status), stop.asked)
"""
    with child(program) as process:
        output, errors = process.communicate(timeout=30)
        assert output.split() == ["0", "15", "False"], errors


def test_handlers_are_put_back() -> None:
    numbers = [signal.Signals[name] for name in NAMES]
    outside = {number: signal.getsignal(number) for number in numbers}
    seen: list[int] = []

    def ours(number: int, frame: object) -> None:
        seen.append(number)

    try:
        for number in numbers:
            signal.signal(number, ours)
        with pytest.raises(KeyError), stop_signals() as stop:
            for number in numbers:
                assert signal.getsignal(number) is not ours
                signal.raise_signal(number)
                assert stop.asked and signal.getsignal(number) is ours
                signal.raise_signal(number)  # the second does what it did before
            raise KeyError
        assert all(signal.getsignal(number) is ours for number in numbers)
        assert seen == numbers and stop.signal_name == "SIGINT"
    finally:
        for number, handler in outside.items():
            signal.signal(number, handler)


def test_another_thread_takes_no_signals() -> None:
    found: list[object] = []
    before = {name: signal.getsignal(signal.Signals[name]) for name in NAMES}

    def run() -> None:
        with stop_signals() as stop:
            found.append(stop.asked)
            found.append({name: signal.getsignal(signal.Signals[name]) for name in NAMES} == before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False, True]
