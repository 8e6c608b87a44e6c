"""What became of black holes, and of their rows; the words are defined in `deadtokens.diff`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from deadtokens.census import NOT_FINITE, Census
from deadtokens.diff.results import NONE, GroupChange, RowChanges
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.sources import Matrix


@dataclass(frozen=True)
class Sides:
    """Two matrices and their groups of equal rows.

    Attributes:
        a: The first matrix.
        b: The second.
        census_a: The groups of the first.
        census_b: Those of the second.
    """

    a: Matrix
    b: Matrix
    census_a: Census
    census_b: Census

    @property
    def n(self) -> int:
        """Rows that both have."""
        return min(self.a.n_rows, self.b.n_rows)

    @cached_property
    def groups_a(self) -> Int64Array:
        """(V_a,) the black hole of each row; -1 without one."""
        return self.census_a.groups

    @cached_property
    def groups_b(self) -> Int64Array:
        """(V_b,) likewise."""
        return self.census_b.groups

    @cached_property
    def finite(self) -> BoolArray:
        """(n,) whether a row is finite in both."""
        first_a, first_b = self.census_a.first[: self.n], self.census_b.first[: self.n]
        return np.asarray((first_a != NOT_FINITE) & (first_b != NOT_FINITE))


def changes_of_a(sides: Sides, moved: Float64Array, steps: Int64Array) -> list[GroupChange]:
    """What became of each black hole of A, in the order of its census.

    Args:
        sides: The groups of both.
        moved: (n,) distances between the rows' vectors.
        steps: (n,) their distances in steps, `NONE` where there are none.
    """
    first_b = sides.census_b.first
    of_a = np.flatnonzero((sides.groups_a[: sides.n] >= 0) & sides.finite)
    vectors, groups = first_b[of_a], sides.groups_a[of_a]
    holders: dict[int, list[int]] = {}  # by vector of B: the black holes of A that it has rows of
    for group, vector in np.unique(np.stack([groups, vectors], axis=1), axis=0).tolist():
        holders.setdefault(vector, []).append(group)
    in_all = np.bincount(first_b[first_b != NOT_FINITE], minlength=first_b.size)
    strangers = in_all - np.bincount(vectors, minlength=first_b.size)
    changes = []
    for group, rows in enumerate(sides.census_a.group_rows):
        left = rows[rows < sides.n]
        kept = left[sides.finite[left]]
        held, populations = np.unique(first_b[kept], return_counts=True)
        black_holes = sides.groups_b[held]
        joined = {g for vector in held.tolist() for g in holders[vector]} - {group}
        one = GroupChange(
            group_a=group,
            change="",
            first_row=int(rows[0]),
            population_a=rows.size,
            rows_b=kept.size,
            trimmed=rows.size - left.size,
            not_finite=left.size - kept.size,
            populations=tuple(sorted(populations.tolist(), reverse=True)),
            groups_b=tuple(sorted(black_holes[black_holes >= 0].tolist())),
            merged_with=tuple(sorted(joined)),
            grown_by=int(strangers[held].sum()),
            **_motion(kept, moved, steps),
        )
        changes.append(_named(one))
    return changes


def _named(change: GroupChange) -> GroupChange:
    holds = {
        "trimmed": change.trimmed > 0,
        "not finite": change.not_finite > 0,
        "split": change.vectors_b > 1,
        "moved": change.vectors_b == 1 and change.moved_rows > 0,
        "merged": bool(change.merged_with),
        "grown": change.grown_by > 0,
    }
    words = "+".join(word for word, is_so in holds.items() if is_so)
    return replace(change, change=words or "unchanged")


def new_of_b(sides: Sides, moved: Float64Array, steps: Int64Array) -> list[GroupChange]:
    """The black holes of B without rows of those of A; arguments as for `changes_of_a`."""
    changes = []
    for group, rows in enumerate(sides.census_b.group_rows):
        before = rows[rows < sides.a.n_rows]
        if (sides.groups_a[before] >= 0).any():
            continue
        added = rows.size - before.size
        kept = before[sides.finite[before]]
        changes.append(
            GroupChange(
                group_a=None,
                change="new+added" if added else "new",
                first_row=int(rows[0]),
                population_a=0,
                rows_b=rows.size,
                added=added,
                populations=(rows.size,),
                groups_b=(group,),
                **_motion(kept, moved, steps),
            )
        )
    return changes


def _motion(rows: Int64Array, moved: Float64Array, steps: Int64Array) -> dict[str, Any]:
    """How far rows that are finite in both moved."""
    if not rows.size:
        return {}
    furthest = int(steps[rows].max())
    return {
        "moved_rows": int((moved[rows] > 0).sum()),
        "distance": float(moved[rows].max()),
        "steps": None if furthest == NONE else furthest,
    }


def row_changes(
    sides: Sides, moved: Float64Array, steps: Int64Array, groups: Sequence[GroupChange]
) -> RowChanges:
    """What became of each row that is in a black hole of either.

    Args:
        sides: The groups of both.
        moved: (n,) distances between the rows' vectors, NaN where one is not finite.
        steps: (n,) their distances in steps, `NONE` where there are none.
        groups: What became of the black holes of A, in their order, and those of B that are new.
    """
    n_rows = max(sides.a.n_rows, sides.b.n_rows)
    group_a, population_a = _placed(sides.groups_a, sides.census_a, n_rows)
    group_b, population_b = _placed(sides.groups_b, sides.census_b, n_rows)
    rows = np.flatnonzero((group_a >= 0) | (group_b >= 0))
    distance, in_steps = np.full(n_rows, np.nan), np.full(n_rows, NONE)
    distance[: sides.n], in_steps[: sides.n] = moved, steps
    of_a = {group.group_a: group.change for group in groups if group.group_a is not None}
    of_b = {group.groups_b[0]: group.change for group in groups if group.group_a is None}
    through = _through_b(sides, of_a)
    names = zip(group_a[rows].tolist(), group_b[rows].tolist(), strict=True)
    return RowChanges(
        rows,
        group_a[rows],
        population_a[rows],
        group_b[rows],
        population_b[rows],
        distance[rows],
        in_steps[rows],
        [_of_row(sides, row, group_a, group_b, distance) for row in rows.tolist()],
        [of_a[a] if a >= 0 else of_b[b] if b in of_b else through[b] for a, b in names],
    )


def _through_b(sides: Sides, of_a: Mapping[int, str]) -> dict[int, str]:
    """For each black hole of B the change of the first black hole of A that it has rows of."""
    groups_a, groups_b = sides.groups_a[: sides.n], sides.groups_b[: sides.n]
    both = np.flatnonzero((groups_a >= 0) & (groups_b >= 0))
    pairs = zip(groups_b[both].tolist(), groups_a[both].tolist(), strict=True)
    first: dict[int, int] = {}
    for of_b, group in pairs:
        first[of_b] = min(group, first.get(of_b, group))
    return {of_b: of_a[group] for of_b, group in first.items()}


def _placed(groups: Int64Array, census: Census, n_rows: int) -> tuple[Int64Array, Int64Array]:
    """(n_rows,) black hole and population of each row's vector, `NONE` where there is no row."""
    placed, population = np.full(n_rows, NONE), np.full(n_rows, NONE)
    placed[: groups.size] = groups
    finite = np.flatnonzero(census.first != NOT_FINITE)
    sizes = np.bincount(census.first[finite], minlength=groups.size)
    population[finite] = sizes[census.first[finite]]
    return placed, population


def _of_row(
    sides: Sides, row: int, group_a: Int64Array, group_b: Int64Array, distance: Float64Array
) -> str:
    if row >= sides.b.n_rows:
        return "trimmed"
    if row >= sides.a.n_rows:
        return "added"
    if group_a[row] < 0:
        return "joined"
    if sides.census_b.first[row] == NOT_FINITE:
        return "not finite"
    if group_b[row] < 0:
        return "left"
    return "moved" if distance[row] > 0 else "unchanged"
