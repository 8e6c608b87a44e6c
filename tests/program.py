"""The program, run in this process."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

from deadtokens.cli import run
from deadtokens.listening import listen


class Result(NamedTuple):
    """How the program ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The error that it ended with: all that was written from there on."""
        found = re.search(r"^error: .*(?=\n\Z)", self.err, re.MULTILINE | re.DOTALL)
        return found[0] if found else ""


Program: TypeAlias = Callable[..., Result]


def call(*arguments: object) -> int:
    """Its exit status; a message that it ends with is printed as the interpreter would."""
    given = sys.argv
    sys.argv = ["deadtokens", *map(str, arguments)]
    try:
        run()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
            return 1
        return ended.code or 0
    finally:
        sys.argv = given
        listen(None)  # the program's own listener ends with it
    raise AssertionError("the program does not end")


def deadtokens(*arguments: object) -> Result:
    """How it ends, and what it writes into pipes."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = call(*arguments)
    out, err = (stream.detach().getvalue().decode() for stream in streams)
    return Result(status, out, err)


def in_a_terminal(*arguments: object) -> tuple[int, str]:
    """Its exit status, and what it writes where both its streams are a terminal."""
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(_all_of, ours)
        with (
            os.fdopen(theirs, "w", encoding="utf-8") as terminal,
            contextlib.redirect_stdout(terminal),
            contextlib.redirect_stderr(terminal),
        ):
            status = call(*arguments)
        text = shown.result().decode()
    os.close(ours)
    return status, text


def _all_of(terminal: int) -> bytes:
    shown = b""
    while True:
        try:
            part = os.read(terminal, 1 << 16)
        except OSError:  # what Linux says where the other side is closed
            return shown
        if not part:
            return shown
        shown += part
