"""Exceptions for bad input: each says what is wrong, where, and how to mend it, in one line."""

from __future__ import annotations

import unicodedata
from functools import partial

_LONGEST = 1000  # characters of each part of an error's line: names in it may have no end
# Characters that nothing is drawn for although they count as printable: fillers, variation
# selectors and others that Unicode calls default ignorable.
_UNSEEN = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)
_MOST_MARKS = 4  # on one character: more of them grow into the lines above and below


def plain(text: str) -> str:
    """The text with what drives a terminal, cannot be seen or encoded, or piles up, as escapes."""
    if text.isascii() and text.isprintable():
        return text
    shown = []
    marks = 0
    for c in text:
        marks = marks + 1 if unicodedata.category(c) in ("Mn", "Me") else 0
        seen = c.isprintable() and c not in _UNSEEN and marks <= _MOST_MARKS
        shown.append(c if seen else ascii(c)[1:-1])
    return "".join(shown)


def shortened(text: str, most: int = _LONGEST) -> str:
    """The text, or its beginning if it is longer than so many characters."""
    return text if len(text) <= most else f"{text[:most]}..."


def one_line(error: BaseException) -> str:
    """What an exception says, without line breaks; its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


class DeadtokensError(Exception):
    """Input that cannot be used, as one line for the person who gave it.

    Args:
        what: What is wrong, with the offending value.
        where: The file, tensor or argument it is about.
        remedy: What to do about it.
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        line = shortened(what) if where is None else f"{shortened(str(where))}: {shortened(what)}"
        super().__init__(line if remedy is None else f"{line}; {shortened(remedy)}")

    def __reduce__(self) -> tuple[partial[DeadtokensError], tuple[()]]:
        # By its parts, the place as text: whoever unpickles it may lack what that is made of.
        where = None if self.where is None else str(self.where)
        return partial(type(self), self.what, where=where, remedy=self.remedy), ()


class SourceError(DeadtokensError):
    """A file, folder or tensor that cannot be read as a matrix of token vectors."""


class FormatError(DeadtokensError, ValueError):
    """A number or code outside the storage format it was given for."""


class SelectionError(DeadtokensError, ValueError):
    """A choice of rows, tensors or parameters that leaves nothing sensible to compute."""


class OutputError(DeadtokensError):
    """A result that cannot be written where it was asked for."""


class DeviceError(DeadtokensError):
    """A device that cannot be used, or that has too little memory."""


class ClusterError(DeadtokensError):
    """A cluster that cannot be reached, or whose workers cannot do the work."""
