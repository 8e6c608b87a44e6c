"""Which tokens of a model are dead, and the evidence: census, cluster and labels put together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, Census, census, raw_census
from deadtokens.cluster import ClusterSearch, find_cluster
from deadtokens.deadrows import EVIDENCE, DeadRows, put_together
from deadtokens.errors import SourceError
from deadtokens.formats import BFLOAT16, FLOAT16
from deadtokens.kernels.types import BoolArray, Float64Array, Int64Array
from deadtokens.merging import merging
from deadtokens.near import look_around
from deadtokens.row_facts import composition as composition
from deadtokens.row_facts import row_norms
from deadtokens.showing import Shown
from deadtokens.sources import Matrix, MatrixLike, as_matrix
from deadtokens.tokens import LABELS, Labels, label_rows

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
        dead: The rows that count as dead, and by which evidence.
        merging: For each format that is coarser: how many rows would equal another one in it.
        labels: What the tokenizer says of each row; None without one.
    """

    matrix: Matrix
    census: Census
    raw: Census | None
    search: ClusterSearch
    dead: DeadRows
    merging: dict[str, int]
    labels: Labels | None

    @property
    def mostly_dead(self) -> bool:
        """Whether more than half of all rows are dead, of a source that has others."""
        return 2 * int(self.dead.rows.sum()) > self.matrix.n_rows and not bool(self.dead.rows.all())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where evidence conflicts or is thin, a sentence each: they stand before every answer."""
        return self.matrix.warnings + (self.labels.warnings if self.labels else ())

    def __repr__(self) -> str:
        return f"<Inventory of {self.matrix!r}: {int(self.dead.rows.sum()):,} dead rows>"


def take_inventory(
    matrix: MatrixLike, *, labels: Labels | None = None, workers: int | None = None
) -> Inventory:
    """Find the dead rows of a matrix and label all rows by the matrix's tokenizer.

    Args:
        matrix: The matrix, or whatever `open_matrix` takes.
        labels: Of its rows, where they are known already.
        workers: Threads; all cores by default.

    Raises:
        SourceError: The matrix or the tokenizer cannot be read.
    """
    matrix = _beside_the_other(as_matrix(matrix, "matrix"))
    with ThreadPoolExecutor(1) as beside:
        # Most of labelling is done outside the interpreter's lock.
        labelling = None if labels else beside.submit(_labels_of, matrix)
        found = census(matrix)
        raw = raw_census(matrix) if matrix.quantised else None
        search = find_cluster(matrix, found, workers=workers)
        coarser = [fmt for fmt in (BFLOAT16, FLOAT16) if fmt is not matrix.format]
        merged = {fmt.name: merging(matrix, fmt, workers=workers) for fmt in coarser}
        outside = (found.first != NOT_FINITE) & ~search.zero & ~search.clustered
        around = look_around(matrix, outside, found.first != NOT_FINITE, workers=workers)
        if labelling:
            labels, notes = labelling.result()
            matrix = replace(matrix, notes=matrix.notes + notes)
    search, dead = put_together(matrix, found, search, around, labels)
    return Inventory(matrix, found, raw, search, dead, merged, labels)


def _labels_of(matrix: Matrix) -> tuple[Labels | None, tuple[str, ...]]:
    """The labels of a matrix's rows; why there are none, if its own tokenizer cannot be read.

    Raises:
        SourceError: The tokenizer cannot be read, and was given by hand.
    """
    try:
        return label_rows(matrix), ()
    except SourceError as error:
        if matrix.model is None or matrix.tokenizer is not matrix.model.tokenizer:
            raise
        return None, (f"tokens are not named: {error}",)


def _beside_the_other(matrix: Matrix) -> Matrix:
    """The matrix, with what comparing it with the model's other one says."""
    if matrix.model is None or matrix.tensor not in (matrix.model.weighed.pair or ()):
        return matrix
    warnings, notes = matrix.model.said_of_both()
    return replace(
        matrix,
        warnings=tuple(dict.fromkeys((*matrix.warnings, *warnings))),
        notes=tuple(dict.fromkeys((*matrix.notes, *notes))),
    )


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
        for rows in (self.read.dead.rows, self.written.dead.rows):
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


def take_both(taken: Inventory, *, transfer: bool = False, workers: int | None = None) -> Both:
    """Look at the other matrix too, where input and output are two.

    Args:
        taken: The inventory of one of them, which is not taken again.
        transfer: Whether the other one may be transferred from the hub.
        workers: Threads; all cores by default.
    """
    model, own = taken.matrix.model, taken.matrix.tensor
    pair = model.weighed.pair if model else None
    if model is None or pair is None or own not in pair:
        return Both()
    other = pair[1 - pair.index(own)]
    if model.remote and not transfer:
        if model.tied:
            return Both()
        return Both(unread=f"{other} was not transferred: add --both")
    if model.equal:
        return Both()
    try:
        matrix = replace(model.matrix(other), tokenizer=taken.matrix.tokenizer)
    except SourceError as error:
        return Both(unread=str(error))
    labels = taken.labels if matrix.n_rows == taken.matrix.n_rows else None
    two = taken, take_inventory(matrix, labels=labels, workers=workers)
    return Both(Untied(*(two if own == pair[0] else reversed(two))))


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


def dead_tokens(taken: Inventory, untied: Untied | None = None) -> list[DeadToken]:
    """The dead rows, ascending, with what is known of each.

    With ``untied``, the rows that are dead in either matrix. What is told of a row is that of the
    matrix of ``taken`` where it is dead there, else of the other.
    """
    own = np.flatnonzero(taken.dead.rows)
    if untied is None:
        return _dead_tokens(taken, own, np.full(taken.matrix.n_rows, "only", dtype=object))
    read, written = untied.dead_in
    names = np.where(read & written, "both", np.where(read, "input", "output"))
    other = untied.read if taken is untied.written else untied.written
    others = np.setdiff1d(np.flatnonzero(read | written), own)
    tokens = _dead_tokens(taken, own, names) + _dead_tokens(other, others, names)
    return sorted(tokens, key=lambda token: token.row)


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
    return EVIDENCE[int(taken.dead.evidence[row])]


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


def named_tokens(taken: Inventory, untied: Untied | None = None) -> list[NamedToken]:
    """The special, reserved and added tokens: which are untrained, and the evidence.

    With ``untied``, those whose row is dead in either matrix are untrained. The evidence is that of
    the matrices where it is dead. The norm is that of the matrix of ``taken``, unless the row is
    dead in the other one only.
    """
    labels = taken.labels
    if labels is None:
        return []
    rows = np.flatnonzero(np.isin(labels.labels, [LABELS.index(name) for name in NAMED]))
    told = [_named_evidence(taken, untied, row) for row in rows.tolist()]
    norms = _norms_where_dead(taken, untied, rows, [dead_in for dead_in, _ in told])
    found = []
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
        return ("only" if taken.dead.rows[row] else ""), _evidence_words(taken, row)
    sides: tuple[tuple[MatrixName, Inventory], ...] = (
        ("input", untied.read),
        ("output", untied.written),
    )
    dead = [(name, side) for name, side in sides
            if row < side.matrix.n_rows and side.dead.rows[row]]  # fmt: skip
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
