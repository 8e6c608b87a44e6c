"""The JSON that commands print, as JSON Schemas (draft 2020-12): `deadtokens schema COMMAND`.

Within a version fields are added, never taken away, renamed or given another type. What is not
known, is undefined or not finite is null. Objects made of a dataclass's fields are described by it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deadtokens.cli.schema_parts import (
    REAL,
    TEXT,
    TRUTH,
    WHOLE,
    counts,
    fields_of,
    many,
    maybe,
    of,
    one_of,
    optional,
    record,
    said,
)
from deadtokens.writing import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping


def schema(
    command: Annotated[str, typer.Argument(metavar="COMMAND", help="Whose --json is meant.")],
) -> None:
    """Print the JSON Schema of what a command prints with --json."""
    import json
    import sys

    from deadtokens.errors import SelectionError

    if command not in SCHEMAS:
        raise SelectionError(
            f"{command} prints no JSON", where="COMMAND", remedy=f"name one of {', '.join(SCHEMAS)}"
        )
    sys.stdout.write(json.dumps(schema_of(command), indent=2, ensure_ascii=False) + "\n")


def schema_of(command: str) -> dict[str, Any]:
    """The schema of a command of `SCHEMAS`."""
    body = SCHEMAS[command]()
    version = {"schema_version": {"const": SCHEMA_VERSION}}
    for form in body.get("oneOf", [body]):
        form["properties"] = version | form["properties"]
        form["required"] = [*version, *form["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"deadtokens {command} --json",
        **body,
    }


def _inspect() -> dict[str, Any]:
    candidate = record(
        tensor=TEXT,
        role=maybe(TEXT),
        shape=many(WHOLE),
        dtype=TEXT,
        bytes=WHOLE,
        file=TEXT,
        used=TRUTH,
        evidence=many(TEXT),
    )
    return record(
        source=TEXT,
        used=maybe(said(TEXT, "The tensor that commands take.")),
        reason=maybe(TEXT),
        refusal=maybe(said(TEXT, "Why none is taken.")),
        n_tensors=WHOLE,
        candidates=many(candidate),
        warnings=many(TEXT),
        notes=many(TEXT),
        dead_in=maybe(counts("Dead rows of the input matrix only, the output only, both.")),
    )


def _census() -> dict[str, Any]:
    void = record(
        measure=TEXT,
        inside=REAL,
        outside=REAL,
        ratio=maybe(REAL),
        row_inside=WHOLE,
        row_outside=WHOLE,
        convincing=TRUTH,
    )
    cluster = record(
        n_rows=WHOLE,
        start=maybe(WHOLE),
        origin=TEXT,
        evidence=TEXT,
        second=maybe(record(n_rows=WHOLE, evidence=TEXT)),
        void=optional(void),
    )
    untrained = record(row=WHOLE, token=TEXT, label=TEXT, dead_in=TEXT, evidence=TEXT)
    group = record(
        group=WHOLE,
        population=WHOLE,
        first_row=WHOLE,
        norm=REAL,
        labels=counts("Rows by label."),
        scripts=counts("Rows by Unicode script."),
    )
    keep = record(kept=WHOLE, bytes_saved=WHOLE, caveats=many(TEXT))
    return record(
        source=TEXT,
        answer=said(TEXT, "How many tokens are dead, and why, in a sentence."),
        tensor=TEXT,
        tokenizer=maybe(said(TEXT, "The tokenizer's file, where another one was given.")),
        note=maybe(TEXT),
        warnings=said(many(TEXT), "Where evidence conflicts or is thin."),
        notes=many(TEXT),
        format=TEXT,
        n_rows=WHOLE,
        n_dimensions=WHOLE,
        n_unique=said(WHOLE, "Distinct finite vectors."),
        n_black_holes=said(WHOLE, "Vectors that two or more rows share."),
        black_hole_population=said(WHOLE, "Rows that share their vector."),
        equal_as_stored=maybe(record(n_unique=WHOLE, populations=many(WHOLE))),
        not_finite=said(many(WHOLE), "Rows that hold NaN or an infinity."),
        zero_rows=WHOLE,
        n_dead=said(WHOLE, "Rows that count as dead; at least so many where undecided."),
        dead_by=TEXT,
        undecided=maybe(said(TEXT, "Why it cannot be told whether (more) rows are dead.")),
        mostly_dead=TRUTH,
        dead_words=many(TEXT),
        cluster=cluster,
        merging=counts("By coarser format: rows that would equal another one in it."),
        dead_in=maybe(counts("Dead rows of the input matrix only, the output only, both.")),
        role=one_of("input", "output", "only"),
        labels=maybe(counts("Rows by label.")),
        dead_labels=maybe(counts("Dead rows by label.")),
        unreachable=maybe(said(WHOLE, "Tokens that the tokenizer cannot produce.")),
        label_notes=many(TEXT),
        named=said(WHOLE, "Special, reserved and added tokens."),
        named_untrained=WHOLE,
        untrained=said(many(untrained), "Those of them that are untrained."),
        groups=said(many(group), "Black holes, the largest first."),
        keep=optional(keep),
        other_unread=maybe(said(TEXT, "Why the other of two matrices was not looked at.")),
    )


def _row() -> dict[str, Any]:
    """The columns of a row of statistics."""
    from deadtokens.statistics import COLUMNS, FURTHER_COLUMNS
    from deadtokens.trial_tables import INTEGER_COLUMNS

    columns = {name: maybe(REAL) for name in (*COLUMNS, *FURTHER_COLUMNS)}
    columns |= {name: maybe(WHOLE) for name in INTEGER_COLUMNS}
    return columns | {"format": TEXT}


def _measure() -> dict[str, Any]:
    summary = record(
        **dict.fromkeys(("mean", "std", "min", "q25", "median", "q75", "max"), maybe(REAL)),
        trials=WHOLE,
    )
    one = record(
        source=TEXT,
        tensor=TEXT,
        warnings=many(TEXT),
        storage=TEXT,
        rows=said(TEXT, "Which rows were measured."),
        rows_reason=maybe(TEXT),
        **_row(),
        epsilon_origin=TEXT,
        estimated=TRUTH,
        blank_reason=maybe(TEXT),
        lacking=maybe(TEXT),
        connected_at=maybe(REAL),
        complete_at=maybe(REAL),
    )
    several = record(
        source=TEXT,
        tensor=TEXT,
        storage=TEXT,
        shape=many(WHOLE),
        rows=TEXT,
        epsilon=REAL,
        touching=REAL,
        format=TEXT,
        epsilon_origin=TEXT,
        estimated=said(WHOLE, "Trials whose mean and median distances are estimates."),
        blank_reasons={"type": "object", "additionalProperties": TEXT},
        summary={"type": "object", "additionalProperties": summary},
        trials=many(record(**_row())),
    )
    return {"type": "object", "oneOf": [one, several]}


def _features(*more: str) -> dict[str, Any]:
    from deadtokens.montecarlo import Feature

    return many(record(**fields_of(Feature), p_holm=REAL, **dict.fromkeys(more, TEXT)))


def _independence() -> dict[str, Any]:
    return record(
        source=TEXT,
        tensor=TEXT,
        storage=TEXT,
        format=TEXT,
        rows=TEXT,
        left_out=said(WHOLE, "Other rows that lie as close and were left out."),
        n_rows=WHOLE,
        n_varying=WHOLE,
        n_correlated=WHOLE,
        permutations=WHOLE,
        seed=WHOLE,
        level=REAL,
        rejected=TRUTH,
        warnings=many(TEXT),
        departures=many(TEXT),
        mild=many(TEXT),
        reason=maybe(said(TEXT, "Why there was nothing to test.")),
        verdict=TEXT,
        features=_features(),
    )


def _fit() -> dict[str, Any]:
    from deadtokens.fit import Without

    tests = record(
        level=REAL,
        independence=record(
            permutations=WHOLE,
            n_correlated=WHOLE,
            reason=maybe(TEXT),
            features=_features("verdict"),
        ),
        marginals=record(
            replicates=WHOLE,
            sigma=maybe(REAL),
            n_dimensions=WHOLE,
            reason=maybe(TEXT),
            features=_features("verdict"),
        ),
        verdict=record(
            fits=maybe(said(TRUTH, "Whether the simple story fits; null if undecided.")),
            headline=TEXT,
            sentences=many(TEXT),
        ),
    )
    return record(
        sigma=maybe(REAL),
        sigma_low=maybe(said(REAL, "Lower end of the 95 % interval.")),
        sigma_high=maybe(said(REAL, "Its upper end.")),
        interval_withheld=maybe(said(TEXT, "Why no interval is given.")),
        format=TEXT,
        n_tokens=WHOLE,
        n_dimensions=WHOLE,
        n_varying=WHOLE,
        expected_varying=maybe(REAL),
        n_zero=WHOLE,
        varying_only=TRUTH,
        without_skipping=maybe(of(Without)),
        without=many(of(Without)),
        source=TEXT,
        tensor=TEXT,
        rows=TEXT,
        warnings=many(TEXT),
        tests=tests,
    )


def _theory() -> dict[str, Any]:
    from deadtokens.theory import Expectation

    solve = record(
        metric=TEXT,
        value=REAL,
        range=many(REAL),
        solutions=many(record(sigma=REAL, sigma_se=maybe(REAL))),
    )
    expectation = {name: maybe(kind) for name, kind in fields_of(Expectation).items()}
    return record(
        n_dimensions=WHOLE,
        n_tokens=WHOLE,
        epsilon=REAL,
        touching=REAL,
        noise=TEXT,
        format=TEXT,
        intermediate=TEXT,
        solve=optional(solve),
        expectations=said(
            many(record(**expectation)), "Standard errors are null where the value is exact."
        ),
    )


def _compare() -> dict[str, Any]:
    from deadtokens.compare import MetricComparison, Tally

    metric = fields_of(MetricComparison)
    at = record(
        sigma=REAL,
        trials=WHOLE,
        joint=record(**metric, rank=WHOLE),
        tally=of(Tally),
        smallest_p=said(REAL, "The smallest two-sided p-value that so many trials can give."),
        smallest_joint_p=REAL,
        trials_to_reject=WHOLE,
        metrics=many(record(**metric)),
    )
    return record(run=TEXT, measured=TEXT, notes=many(TEXT), best_sigma=REAL, sigmas=many(at))


def _survey() -> dict[str, Any]:
    from deadtokens.survey_lines import Surveyed

    return record(models=many(of(Surveyed)))


def _diff() -> dict[str, Any]:
    from deadtokens.diff.results import GroupChange, Movement, Rounding

    side = record(
        source=TEXT,
        tensor=TEXT,
        storage=TEXT,
        **dict.fromkeys(
            ("n_rows", "n_dimensions", "n_unique", "n_black_holes", "black_hole_population"), WHOLE
        ),
        not_finite=WHOLE,
    )
    row = record(
        row=WHOLE,
        **dict.fromkeys(("group_a", "population_a", "group_b", "population_b"), maybe(WHOLE)),
        moved=maybe(REAL),
        steps=maybe(WHOLE),
        change=TEXT,
        group_change=TEXT,
        token=optional(TEXT),
    )
    group = record(**fields_of(GroupChange), vectors_b=WHOLE, token=optional(TEXT))
    return record(
        warnings=many(TEXT),
        a=side,
        b=side,
        rows_in_both=WHOLE,
        compared=said(WHOLE, "Rows that are finite in both."),
        identical=said(WHOLE, "Rows whose vector is the same in both."),
        trimmed=WHOLE,
        added=WHOLE,
        other_tokens=maybe(WHOLE),
        lattice=maybe(TEXT),
        movement=record(black_holes_of_a=of(Movement), other_rows=of(Movement)),
        evidence=TEXT,
        rounding=many(record(**fields_of(Rounding) | {"format": TEXT})),
        tally=counts("Black holes of A by what became of them."),
        black_holes=many(group),
        rows=said(many(row), "Rows in a black hole of either."),
    )


SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "inspect": _inspect,
    "census": _census,
    "measure": _measure,
    "independence": _independence,
    "fit": _fit,
    "theory": _theory,
    "compare": _compare,
    "survey": _survey,
    "diff": _diff,
}
