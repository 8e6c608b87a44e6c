"""What a comparison of two matrices holds; the words are defined in `deadtokens.diff`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deadtokens.census import Census
from deadtokens.errors import plain
from deadtokens.formats import Format
from deadtokens.kernels.types import Float64Array, Int64Array
from deadtokens.sources import Matrix, roles_doubt
from deadtokens.tabular import Tabular

NONE = -1  # no black hole, no population, no steps


# Black holes' rows have to move this many times less often than others to count as left alone.
_CLEARLY_LESS = 2.0


@dataclass(frozen=True)
class GroupChange:
    """What became of a black hole of A, or how a black hole of B came to be.

    Attributes:
        group_a: Its number in A's census; None for one of B without rows of any of A.
        change: The words that hold, joined by ``+``.
        first_row: Its first row.
        population_a: Its rows in A; 0 for one of B.
        rows_b: Its rows that are in B and finite there; for one of B all of them.
        trimmed: Its rows beyond B's matrix.
        not_finite: Its rows with NaN or an infinity in B.
        added: For one of B, its rows beyond A's matrix.
        populations: Its rows by vector in B, most first.
        groups_b: The black holes of B that its rows are in, by number.
        merged_with: Other black holes of A whose rows share a vector with its own in B.
        grown_by: Rows that were in no black hole of A and share a vector with its own in B.
        moved_rows: Its rows whose vector is another.
        distance: The largest Euclidean distance between a row's vectors; None without one in both.
        steps: The largest difference of ordinals between a row's vectors; None where they lie on
            no common lattice.
    """

    group_a: int | None
    change: str
    first_row: int
    population_a: int
    rows_b: int
    trimmed: int = 0
    not_finite: int = 0
    added: int = 0
    populations: tuple[int, ...] = ()
    groups_b: tuple[int, ...] = ()
    merged_with: tuple[int, ...] = ()
    grown_by: int = 0
    moved_rows: int = 0
    distance: float | None = None
    steps: int | None = None

    @property
    def vectors_b(self) -> int:
        """Distinct vectors that its rows hold in B."""
        return len(self.populations)


@dataclass(frozen=True)
class RowChanges:
    """The rows that are in a black hole of A or of B, ascending; one entry each.

    Attributes:
        row: (n,) int64.
        group_a: (n,) int64, its black hole in A; `NONE` without one.
        population_a: (n,) int64, rows of A that share its vector, 1 if it is alone; `NONE` where A
            has no such row, or it is not finite.
        group_b: (n,) int64, the same of B.
        population_b: (n,) int64, the same of B.
        distance: (n,) float64, between its vectors; NaN where there are not two.
        steps: (n,) int64, the largest difference of ordinals; `NONE` where there is none.
        change: What became of the row.
        group_change: What became of its black hole of A; for a row in none, of the first one of A
            that its black hole of B has rows of, or that this one is new.
    """

    row: Int64Array
    group_a: Int64Array
    population_a: Int64Array
    group_b: Int64Array
    population_b: Int64Array
    distance: Float64Array
    steps: Int64Array
    change: list[str]
    group_change: list[str]


@dataclass(frozen=True)
class Movement:
    """How far rows lie from where they were, of those that are finite in both.

    Attributes:
        n_rows: How many.
        still: Those whose vector is the same.
        still_once_rounded: Those whose vectors are the same in the coarser format of the two, in
            that of B where neither is coarser.
        median: Of their Euclidean distances; None without rows.
        largest: The largest of them; None without rows.
    """

    n_rows: int
    still: int
    still_once_rounded: int
    median: float | None
    largest: float | None


@dataclass(frozen=True)
class Rounding:
    """What rounding one side to the coarser format of the other does by itself.

    Attributes:
        side: The side that is rounded, "A" or "B".
        format: The other side's format.
        n_black_holes: Black holes of the side once it is rounded.
        arising: Those of them that hold several vectors before.
        changed: For A: black holes of B that hold several vectors of A; for B: black holes of A
            that hold several vectors of B.
        explained: Those of them whose rows are all equal once the side is rounded.
    """

    side: str
    format: Format
    n_black_holes: int
    arising: int
    changed: int
    explained: int


@dataclass(frozen=True)
class Diff(Tabular):
    """Two matrices compared.

    Attributes:
        a: The first.
        b: The second.
        census_a: The groups of equal rows of the first.
        census_b: Those of the second.
        groups: What became of each black hole of A, in its order; then those of B that are new.
        rows: Row by row, those in a black hole of either.
        dead: How far the rows in black holes of A moved.
        others: How far all others moved.
        rounding: What rounding alone does, where formats differ.
        lattice: That on which the rows in black holes lie in both; None if there is none.
        texts: Each row's token, of A's tokenizer or for rows A has not of B's; None without any.
        other_tokens: Rows whose token differs between the two; None unless both have a tokenizer.
    """

    a: Matrix
    b: Matrix
    census_a: Census
    census_b: Census
    groups: list[GroupChange]
    rows: RowChanges
    dead: Movement
    others: Movement
    rounding: tuple[Rounding, ...]
    lattice: Format | None
    texts: Sequence[str] | None = None
    other_tokens: int | None = None

    def __repr__(self) -> str:
        said = ", ".join(f"{n:,} {change}" for change, n in self.tally.items()) or "no black holes"
        return plain(f"<Diff of {self.a.source} and {self.b.source}: {said}>")

    def columns(self) -> Mapping[str, Any]:
        """The columns of diff.csv: the rows in a black hole of either; the token, where known."""
        import pyarrow as pa

        def known(numbers: Int64Array) -> Any:
            return pa.array(numbers, mask=numbers == NONE)

        rows = self.rows
        columns: dict[str, Any] = {
            "row": rows.row,
            "group_a": known(rows.group_a),
            "population_a": known(rows.population_a),
            "group_b": known(rows.group_b),
            "population_b": known(rows.population_b),
            "moved": pa.array(rows.distance, mask=np.isnan(rows.distance)),
            "steps": known(rows.steps),
            "change": rows.change,
            "group_change": rows.group_change,
        }
        if self.texts is not None:
            columns["token"] = [self.texts[row] for row in rows.row.tolist()]
        return columns

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where the evidence for either matrix conflicts or is thin, a sentence each."""
        doubt = roles_doubt(self.a, self.b)
        own = (doubt,) if doubt else ()
        return tuple(dict.fromkeys(own + self.a.warnings + self.b.warnings))

    @property
    def n_common(self) -> int:
        """Rows that both have."""
        return min(self.a.n_rows, self.b.n_rows)

    @property
    def n_compared(self) -> int:
        """Rows that are finite in both."""
        return self.dead.n_rows + self.others.n_rows

    @property
    def identical(self) -> int:
        """Rows whose vector is the same in both."""
        return self.dead.still + self.others.still

    @property
    def tally(self) -> dict[str, int]:
        """How many black holes each combination of words became of, the most frequent first."""
        return dict(Counter(group.change for group in self.groups).most_common())

    @property
    def evidence(self) -> str:
        """What the movement of dead rows against that of all others says, in a sentence."""
        dead, others = self.dead, self.others
        if not dead.n_rows:
            return "No row of a black hole of A is in B: movement says nothing of dead rows."
        moved = others.n_rows - others.still_once_rounded
        beyond = " beyond rounding" if self.rounding else ""
        if not moved:
            return f"No other row moved{beyond}, so that rows which stayed say nothing."
        those = f"{moved:,} of {others.n_rows:,} other rows"
        still = dead.still_once_rounded
        if not still:
            return (
                f"All rows in black holes of A moved{beyond}, and so did {those}: no evidence here "
                "that they are untrained, nor against it, since weight decay moves them too."
            )
        how_many = "All" if still == dead.n_rows else f"{still:,} of"
        found = f"{how_many} {dead.n_rows:,} rows in black holes of A did not move{beyond} while"
        if (dead.n_rows - still) / dead.n_rows < moved / others.n_rows / _CLEARLY_LESS:
            return f"{found} {those} did: evidence that they are untrained."
        return (
            f"{found} {those} did: they moved no less often than others, which is no evidence that "
            "they are untrained."
        )
