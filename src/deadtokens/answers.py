"""The answer of a census in plain sentences: how many tokens are dead, why, which are special."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from deadtokens.deadrows import EVIDENCE
from deadtokens.inventory import Inventory, Untied

# By which evidence, in words for everybody; in the order in which they are said.
_REASONS = {
    "cluster": "in a tight cluster, with a gap around it that chance does not make",
    "second cluster": "in a second cluster, with such a gap too",
    "zeros": "of zeros only",
    "black hole": "equal to another row in every number, as rows that are trained do not stay",
    "copy": "copied from a trained row",
    "near the mean": "next to the mean of all rows, where resizing a model puts new ones",
    "near zero": "next to zero",
}
_FAMILY = 3  # names that differ in a number only, from which on the first and the last are said
_LONGEST = 60
_DIGITS = re.compile(r"\d+")


def dead_sentence(taken: Inventory, untied: Untied | None) -> str:
    """How many tokens are dead, and why that is so.

    Args:
        taken: The inventory.
        untied: Both matrices, where they are two.
    """
    dead, rows = taken.dead_rows.count, taken.matrix.n_rows
    what = "rows" if taken.labels is None else "tokens"
    if taken.matrix.default_rows == "all":
        return f"All {rows:,} {what} are dead: the source holds dead ones only."
    undecided = taken.search.undecided
    if not dead:
        if undecided:
            return f"It is undecided whether any of the {rows:,} {what} are dead: {undecided}."
        return f"No dead {what} were found among {rows:,}.{_elsewhere(taken, untied)}"
    least = "At least " if undecided else ""
    are = "is" if dead == 1 else "are"
    half = ", more than half" if taken.mostly_dead else ""
    open_question = f" Whether others are is undecided: {undecided}." if undecided else ""
    return (
        f"{least}{dead:,} of {rows:,} {what} {are} dead{half}: {_reasons(taken)}."
        f"{open_question}{_elsewhere(taken, untied)}"
    )


def _reasons(taken: Inventory) -> str:
    evidence = taken.dead_rows.evidence
    counts = {name: int((evidence == EVIDENCE.index(name)).sum()) for name in _REASONS}
    held = {name: count for name, count in counts.items() if count}
    if len(held) == 1:
        return _REASONS[next(iter(held))]
    return "; ".join(f"{count:,} {_REASONS[name]}" for name, count in held.items())


def _elsewhere(taken: Inventory, untied: Untied | None) -> str:
    """The tokens that are dead in the other one of two matrices only."""
    if untied is None:
        return ""
    other = "output" if taken is untied.read else "input"
    count = untied.counts[f"{other} only"]
    more = "more " if taken.dead_rows.rows.any() else ""
    verb = "is" if count == 1 else "are"
    return f" In the {other} matrix, {count:,} {more}{verb} dead." if count else ""


def named_sentence(untrained: int, named: int) -> str:
    """How many of the special, reserved and added tokens are untrained."""
    if not named:
        return "No special, reserved or added tokens are known."
    kinds = "special, reserved and added tokens"
    if not untrained:
        return f"None of the {named:,} {kinds} is shown to be untrained."
    share = f"All {named:,}" if untrained == named else f"{untrained:,} of {named:,}"
    return f"{share} {kinds} are untrained:"


def in_families(names: Iterable[str]) -> list[str]:
    """Names between quotes, in order; of those that differ in a number only, first and last."""
    found = []
    for _, family in itertools.groupby(names, key=lambda name: _DIGITS.sub("0", name)):
        members = [f"'{_shortened(name)}'" for name in family]
        if len(members) > _FAMILY:
            found.append(f"{members[0]} to {members[-1]} ({len(members):,})")
        else:
            found += members
    return found


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
