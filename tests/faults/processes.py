"""The program as a process of its own: started, watched, and stopped at a chosen moment."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

PROGRAM = (sys.executable, "-m", "deadtokens")
SIGMAS = (1e-9, 1e-8, 1e-4)  # two for the occupancy sampler, one for the direct one
TRIALS = 320
PART = 20  # trials of a part of an undisturbed run
_PART = re.compile(r"s\d+-t\d+-n(\d+)\.parquet")
_DEADLINE = 120.0

Event = Literal["launch", "folder", "part", "finishing"]


def sweep_command(centroid: Path, run: Path | str, *more: str) -> list[str]:
    """A sweep of some seconds in 48 parts."""
    threads = () if "--scheduler" in more else ("--workers", "16")
    return [
        *(*PROGRAM, "sweep", "--centroid", str(centroid)),
        *("--sigma", ",".join(map(repr, SIGMAS)), "--tokens", "200", "--trials", str(TRIALS)),
        *("--seed", "3", *threads, "-o", str(run), *more),
    ]


@contextlib.contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process whose stderr is kept; it is killed if the test fails before it has ended."""
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        **options,
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def stderr_of(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process; what it said on stderr."""
    return process.communicate(timeout=_DEADLINE)[1]


def outcome(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """A process from start to end."""
    with started(command, **options) as process:
        stderr = stderr_of(process)
    return subprocess.CompletedProcess(list(command), process.returncode, "", stderr)


def succeed(command: Sequence[str], **options: Any) -> None:
    """Run a command that has to succeed."""
    result = outcome(command, **options)
    assert result.returncode == 0, result.stderr


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> bool:
    """Wait for a condition; False if the process ends first."""
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)
    return True


def still_runs_after(seconds: float, process: subprocess.Popen[Any]) -> bool:
    """Let so many seconds pass; False if the process ends within them."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def suspend(process: subprocess.Popen[Any]) -> None:
    """SIGSTOP, and wait until it has taken effect."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


def trials_named(run: Path) -> int:
    """Trials in the parts of a run, going by their names."""
    if not (run / "parts").is_dir():
        return 0
    matches = (_PART.fullmatch(name) for name in os.listdir(run / "parts"))  # noqa: PTH208
    return sum(int(match[1]) for match in matches if match)


@dataclass(frozen=True)
class Moment:
    """So many seconds after something has happened."""

    event: Event
    seconds: float

    def waited_for(self, process: subprocess.Popen[Any], run: Path, held: int) -> bool:
        """Wait for it, in a process that found so many trials held; False if it ends before."""
        wanted = TRIALS * len(SIGMAS)
        happened: dict[Event, Callable[[], bool]] = {
            "launch": lambda: True,
            "folder": run.exists,
            "part": lambda: trials_named(run) > held or held == wanted,
            "finishing": lambda: trials_named(run) == wanted,
        }
        happens = wait_until(happened[self.event], process)
        return happens and still_runs_after(self.seconds, process)


def moments_of_a_life(seed: int) -> list[Moment]:
    """Ten moments, fixed by a seed, in the order in which one growing run can meet them."""
    rng = np.random.default_rng(seed)
    plan: list[tuple[Event, float]] = [
        *(("folder", 0.004), ("folder", 0.02), ("launch", 0.3), ("launch", 1.5)),
        *(("part", 0.02), ("part", 0.1), ("part", 0.3)),
        *(("finishing", 0.01), ("finishing", 0.1), ("finishing", 1.0)),
    ]
    return [Moment(event, rng.uniform(0, longest)) for event, longest in plan]


def stop_at(
    moment: Moment, command: Sequence[str], run: Path, sent: signal.Signals
) -> subprocess.CompletedProcess[str]:
    """Start a command, send it a signal at a moment, and wait for its end."""
    held = trials_named(run)
    with started(command) as process:
        if moment.waited_for(process, run, held):
            process.send_signal(sent)
        stderr = stderr_of(process)
    return subprocess.CompletedProcess(list(command), process.returncode, "", stderr)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of that size at a folder, if this user may mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, spare: int) -> Path:
    """Fill a disk up to so many bytes; returns the file to delete again."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, os.statvfs(disk).f_bavail * 4096 - spare)
    return ballast
