"""Ctrl-C where it would be lost, or leave something behind."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest

import deadtokens as dt
from deadtokens import scheduler
from deadtokens.interrupts import held_back, noticed
from deadtokens.survey import survey
from deadtokens.survey_lines import Surveyed

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


@pytest.fixture
def earlier() -> Iterator[None]:
    """What Ctrl-C did before is done again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("earlier")
@pytest.mark.parametrize("waits", [held_back, noticed])
def test_where_it_is_ignored_it_stays_so(waits: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with waits():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("earlier")
def test_somebody_elses_handler_is_called_where_the_block_asks() -> None:
    called: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: called.append(number))
    with noticed() as check:
        signal.raise_signal(signal.SIGINT)
        assert called == []
        check()
        assert called == [signal.SIGINT]
        check()
    assert called == [signal.SIGINT]


def test_ctrl_c_while_threads_are_begun_stops_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but what was begun is drawn: of five million trials a few."""
    submit = ThreadPoolExecutor.submit

    def interrupted(*arguments: Any) -> Any:
        future = submit(*arguments)
        signal.raise_signal(signal.SIGINT)
        return future

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        dt.sweep(np.full(8, 0.01), 1e-3, 500, 5_000_000, tmp_path / "run", device="cpu")
    missing = dt.open_run(tmp_path / "run").missing_of_each([5_000_000])[0]
    assert sum(count for _, count in missing) > 4_000_000


def waits_in_a_destructor(patch: pytest.MonkeyPatch, module: Any) -> None:
    """While that module waits, Ctrl-C comes where it would be lost."""
    wait = module.wait

    def interrupted(*arguments: Any, **options: Any) -> Any:
        _Dying()
        return wait(*arguments, **options)

    patch.setattr(module, "wait", interrupted)


def test_ctrl_c_ends_a_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["deadtokens.survey"]
    waits_in_a_destructor(monkeypatch, module)
    begun: list[str] = []

    def take(source: str, *_: object) -> tuple[None, Surveyed]:
        begun.append(source)
        time.sleep(0.05)
        return None, Surveyed(source, "no file")

    monkeypatch.setattr(module, "_take", take)
    with pytest.raises(KeyboardInterrupt):
        survey([f"{i}.npy" for i in range(1000)], workers=1)
    assert len(begun) < 1000


def test_ctrl_c_ends_the_wait_for_results_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    waits_in_a_destructor(monkeypatch, scheduler)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def gather(*_: Any, **__: Any) -> NoReturn:
        while True:
            await asyncio.sleep(3600)

    client = SimpleNamespace(
        gather=gather, status="running", loop=SimpleNamespace(asyncio_loop=loop)
    )
    try:
        with pytest.raises(KeyboardInterrupt):
            scheduler._HandOut(client, abs)._fetched({})
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
