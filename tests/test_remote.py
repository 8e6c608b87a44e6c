"""Sweeps and surveys on a real scheduler and workers: the same bytes, whatever becomes of them."""

from __future__ import annotations

import itertools
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from containers import write_tensors
from dask_processes import DaskProcesses, dask_processes, wait_until
from made_models import dead_matrix
from program import Program

from deadtokens import remote
from deadtokens.errors import ClusterError, DeviceError
from deadtokens.remote import Order, draw_unit
from deadtokens.runs import RunFolder, environment
from deadtokens.sampling import occupancy_table
from deadtokens.scheduler import Cluster, Job, _HandOut, connected
from deadtokens.specification import Sweep, plan
from deadtokens.survey import survey
from deadtokens.sweep import finish, simulate, sweep
from deadtokens.trials import Batch, Simulator

pytest.importorskip("distributed")

CENTROID = np.random.default_rng(0).standard_t(4.5, 60) * 2.5e-3
SIGMAS = [1e-9, 1e-8, 1e-4]
RESULTS = ("trials.csv", "summary.csv", "elements.npz")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    with dask_processes(tmp_path_factory.mktemp("dask")) as started:
        yield started


@pytest.fixture(scope="module")
def cluster(processes: DaskProcesses) -> Iterator[Cluster]:
    with connected(processes.address) as found:
        assert found is not None
        yield found


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by threads of this process."""
    folder = tmp_path_factory.mktemp("local")
    sweep(CENTROID, SIGMAS, 50, 60, folder, seed=3)
    return folder


def planned() -> Sweep:
    return plan(CENTROID, SIGMAS, 50, seed=3)


def draw(cluster: Cluster, folder: Path, trials: int = 60, **options: Any) -> int:
    run = RunFolder.create(folder, planned().specification(), CENTROID)
    with run.locked():
        drawn = simulate(planned(), run, trials, cluster=cluster, **options)
        finish(planned(), run)
    return drawn


def assert_same(folder: Path, other: Path) -> None:
    for name in RESULTS:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.parametrize("part_trials", [None, 1, 7])
def test_a_sweep_is_the_same_to_the_byte(
    cluster: Cluster, local: Path, tmp_path: Path, part_trials: int | None
) -> None:
    told: list[int] = []
    assert draw(cluster, tmp_path, part_trials=part_trials, report=told.append) == 180
    assert_same(tmp_path, local)
    assert told[0] == 0
    assert told[-1] == 180
    assert {path.suffix for path in (tmp_path / "parts").iterdir()} == {".parquet"}


def test_workers_that_cannot_reach_the_folder_send_trials_back(
    cluster: Cluster, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Path("/not/on/this/machine")
    monkeypatch.setattr(RunFolder, "incoming", lambda _: nullcontext(elsewhere))
    assert draw(cluster, tmp_path) == 180
    assert_same(tmp_path, local)


def test_a_run_begun_here_goes_on_there_and_back(
    cluster: Cluster, local: Path, tmp_path: Path
) -> None:
    sweep(CENTROID, SIGMAS, 50, 11, tmp_path, seed=3)
    assert draw(cluster, tmp_path, 35) == 3 * 24
    sweep(CENTROID, SIGMAS, 50, 60, tmp_path, seed=3)
    assert_same(tmp_path, local)


def test_the_client_makes_the_tables(tmp_path: Path) -> None:
    """A worker draws from the tables that it is sent, not from ones of its own."""
    cloud = planned().cloud(1)
    table = occupancy_table(cloud)

    def drawn(leave: float) -> Batch:
        sent = table._replace(leave=table.leave * leave, hazard=table.hazard * leave)
        facts = (planned().spec, "occupancy", "cpu", "digest", tmp_path / "nowhere", environment())
        result = draw_unit(Order(1, cloud, sent, *facts), 0, 30)  # type: ignore[arg-type]
        assert isinstance(result, Batch)
        return result

    assert not np.array_equal(drawn(1.0).rows, drawn(0.5).rows)


def order(incoming: Path, **changed: Any) -> Order:
    facts: dict[str, Any] = {
        "index": 2,
        "cloud": planned().cloud(2),
        "table": None,
        "spec": planned().spec,
        "sampler": "direct",
        "device": "cpu",
        "run": "digest",
        "incoming": incoming,
        "environment": environment(),
    }
    return Order(**facts | changed)


def test_a_worker_that_may_not_write_the_folder_sends_trials_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert draw_unit(order(tmp_path), 0, 2) == "s0002-t000000000000-n000002.parquet"
    monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
    result = draw_unit(order(tmp_path), 2, 3)
    assert isinstance(result, Batch)
    assert len(result.rows) == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_a_device_that_fails_on_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With auto its CPU draws, from then on."""
    expected = Simulator(planned().cloud(2), planned().spec, "direct").run(0, 4).rows
    picked = itertools.count()

    def failing(*_: Any) -> Any:
        raise DeviceError("it fails (driver)", where="cuda")

    def pick(*_: Any, **__: Any) -> Any:
        next(picked)
        return SimpleNamespace(run=failing)

    monkeypatch.setattr(remote, "pick", pick)
    with pytest.raises(DeviceError, match="driver"):
        draw_unit(order(tmp_path / "nowhere", device="cuda"), 0, 2)
    sent = order(tmp_path / "nowhere", device="auto")
    with pytest.warns(RuntimeWarning, match=r"it fails \(driver\): the CPU draws"):
        first = draw_unit(sent, 0, 2)
    second = draw_unit(sent, 2, 2)
    assert isinstance(first, Batch)
    assert isinstance(second, Batch)
    assert np.array_equal(np.concatenate([first.rows, second.rows]), expected)
    assert next(picked) == 2


