"""The program, run in this process."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from deadtokens.cli import run


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
    raise AssertionError("the program does not end")


def deadtokens(*arguments: object) -> Result:
    """How it ends, and what it writes into pipes."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        status = call(*arguments)
    out, err = (stream.detach().getvalue().decode() for stream in streams)
    return Result(status, out, err)
