"""Results that are tables, for programs: as columns, to pyarrow and to pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from deadtokens.errors import SelectionError
from deadtokens.showing import Shown, ShownList

Result = TypeVar("Result")


class Tabular(Shown):
    """A result that is a table; its columns have the names of the CSV file where there is one."""

    __slots__ = ()

    def columns(self) -> Mapping[str, Any]:
        """The columns by name, arrays or lists of equal length, in order."""
        raise NotImplementedError

    def table(self) -> Any:
        """As a ``pyarrow.Table``; what is not known is null."""
        import pyarrow as pa

        return pa.table(dict(self.columns()))

    def to_frame(self) -> Any:
        """As a ``pandas.DataFrame``; whole numbers of which some are not known become floats.

        Raises:
            SelectionError: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401 (pyarrow makes the frame)
        except ImportError:
            raise SelectionError(
                "pandas is not installed",
                where="to_frame",
                remedy="pip install 'deadtokens[pandas]', or take .table(), which is pyarrow's",
            ) from None
        return self.table().to_pandas()


class Records(ShownList[Result], Tabular):
    """Lines of one kind, a dataclass each: a list, and a table with a column per field.

    Args:
        kind: The dataclass, which says the columns where there are no lines.
        lines: The lines.
    """

    def __init__(self, kind: type[Result], lines: Iterable[Result] = ()) -> None:
        super().__init__(lines)
        self.kind = kind

    def columns(self) -> Mapping[str, Any]:
        """A column per field, typed as the field is: so also where all of it is unknown."""
        import pyarrow as pa

        hints = get_type_hints(self.kind)
        return {
            field.name: pa.array(
                [getattr(line, field.name) for line in self], _arrow(hints[field.name])
            )
            for field in fields(self.kind)  # type: ignore[arg-type]
        }


def _arrow(hint: Any) -> Any:
    """Arrow's type for a field's type."""
    import pyarrow as pa

    plain = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    if hint in plain:
        return plain[hint]
    parts = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)]
    if get_origin(hint) is tuple:
        return pa.list_(_arrow(parts[0]))
    if get_origin(hint) is Literal:
        return pa.string()
    (kind,) = {_arrow(part) for part in parts}  # what may be one of several is one kind of column
    return kind
