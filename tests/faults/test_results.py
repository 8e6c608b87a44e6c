"""Results of census, measure and report: whole, or not there, or still the older ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from faults.checking import check_error, temporary_files
from faults.conftest import Tally
from faults.processes import (
    PROGRAM,
    fill,
    outcome,
    small_disk,
    started,
    still_runs_after,
    succeed,
    wait_until,
)

COMMANDS = ("census", "measure", "report")
KILLS = 10

Files = dict[str, bytes]


def command(kind: str, source: Path, folder: Path) -> list[str]:
    if kind == "census":
        return [*PROGRAM, kind, str(source), "-o", str(folder)]
    if kind == "report":
        return [*PROGRAM, kind, str(source), "-o", str(folder / "report.html")]
    row = str(folder / "measured.csv")
    return [*PROGRAM, kind, str(source), "--save", str(folder), "-o", row]


def contents(folder: Path) -> Files:
    left = temporary_files(folder)
    return {path.name: content(path) for path in folder.iterdir() if path not in left}


def content(path: Path) -> bytes:
    """A file's bytes; of safetensors with the header, whose order is left to chance, in order."""
    data = path.read_bytes()
    if path.suffix != ".safetensors":
        return data
    end = 8 + int.from_bytes(data[:8], "little")
    return json.dumps(json.loads(data[8:end]), sort_keys=True).encode() + data[end:]


@pytest.fixture
def older(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of older results of the same kind."""
    kind = request.getfixturevalue("kind")
    folder = tmp_path / "older"
    folder.mkdir()
    if kind == "report":
        (folder / "report.html").write_text("<html>older</html>")
    else:
        succeed(command(kind, model(tmp_path / "older.npy", 1), folder))
    return folder


@pytest.fixture
def source(request: pytest.FixtureRequest, undisturbed: Path, tmp_path: Path) -> Path:
    if request.getfixturevalue("kind") == "report":
        return undisturbed
    return model(tmp_path / "model.npy", 2)


def model(path: Path, seed: int) -> Path:
    """A matrix with black holes, as a file."""
    rows = np.random.default_rng(seed).normal(0, 0.02, (600, 24)).astype(np.float32)
    rows[:300] = rows[300] + (rows[:300] > 0.03) * np.float32(2**-14)
    np.save(path, rows)
    return path


@pytest.mark.parametrize("kind", COMMANDS)
def test_killed_while_it_writes(
    kind: str, source: Path, older: Path, tmp_path: Path, tally: Tally
) -> None:
    fresh, folder = tmp_path / "fresh", tmp_path / "folder"
    succeed(command(kind, source, fresh))
    old, new = contents(older), contents(fresh)
    rng = np.random.default_rng(COMMANDS.index(kind))
    killed = 0
    for i in range(KILLS):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(older, folder)
        with started(command(kind, source, folder)) as process:
            # The first two at any time, the others from the first file on.
            if i < 2 or wait_until(lambda: contents_changed(folder, old), process):
                wait = rng.uniform(0, 1.0 if i < 2 else 0.02)
                killed += still_runs_after(wait, process)
        for name, held in contents(folder).items():
            assert held in (old.get(name), new.get(name)), name
    assert killed >= KILLS / 2  # the others came too late
    succeed(command(kind, source, folder))
    assert {**old, **new} == {**old, **contents(folder)}
    tally(f"kill -9 of {kind}", killed, identical=1)


def contents_changed(folder: Path, old: Files) -> bool:
    """Whether a file is being written, or has been."""
    try:
        return bool(temporary_files(folder)) or contents(folder) != old
    except FileNotFoundError:  # removed while it was looked at
        return True


@pytest.mark.parametrize("kind", COMMANDS)
def test_full_disk(kind: str, source: Path, older: Path, tmp_path: Path, tally: Tally) -> None:
    fresh = tmp_path / "fresh"
    succeed(command(kind, source, fresh))
    old, new = contents(older), contents(fresh)
    with small_disk(tmp_path / "disk", 16) as disk:
        folder = disk / "folder"
        shutil.copytree(older, folder)
        ballast = fill(disk, 4096)
        check_error(outcome(command(kind, source, folder)), "cannot be written .*No space", "free")
        for name, held in contents(folder).items():
            assert held in (old.get(name), new.get(name)), name
        assert not temporary_files(folder)
        ballast.unlink()
        succeed(command(kind, source, folder))
        assert {**old, **new} == {**old, **contents(folder)}
    tally(f"disk full while {kind} writes", 1, identical=1, refused=1)
