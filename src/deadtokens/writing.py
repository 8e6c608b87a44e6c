"""Results written to files: whole or not at all, and never over what is no plain file."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import secrets
import shlex
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from deadtokens.errors import OutputError, plain
from deadtokens.files import AnyArray, load_metadata

# Of the JSON that commands print and write. It is raised when a field goes, or means another thing;
# further fields do not raise it (docs/data.md).
SCHEMA_VERSION = 1


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of ``path`` only once it is complete and on disk.

    Until then it has a name that nobody else takes, and is locked, which shows that its writer
    lives: a lock goes with the process that holds it.

    Raises:
        OutputError: The folder cannot be written, or the disk is full.
    """
    path = check_place(path)
    try:
        with _temporary(path.parent) as (temporary, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            where=path,
            remedy="free space or choose another place",
        ) from None


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    while True:
        path = folder / f".{secrets.token_hex(8)}.tmp"
        with path.open("xb") as file:
            with contextlib.suppress(OSError):  # not every file system has locks
                fcntl.flock(file, fcntl.LOCK_EX)
            # Before it was locked it may have been taken for an abandoned one.
            if path.exists():
                try:
                    yield path, file
                finally:
                    with contextlib.suppress(OSError):
                        path.unlink(missing_ok=True)
                return


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of `replacing` in a folder that no process holds, anywhere.

    Where the file system has no locks they stay.
    """
    for path in folder.glob(f".{'[0-9a-f]' * 16}.tmp"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of a folder, a file in it; the system frees it if the process dies.

    Args:
        folder: The folder.
        what: What is written there, in words.

    Raises:
        OutputError: Another process holds it, or there can be none.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context((folder / "lock").open("w"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(
                f"another process is writing {what}",
                where=folder,
                remedy="wait for it, or choose another folder with -o",
            ) from None
        except OSError as error:
            raise OutputError(
                f"this folder cannot be locked ({error.strerror or error})",
                where=folder,
                remedy="choose one that can be written, on a file system with locks, with -o",
            ) from None
        yield


def check_place(path: Path) -> Path:
    """The place of a result, links followed; nothing but a plain file there may be replaced.

    Raises:
        OutputError: There is a folder, device or pipe, or the name cannot be one.
    """
    try:
        real = Path(os.path.realpath(path))
        mode = real.stat().st_mode
    except FileNotFoundError:
        return real
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})",
            where=path,
            remedy="choose another place",
        ) from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise OutputError(
            f"cannot be written (it is {kind})", where=path, remedy="choose another place"
        )
    return real


def make_folder(path: Path) -> Path:
    """Create a folder for results, and check that it can be written before any work is done.

    Raises:
        OutputError: It cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OutputError(
            f"this folder cannot be written ({error.strerror or error})",
            where=path,
            remedy="choose another folder",
        ) from None
    return path


def as_folder(path: str | Path, argument: str) -> Path:
    """A folder as a caller names it.

    Raises:
        OutputError: It is no path.
    """
    if not isinstance(path, (str, Path)):
        raise OutputError(
            f"a value of type {type(path).__name__} is no folder",
            where=argument,
            remedy="give a path",
        )
    return Path(path)


def check_folder(path: Path) -> None:
    """Refuse a folder for results that could not be made, before any work and without making it.

    Raises:
        OutputError: It, or what it would be made in, is no folder that can be written.
    """
    try:
        nearest = next(place for place in (path, *path.absolute().parents) if place.exists())
        writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
        why = "no permission" if nearest.is_dir() else f"{nearest} is no folder"
    except OSError as error:
        writable, why = False, error.strerror or str(error)
    if not writable:
        raise OutputError(
            f"this folder cannot be written ({why})", where=path, remedy="choose another folder"
        )


_FORMULA = "=+\\-@＝＋－＠"  # the wide ones too: a spreadsheet set to East Asian input takes them
_STARTS_A_FORMULA = re.compile(f"'*[{_FORMULA}]")
# Where a semicolon parts cells, as in half of Europe, one would begin there.
_ESCAPE = re.compile(r"\\\\|\\x3b")
_STARTS_ANOTHER = re.compile(f";(?=[\"']*[{_FORMULA}])")


