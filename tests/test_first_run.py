"""The first run on a machine says that it compiles kernels; the next has them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deadtokens import listening
from deadtokens.interrupts import held_back
from deadtokens.kernels import compiling

BEGINS = "compiling kernels"


def census(source: Path, cache: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{before}\nfrom deadtokens.cli import run; run()"
    return subprocess.run(
        [sys.executable, "-c", code, "census", str(source)],
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    rows[5:9] = rows[5]
    np.save(tmp_path / "model.npy", rows)
    return tmp_path / "model.npy"


def test_the_first_run_says_so_and_the_next_has_nothing_to_say(
    tmp_path: Path, source: Path
) -> None:
    cache = tmp_path / "cache"
    first, second = census(source, cache), census(source, cache)
    lines = first.stderr.splitlines()
    begins = [line for line in lines if line.startswith(BEGINS)]
    (ends,) = [line for line in lines if line.startswith("compiled ")]
    assert begins == [lines[0]], "once, and before all else"
    assert "for this machine, once" in lines[0]
    assert f"kept in {cache}" in lines[0]
    assert ends == lines[-1]
    assert "compil" not in second.stderr
    assert first.stdout == second.stdout


def test_without_a_folder_every_run_says_what_to_do(tmp_path: Path, source: Path) -> None:
    no_folder = (
        "from numba.core import caching\n"
        "impl = getattr(caching, 'CacheImpl', None) or caching._CacheImpl\n"
        "impl._locator_classes = []"
    )
    said = census(source, tmp_path / "cache", no_folder).stderr
    assert said.count(BEGINS) == 1
    assert "in every process" in said
    assert "NUMBA_CACHE_DIR" in said
    assert not (tmp_path / "cache").exists()


def test_only_own_kernels_that_are_compiled_are_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import numba

    told: list[str] = []
    monkeypatch.setattr(listening, "_listener", listening.Listener(told.append))
    others: Any = numba.njit(lambda x: x + 1)
    others(1)
    nowhere: dict[str, Any] = {}
    exec("def f(x): return x + 1", nowhere)  # noqa: S102 (as code generators do: of no module)
    numba.njit(nowhere["f"])(1)
    compiling.watch.tell()
    told.clear()

    def add(x: int) -> int:
        return x + 2

    add.__module__ = "deadtokens.kernels.made_here"
    own: Any = numba.njit(add)
    assert own(1) == 3
    assert own(2) == 4
    assert len(told) == 1
    assert told[0].startswith(BEGINS)
    compiling.watch.tell()
    compiling.watch.tell()
    assert len(told) == 2
    assert told[1].startswith("compiled 1 kernel in ")


def test_a_listener_that_fails_does_not_stop_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    def gone(text: str) -> None:
        raise BrokenPipeError(text)

    monkeypatch.setattr(listening, "_listener", listening.Listener(gone))

    def add(x: int) -> int:
        return x + 3

    add.__module__ = "deadtokens.kernels.made_here"
    own: Any = numba.njit(add)
    assert own(1) == 4
    compiling.watch.tell()


def test_ctrl_c_waits_until_a_kernel_is_compiled() -> None:
    import numba
    from numba.core import event

    class Pressed(event.Listener):
        def on_start(self, _: Any) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        def on_end(self, _: Any) -> None:
            pass

    def add(x: int) -> int:
        return x + 4

    add.__module__ = "deadtokens.kernels.made_here"
    own: Any = numba.njit(add)
    with (
        event.install_listener("numba:compile", Pressed()),
        pytest.raises(KeyboardInterrupt),
    ):
        own(1)
    assert len(own.signatures) == 1, "it was compiled all the same"
    assert own(1) == 5
    compiling.watch.tell()


def test_ctrl_c_waits_in_the_main_thread_alone() -> None:
    reached = []

    def pressed() -> None:
        with held_back():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("end")

    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert reached == ["end"]
    before = signal.getsignal(signal.SIGINT)

    def elsewhere() -> None:
        with held_back():
            reached.append("kept" if signal.getsignal(signal.SIGINT) is before else "changed")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert reached == ["end", "kept"]
