"""Files of a run damaged, edited, swapped, lost or added: named in one line, never used."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deadtokens.errors import SourceError
from deadtokens.runs import RunFolder
from faults.checking import check_error, check_identical
from faults.conftest import Tally
from faults.processes import (
    PART,
    outcome,
    started,
    succeed,
    sweep_command,
    trials_named,
    wait_until,
)


@pytest.fixture
def run(undisturbed: Path, tmp_path: Path) -> Path:
    """A finished run, to be damaged."""
    return Path(shutil.copytree(undisturbed, tmp_path / "run"))


def inverted(place: float) -> Callable[[bytes], bytes]:
    """A hundred bytes are others, so far into the file."""

    def invert(content: bytes) -> bytes:
        at = int(place * (len(content) - 100))
        return (
            content[:at]
            + bytes(255 - byte for byte in content[at : at + 100])
            + content[at + 100 :]
        )

    return invert


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda _: b"",
    lambda content: content[:1],
    lambda content: content[: len(content) // 2],
    lambda content: content[:-1],
    lambda content: content + b"more",
    lambda content: bytes(len(content)),
    *map(inverted, (0.02, 0.1, 0.2, 0.9)),
]


def test_damaged_parts_are_named(
    centroid: Path, undisturbed: Path, run: Path, tally: Tally
) -> None:
    command = sweep_command(centroid, run)
    parts = sorted((run / "parts").iterdir())
    for i, damage in enumerate(DAMAGES):
        part = parts[i * 5 % len(parts)]
        content = part.read_bytes()
        part.write_bytes(damage(content))
        check_error(outcome(command), rf"{part.name}: this part is damaged .*delete it and run")
        part.write_bytes(content)
    part.unlink()
    succeed(command)
    check_identical(run, undisturbed)
    tally("damaged part", len(DAMAGES), identical=1, refused=len(DAMAGES))


def test_parts_in_the_place_of_others(
    centroid: Path, undisturbed: Path, run: Path, tmp_path: Path, tally: Tally
) -> None:
    """Another sigma's, other trials', another run's: each whole, and each refused."""
    other = tmp_path / "other"
    succeed(
        [*sweep_command(centroid, other), "--seed", "4", "--trials", str(PART), "--workers", "1"]
    )
    command = sweep_command(centroid, run)
    parts = run / "parts"
    place = parts / "s0000-t000000000000-n000020.parquet"
    strangers = [
        parts / "s0000-t000000000020-n000020.parquet",
        parts / "s0001-t000000000000-n000020.parquet",
        parts / "s0002-t000000000000-n000020.parquet",
        other / "parts" / place.name,
    ]
    for stranger in strangers:
        shutil.copy(stranger, place)
        check_error(outcome(command), f"{place.name}: this part is damaged .*delete it")
    place.unlink()
    succeed(command)
    check_identical(run, undisturbed)
    tally("part in another's place", len(strangers), identical=1, refused=len(strangers))


@pytest.mark.parametrize("sigma_index", [0, 2])
def test_no_flipped_bit_changes_a_trial(run: Path, tally: Tally, sigma_index: int) -> None:
    """Wherever the bit is: the part is refused, or read as what it was."""
    folder = RunFolder.open(run)
    part = folder.parts(sigma_index)[0]
    content = part.path.read_bytes()
    whole = folder.read(part)
    rng = np.random.default_rng(sigma_index)
    places = rng.choice(len(content), 1500, replace=False)
    refused = 0
    for place in places.tolist():
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        part.path.write_bytes(damaged)
        try:
            batch = folder.read(part)
        except SourceError:
            refused += 1
            continue
        assert batch.power_sums == whole.power_sums, place
        for name in ("rows", "ranked", "elements"):
            assert np.array_equal(getattr(batch, name), getattr(whole, name)), (place, name)
    assert refused > len(places) / 2
    tally("flipped bit in a part", len(places), identical=len(places) - refused, refused=refused)


def test_trials_held_twice_are_named(
    centroid: Path, undisturbed: Path, run: Path, tally: Tally
) -> None:
    """A part that was deleted, made anew in another size, and restored from a backup."""
    folder = RunFolder.open(run)
    batch = folder.read(folder.parts(0)[0])
    folder.write(0, replace(batch, rows=batch.rows[:5]))
    command = sweep_command(centroid, run)
    check_error(outcome(command), "holds trials that .*n000005.parquet holds too; delete one")
    (run / "parts" / "s0000-t000000000000-n000005.parquet").unlink()
    succeed(command)
    check_identical(run, undisturbed)
    tally("trials held twice", 1, identical=1, refused=1)


def test_manifests(centroid: Path, undisturbed: Path, run: Path, tally: Tally) -> None:
    manifest = run / "manifest.json"
    content = manifest.read_text()
    command = sweep_command(centroid, run)
    for damaged, message in {
        content.replace('"seed": 3', '"seed": 5'): "does not match its digest: it was edited",
        content[: len(content) // 2]: "not a run's manifest",
        "": "not a run's manifest",
        "[]": "not a run's manifest",
    }.items():
        assert damaged != content
        manifest.write_text(damaged)
        check_error(outcome(command), f"manifest.json: .*{message}")
    manifest.unlink()
    check_error(outcome(command), "has parts of a run but no manifest.json", "another folder")
    manifest.write_text(content)
    succeed(command)
    check_identical(run, undisturbed)
    tally("manifest edited, cut off or lost", 5, identical=1, refused=5)


def test_centroid_lost(centroid: Path, undisturbed: Path, run: Path, tally: Tally) -> None:
    """The command brings its own; the folder's is for whoever opens the run."""
    (run / "centroid.safetensors").write_bytes(b"")
    check_error(outcome([*sweep_command(centroid, run)[:3], "report", str(run)]), "centroid")
    tally("centroid of a run damaged", 1, refused=1)
    assert (run / "trials.csv").read_bytes() == (undisturbed / "trials.csv").read_bytes()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_no_file_in_the_place_of_a_result(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally, make: Callable[[Path], None]
) -> None:
    """Refused before any work is done."""
    run = tmp_path / "run"
    run.mkdir()
    make(run / "trials.csv")
    command = sweep_command(centroid, run)
    check_error(outcome(command), "trials.csv: cannot be written .it is (a folder|not a regular)")
    assert not trials_named(run)
    shutil.rmtree(run)
    succeed(command)
    check_identical(run, undisturbed)
    tally("pipe or folder in a result's place", 1, identical=1, refused=1)


SLOW_START = """
import os, sys, time
from deadtokens import runs
from deadtokens.cli import run
write = runs.write_safetensors
def wait_and_write(path, *rest):
    (path.parent.parent / "waiting").touch()
    while not (path.parent.parent / "go").exists():
        time.sleep(0.01)
    write(path, *rest)
runs.write_safetensors = wait_and_write
run()
"""


def test_two_specifications_at_once(
    centroid: Path, undisturbed: Path, tmp_path: Path, tally: Tally
) -> None:
    """One is about to start a run when another starts a different one in the same folder."""
    run = tmp_path / "run"
    command = sweep_command(centroid, run)
    slow = [command[0], "-c", SLOW_START, *command[3:]]
    with started(slow) as first:
        assert wait_until((tmp_path / "waiting").exists, first)
        second = outcome([*command, "--seed", "4"])
        (tmp_path / "go").touch()
        first.communicate(timeout=120)
    assert sorted([first.returncode, second.returncode]) == [0, 1]
    check_error(second, "another process is writing this run")
    check_identical(run, undisturbed)
    tally("second process on a run", 1, identical=1, refused=1)
