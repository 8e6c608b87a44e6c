"""Stretches of a hub's files: asked for by range, checked, gone on with when a connection breaks.

Requests go through huggingface_hub's own session, so that proxies, certificates, the token and
offline mode are as it has them. Its client is httpx or httpx2, whichever that version brings; both
raise what `HfHubHTTPError` derives from.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, TypeVar

from deadtokens.errors import SourceError
from deadtokens.files.stored import short
from deadtokens.listening import Reached, listener

# Failures in a row, and the seconds to wait after each: some 15 s in all.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
_LONGEST_WAIT = 60.0  # that a server may ask for
_PASSING = (408, 429, 500, 502, 503, 504)
# A connection that brought so much counts as no failure, however it ended.
_PROGRESS_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)
_LATER = "try again later: what was transferred is kept"
_SIGN_IN = "log in with `hf auth login`, or set HF_TOKEN"

_T = TypeVar("_T")


@dataclass(frozen=True)
class RemoteFile:
    """A file at one commit of a repository.

    Attributes:
        url: Where it is asked for.
        where: What an error line names.
        size: Its bytes; None if not known yet.
        most: The most bytes that it may have; None for no limit.
    """

    url: str
    where: str
    size: int | None = None
    most: int | None = None

    def check_size(self, size: int | None) -> None:
        """Refuse a size beyond what the file may have.

        Raises:
            SourceError: It is beyond that.
        """
        if size is not None and self.most is not None and size > self.most:
            raise SourceError(
                f"{size:,} bytes, which is too large: {self.most:,} are the most fetched of such a "
                "file",
                where=self.where,
            )


class UnreachableError(SourceError):
    """The server cannot be reached, or answers that something is wrong with itself."""


class _Passing(Exception):  # noqa: N818 - not an error yet: tried again
    """Something that may go better the next time.

    Attributes:
        wait: Seconds that the server asks for; None if it asks for none.
        unconnected: Whether no connection was made at all.
    """

    def __init__(
        self, reason: str, wait: float | None = None, *, unconnected: bool = False
    ) -> None:
        super().__init__(reason)
        self.wait = wait
        self.unconnected = unconnected


def stretch(
    file: RemoteFile, into: IO[bytes], start: int, stop: int | None, reached: Reached
) -> int:
    """Transfer bytes ``start`` up to ``stop`` of a file, or those that are still missing of them.

    Args:
        file: The file.
        into: What holds the bytes from ``start`` on, positioned at its end.
        start: The first byte.
        stop: The byte after the last, which may lie beyond the file's end. None is the whole file,
            from byte 0: the one case in which a server need not know ranges.
        reached: Told how many bytes ``into`` holds.

    Returns:
        The file's size in bytes.

    Raises:
        SourceError: It is not to be had, or what comes is not what was asked for.
        OSError: ``into`` cannot be written.
    """
    patience = _Patience(file.where)
    while True:
        before = into.tell()
        try:
            return _transfer(file, into, start, stop, reached)
        except _Passing as passing:
            if into.tell() - before >= _PROGRESS_BYTES:
                patience.restore()
            patience.lose(passing)


def persistently(where: str, ask: Callable[[], _T], *, patient: bool = True) -> _T:
    """The answer of a call into huggingface_hub, tried again while what goes wrong may pass.

    Raises:
        UnreachableError: It did not pass; unless patient, it is not tried again.
        SourceError: It will not pass.
    """
    patience = _Patience(where)
    while True:
        try:
            _session(where)
            _headers(where)
            with _translated(where):
                return ask()
        except _Passing as passing:
            if passing.unconnected:
                raise UnreachableError(
                    f"no hub answers ({passing})",
                    where=where,
                    remedy="check the network, and HF_ENDPOINT if it is set",
                ) from None
            if not patient:
                raise UnreachableError(str(passing), where=where, remedy=_LATER) from None
            patience.lose(passing)


class _Patience:
    """Counts failures in a row, and waits longer after each."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._failures = 0

    def restore(self) -> None:
        self._failures = 0

    def lose(self, passing: _Passing) -> None:
        wait = _WAITS[min(self._failures, len(_WAITS) - 1)]
        asked = passing.wait or 0.0
        self._failures += 1
        if self._failures > len(_WAITS) or asked > _LONGEST_WAIT:
            times = f", {self._failures} times in a row" if self._failures > 1 else ""
            raise UnreachableError(f"{passing}{times}", where=self._where, remedy=_LATER) from None
        wait = max(wait, asked)
        listener().message(f"{self._where}: {passing}; trying again in {wait:g} s")
        time.sleep(wait)


