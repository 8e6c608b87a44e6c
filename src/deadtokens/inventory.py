"""Which tokens of a model are dead, and the evidence: census, cluster and labels together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, Census
from deadtokens.cluster import ClusterSearch
from deadtokens.deadrows import EVIDENCE, DeadRows
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.row_facts import composition as composition
from deadtokens.row_facts import row_norms
from deadtokens.showing import Shown
from deadtokens.sources import Matrix
from deadtokens.tabular import Records
from deadtokens.tokens import LABELS, Labels

MatrixName: TypeAlias = Literal["input", "output", "both", "only"]

# Labels of rows that stand for no text of their own, and are known by name.
NAMED = ("special", "reserved", "added")


@dataclass(frozen=True)
class Inventory(Shown):
    """What is known of every row of a matrix.

    Attributes:
        matrix: The matrix.
        census: Its groups of equal rows, by value.
        raw: The groups of rows equal as stored, where it is quantised.
        search: The search for the dead cluster.
        dead_rows: The rows that count as dead, and by which evidence.
        merging: For each format that is coarser: how many rows would equal another one in it.
        labels: What the tokenizer says of each row; None without one.
    """

    matrix: Matrix
    census: Census
    raw: Census | None
    search: ClusterSearch
    dead_rows: DeadRows
    merging: dict[str, int]
    labels: Labels | None

    @cached_property
    def dead(self) -> DeadTokens:
        """The dead tokens of this matrix, ascending by row: a list, and a table."""
        return dead_lines(self)

    @cached_property
    def special(self) -> Records[NamedToken]:
        """The special, reserved and added tokens, and whether they were trained, likewise."""
        return named_lines(self)

    @property
    def mostly_dead(self) -> bool:
        """Whether more than half of all rows are dead, of a source that has others."""
        return self.matrix.n_rows < 2 * self.dead_rows.count < 2 * self.matrix.n_rows

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where evidence conflicts or is thin, a sentence each: they stand before every answer."""
        return self.matrix.warnings + (self.labels.warnings if self.labels else ())

    def __repr__(self) -> str:
        return f"<Inventory of {self.matrix!r}: {self.dead_rows.count:,} dead rows>"


@dataclass(frozen=True)
class Untied:
    """Both matrices of a model whose input and output matrix are two.

    Attributes:
        read: Inventory of the input matrix.
        written: Inventory of the output matrix.
    """

    read: Inventory
    written: Inventory

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of both, a sentence each."""
        return tuple(dict.fromkeys(self.written.warnings + self.read.warnings))

    @property
    def dead_in(self) -> tuple[BoolArray, BoolArray]:
        """Which rows are dead in the input and in the output matrix; as long as the longer one."""
        n = max(self.read.matrix.n_rows, self.written.matrix.n_rows)
        masks = []
        for rows in (self.read.dead_rows.rows, self.written.dead_rows.rows):
            mask = np.zeros(n, dtype=np.bool_)
            mask[: rows.size] = rows
            masks.append(mask)
        return masks[0], masks[1]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows are dead in the input matrix only, the output matrix only, in both."""
        read, written = self.dead_in
        return {
            "input only": int((read & ~written).sum()),
            "output only": int((written & ~read).sum()),
            "both": int((read & written).sum()),
        }


@dataclass(frozen=True)
class Both:
    """What is known of a model's two matrices.

    Attributes:
        untied: Their inventories; None where there is one matrix, or only one was looked at.
        unread: Why the other of two was not looked at; empty if it was, or there is none.
    """

    untied: Untied | None = None
    unread: str = ""


