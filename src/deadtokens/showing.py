"""Results that show themselves in notebooks."""

from __future__ import annotations

from importlib import import_module
from typing import TypeVar

Result = TypeVar("Result")


class Shown:
    """A result that a notebook shows as the command line prints it.

    How is known to `deadtokens.notebook`, which stands below all results and is looked up by name
    when a notebook first asks: nothing is loaded for it before, and no result imports it.
    """

    __slots__ = ()

    def _repr_html_(self) -> str:
        html: str = import_module("deadtokens.notebook").html(self)
        return html


class ShownList(list[Result], Shown):
    """Results of one kind, which a notebook shows in one table."""

    __slots__ = ()
