"""Ctrl-C where it would be lost, or leave something behind."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from deadtokens.interrupts import held_back, noticed

LOCK = threading.Lock()


class _Dying:
    """In its destructor Ctrl-C comes, which Python prints and forgets."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def in_a_destructor(check: Callable[[], None]) -> None:
    _Dying()
    check()


def between_a_lock_and_its_block(check: Callable[[], None]) -> None:
    LOCK.acquire()
    signal.raise_signal(signal.SIGINT)
    LOCK.release()
    check()


@pytest.mark.parametrize("work", [in_a_destructor, between_a_lock_and_its_block])
def test_ctrl_c_is_noticed_where_the_block_asks(work: Callable[[Callable[[], None]], None]) -> None:
    def block() -> None:
        with noticed() as check:
            work(check)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert not LOCK.locked()


def test_in_a_destructor_it_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: why a loop has to ask."""
    lost: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda told: lost.append(told.exc_type))
    _Dying()
    assert lost == [KeyboardInterrupt]


@pytest.mark.parametrize("waits", [held_back, noticed])
def test_what_nobody_asked_for_comes_at_the_end(waits: Any) -> None:
    passed = []

    def block() -> None:
        with waits():
            signal.raise_signal(signal.SIGINT)
            passed.append(1)

    with pytest.raises(KeyboardInterrupt):
        block()
    assert passed == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("waits", [held_back, noticed])
def test_an_error_of_the_block_ends_it(waits: Any) -> None:
    def block() -> NoReturn:
        with waits():
            raise LookupError

    with pytest.raises(LookupError):
        block()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("waits", [held_back, noticed])
def test_in_other_threads_nothing_changes(waits: Any) -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def work() -> None:
        with waits():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