@dataclass(frozen=True)
class DeadToken:
    """A dead row and the evidence, a line of tokens.csv.

    Attributes:
        row: The row.
        token_id: Its token; -1 where it is not known.
        token: Its text; empty where it is not known.
        label: Of `deadtokens.tokens.LABELS`; empty without a tokenizer.
        script: Unicode script of the text.
        reachable: Whether the tokenizer can produce it; None where it was not tested.
        evidence: Of `deadtokens.deadrows.EVIDENCE`.
        group: The black hole it is in, as in census.csv; None for a row unlike all others.
        population: Rows that share its vector.
        distance: Euclidean distance from the cluster's centre; None where none was found.
        norm: Euclidean norm of its vector.
        dead_in: Of the untied matrices, those it is dead in: ``"input"``, ``"output"``,
            ``"both"``; ``"only"`` where there is one matrix.
    """

    row: int
    token_id: int
    token: str
    label: str
    script: str
    reachable: bool | None
    evidence: str
    group: int | None
    population: int
    distance: float | None
    norm: float
    dead_in: MatrixName


class DeadTokens(Records[DeadToken]):
    """The dead tokens of a model: a list of them, and a table.

    Attributes:
        rows: (V,) bool, the rows that they are.
    """

    def __init__(self, rows: BoolArray, lines: Iterable[DeadToken] = ()) -> None:
        super().__init__(DeadToken, lines)
        self.rows = rows


def dead_lines(taken: Inventory, untied: Untied | None = None) -> DeadTokens:
    """The dead rows, ascending, with what is known of each.

    With ``untied``, the rows that are dead in either matrix. What is told of a row is that of the
    matrix of ``taken`` where it is dead there, else of the other.
    """
    own = np.flatnonzero(taken.dead_rows.rows)
    if untied is None:
        names = np.full(taken.matrix.n_rows, "only", dtype=object)
        return DeadTokens(taken.dead_rows.rows, _dead_tokens(taken, own, names))
    read, written = untied.dead_in
    names = np.where(read & written, "both", np.where(read, "input", "output"))
    other = untied.read if taken is untied.written else untied.written
    others = np.setdiff1d(np.flatnonzero(read | written), own)
    tokens = _dead_tokens(taken, own, names) + _dead_tokens(other, others, names)
    return DeadTokens(read | written, sorted(tokens, key=lambda token: token.row))


def _dead_tokens(taken: Inventory, rows: Int64Array, dead_in: npt.NDArray[Any]) -> list[DeadToken]:
    norms = row_norms(taken.matrix, rows)
    groups = taken.census.groups
    return [
        _dead_token(taken, row, norm, int(groups[row]), dead_in[row])
        for row, norm in zip(rows.tolist(), norms.tolist(), strict=True)
    ]


def _dead_token(
    taken: Inventory, row: int, norm: float, group: int, dead_in: MatrixName
) -> DeadToken:
    labels = taken.labels
    reachable = int(labels.reachable[row]) if labels else -1
    return DeadToken(
        row=row,
        token_id=token_of(taken.matrix, row),
        token=labels.texts[row] if labels else "",
        label=labels.label_of(row) if labels else "",
        script=labels.script_of(row) if labels else "",
        reachable=None if reachable < 0 else bool(reachable),
        evidence=evidence_of(taken, row),
        group=group if group >= 0 else None,
        population=int(taken.census.group_population[group]) if group >= 0 else 1,
        distance=_distance(taken, row),
        norm=norm,
        dead_in=dead_in,
    )


def token_of(matrix: Matrix, row: int) -> int:
    """The token of a row; -1 where it is not known."""
    return row if matrix.token_ids is None else int(matrix.token_ids[row])


def evidence_of(taken: Inventory, row: int) -> str:
    """By what a row counts as dead, of `deadtokens.deadrows.EVIDENCE`; empty if it does not."""
    return EVIDENCE[int(taken.dead_rows.evidence[row])]


def _distance(taken: Inventory, row: int) -> float | None:
    distance = float(taken.search.distances[row])
    return distance if np.isfinite(distance) else None


