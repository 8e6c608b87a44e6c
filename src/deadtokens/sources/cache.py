"""What was transferred, kept on disk: whole under its name, or not under it at all.

    hub/owner--name/refs/           which commit a branch or tag was at, when the hub was last asked
    hub/owner--name/COMMIT/         listing.json: the repository's files and their sizes
                   .../files/       files fetched whole
                   .../headers/     headers of weight files, after a line with the file's size
                   .../tensors/     tensors, each the bytes it has in its file

What is still to be completed has the suffix .part, and beside it .part.flushed says how much of it
is known to lie on the disk: after a loss of power the rest may have its length, but zeros in it.

A commit names its content, so nothing here ever has to be asked for again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from deadtokens.errors import OutputError, SourceError
from deadtokens.listening import Reached, listener
from deadtokens.sources.transfer import RemoteFile, stretch
from deadtokens.writing import replacing

# How much is asked for at a time: what lies on disk is flushed after each.
PIECE_BYTES = 1 << 26
PARTIAL = (".part", ".flushed")  # suffixes of what is not whole
_REMEDY = "free space there, or name another folder in DEADTOKENS_CACHE"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def cache_folder() -> Path:
    """The folder of all that is kept: ``DEADTOKENS_CACHE``, or deadtokens in the user's cache."""
    named = os.environ.get("DEADTOKENS_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()
    return base / "deadtokens"


def safe_name(name: str, *facts: object) -> str:
    """A file name for something of any name and further facts, which no other shares."""
    digest = hashlib.sha256(repr((name, *facts)).encode()).hexdigest()[:24]
    return f"{_UNSAFE.sub('_', name)[:80]}-{digest}"


def safe_path(folder: Path, name: str, where: str) -> Path:
    """The place in a folder of a repository's file, whose name may have parts between slashes.

    Raises:
        SourceError: The name could lead out of the folder, or is no name.
    """
    parts = name.split("/")
    if any(part in ("", ".", "..") or re.search(r"[\\\0:]", part) for part in parts):
        raise SourceError(
            f"{name!r} is no name for a file in a repository", where=where, remedy="check its name"
        )
    return folder.joinpath(*parts)


def stored(path: Path) -> bytes | None:
    """What is kept in a file; None if nothing is.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from None


def store(path: Path, content: bytes) -> None:
    """Keep something in a file.

    Raises:
        SourceError: It cannot be written.
    """
    with _usable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path) as file:
                file.write(content)
        except OutputError as error:
            raise SourceError(error.what, where=path, remedy=_REMEDY) from None


def fetch(file: RemoteFile, place: Path, start: int, nbytes: int | None, label: str) -> Path:
    """Bytes of a file, transferred unless they are kept already, or as far as they are not.

    Any number of processes may ask for the same: one transfers, the others wait.

    Args:
        file: The file.
        place: Where they are kept.
        start: The first byte.
        nbytes: How many; None for the whole file, from byte 0.
        label: What to call it while it is transferred.

    Returns:
        The place.

    Raises:
        SourceError: They are not to be had, there is no room for them, or the cache cannot be
            written.
    """
    wanted = file.size if nbytes is None else nbytes
    with _usable(place):
        if _is_whole(place, wanted):
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f"{place.name}.part")
        with _locked(part, file.where) as into:
            if not _is_whole(place, wanted):
                _fill(into, file, start, nbytes, label)
                part.replace(place)
            else:
                part.unlink(missing_ok=True)
            into.mark.unlink(missing_ok=True)
    return place


def _is_whole(place: Path, wanted: int | None) -> bool:
    try:
        size = place.stat().st_size
    except FileNotFoundError:
        return False
    return wanted is None or size == wanted


class _Part(io.BufferedWriter):
    """A file to be completed, and beside it the mark: how many of its bytes lie on the disk.

    Attributes:
        mark: The mark's place. It never says more than is there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "a"))
        self.mark = path.with_name(f"{path.name}.flushed")
        self._marked = 0

    def resume(self) -> None:
        """Drop what may not have reached the disk, and stand at the end of the rest."""
        size = self.seek(0, os.SEEK_END)  # whoever held it before may have written on
        try:
            flushed = min(int(self.mark.read_bytes()), size)
        except (FileNotFoundError, ValueError):
            flushed = 0
        self.seek(flushed)
        self.truncate()

    def truncate(self, size: int | None = None) -> int:
        """As ever, and the mark first: it must not speak of bytes that are still to come."""
        self._set_mark(self.tell() if size is None else size)
        return super().truncate(size)

    def settle(self, step: int = 0) -> None:
        """Flush what was written to the disk, if it is so many bytes at least, and mark it."""
        if self.tell() - self._marked >= step:
            self.flush()
            os.fsync(self.fileno())
            self._set_mark(self.tell())

    def _set_mark(self, n_bytes: int) -> None:
        """Written in place and always as long, so that no loss of power makes it a larger one."""
        with io.FileIO(self.mark, "r+" if self.mark.exists() else "w") as file:
            file.write(b"%020d" % n_bytes)
            os.fsync(file.fileno())
        self._marked = n_bytes


def _fill(into: _Part, file: RemoteFile, start: int, nbytes: int | None, label: str) -> None:
    """Transfer what a part does not have yet, piece by piece."""
    wanted = file.size if nbytes is None else nbytes
    into.resume()
    if wanted is not None and into.tell() > wanted:  # no part of this
        into.seek(0)
        into.truncate()
    _check_room(Path(into.name), (wanted or 0) - into.tell())
    with listener().transfer(label, wanted, into.tell()) as told:

        def reached(n_bytes: int) -> None:
            told(n_bytes)
            into.settle(PIECE_BYTES)

        try:
            _transfer(into, file, start, nbytes, reached)
        finally:  # also of a transfer that is given up, all that came is kept
            into.settle()


def _transfer(
    into: _Part, file: RemoteFile, start: int, nbytes: int | None, reached: Reached
) -> None:
    if nbytes is None and into.tell() != file.size:
        stretch(file, into, 0, None, reached)
    while nbytes is not None and into.tell() < nbytes:
        stop = start + min(into.tell() + PIECE_BYTES, nbytes)
        size = stretch(file, into, start, stop, reached)
        if size < stop:
            raise SourceError(f"the file ends at byte {size:,}", where=file.where)


def _check_room(part: Path, missing: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise SourceError(
            f"no room: {missing:,} bytes are to come, {free:,} are free",
            where=part.parent,
            remedy=_REMEDY,
        )


@contextlib.contextmanager
def _locked(part: Path, where: str) -> Iterator[_Part]:
    """A part, open at its end, which no other process or thread writes meanwhile."""
    while True:
        with _Part(part) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                listener().message(f"{where}: another process is fetching this; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            if _is_same(part, file):
                yield file
                return


def _is_same(part: Path, file: _Part) -> bool:
    """Whether the file is still the one of that name: who held it before may have renamed it."""
    try:
        return os.path.samestat(part.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _usable(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unusable(place, error.strerror or str(error)) from None


def _unusable(place: Path, why: str) -> SourceError:
    return SourceError(f"the cache cannot be used ({why})", where=place, remedy=_REMEDY)
