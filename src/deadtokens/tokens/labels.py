"""The labels of rows: columns with one entry per row, and how often each label and script is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deadtokens.rows import RowChoice
from deadtokens.showing import Shown

# In the order of the rules: the first that holds gives a row its label; "unknown" is for rows of
# which the source does not say what token they are.
LABELS = (
    "padding",
    "reserved",
    "special",
    "added",
    "byte",
    "partial UTF-8",
    "unreachable",
    "ordinary",
    "unknown",
)


@dataclass(frozen=True, eq=False)
class Labels(Shown):
    """What the rows of a matrix stand for, one entry per row; `label_rows` says by which rules.

    Attributes:
        texts: The token as a person would read it, unescaped: spaces are spaces, a byte that is no
            valid UTF-8 is ``<0xE2>``, a special, added or reserved token is its spelling; ``""``
            where there is no token or it is not known.
        pieces: The vocabulary's own spelling, e.g. ``"Ġthe"``, ``"##ing"``; ``""`` likewise.
        labels: (V,) uint8, an index into `LABELS`.
        scripts: (V,) uint8, an index into ``script_names``: the Unicode script that most
            characters of the text have, Common and Inherited left out, the first of equals.
        script_names: Names as Unicode gives them. ``"Common"`` where only such characters are,
            ``""`` where there is none.
        reachable: (V,) int8: 1 where encoding gives the token back, 0 where it does not, -1 where
            that was not tested.
        carriers: Ids of the tokens that stood before the others when it was tested.
        notes: What could not be told and why, and how it was tested, a sentence each.
        warnings: Where the tokenizer and the matrix do not fit together, a sentence each.
    """

    texts: list[str]
    pieces: list[str]
    labels: npt.NDArray[np.uint8]
    scripts: npt.NDArray[np.uint8]
    script_names: tuple[str, ...]
    reachable: npt.NDArray[np.int8]
    carriers: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {name}" for name, count in self.label_counts().items())
        return f"<Labels of {len(self.texts):,} rows: {counts}>"

    @property
    def unreachable(self) -> int | None:
        """Rows that the tokenizer cannot produce; None where that could not be tested."""
        if not bool((self.reachable == 1).any()):
            return None
        return int((self.reachable == 0).sum())

    def label_of(self, row: int) -> str:
        """The label of a row."""
        return LABELS[int(self.labels[row])]

    def script_of(self, row: int) -> str:
        """The script of a row's text."""
        return self.script_names[int(self.scripts[row])]

    def label_counts(self, rows: RowChoice | None = None) -> dict[str, int]:
        """How many rows have each label that occurs, in the order of `LABELS`.

        Args:
            rows: A slice, row numbers or a mask; all rows by default.
        """
        counts = np.bincount(self.labels[_choice(rows)], minlength=len(LABELS)).tolist()
        return {name: count for name, count in zip(LABELS, counts, strict=True) if count}

    def script_counts(self, rows: RowChoice | None = None) -> dict[str, int]:
        """How many rows have text of each script, the most frequent first, equals by name.

        Args:
            rows: A slice, row numbers or a mask; all rows by default.
        """
        names = self.script_names
        counts = np.bincount(self.scripts[_choice(rows)], minlength=len(names)).tolist()
        found = [(-count, name) for name, count in zip(names, counts, strict=True)]
        return {name: -count for count, name in sorted(found) if name and count}


def _choice(rows: RowChoice | None) -> RowChoice:
    return slice(None) if rows is None else rows
