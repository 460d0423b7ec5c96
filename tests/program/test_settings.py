"""The base of all settings: what they accept, what the messages say, and what identifies a result."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import model_validator

from dshc.errors import InputError
from dshc.runs import RunSettings
from dshc.settings import Settings, choices, identity, plain_type, setting


class Inner(Settings):
    depth: int = setting(2, "depth", ge=1)
    folder: str | None = setting(None, "folder", result=False)


class Example(Settings):
    epochs: int = setting(3, "epochs", ge=1, le=9)
    bits: int | None = setting(None, "bits", ge=1)
    lr: float = setting(0.5, "lr", gt=0, lt=1)
    out: str | None = setting(None, "out", result=False)
    flip: bool = setting(False, "flip")
    schedule: Literal["cosine", "step"] = setting("cosine", "schedule")
    optimizer: Literal["sgd", "adamw"] | None = setting(None, "optimizer")
    widths: tuple[int, ...] = setting((1,), "widths")
    share: float | int | None = setting(None, "share", ge=1)
    inner: Inner = setting(Inner(), "inner")

    @model_validator(mode="after")
    def _together(self) -> Example:
        if self.epochs == 7 and self.flip:
            raise InputError("flip must be false with 7 epochs, got true")
        return self


class Named(Settings):
    name: str


def message(**values: Any) -> str:
    with pytest.raises(InputError) as caught:
        Example(**values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"schedul": "step"}, "unknown setting 'schedul'; did you mean 'schedule'?"),
        (
            {"zzz": 1},
            "unknown setting 'zzz'; it must be one of epochs, bits, lr, out, flip, schedule, optimizer, widths, "
            "share, inner",
        ),
        ({"schedule": "cosin"}, "schedule must be one of cosine, step, got 'cosin'; did you mean 'cosine'?"),
        ({"schedule": "zzz"}, "schedule must be one of cosine, step, got 'zzz'"),
        ({"schedule": None}, "schedule must be one of cosine, step, got None"),
        ({"schedule": 3}, "schedule must be one of cosine, step, got 3"),
        ({"schedule": ["step"]}, "schedule must be one of cosine, step, got ['step']"),
        (
            {"optimizer": "adam"},
            "optimizer must be one of sgd, adamw or nothing, got 'adam'; did you mean 'adamw'?",
        ),
        ({"epochs": 0}, "epochs must be at least 1 and at most 9, got 0"),
        ({"epochs": 10}, "epochs must be at least 1 and at most 9, got 10"),
        ({"epochs": 2**70}, f"epochs must be at least 1 and at most 9, got {2**70}"),
        ({"bits": 0}, "bits must be at least 1, got 0"),
        ({"lr": 0}, "lr must be more than 0 and less than 1, got 0"),
        ({"lr": 1.0}, "lr must be more than 0 and less than 1, got 1.0"),
        ({"lr": 1.5}, "lr must be more than 0 and less than 1, got 1.5"),
        ({"share": 0.5}, "share must be at least 1, got 0.5"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"epochs": "2"}, "epochs must be a whole number, got '2'"),
        ({"epochs": 2.0}, "epochs must be a whole number, got 2.0"),
        ({"epochs": None}, "epochs must be a whole number, got None"),
        ({"bits": "x"}, "bits must be a whole number or nothing, got 'x'"),
        ({"bits": True}, "bits must be a whole number or nothing, got True"),
        ({"lr": True}, "lr must be a number, got True"),
        ({"lr": "0.1"}, "lr must be a number, got '0.1'"),
        ({"lr": 10**400}, f"lr must be a number, got 1{'0' * 96}..."),
        ({"lr": float("nan")}, "lr must be a finite number, got nan"),
        ({"lr": float("inf")}, "lr must be a finite number, got inf"),
        ({"lr": float("-inf")}, "lr must be a finite number, got -inf"),
        ({"out": 3}, "out must be text or nothing, got 3"),
        ({"out": b"x"}, "out must be text or nothing, got b'x'"),
        ({"flip": 1}, "flip must be true or false, got 1"),
        ({"flip": "yes"}, "flip must be true or false, got 'yes'"),
        ({"widths": 3}, "widths must be tuple, got 3"),
        ({"share": "x"}, "share must be a number or a whole number or nothing, got 'x'"),
        ({"inner": {"depth": 0}}, "inner: depth must be at least 1, got 0"),
        ({"inner": {"dept": 1}}, "inner: unknown setting 'dept'; did you mean 'depth'?"),
        ({"epochs": 7, "flip": True}, "flip must be false with 7 epochs, got true"),
    ],
)
def test_messages(values: dict[str, Any], expected: str) -> None:
    assert message(**values) == expected


def test_the_element_of_a_list_is_named() -> None:
    assert message(widths=(1, "a")).startswith("widths.1: ")


def test_what_has_no_default_must_be_given() -> None:
    with pytest.raises(InputError, match=r"^name must be given, got nothing$"):
        Named()


def test_what_is_taken() -> None:
    taken = Example(epochs=9, bits=None, lr=0.25, out="a", optimizer=None, widths=(3, 4), inner={"depth": 5})
    assert taken.epochs == 9 and taken.widths == (3, 4) and taken.inner == Inner(depth=5)
    whole = Example(inner=Inner(depth=3), share=2)
    assert whole.inner.depth == 3 and whole.share == 2
    named = Named(name="x")
    assert Named(**named.values()) == named


def test_a_whole_number_is_a_number() -> None:
    class Rate(Settings):
        lr: float = setting(0.5, "lr", gt=0)

    assert isinstance(Rate(lr=2).lr, float) and Rate(lr=2) == Rate(lr=2.0)


def test_paths_are_text() -> None:
    taken = Example(out=Path("/a") / "b")
    assert taken.out == "/a/b" and type(taken.out) is str
    assert Example(inner={"folder": Path("c")}).inner.folder == "c"
    assert message(epochs=Path("3")) == "epochs must be a whole number, got '3'"


def test_replaced_is_checked_and_leaves_what_was() -> None:
    before = Example(epochs=4, inner=Inner(depth=7))
    after = before.replaced(epochs=5)
    assert (before.epochs, after.epochs, after.inner.depth) == (4, 5, 7) and type(after) is Example
    assert before.replaced() == before
    with pytest.raises(InputError, match="epochs must be at least 1 and at most 9, got 0"):
        before.replaced(epochs=0)
    with pytest.raises(InputError, match="unknown setting 'epoch'; did you mean 'epochs'"):
        before.replaced(epoch=1)


def test_frozen_and_of_value() -> None:
    one = Example()
    with pytest.raises(ValueError, match="frozen"):
        one.epochs = 4
    assert one == Example() and hash(one) == hash(Example()) and one != Example(epochs=4)
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)


def test_values_by_name() -> None:
    assert list(Example().values()) == list(Example.model_fields)
    assert Inner(depth=3).values() == {"depth": 3, "folder": None}


def test_identity_leaves_out_what_decides_nothing() -> None:
    found = identity(Example(out="somewhere", inner=Inner(folder="elsewhere")))
    assert "out" not in found and found["inner"] == {"depth": 2}
    assert found == identity(Example()) != identity(Example(epochs=4))
    assert found != identity(Example(inner=Inner(depth=3)))
    assert set(found) == {*Example.model_fields} - {"out"}
    assert identity(Named(name="x")) == {"name": "x"}


def test_identity_leaves_out_settings_of_later_at_their_defaults() -> None:
    """So that what was trained before they were there is found."""

    class Before(Settings):
        depth: int = setting(2, "layers")

    class After(Settings):
        depth: int = setting(2, "layers")
        side: int | None = setting(None, "pixels", later=True)

    assert identity(After()) == identity(Before()) == {"depth": 2}
    assert identity(After(side=3)) == {"depth": 2, "side": 3}


def test_choices_and_plain_types() -> None:
    fields = Example.model_fields
    assert choices(fields["schedule"]) == ("cosine", "step") and choices(fields["optimizer"]) == (
        "sgd",
        "adamw",
    )
    assert choices(fields["epochs"]) == choices(fields["out"]) == choices(fields["widths"]) == ()
    found = {name: plain_type(field) for name, field in fields.items()}
    assert found == {
        "epochs": int,
        "bits": int,
        "lr": float,
        "out": str,
        "flip": bool,
        "schedule": str,
        "optimizer": str,
        "widths": tuple,
        "share": float,
        "inner": Inner,
    }


def test_descriptions_are_kept() -> None:
    assert Example.model_fields["lr"].description == "lr"


def test_numbers_of_numpy() -> None:
    plain = RunSettings.of(source="digits", bits=9, seed=3, lr=0.5, flip=False)
    found = RunSettings.of(
        source="digits", bits=np.int64(9), seed=np.uint8(3), lr=np.float64(0.5), flip=np.bool_(False)
    )
    assert found == plain and type(found.method.bits) is int
    with pytest.raises(InputError, match="bits must be a whole number"):
        RunSettings.of(source="digits", bits=np.float64(9.5))
