"""A sweep stopped at random moments of its life: nothing half done, nothing lost, no noise."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from faults.checking import (
    check_error,
    check_identical,
    check_quiet,
    check_resumable,
    check_whole,
    temporary_files,
)
from faults.conftest import Tally
from faults.processes import (
    Moment,
    moments_of_a_life,
    outcome,
    started,
    stderr_of,
    still_runs_after,
    stop_at,
    succeed,
    suspend,
    sweep_command,
    trials_named,
    wait_until,
)

LIVES = range(5)


@pytest.mark.parametrize("life", LIVES)
def test_killed_ten_times(
    life: int, centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """One run, killed and resumed by the same command again and again, then left to finish."""
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    held = check_whole(run, undisturbed)
    killed = 0
    for moment in moments_of_a_life(life):
        result = stop_at(moment, command, run, signal.SIGKILL)
        assert result.returncode in (-signal.SIGKILL, 0), result.stderr
        killed += result.returncode != 0
        check_quiet(result.stderr)
        held = check_whole(run, undisturbed, held)
    assert killed >= 9  # the last moments may come too late for a fast machine
    succeed(command)
    check_identical(run, undisturbed)
    tally("kill -9 of a sweep", killed, identical=1)


@pytest.mark.parametrize("life", LIVES)
def test_interrupted_ten_times(
    life: int, centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """Ctrl-C: exit status 130, no traceback at any moment, and the command that goes on."""
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    held = check_whole(run, undisturbed)
    interrupted = 0
    for moment in moments_of_a_life(100 + life):
        result = stop_at(moment, command, run, signal.SIGINT)
        held = check_whole(run, undisturbed, held)
        assert not temporary_files(run)
        interrupted += result.returncode != 0
        if _before_the_program(result):
            continue
        # At its very end Python takes the signal's default action.
        assert result.returncode in (130, 0, -signal.SIGINT), result.stderr
        check_quiet(result.stderr)
        if result.returncode == 130 and "dimensions, norm" in result.stderr:
            check_resumable(result.stderr, command)
    assert interrupted >= 9
    succeed(command)
    check_identical(run, undisturbed)
    tally("Ctrl-C of a sweep", interrupted, identical=1)


def _before_the_program(result: subprocess.CompletedProcess[str]) -> bool:
    """Whether Python was interrupted while it started, before it ran a line of the program."""
    stopped = result.returncode in (1, -signal.SIGINT) and "KeyboardInterrupt" in result.stderr
    return stopped and "/deadtokens/cli/" not in result.stderr


def test_terminated(centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally) -> None:
    """SIGTERM, as batch systems send it."""
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    held = check_whole(run, undisturbed)
    moments = [Moment("folder", 0.0), Moment("part", 0.1), Moment("part", 0.2)]
    for moment in moments:
        result = stop_at(moment, command, run, signal.SIGTERM)
        assert result.returncode == -signal.SIGTERM
        check_quiet(result.stderr)
        held = check_whole(run, undisturbed, held)
    succeed(command)
    check_identical(run, undisturbed)
    tally("SIGTERM of a sweep", len(moments), identical=1)


def test_stopped_and_continued(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """SIGSTOP and SIGCONT, as Ctrl-Z and a suspended machine do."""
    run = tmp_path / "run"
    with started(sweep_command(centroid, run)) as process:
        for held in range(3):
            assert wait_until(lambda held=held: trials_named(run) > held, process)  # type: ignore[misc]
            suspend(process)
            assert still_runs_after(0.3, process)
            check_whole(run, undisturbed)
            process.send_signal(signal.SIGCONT)
        assert stderr_of(process)
    assert process.returncode == 0
    check_identical(run, undisturbed)
    tally("SIGSTOP and SIGCONT of a sweep", 3, identical=1)


def test_two_processes_and_a_crash(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """The second is refused while the first lives, and goes on once that was killed."""
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    with started(command) as first:
        assert wait_until(lambda: trials_named(run) > 0, first)
        suspend(first)
        held = check_whole(run, undisturbed)
        refused = outcome(command)
        check_error(refused, "another process is writing this run", "wait for it")
        assert check_whole(run, undisturbed, held) == held
        first.kill()
        first.wait()
    assert (run / "lock").exists()
    succeed(command)
    check_identical(run, undisturbed)
    tally("second process on a run", 1, refused=1)
    tally("holder of the lock killed", 1, identical=1)


def test_first_of_two_is_not_disturbed(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    with started(command) as first:
        assert wait_until((run / "lock").exists, first)
        check_error(outcome(command), "another process is writing this run")
        stderr_of(first)
    assert first.returncode == 0
    check_identical(run, undisturbed)
    tally("second process on a run", 1, identical=1, refused=1)


def test_what_killed_processes_left_is_removed(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """Whatever is in their names: in a container every program may be process 1."""
    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    for folder in (run, run / "parts", run / "figures"):
        (folder / ".00112233445566aa.tmp").write_bytes(b"half of a file")
    succeed(sweep_command(centroid, run))
    check_identical(run, undisturbed)
    (run / ".draft.tmp").touch()  # of somebody else
    succeed(sweep_command(centroid, run))
    assert (run / ".draft.tmp").exists()
    tally("files left by killed processes", 3, identical=1)
