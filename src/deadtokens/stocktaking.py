"""Take stock of a model: find its dead rows, by all evidence, and say what each token is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from deadtokens.census import NOT_FINITE, census, raw_census
from deadtokens.cluster import find_cluster
from deadtokens.deadrows import put_together
from deadtokens.errors import SourceError
from deadtokens.formats import BFLOAT16, FLOAT16
from deadtokens.inventory import Both, DeadTokens, Inventory, Untied, dead_lines
from deadtokens.listening import doing
from deadtokens.merging import merging
from deadtokens.near import look_around
from deadtokens.sources import Matrix, MatrixLike, TokenizerSource, as_matrix
from deadtokens.tokens import Labels, label_rows


def take_inventory(
    matrix: MatrixLike,
    *,
    tokenizer: TokenizerSource | str | None = None,
    labels: Labels | None = None,
    workers: int | None = None,
) -> Inventory:
    """Find the dead rows of a matrix and label all rows by the matrix's tokenizer.

    Args:
        matrix: The matrix, or whatever `open_matrix` takes.
        tokenizer: Another one, as for `open_matrix`.
        labels: Of its rows, where they are known already.
        workers: Threads; all cores by default.

    Raises:
        SourceError: The matrix or the tokenizer cannot be read.
    """
    matrix = _beside_the_other(as_matrix(matrix, "matrix").with_tokenizer(tokenizer))
    with ThreadPoolExecutor(1) as beside:
        # Most of labelling is done outside the interpreter's lock.
        labelling = None if labels else beside.submit(_labels_of, matrix)
        with doing(f"looking for equal ones among {matrix.n_rows:,} rows"):
            found = census(matrix)
            raw = raw_census(matrix) if matrix.quantised else None
            coarser = [fmt for fmt in (BFLOAT16, FLOAT16) if fmt is not matrix.format]
            merged = {fmt.name: merging(matrix, fmt, workers=workers) for fmt in coarser}
        with doing(f"looking for a cluster among {matrix.n_rows:,} rows"):
            search = find_cluster(matrix, found, workers=workers)
        with doing("looking next to zero and the mean of all rows"):
            outside = (found.first != NOT_FINITE) & ~search.zero & ~search.clustered
            around = look_around(matrix, outside, found.first != NOT_FINITE, workers=workers)
        if labelling:
            with doing("naming tokens"):
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


def dead_tokens(
    model: MatrixLike,
    *,
    tokenizer: TokenizerSource | str | None = None,
    workers: int | None = None,
) -> DeadTokens:
    """The dead tokens of a model, those of both matrices where input and output are two.

    Args:
        model: The model, or whatever `open_matrix` takes.
        tokenizer: Another one, as for `open_matrix`.
        workers: Threads; all cores by default.

    Raises:
        SourceError: A matrix or the tokenizer cannot be read.
    """
    matrix = as_matrix(model, "model")
    taken = take_inventory(matrix, tokenizer=tokenizer, workers=workers)
    return dead_lines(taken, take_both(taken, workers=workers).untied)
