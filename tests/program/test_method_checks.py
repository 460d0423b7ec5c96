"""Every method passes the one list of checks, and methods with faults do not."""

import pytest
import torch
from effort import deep

from dshc import check_method, methods
from dshc.methods import DPSH, ITQ

# What shows more than the defaults do in trainings of two epochs.
SETTINGS = {
    "dpn": {"update_every": 1},
    "hashnet": {"lengths": "5"},
    "mdsh": {"pairs_after": 1},
    "sdsh": {"rotation_steps": 30},
}


@pytest.mark.parametrize("name", deep(*methods.available()))
def test_our_methods_pass(name):
    done = check_method(name, **SETTINGS.get(name, {}))
    kinds = methods.get(name).label_kinds
    assert len(done) == 1 + 4 * len(kinds)


class Forgetful(ITQ):
    """Keeps what it found outside of its state dict."""

    name = "forgetful"

    def encode(self, outputs):
        return super().encode(outputs + self.__dict__.setdefault("shift", torch.randn(self.n_bits)))


class ForgetfulBank(DPSH):
    """Does not keep its bank in checkpoints."""

    name = "forgetful-bank"

    def training_state(self):
        return {}

    def load_training_state(self, state):
        pass


@pytest.fixture
def registered(monkeypatch):
    def register(method):
        class Settings(method.Settings):
            name: str = method.name

        method.Settings = Settings
        table = {**methods._table(), method.name: method}
        monkeypatch.setattr(methods, "_table", lambda: table)
        return method.name

    return register


def test_what_is_not_saved_is_found(registered):
    name = registered(type("Forgetful", (Forgetful,), {"Settings": ITQ.Settings}))
    with pytest.raises(AssertionError, match="a state dict must hold all that codes need"):
        check_method(name)


def test_a_bank_that_is_lost_is_found(registered):
    name = registered(type("ForgetfulBank", (ForgetfulBank,), {"Settings": DPSH.Settings}))
    with pytest.raises(AssertionError, match="differs after resuming"):
        check_method(name)