def test_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose NumPy is another one says so, and nothing is drawn."""
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "numpy" else real(name))
    with dask_processes(tmp_path, 1) as processes, connected(processes.address) as cluster:
        assert cluster is not None
        with pytest.raises(ClusterError, match=r"numpy \S+ here, 9.9 at the client.*install"):
            draw(cluster, tmp_path / "run")
    assert not list((tmp_path / "run" / "parts").iterdir())


def test_a_survey_is_the_same(cluster: Cluster, tmp_path: Path) -> None:
    rows = dead_matrix()
    np.save(tmp_path / "rows.npy", rows)
    file = write_tensors(tmp_path / "m.safetensors", {"wte.weight": rows})
    sources = [str(tmp_path / "rows.npy"), str(file), "builtin:qwen3-4b", str(tmp_path / "no")]
    here = survey(sources)
    there = survey(sources, tmp_path / "out", cluster=cluster)

    def facts(lines: Any) -> list[Any]:
        return [{**vars(line), "seconds": 0} for line in lines]

    assert facts(there) == facts(here)
    assert there[3].error
    # What is kept is found again, by threads too, and a file named from another folder is the same.
    assert survey(sources, tmp_path / "out", cluster=cluster)[:3] == there[:3]
    assert survey(sources, tmp_path / "out")[:3] == there[:3]
    assert len(list((tmp_path / "out" / "models").iterdir())) == 3


def test_files_named_from_this_folder_are_found(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "rows.npy", dead_matrix())
    monkeypatch.chdir(tmp_path)
    (line,) = survey(["rows.npy"], cluster=cluster)
    assert (line.source, line.error, line.dead) == ("rows.npy", "", 21)


def test_a_job_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    with dask_processes(tmp_path, 4) as processes, connected(processes.address) as cluster:
        assert cluster is not None
        ((tag, result),) = cluster.results(os._exit, iter([Job("bad", 1, ())]))
    assert tag == "bad"
    assert isinstance(result, ClusterError)
    assert "workers died of it" in str(result)


def test_a_result_that_has_come_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only worker dies between handing over its result and the look at how the job went."""
    fetched = _HandOut._fetched
    with dask_processes(tmp_path, 1) as processes, connected(processes.address) as cluster:
        assert cluster is not None

        def killed_after(self: _HandOut, futures: dict[int, Any]) -> dict[int, Any]:
            found = fetched(self, futures)
            for future in futures.values():
                processes.workers[0].kill()
                wait_until(lambda: future.status != "finished", processes.scheduler)  # noqa: B023
            return found

        monkeypatch.setattr(_HandOut, "_fetched", killed_after)
        assert [*cluster.results(abs, iter([Job("one", -7, ())]))] == [("one", 7)]


def test_what_jobs_share_may_be_large(cluster: Cluster) -> None:
    """Dask would warn, and a warning fails a test."""
    shared = bytes(11_000_000)
    assert [*cluster.results(len, iter([Job("one", shared, ())]))] == [("one", len(shared))]


