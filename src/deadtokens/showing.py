"""Results that show themselves: in notebooks as HTML, and as pictures on matplotlib's Axes.

How is known to modules that stand below all results, so that no result can import them. The package
itself, which knows everybody, hands their loader over; nothing is loaded before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = TypeVar("Result")

# Name to module: of the one that makes HTML, and of the one that draws.
views: dict[str, Callable[[], Any]] = {}


class Shown:
    """A result that a notebook shows as the command line prints it, and that may have a picture."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        html: str = views["notebook"]().html(self)
        return html

    def plot(self, axes: Axes | None = None, **choice: Any) -> Axes:
        """Draw it, on new axes where none are given.

        Args:
            axes: Where to draw.
            choice: What `deadtokens.figures` lets choose for this kind of result.

        Raises:
            SelectionError: There is no picture of it, nothing in it to draw, or no such choice.
        """
        drawn: Axes = views["figures"]().plot(self, axes, **choice)
        return drawn


class ShownList(list[Result], Shown):
    """Results of one kind, which a notebook shows in one table."""

    __slots__ = ()
