"""The command that says what a source holds: inspect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deadtokens.cli.commands import Json, Source, StoredAs, Tensor

if TYPE_CHECKING:
    from deadtokens.inventory import Both
    from deadtokens.sources import Inspection


def inspect(
    source: Source, tensor: Tensor = None, stored_as: StoredAs = None, json: Json = False
) -> None:
    """List tensors that can hold token vectors.

    Says which one is used and why, and the evidence for each. By default that is the output
    (unembedding) matrix, or the input one where they are tied. Where they are two, says which
    tokens are dead in which.
    """
    from deadtokens import sources
    from deadtokens.cli import census_tables, display, tables
    from deadtokens.errors import SourceError

    found = sources.inspect(source, tensor, format=stored_as)
    used = found.choice.tensor.name if found.choice else None
    rows: list[dict[str, Any]] = [
        {
            "tensor": candidate.tensor.name,
            "role": candidate.role,
            "shape": list(candidate.tensor.shape),
            "dtype": candidate.tensor.dtype,
            "bytes": candidate.tensor.nbytes,
            "file": candidate.tensor.path.name,
            "used": candidate.tensor.name == used,
            "evidence": list(candidate.findings),
        }
        for candidate in found.candidates
    ]
    both = _both(found)
    warnings, notes = _said(found)
    if not json:
        for warning in warnings:
            display.line(f"warning: {warning}")
        tables.candidates_table(rows, found.n_tensors)
        if found.choice:
            display.line(f"used: {used}: {found.choice.reason}")
        for note in notes:
            display.line(f"  note: {note}")
    if json:
        reason = found.choice.reason if found.choice else None
        display.print_json(
            {"source": source, "used": used, "reason": reason, "refusal": found.refusal}
            | {"n_tensors": found.n_tensors, "candidates": rows}
            | {"warnings": list(warnings), "notes": list(notes)}
            | {"dead_in": both.untied.counts if both and both.untied else None}
        )
    elif both is not None:
        census_tables.both_lines(both)
    if found.refusal:
        raise SourceError(found.refusal)


def _said(found: Inspection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What warns of the choice, and what of the source was left out."""
    choice, model = found.choice, found.model
    warnings, notes = (choice.warnings, choice.notes) if choice else ((), ())
    if model is not None:
        about_both = (
            model.said_of_both()
            if choice and choice.tensor.name in (model.weighed.pair or ())
            else ((), ())
        )
        warnings = model.warnings + warnings + about_both[0]
        notes = model.notes + notes + about_both[1]
    return tuple(dict.fromkeys(warnings)), tuple(dict.fromkeys(notes))


def _both(found: Inspection) -> Both | None:
    """Both matrices' dead rows, where there are two and neither would have to be transferred."""
    model = found.model
    if found.choice is None or model is None or model.remote or not model.both_names():
        return None
    from deadtokens.stocktaking import take_both, take_inventory

    return take_both(take_inventory(model.matrix(found.choice.tensor.name)))