def spreadsheet_safe(text: str) -> str:
    """A text from strangers as a CSV cell: nothing that drives a terminal, and no formula.

    Characters that are not printable are spelled as escapes, and so is a semicolon before what
    could begin a formula; a backslash is doubled. Where the cell itself could be a formula (``=``,
    ``+``, ``-``, ``@``, after any single quotes), a single quote is put before it.
    """
    shown = _STARTS_ANOTHER.sub(r"\\x3b", plain(text.replace("\\", "\\\\")))
    return f"'{shown}" if _STARTS_A_FORMULA.match(shown) else shown


def spreadsheet_text(cell: str) -> str:
    """The text of a cell that `spreadsheet_safe` made, as `plain` would show it."""
    guarded = cell.startswith("'") and _STARTS_A_FORMULA.match(cell)
    text = cell[1:] if guarded else cell
    return _ESCAPE.sub(lambda match: ";" if match[0] == r"\x3b" else "\\", text)


def shell_line(words: Iterable[str]) -> str:
    """A command for bash, zsh or ksh to take back: one line, printable whatever is in a name.

    Words with other characters are written as ``$'...'``, their bytes as escapes.
    """
    return " ".join(map(_shell_word, words))


def _shell_word(word: str) -> str:
    if plain(word) == word:
        return shlex.quote(word)
    escaped = (
        f"\\{chr(byte)}" if byte in b"'\\" else chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
        for byte in os.fsencode(word)
    )
    return f"$'{''.join(escaped)}'"


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
    """Write a CSV file with a header line, None as an empty field; returns the number of rows."""
    count = 0
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for count, row in enumerate(rows, start=1):  # noqa: B007 (returned)
            writer.writerow(row)
        text.detach()  # flushes, and leaves closing to `replacing`
    return count


def write_safetensors(
    path: Path, tensors: Mapping[str, AnyArray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named arrays as a safetensors file; bfloat16 and float8 as ml_dtypes arrays."""
    from safetensors.numpy import save

    contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    words = {name: plain(text) for name, text in (metadata or {}).items()}
    content = save(contiguous, {"written_by": "deadtokens", **words})
    with replacing(path) as file:
        file.write(content)


@dataclass(frozen=True)
class Written:
    """A file that was written, and what is in it."""

    path: Path
    content: str


def check_spares(places: Iterable[Path], files: Iterable[Path]) -> None:
    """Refuse places for results where somebody else's data would be lost.

    Args:
        places: Where results are to go.
        files: The files read.

    Raises:
        OutputError: A place is one of the files read, or a safetensors file not written here.
    """
    read = [file for file in files if file.exists()]
    for place in (place for place in places if place.exists()):
        foreign = place.suffix == ".safetensors" and "written_by" not in load_metadata(str(place))
        if foreign or any(place.samefile(file) for file in read):
            raise OutputError(
                "it would be lost: it is "
                + ("not a result of this program" if foreign else "a file that is read"),
                where=place,
                remedy="choose another place for results",
            )


def write_facts(path: Path, facts: dict[str, Any]) -> Written:
    """Write JSON values.

    Raises:
        OutputError: The file cannot be written.
    """
    with replacing(path) as file:
        file.write((json_text(facts) + "\n").encode())
    return Written(path, f"{len(facts)} fields")


def json_text(facts: dict[str, Any]) -> str:
    """A result as strict JSON in visible ASCII, with the version of its fields.

    json leaves one character that cannot be seen, the delete character.
    """
    versioned = {"schema_version": SCHEMA_VERSION} | facts
    return json.dumps(versioned, indent=2, allow_nan=False).replace("\x7f", "\\u007f")


def write_columns(path: Path, columns: Mapping[str, AnyArray]) -> Written:
    """Write columns of equal length as a CSV file.

    Raises:
        OutputError: The file cannot be written.
    """
    lines = list(zip(*(column.tolist() for column in columns.values()), strict=True))
    write_csv(path, list(columns), lines)
    return Written(path, f"{len(lines):,} rows x {len(columns)} columns")


def write_arrays(
    path: Path, tensors: Mapping[str, AnyArray], metadata: Mapping[str, str]
) -> Written:
    """Write named arrays as a safetensors file.

    Raises:
        OutputError: The file cannot be written.
    """
    write_safetensors(path, tensors, metadata)
    shapes = (f"{name} {' x '.join(f'{n:,}' for n in t.shape)}" for name, t in tensors.items())
    return Written(path, ", ".join(shapes))
