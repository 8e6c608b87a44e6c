"""Schedulers and workers as processes forked from one that has loaded everything.

Fifty of each are killed; started from nothing, each would take seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import multiprocessing.process
import socket
import tempfile
import time
from collections.abc import Iterator

from dask import config
from distributed import Scheduler, Worker

_WAIT_SECONDS = 60.0
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["faults.dask_forks", "deadtokens.sweep"])

Process = multiprocessing.process.BaseProcess


def _scheduler(port: int) -> None:
    async def serve() -> None:
        async with Scheduler(
            host="127.0.0.1", port=port, dashboard=False, allowed_failures=100
        ) as scheduler:
            await scheduler.finished()

    _quietly(serve())


def _worker(address: str, known: multiprocessing.synchronize.Event) -> None:
    async def serve() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with Worker(
                address, nthreads=1, local_directory=folder, dashboard=False
            ) as worker:
                known.set()
                await worker.finished()

    _quietly(serve())


def _quietly(serving: object) -> None:
    logging.disable(logging.CRITICAL)
    config.set({"distributed.comm.timeouts.connect": "5s"})
    asyncio.run(serving)  # type: ignore[arg-type]


class Forks:
    """A scheduler and workers that can be killed and started again.

    Attributes:
        address: Of the scheduler, the same after a restart.
        workers: Those that live, as far as is known.
    """

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.workers: list[Process] = []
        self.start_scheduler()

    def start_scheduler(self) -> None:
        self.scheduler = _forks.Process(target=_scheduler, args=(self._port,), daemon=True)
        self.scheduler.start()
        deadline = time.monotonic() + _WAIT_SECONDS
        while not self._listens():
            assert self.scheduler.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def add_worker(self) -> None:
        """Start a worker, and wait until the scheduler knows it."""
        known = _forks.Event()
        worker = _forks.Process(target=_worker, args=(self.address, known), daemon=True)
        worker.start()
        assert known.wait(_WAIT_SECONDS)
        self.workers.append(worker)

    def kill_scheduler(self) -> None:
        """Kill -9 the scheduler; its workers end by themselves."""
        kill(self.scheduler)
        for worker in self.workers:
            worker.join(_WAIT_SECONDS)
        self.workers.clear()

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            kill(process)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def kill(process: Process) -> None:
    """Kill -9, and wait until it is gone."""
    process.kill()
    process.join(_WAIT_SECONDS)


@contextlib.contextmanager
def forks(n_workers: int) -> Iterator[Forks]:
    """A scheduler and workers; killed at the end."""
    started = Forks()
    try:
        for _ in range(n_workers):
            started.add_worker()
        yield started
    finally:
        started.stop()
