"""Exceptions for bad input: each says what is wrong, where, and how to mend it, in one line."""

from __future__ import annotations


def plain(text: str) -> str:
    """The text with whatever drives a terminal, or cannot be encoded, spelled as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
        line = what if where is None else f"{where}: {what}"
        super().__init__(line if remedy is None else f"{line}; {remedy}")


class SourceError(DeadtokensError):
    """A file, folder or tensor that cannot be read as a matrix of token vectors."""


class FormatError(DeadtokensError, ValueError):
    """A number or code outside the storage format it was given for."""


class SelectionError(DeadtokensError, ValueError):
    """A choice of rows, tensors or parameters that leaves nothing sensible to compute."""


class OutputError(DeadtokensError):
    """A result that cannot be written where it was asked for."""