def _transfer(
    file: RemoteFile, into: IO[bytes], start: int, stop: int | None, reached: Reached
) -> int:
    """One request: for what is missing, as far as it comes."""
    with _answer(file, start + into.tell(), stop) as (response, end, size):
        if response.status_code == 200 and into.tell():  # the whole file, from its beginning
            into.seek(0)
            into.truncate()
        for chunk in response.iter_raw():
            if start + into.tell() + len(chunk) > end:
                raise SourceError("more bytes came than were asked for", where=file.where)
            into.write(chunk)
            reached(into.tell())
    if start + into.tell() < end:
        raise _Passing(f"the connection closed {end - start - into.tell():,} bytes too early")
    return size


@contextlib.contextmanager
def _answer(file: RemoteFile, first: int, stop: int | None) -> Iterator[tuple[Any, int, int]]:
    """A response whose body is still to come, the byte at which it ends, and the file's size."""
    from huggingface_hub import constants

    headers = _headers(file.where)
    if first or stop is not None:
        headers["Range"] = f"bytes={first}-{'' if stop is None else stop - 1}"
    with (
        _translated(file.where),
        _session(file.where).stream(
            "GET",
            file.url,
            headers=headers,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            follow_redirects=True,
        ) as response,
    ):
        if response.status_code == 416 and _is_end(response, first):
            yield _Nothing, first, first
            return
        if response.status_code >= 400:  # its body is not read: it may be of any length
            bare = type(response)(
                response.status_code, headers=_told(response), request=response.request
            )
            hub_utilities().hf_raise_for_status(bare)
        end, size = _extent(file, response, first, stop)
        if file.size not in (None, size):
            raise SourceError(
                f"the server has {size:,} bytes of it, but {file.size:,} were announced",
                where=file.where,
                remedy="remove it from the cache and try again",
            )
        file.check_size(size)
        yield response, end, size


def _told(response: Any) -> dict[str, str]:
    """What an answer says of what went wrong, besides its body."""
    names = ("X-Error-Code", "X-Error-Message", "Retry-After", "RateLimit")
    return {name: response.headers[name] for name in names if name in response.headers}


def hub_utilities() -> Any:
    """huggingface_hub.utils, which does not declare to type checkers what it exports."""
    import huggingface_hub.utils

    return huggingface_hub.utils


def _session(where: str) -> Any:
    """huggingface_hub's client, which may be made here for the first time.

    Raises:
        SourceError: It cannot be made: a certificate file that is not there, a proxy that is none.
    """
    try:
        return hub_utilities().get_session()
    except (OSError, ValueError) as error:
        raise SourceError(
            f"no connection can be set up ({short(error)})",
            where=where,
            remedy="check the proxy and certificates that the environment names",
        ) from None


class _Nothing:
    """A body without a byte."""

    status_code = 206

    @staticmethod
    def iter_raw() -> Iterator[bytes]:
        return iter(())


def _headers(where: str) -> dict[str, str]:
    """What requests say: who asks, with the user's token, and that bytes are wanted as they are.

    Raises:
        SourceError: There is a token, but it cannot be had.
    """
    from deadtokens import __version__

    try:
        headers = hub_utilities().build_hf_headers(
            library_name="deadtokens", library_version=__version__
        )
    except Exception as error:  # whatever a file, an OAuth server or a CI's identity may raise
        raise SourceError(
            f"the token cannot be read ({short(error)})", where=where, remedy=_SIGN_IN
        ) from None
    return {**headers, "Accept-Encoding": "identity"}


def _is_end(response: Any, first: int) -> bool:
    """Whether a range cannot be had because the file ends where it begins."""
    return str(response.headers.get("Content-Range", "")) == f"bytes */{first}"


