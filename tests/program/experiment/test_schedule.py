"""Trials several at a time: in which order they are begun, what waits for what, and what the server's answers mean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_runs import environment

from dshc.experiment import workshop as workshop_module
from dshc.experiment.schedule import Todo, carry_out
from dshc.experiment.trial import Trial
from dshc.experiment.workshop import Workshop, workshop
from dshc.runs import RunSettings
from dshc.training import Interrupted
from dshc.training.stop_signals import Stop


class FakeTrial:
    def __init__(self, name, done=False, fails=False):
        self.name, self.done, self.fails = name, done, fails

    def trained(self):
        return {} if self.done else None


class FakeShop:
    """Ends what was started in an order of its own; remembers how many ran at once."""

    def __init__(self, order=lambda running: 0):
        self.order, self.running, self.begun, self.most = order, [], [], 0

    def start(self, trial, *, measure, jobs):
        assert not trial.done and trial not in self.running
        self.running.append(trial)
        self.begun.append(trial.name)
        self.most = max(self.most, len(self.running))

    def ended(self):
        trial = self.running.pop(self.order(self.running) % len(self.running))
        trial.done = not trial.fails
        return trial


def steps(name, *sizes, known=(), failing=()):
    """Lists of so many trials one after another; all of a list are done before the next is asked for."""
    for number, size in enumerate(sizes):
        names = [f"{name}{number}{i}" for i in range(size)]
        trials = [FakeTrial(one, one in known, one in failing) for one in names]
        yield [Todo(trial, measure=False) for trial in trials]
        assert all(trial.done or trial.fails for trial in trials)
    return name


def carried_out(shop, work, jobs, first_alone=False):
    told = []
    found = list(
        carry_out(shop, work, jobs=jobs, first_alone=first_alone, done=lambda t, new: told.append((t, new)))
    )
    return found, [(todo.trial.name, new) for todo, new in told]


def test_one_at_a_time_goes_in_order():
    shop = FakeShop()
    found, told = carried_out(shop, [steps("a", 2, 1), steps("b", 1), steps("c")], 1)
    assert shop.begun == ["a00", "a01", "a10", "b00"] and shop.most == 1
    assert found == [(0, "a"), (1, "b"), (2, "c")]
    assert told == [(name, True) for name in shop.begun]


def test_a_free_job_takes_from_the_next_work():
    shop = FakeShop()
    carried_out(shop, [steps("a", 2, 2), steps("b", 3)], 3)
    assert shop.begun == ["a00", "a01", "b00", "b01", "a10", "a11", "b02"] and shop.most == 3


def test_the_first_has_the_machine_to_itself():
    shop = FakeShop()
    seen = []
    shop.order = lambda running: seen.append(len(running)) or 0
    carried_out(shop, [steps("a", 4), steps("b", 2)], 2, first_alone=True)
    assert seen == [1, 2, 2, 2, 2, 1]


def test_until_one_is_trained_each_has_the_machine_to_itself():
    """The first fails, and has left nothing that the others need."""
    shop, seen = FakeShop(), []
    shop.order = lambda running: seen.append(len(running)) or 0
    work = [steps("a", 4, failing=("a00",))]
    list(carry_out(shop, work, jobs=2, first_alone=True, done=lambda *_: None))
    assert seen == [1, 1, 2, 1]


def test_what_is_done_is_not_begun():
    shop = FakeShop()
    found, told = carried_out(
        shop, [steps("a", 2, 1, known=("a00", "a10")), steps("b", 1, known=("b00",))], 2
    )
    assert shop.begun == ["a01"] and sorted(found) == [(0, "a"), (1, "b")]
    assert sorted(told) == [("a00", False), ("a01", True), ("a10", False), ("b00", False)]


@given(
    st.lists(st.lists(st.integers(0, 4), max_size=3), max_size=5),
    st.integers(1, 6),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_whatever_ends_first_all_are_done_once(sizes, jobs, first_alone, random):
    shop = FakeShop(lambda running: random.randrange(len(running)))
    work = [steps("abcde"[i], *of_one) for i, of_one in enumerate(sizes)]
    found, told = carried_out(shop, work, jobs, first_alone)
    assert sorted(found) == [(i, "abcde"[i]) for i in range(len(sizes))]
    assert len(told) == sum(map(sum, sizes)) == len(set(shop.begun)) == len(shop.begun)
    assert shop.most <= jobs and not shop.running


# The workshop and its server


@pytest.fixture
def trial(tmp_path):
    return lambda name: Trial(name, RunSettings(), tmp_path)


def talk(says, use, stop=None):
    """A workshop whose server is a program that says something."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", says], bufsize=0, env=environment(), **pipes) as server:
        try:
            return use(Workshop(server, stop or Stop()))
        finally:
            server.stdin.close()


ECHO = """
import json, sys
for pid, line in enumerate(sys.stdin, 7):
    folder = json.loads(line)["folder"]
    print(json.dumps({"folder": folder, "pid": pid}) + "\\n" + json.dumps({"pid": pid, "code": 0}), flush=True)
"""


def test_two_answers_at_once_are_both_heard(trial):
    """Of a child that has ended before the parent looks."""

    def use(shop):
        shop.start(trial("a"), measure=False)
        shop.start(trial("b"), measure=False)
        return [shop.ended().contestant, shop.ended().contestant]

    assert talk(ECHO, use) == ["a", "b"]


