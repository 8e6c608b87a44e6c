"""A sweep on a Dask cluster whose processes are killed: the same bytes, or one clear error."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deadtokens.errors import ClusterError
from deadtokens.files import load_array
from deadtokens.runs import RunFolder
from deadtokens.scheduler import Cluster, connected
from deadtokens.specification import Sweep, plan
from deadtokens.sweep import finish, simulate
from faults.checking import check_error, check_identical, check_whole
from faults.conftest import Tally
from faults.processes import (
    SIGMAS,
    TRIALS,
    outcome,
    started,
    stderr_of,
    succeed,
    sweep_command,
    trials_named,
)
from faults.processes import wait_until as wait_for_process

pytest.importorskip("distributed")

from faults.dask_forks import Forks, forks, kill

KILLS = 50
_DEADLINE = 120.0


def planned(centroid: Path) -> Sweep:
    values = load_array(str(centroid), "centroid").astype(np.float64)
    return plan(values, SIGMAS, 200, seed=3)


def draw(cluster: Cluster | None, centroid: Path, folder: Path, trials: int = TRIALS) -> None:
    """Draw what the folder lacks, in parts of a few trials, and finish."""
    sweep = planned(centroid)
    run = RunFolder.create(folder, sweep.specification(), sweep.centroid)
    with run.locked():
        simulate(sweep, run, trials, cluster=cluster, part_trials=5)
        finish(sweep, run)


def wait_for_more(run: Path, held: int, going_on: Callable[[], bool]) -> bool:
    """Wait for a part that was not there; False if the sweep ends first."""
    deadline = time.monotonic() + _DEADLINE
    while trials_named(run) <= held:
        if not going_on():
            return False
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)
    return True


def test_workers_killed_fifty_times(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """Three workers, one of them killed again and again, at times all: no client notices."""
    rng = np.random.default_rng(1)
    killed = rounds = 0
    with forks(3) as cluster_processes, connected(cluster_processes.address) as cluster:
        while killed < KILLS:
            rounds += 1
            run = tmp_path / f"run{rounds}"
            errors: list[BaseException] = []

            def client(folder: Path = run, into: list[BaseException] = errors) -> None:
                try:
                    draw(cluster, centroid, folder)
                except BaseException as error:
                    into.append(error)

            thread = threading.Thread(target=client)
            thread.start()
            while killed < KILLS and wait_for_more(run, trials_named(run), thread.is_alive):
                time.sleep(rng.uniform(0, 0.1))
                everyone = rng.random() < 0.1
                victims = list(cluster_processes.workers) if everyone else [
                    cluster_processes.workers[rng.integers(len(cluster_processes.workers))]
                ]  # fmt: skip
                for victim in victims:
                    kill(victim)
                    cluster_processes.workers.remove(victim)
                    killed += 1
                for _ in victims:
                    cluster_processes.add_worker()
            thread.join(_DEADLINE)
            assert not thread.is_alive()
            assert not errors, errors
            check_same(run, undisturbed)
    tally("kill -9 of a Dask worker", killed, identical=rounds)


def check_same(run: Path, undisturbed: Path) -> None:
    """As `check_identical`, of a run whose figures were not drawn."""
    check_whole(run, undisturbed)
    for name in ("trials.csv", "summary.csv", "elements.npz"):
        assert (run / name).read_bytes() == (undisturbed / name).read_bytes(), name
    assert {path.suffix for path in (run / "parts").iterdir()} == {".parquet"}


def test_schedulers_killed_fifty_times(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """Each time the client says so; what was finished is kept, and the run goes on."""
    rng = np.random.default_rng(2)
    killed = refused = rounds = 0
    with forks(0) as processes:
        while killed < KILLS:
            rounds += 1
            run = tmp_path / f"run{rounds}"
            held = check_whole(run, undisturbed)
            finished = False
            while not finished and killed < KILLS:
                for _ in range(2 - len(processes.workers)):
                    processes.add_worker()
                finished = not refused_while_killing(processes, rng, centroid, run)
                refused += not finished
                held = check_whole(run, undisturbed, held)
                if not processes.scheduler.is_alive():
                    killed += 1
                    processes.start_scheduler()
            draw(None, centroid, run)
            check_same(run, undisturbed)
    assert refused > KILLS / 2
    tally("kill -9 of a Dask scheduler", killed, identical=rounds, refused=refused)


def refused_while_killing(
    processes: Forks, rng: np.random.Generator, centroid: Path, run: Path
) -> bool:
    """Kill the scheduler in the middle of a sweep; whether the client had to give up."""
    raised: list[BaseException] = []

    def client() -> None:
        try:
            with connected(processes.address) as cluster:
                draw(cluster, centroid, run)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=client)
    thread.start()
    if wait_for_more(run, trials_named(run), thread.is_alive):
        time.sleep(rng.uniform(0, 0.2))
        if thread.is_alive():
            processes.kill_scheduler()
    thread.join(_DEADLINE)
    assert not thread.is_alive()
    if raised:
        (error,) = raised
        assert isinstance(error, ClusterError), error
        assert "the scheduler is gone" in str(error)
        assert "run the same command again" in str(error)
    return bool(raised)


def test_clients_killed_and_resumed(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """Whatever workers finish for a dead client is no part of the next one's."""
    rng = np.random.default_rng(3)
    killed = 0
    with forks(2) as processes:
        for life in range(2):
            run = tmp_path / f"run{life}"
            command = sweep_command(centroid, run, "--scheduler", processes.address)
            held = check_whole(run, undisturbed)
            for _ in range(5):
                before = len(held)
                with started(command) as process:
                    wait_for_process(lambda: trials_named(run) > before, process)  # noqa: B023
                    time.sleep(rng.uniform(0, 0.1))
                    process.send_signal(signal.SIGKILL)
                    stderr_of(process)
                killed += process.returncode != 0
                held = check_whole(run, undisturbed, held)
            succeed(command)
            check_identical(run, undisturbed)
    assert killed >= 5
    tally("kill -9 of a Dask client", killed, identical=2)


def test_no_scheduler_is_one_clear_error(centroid: Path, tmp_path: Path, tally: Tally) -> None:
    run = tmp_path / "run"
    result = outcome(sweep_command(centroid, run, "--scheduler", "tcp://127.0.0.1:9"))
    check_error(result, "no scheduler answers", "dask scheduler")
    tally("no Dask scheduler", 1, refused=1)