def _extent(file: RemoteFile, response: Any, first: int, stop: int | None) -> tuple[int, int]:
    """Where the body ends, and the file's size, as the response's head says.

    Raises:
        SourceError: It is not the part that was asked for.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceError("the server sends it compressed, unasked", where=file.where)
    if response.status_code == 206:
        return _range_extent(file, response, first, stop)
    if stop is not None:
        raise SourceError(
            f"the server does not send parts of files (status {response.status_code} to a request "
            "for a range)",
            where=file.where,
            remedy="fetch the repository in another way, and give its folder",
        )
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isascii() and length.isdigit() else file.size
    if size is None:
        raise SourceError("the server does not say how long it is", where=file.where)
    return size, size


def _range_extent(file: RemoteFile, response: Any, first: int, stop: int | None) -> tuple[int, int]:
    stated = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(stated)
    begin, last, size = map(int, match.groups()) if match else (-1, -1, -1)
    end = size if stop is None else min(stop, size)
    if begin != first or last + 1 != end:
        wanted = f"{first}-{'' if stop is None else stop - 1}"
        raise SourceError(
            f"asked for bytes {wanted}, the server sends {stated[:60]!r}", where=file.where
        )
    return end, size


@contextlib.contextmanager
def _translated(where: str) -> Iterator[None]:
    """What huggingface_hub and its client raise, as a `SourceError` or as passing."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    client_error: Any = HfHubHTTPError.__bases__[0]
    try:
        yield
    except OfflineModeIsEnabled:
        raise UnreachableError(
            "HF_HUB_OFFLINE forbids asking the hub",
            where=where,
            remedy="unset it: not all of this is in the cache",
        ) from None
    except HfHubHTTPError as error:
        raise _refused(error, where) from None
    except client_error as error:
        # Nobody at that address, or no such address: waiting some seconds does not mend that.
        unconnected = type(error).__name__ == "ConnectError"
        why = f"the connection failed ({short(error)})"
        raise _Passing(why, unconnected=unconnected) from None


def _refused(error: Any, where: str) -> Exception:
    """What an answer of 4xx or 5xx means."""
    from huggingface_hub import errors

    response = error.response
    status = response.status_code
    if status in _PASSING:
        return _asked_to_wait(status, response.headers)
    if isinstance(error, errors.GatedRepoError):
        return SourceError(
            "this repository is gated, and access has not been granted",
            where=where,
            remedy=f"accept its terms on {_page(str(response.request.url))}, then {_SIGN_IN}",
        )
    if isinstance(error, errors.DisabledRepoError):
        return SourceError("this repository has been disabled", where=where)
    if isinstance(error, errors.RevisionNotFoundError):
        return SourceError(
            "no such revision", where=where, remedy="name a branch, a tag or a commit of it"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return SourceError("no such file there", where=where, remedy="check its name")
    return _denied(status, str(response.headers.get("X-Error-Message", "")), where)


def _denied(status: int, message: str, where: str) -> SourceError:
    """What an answer means that carries none of the hub's codes, or only that nothing is there."""
    if status == 401 and message.startswith("Invalid credentials"):
        return SourceError("the hub refuses the token", where=where, remedy=_SIGN_IN)
    if status in (401, 404):
        return SourceError(
            "no such repository, or it is private",
            where=where,
            remedy=f"check the name; if it is private, {_SIGN_IN}",
        )
    if status == 403:
        return SourceError(
            "access is forbidden" + (f" ({short(message)})" if message else ""),
            where=where,
            remedy="use a token with the right to read it, in HF_TOKEN",
        )
    return SourceError(f"the server answers {status}", where=where, remedy="check HF_ENDPOINT")


def _asked_to_wait(status: int, headers: Any) -> _Passing:
    """A failure that may pass, after as many seconds as the server says, if it does."""
    stated = headers.get("Retry-After", "")
    if not stated and status == 429:
        limit = re.search(r"\bt\s*=\s*(\d+)", headers.get("RateLimit", ""), re.ASCII)
        stated = limit[1] if limit else ""
    wait = float(stated) if stated.isascii() and stated.isdigit() else None
    asks = f" and asks to wait {wait:g} s" if wait else ""
    return _Passing(f"the server answers {status}{asks}", wait)


def _page(url: str) -> str:
    """The page of a repository, from an address that something of it was asked at."""
    return re.sub(r"/(resolve|revision)/.*|\?.*", "", url.replace("/api/models/", "/", 1))