def test_a_child_that_ends_badly_leaves_why(trial):
    one, two = trial("a"), trial("b")

    def use(shop):
        shop.run(one, measure=False)
        shop.run(two, measure=False)

    talk(ECHO.replace('"code": 0', '"code": -9 if pid == 7 else 3'), use)
    assert one.failure() == "its process was ended by SIGKILL: the system may have run out of memory"
    assert two.failure() == "its process ended with status 3; log.txt says more"


def test_a_server_that_is_gone_is_said(trial):
    with pytest.raises(RuntimeError, match=r"the process that runs trials has ended \(5\)"):
        talk(
            "import sys; sys.stdin.readline(); sys.exit(5)", lambda shop: shop.run(trial("a"), measure=False)
        )


# What the server and its children are to signals: a server whose trials sleep, and write what they were told.

SLEEPING = """
import os, signal, sys, time
from dshc.experiment import server

def child(folder, measure, jobs):
    if measure:
        signal.signal(signal.SIGTERM, lambda *_: ((folder / "told").write_text(str(jobs)), os._exit(75)))
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(60)

server._child = child
channel = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
server._serve(0, channel)
"""


def begun(trials):
    """The children's ids, once all have written them."""
    files, deadline = [one.folder / "pid" for one in trials], time.monotonic() + 60
    while not all(path.is_file() and path.read_text() for path in files) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [int(path.read_text()) for path in files]


@pytest.mark.deep
def test_the_server_stops_its_children_where_its_input_ends(tmp_path):
    """Which is how a parent that was killed ends it: they write a checkpoint, and nothing of them goes on unseen."""
    line = f'{{"folder": "{tmp_path}", "measure": true, "jobs": 1}}\n'
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SLEEPING], env=environment(), **pipes) as server:
        server.stdin.write(line)
        server.stdin.flush()
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        answers, errors = server.communicate(timeout=30)  # which closes its input
    assert server.returncode == 0 and (tmp_path / "told").read_text() == "1", errors
    told = [json.loads(answer) for answer in answers.splitlines()]
    assert [set(answer) for answer in told] == [{"folder", "pid"}, {"pid", "code"}] and told[1]["code"] == 75


@pytest.mark.deep
def test_one_of_two_children_is_killed_and_the_other_goes_on(trial):
    trials = [trial("a"), trial("b")]

    def use(shop):
        for one in trials:
            shop.start(one, measure=True, jobs=2)
        first, second = begun(trials)
        os.kill(first, signal.SIGKILL)
        assert shop.ended() is trials[0]
        os.kill(second, 0)
        shop.close()

    talk(SLEEPING, use)
    assert trials[0].failure().startswith("its process was ended by SIGKILL")
    assert trials[1].failure() is None and (trials[1].folder / "told").read_text() == "2"


@pytest.mark.deep
def test_a_stop_waits_for_every_child(trial):
    """Each is told once, and what it then ends with is no failure."""
    trials, stop = [trial("a"), trial("b")], Stop()
    stop.asked, stop.signal_name = True, "SIGHUP"

    def use(shop):
        for one in trials:
            shop.start(one, measure=True)
        begun(trials)
        with pytest.raises(Interrupted, match="stopped at") as raised:
            shop.ended()
        return raised.value.signal_name

    assert talk(SLEEPING, use, stop) == "SIGHUP"
    assert [one.failure() for one in trials] == [None, None]
    assert all((one.folder / "told").is_file() for one in trials)


@pytest.mark.deep
def test_nothing_runs_on_behind_a_program_that_failed(trial, monkeypatch):
    """An error in the parent: every child is told, and waited for."""
    monkeypatch.setattr(workshop_module, "_command", lambda modules: [sys.executable, "-c", SLEEPING])
    trials = [trial("a"), trial("b")]
    with pytest.raises(ZeroDivisionError), workshop() as shop:
        for one in trials:
            shop.start(one, measure=True)
        begun(trials)
        raise ZeroDivisionError
    assert all((one.folder / "told").is_file() for one in trials)


@pytest.mark.deep
def test_a_signal_to_the_whole_group_leaves_the_server_to_say_how_children_end(trial):
    trials, stop = [trial("a"), trial("b")], Stop()

    def use(shop):
        for one in trials:
            shop.start(one, measure=False)
        begun(trials)
        shop._server.send_signal(signal.SIGTERM)
        shop._server.send_signal(signal.SIGINT)
        stop.asked, stop.signal_name = True, "SIGTERM"
        with pytest.raises(Interrupted):
            shop.ended()
        assert shop._server.poll() is None

    talk(SLEEPING, use, stop)


def test_a_server_that_is_gone_tells_its_children(trial):
    one = trial("a")

    def use(shop):
        shop.start(one, measure=True)
        begun([one])
        while not shop._running:
            shop._hear()  # which child it is
        shop._server.kill()
        with pytest.raises(RuntimeError, match="has ended"):
            shop.ended()

    talk(SLEEPING, use)
    deadline = time.monotonic() + 30
    while not (one.folder / "told").is_file() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (one.folder / "told").is_file()
