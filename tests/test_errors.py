"""Errors on their way between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from deadtokens import errors
from deadtokens.errors import DeadtokensError, one_line

KINDS = [DeadtokensError, *DeadtokensError.__subclasses__()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 5000])
@pytest.mark.parametrize("where", [None, Path("folder") / "file", "argument"])
def test_errors_are_the_same_once_pickled(
    kind: type[DeadtokensError], length: int, where: object
) -> None:
    error = kind("x" * length, where=where, remedy="mend it")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (its own)
    assert type(again) is kind
    assert str(again) == str(error)
    assert str(again).endswith("; mend it")
    assert (again.what, again.remedy) == (error.what, "mend it")


def test_a_place_needs_nothing_to_be_unpickled() -> None:
    error = errors.DeviceError("it fails", where=Path("here"))
    assert b"pathlib" not in pickle.dumps(error)


def test_one_line() -> None:
    assert one_line(ValueError(" first\n  second ")) == "first second"
    assert one_line(TimeoutError()) == "TimeoutError"
