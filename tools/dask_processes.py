"""A Dask scheduler and workers as processes of their own, on loopback."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_WAIT_SECONDS = 60.0
# The default lets a dead connection be noticed late, and retries for longer than a test should run.
_SETTINGS = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "30s",
}


class DaskProcesses:
    """A scheduler and its workers, each of one thread.

    Attributes:
        address: Of the scheduler.
        scheduler: Its process.
        workers: The workers' processes; killed ones stay listed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.start_scheduler()

    def start_scheduler(self) -> None:
        """Start the scheduler, again at the same address if it was killed."""
        self.scheduler = self._start(
            "scheduler",
            *("scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard"),
        )
        wait_until(self._listens, self.scheduler)

    def add_worker(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until the scheduler knows it."""
        name = f"worker{len(self.workers)}"
        arguments = ("worker", self.address, "--nthreads", "1", "--no-dashboard", "--no-nanny")
        log = self._folder / f"{name}.log"
        worker = self._start(
            name,
            *(*arguments, "--name", name, "--local-directory", str(self._folder)),
            **environment,
        )
        self.workers.append(worker)
        wait_until(lambda: b"Registered to" in log.read_bytes(), worker)
        return worker

    def stop(self) -> None:
        """Kill them all."""
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_SETTINGS, **environment},
                cwd=self._folder,
            )

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    """Wait for a condition that a living process brings about."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"in vain (exit status {process.poll()})")
        time.sleep(0.02)


@contextlib.contextmanager
def dask_processes(folder: Path, n_workers: int = 2) -> Iterator[DaskProcesses]:
    """A scheduler and workers; killed at the end."""
    processes = DaskProcesses(folder)
    try:
        for _ in range(n_workers):
            processes.add_worker()
        yield processes
    finally:
        processes.stop()
