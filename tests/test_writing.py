"""Files written whole or not at all, beside processes that write, die and clean up."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from deadtokens.errors import OutputError
from deadtokens.writing import check_folder, locked, remove_abandoned, replacing

WRITER = """
import sys
from pathlib import Path
from deadtokens.writing import replacing
with replacing(Path(sys.argv[1])) as file:
    print("writing", flush=True)
    sys.stdin.read()
"""


def temporary_files(folder: Path) -> list[Path]:
    return list(folder.glob(".*.tmp"))


def refuse_locks(*_: object) -> None:
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))


def test_only_the_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    """Whatever their process was called: in a container all are process 1."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, tmp_path / "result"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        (temporary,) = temporary_files(tmp_path)
        remove_abandoned(tmp_path)
        assert temporary.exists()
        writer.kill()
        writer.wait()
    (tmp_path / ".draft.tmp").touch()  # of somebody else
    remove_abandoned(tmp_path)
    assert not temporary.exists()
    assert (tmp_path / ".draft.tmp").exists()


def test_a_file_taken_for_abandoned_before_it_was_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = fcntl.flock
    removed: list[Path] = []

    def removed_first(file: IO[bytes], how: int) -> None:
        if not removed:
            removed.extend(temporary_files(tmp_path))
            removed[0].unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with replacing(tmp_path / "result") as file:
        file.write(b"whole")
    assert (tmp_path / "result").read_bytes() == b"whole"
    assert len(removed) == 1
    assert not temporary_files(tmp_path)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results can be written, what is left behind stays, and a run is refused."""
    left = tmp_path / ".00112233445566aa.tmp"
    left.touch()
    monkeypatch.setattr(fcntl, "flock", refuse_locks)
    with replacing(tmp_path / "result") as file:
        file.write(b"whole")
    assert (tmp_path / "result").read_bytes() == b"whole"
    remove_abandoned(tmp_path)
    assert left.exists()
    with (
        pytest.raises(OutputError, match=r"cannot be locked \(No locks available\).*with -o"),
        locked(tmp_path, "this run"),
    ):
        pass


def test_a_lock_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with (
        pytest.raises(OutputError, match=r"cannot be locked \(Is a directory\)"),
        locked(tmp_path, "this run"),
    ):
        pass


def test_nothing_is_left_of_a_file_given_up(tmp_path: Path) -> None:
    result = tmp_path / "result"
    result.write_bytes(b"older")
    with pytest.raises(TypeError), replacing(result) as file:
        file.writelines([b"half", "of text"])  # type: ignore[list-item]
    assert result.read_bytes() == b"older"
    assert not temporary_files(tmp_path)


def test_a_folder_whose_name_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot be written \(File name too long\); choose"):
        check_folder(tmp_path / ("x" * 300) / "out")
