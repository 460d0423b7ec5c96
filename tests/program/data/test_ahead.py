"""The next one ahead: order, errors, and nothing left behind."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest

from dshc.data.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_ahead_keeps_the_order(n):
    assert list(ahead(range(n))) == list(range(n))
    assert list(ahead(iter([None] * n))) == [None] * n  # None is an item as any other
    assert not threads()


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), StopAsyncIteration()])
def test_what_raises_ahead_is_raised_in_its_place(error):
    def items():
        yield 1
        yield 2
        raise error

    found, source = [], ahead(items())
    with pytest.raises(type(error)) as caught:
        for item in source:
            found.append(item)
    assert found == [1, 2] and caught.value is error and not threads()


def until(reached):
    """Wait for another thread to get there."""
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_ahead_makes_one_while_one_is_in_use_and_no_more():
    made, now, let = [], threading.Event(), threading.Event()

    def items():
        for i in range(5):
            made.append(i)
            if i == 1:
                now.set()
                assert let.wait(20)
            yield i

    source = ahead(items())
    assert next(source) == 0
    assert now.wait(20)  # item 1 is being made while 0 is in use
    let.set()
    time.sleep(0.05)
    assert made == [0, 1]
    assert next(source) == 1
    until(lambda: len(made) == 3)
    time.sleep(0.05)
    assert made == [0, 1, 2]
    assert list(source) == [2, 3, 4] and not threads()


def test_ahead_lets_go_of_what_was_used():
    class Item:
        pass

    references = []

    def items():
        for _ in range(4):
            item = Item()
            references.append(weakref.ref(item))
            yield item
            del item

    most = 0
    for number, item in enumerate(ahead(items())):
        until(lambda number=number: len(references) == min(number + 2, 4))  # the next one is made
        gc.collect()
        most = max(most, sum(reference() is not None for reference in references))
        del item
    assert most == 2


@pytest.mark.parametrize("how", ["close", "forget", "raise"])
def test_ahead_ends_its_thread_when_it_is_abandoned(how):
    source = ahead(range(100))
    assert next(source) == 0 and len(threads()) == 1
    if how == "close":
        source.close()
    elif how == "raise":
        with pytest.raises(KeyError):
            source.throw(KeyError())
    else:
        del source
        gc.collect()
    assert not threads()