@dataclass(frozen=True)
class NamedToken:
    """A special, reserved or added token, and whether it was trained: a line of special.csv.

    Attributes:
        row: The row.
        token: Its text.
        label: ``"special"``, ``"reserved"`` or ``"added"``.
        untrained: Whether its row is dead, in either matrix where there are two.
        evidence: Why, in words.
        norm: Euclidean norm of its vector.
        dead_in: Of the untied matrices, those it is dead in: ``"input"``, ``"output"``,
            ``"both"``; ``"only"`` where there is one matrix; empty if it is not dead.
    """

    row: int
    token: str
    label: str
    untrained: bool
    evidence: str
    norm: float
    dead_in: MatrixName | Literal[""] = ""


def named_lines(taken: Inventory, untied: Untied | None = None) -> Records[NamedToken]:
    """The special, reserved and added tokens: which are untrained, and the evidence.

    With ``untied``, those whose row is dead in either matrix are untrained. The evidence is that of
    the matrices where it is dead. The norm is that of the matrix of ``taken``, unless the row is
    dead in the other one only.
    """
    labels = taken.labels
    found = Records(NamedToken)
    if labels is None:
        return found
    rows = np.flatnonzero(np.isin(labels.labels, [LABELS.index(name) for name in NAMED]))
    told = [_named_evidence(taken, untied, row) for row in rows.tolist()]
    norms = _norms_where_dead(taken, untied, rows, [dead_in for dead_in, _ in told])
    for row, norm, (dead_in, evidence) in zip(rows.tolist(), norms, told, strict=True):
        found.append(
            NamedToken(
                row=row,
                token=labels.texts[row],
                label=labels.label_of(row),
                untrained=dead_in != "",
                evidence=evidence,
                norm=float(norm),
                dead_in=dead_in,
            )
        )
    return found


def _norms_where_dead(
    taken: Inventory, untied: Untied | None, rows: Int64Array, dead_in: list[str]
) -> Float64Array:
    """Norms of rows in the matrix of ``taken``, or in the other where they are dead there only."""
    norms = row_norms(taken.matrix, rows)
    if untied is not None:
        own, other = ("input", untied.written) if taken is untied.read else ("output", untied.read)
        elsewhere = np.array([name not in ("", "both", own) for name in dead_in], dtype=np.bool_)
        norms[elsewhere] = row_norms(other.matrix, rows[elsewhere])
    return norms


def _named_evidence(
    taken: Inventory, untied: Untied | None, row: int
) -> tuple[MatrixName | Literal[""], str]:
    """In which matrices a row is dead, and the evidence in words."""
    if untied is None:
        return ("only" if taken.dead_rows.rows[row] else ""), _evidence_words(taken, row)
    sides: tuple[tuple[MatrixName, Inventory], ...] = (
        ("input", untied.read),
        ("output", untied.written),
    )
    dead = [(name, side) for name, side in sides
            if row < side.matrix.n_rows and side.dead_rows.rows[row]]  # fmt: skip
    if not dead:
        return "", _evidence_words(taken, row)
    words = "; ".join(f"in the {name}: {_evidence_words(side, row)}" for name, side in dead)
    return ("both" if len(dead) > 1 else dead[0][0]), words


def _evidence_words(taken: Inventory, row: int) -> str:
    group = int(taken.census.groups[row])
    if taken.census.first[row] == NOT_FINITE:
        return "its row holds NaN or an infinity"
    if taken.search.zero[row]:
        return "all its numbers are zero"
    parts = ["the source holds dead rows only"] if taken.matrix.default_rows == "all" else []
    if group >= 0:
        population = int(taken.census.group_population[group])
        parts.append(f"{population:,} rows share its vector (black hole {group})")
    distance, void = _distance(taken, row), taken.search.void
    if distance is not None and void is not None and void.convincing:
        side = "inside" if taken.search.rows[row] else "beyond"
        parts.append(f"{side} the void, {distance:.3g} from the cluster's centre")
    return "; ".join(parts) or "no other row has its vector"
