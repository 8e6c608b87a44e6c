"""Two matrices compared: censuses, distances, and what they say together."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deadtokens.census import census
from deadtokens.diff.blocks import (
    common_lattice,
    distances,
    equal_once_rounded,
    groups_once_rounded,
    is_coarser,
    lattice_steps,
)
from deadtokens.diff.changes import Sides, changes_of_a, new_of_b, row_changes
from deadtokens.diff.results import NONE, Diff, Movement, Rounding
from deadtokens.errors import SelectionError
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.sources import Matrix, MatrixLike, TokenizerSource, as_matrix
from deadtokens.tokens import label_rows


def diff(
    a: MatrixLike,
    b: MatrixLike,
    *,
    label: bool = True,
    tokenizer: TokenizerSource | str | None = None,
    workers: int | None = None,
) -> Diff:
    """Compare two models: what became of the black holes of A in B, row by row.

    Args:
        a: The base: a matrix, or whatever `open_matrix` takes.
        b: What became of it, say by fine-tuning; of the same number of dimensions.
        label: Whether to read the tokenizers, where the sources bring them.
        tokenizer: Of both, where the sources bring none, or another one.
        workers: Threads; all cores by default. The result does not depend on it.

    Raises:
        SelectionError: The numbers of dimensions differ.
        SourceError: A matrix or a tokenizer cannot be read.
    """
    a = as_matrix(a, "a").with_tokenizer(tokenizer)
    b = as_matrix(b, "b").with_tokenizer(tokenizer)
    if a.n_dimensions != b.n_dimensions:
        raise SelectionError(
            f"vectors of {a.n_dimensions:,} dimensions against vectors of {b.n_dimensions:,}",
            where=f"{a.source} ({a.tensor}), {b.source} ({b.tensor})",
            remedy="compare two versions of one model, or name the tensors with --tensor and "
            "--tensor-b",
        )
    sides = Sides(a, b, census(a), census(b))
    moved = distances(a, b, workers)
    moved[~sides.finite] = np.nan
    dead_a, dead_b = sides.groups_a[: sides.n] >= 0, sides.groups_b[: sides.n] >= 0
    in_holes = np.flatnonzero(sides.finite & (dead_a | dead_b))
    lattice = common_lattice(a, b, in_holes)
    steps = np.full(sides.n, NONE, dtype=np.int64)
    if lattice is not None:
        steps[in_holes] = lattice_steps(a, b, in_holes, lattice)
    groups = [*changes_of_a(sides, moved, steps), *new_of_b(sides, moved, steps)]
    rounds = is_coarser(a, b) or is_coarser(b, a)
    same = equal_once_rounded(a, b, workers) if rounds else moved == 0
    texts, other_tokens = _texts(a, b) if label else (None, None)
    return Diff(
        a,
        b,
        sides.census_a,
        sides.census_b,
        groups,
        row_changes(sides, moved, steps, groups),
        _movement(moved, same, sides.finite & dead_a),
        _movement(moved, same, sides.finite & ~dead_a),
        _roundings(sides, workers),
        lattice,
        texts,
        other_tokens,
    )


def _movement(moved: Float64Array, same: BoolArray, rows: BoolArray) -> Movement:
    chosen = moved[rows]
    return Movement(
        n_rows=chosen.size,
        still=int((chosen == 0).sum()),
        still_once_rounded=int(same[rows].sum()),
        median=float(np.median(chosen)) if chosen.size else None,
        largest=float(chosen.max()) if chosen.size else None,
    )


def _roundings(sides: Sides, workers: int | None) -> tuple[Rounding, ...]:
    """What rounding each side to the other's format does, where that is the coarser."""
    found = []
    pairs = (("A", sides.a, sides.b), ("B", sides.b, sides.a))
    censuses = (sides.census_a, sides.census_b), (sides.census_b, sides.census_a)
    for (side, own, other), (own_census, other_census) in zip(pairs, censuses, strict=True):
        if not is_coarser(other, own):
            continue
        rounded = groups_once_rounded(own, other.format, workers)
        holes, arising = _holes_of_several(rounded, own_census.first)
        changed = explained = 0
        for rows in other_census.group_rows:
            # Rows that only one side has, or that hold no numbers there, cannot be explained.
            within = rows[rows < own.n_rows]
            if np.unique(own_census.first[within]).size > 1:
                changed += 1
                explained += within.size == rows.size and _all_equal(rounded[rows])
        found.append(Rounding(side, other.format, holes, arising, changed, explained))
    return tuple(found)


def _holes_of_several(rounded: Int64Array, before: Int64Array) -> tuple[int, int]:
    """Black holes once rounded, and how many of them hold several vectors before."""
    finite = rounded >= 0
    vectors, sizes = np.unique(rounded[finite], return_counts=True)
    pairs = np.unique(np.stack([rounded[finite], before[finite]]), axis=1)
    _, kinds = np.unique(pairs[0], return_counts=True)
    return int((sizes > 1).sum()), int((kinds > 1).sum()) if vectors.size else 0


def _all_equal(first: Int64Array) -> bool:
    return bool((first == first[0]).all() and first[0] >= 0)


def _same_tokens(a: Matrix, b: Matrix) -> bool:
    """Whether rows need not be labelled twice: one tokenizer, and as many rows."""
    if a.n_rows != b.n_rows or a.token_ids is not b.token_ids:
        return False
    files = isinstance(a.tokenizer, Path) and isinstance(b.tokenizer, Path)
    return a.tokenizer is b.tokenizer or (files and a.tokenizer == b.tokenizer)


def _texts(a: Matrix, b: Matrix) -> tuple[list[str] | None, int | None]:
    """Each row's token, and how many rows have another in B than in A."""
    labels_a = label_rows(a)
    labels_b = labels_a if _same_tokens(a, b) else label_rows(b)
    if labels_a is None or labels_b is None:
        known = labels_a or labels_b
        return (known.texts if known else None), None
    n = min(a.n_rows, b.n_rows)
    pairs = zip(labels_a.texts[:n], labels_b.texts[:n], strict=True)
    other = sum(text_a != text_b for text_a, text_b in pairs)
    return [*labels_a.texts, *labels_b.texts[len(labels_a.texts) :]], other