@pytest.mark.parametrize(
    ("function", "shared", "message"),
    [
        (bytes, 2**62, r"cannot do this \(MemoryError.*\); give workers more memory"),
        (open, "/not/there", r"\(FileNotFoundError: .*\); see to the machine of that worker"),
        (exec, "raise ValueError('one\\ntwo')", r"\(ValueError: one two\); install the same"),
    ],
)
def test_errors_on_workers_name_their_remedy(
    cluster: Cluster, function: Any, shared: object, message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        list(cluster.results(function, iter([Job("one", shared, ())])))


def test_nothing_is_handed_to_a_client_that_is_closed() -> None:
    client = SimpleNamespace(status="closed", nthreads=lambda: {"worker": 1})
    cluster = Cluster(client, "tcp://host:1")
    with pytest.raises(ClusterError, match="the scheduler is gone"):
        list(cluster.results(abs, iter([Job("one", 1, ())])))
    assert [*cluster.results(abs, iter([]))] == []


@pytest.mark.parametrize("error", [OSError, TimeoutError, RuntimeError])
def test_a_scheduler_that_says_no_threads_is_gone(error: type[Exception]) -> None:
    def nthreads() -> dict[str, int]:
        raise error

    with pytest.raises(ClusterError, match="the scheduler is gone"):
        Cluster(SimpleNamespace(nthreads=nthreads), "tcp://host:1").threads()


def test_a_part_that_workers_die_of_ends_the_sweep(tmp_path: Path) -> None:
    def results(_: Any, jobs: Iterator[Job[Any]]) -> Iterator[tuple[Any, Any]]:
        return ((job.tag, ClusterError("workers died of it")) for job in jobs)

    cluster: Any = SimpleNamespace(results=results, threads=lambda: 1)
    with pytest.raises(ClusterError, match="workers died of it"):
        draw(cluster, tmp_path)
    assert not list((tmp_path / "parts").iterdir())


def test_the_function_takes_an_address(
    processes: DaskProcesses, local: Path, tmp_path: Path
) -> None:
    sweep(CENTROID, SIGMAS, 50, 60, tmp_path, seed=3, scheduler=processes.address)
    assert_same(tmp_path, local)


def test_loggers_are_given_back(cluster: Cluster) -> None:
    logger = logging.getLogger("distributed.client")
    silenced = logger.level
    assert silenced == logging.CRITICAL
    logger.setLevel(logging.INFO)
    with connected(cluster.address):
        assert logger.level == logging.CRITICAL
    assert logger.level == logging.INFO
    logger.setLevel(silenced)


def test_a_port_where_nothing_is_said_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deadtokens.scheduler.CONNECT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(ClusterError, match="no scheduler answers"), connected(address):
            pass
    assert time.monotonic() - start < 8  # and the seconds in which a client is closed


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tcp://127.0.0.1:9", "no scheduler answers .*dask scheduler"),
        ("nonsense", "tcp://HOST:PORT"),
        ("http://127.0.0.1:9", "tcp://HOST:PORT"),
        ("tcp://host", "tcp://HOST:PORT"),
        ("tcp://a:b:1", "^tcp://a:b:1: no address of a scheduler; give it as tcp://HOST:PORT$"),
        ("tcp://host:123456", "no address of a scheduler"),
        ("tcp://host:99999", "no scheduler answers"),
        ("tcp://[::1]:9", "no scheduler answers"),
        ("", "tcp://HOST:PORT"),
        ("tls://127.0.0.1:9", "certificate"),
    ],
)
def test_no_scheduler_there(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deadtokens.scheduler.CONNECT_SECONDS", 1.0)
    with pytest.raises(ClusterError, match=message), connected(address):
        pass


def test_dask_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match=r"deadtokens\[cluster\]"), connected("tcp://h:1"):
        pass


# --- as a program ---


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    centroid = tmp_path / "centroid.npy"
    np.save(centroid, CENTROID)
    options = ["--sigma", "1e-9,1e-8,1e-4", "--tokens", "50", "--seed", "3"]
    return ["sweep", "--centroid", str(centroid), *options]


def test_the_command(
    words: list[str],
    processes: DaskProcesses,
    local: Path,
    tmp_path: Path,
    deadtokens: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("deadtokens.pictures.write_figures", lambda *_: [])  # takes seconds
    run = tmp_path / "run"
    done = deadtokens(*words, "--trials", 60, "--scheduler", processes.address, "-o", run)
    assert done.status == 0, done.err
    assert f"2 threads of {processes.address}" in done.err
    assert_same(run, local)


def test_a_scheduler_that_does_not_answer_is_one_line(
    words: list[str], tmp_path: Path, deadtokens: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deadtokens.scheduler.CONNECT_SECONDS", 1.0)
    silent = ["--scheduler", "tcp://127.0.0.1:9"]
    done = deadtokens(*words, "--trials", 60, *silent, "-o", tmp_path / "run")
    assert done.status == 1
    (line,) = [line for line in done.err.splitlines() if line.startswith("error:")]
    assert "no scheduler answers" in line
    assert "Traceback" not in done.err


@pytest.mark.parametrize("trials", [200, pytest.param(6_000, marks=pytest.mark.slow)])
def test_a_killed_worker_changes_nothing(tmp_path: Path, trials: int) -> None:
    """One of two workers is killed in the middle; the other one takes the rest."""
    sweep(CENTROID, SIGMAS, 50, trials, tmp_path / "here", seed=3)
    killed: list[int] = []
    with dask_processes(tmp_path) as processes, connected(processes.address) as cluster:
        assert cluster is not None

        def kill_one(done: int) -> None:
            if done > trials and not killed:
                processes.workers[0].kill()
                killed.append(done)

        drawn = draw(cluster, tmp_path / "run", trials, part_trials=trials // 20, report=kill_one)
    assert drawn == 3 * trials
    assert killed[0] < 3 * trials
    assert_same(tmp_path / "run", tmp_path / "here")
