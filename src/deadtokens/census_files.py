"""What a census found, as files: groups, masks, dead tokens, labels, the distances, the facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from deadtokens.answers import dead_sentence
from deadtokens.census import NOT_FINITE, Census
from deadtokens.cluster import ClusterSearch
from deadtokens.geometry import default_epsilon
from deadtokens.inventory import (
    DeadToken,
    Inventory,
    NamedToken,
    Untied,
    dead_lines,
    named_lines,
    token_of,
)
from deadtokens.keep import Keep
from deadtokens.kernels.types import BoolArray
from deadtokens.row_facts import composition, row_norms
from deadtokens.selection import snowball_of
from deadtokens.sources import Matrix
from deadtokens.tokens import Labels
from deadtokens.writing import (
    Written,
    spreadsheet_safe,
    write_arrays,
    write_columns,
    write_csv,
    write_facts,
)

_OPTIONAL = ("centroid.safetensors", "special.csv", "labels.csv", "void.csv")
CENSUS_FILES = ("census.csv", "tokens.csv", "mask.safetensors", *_OPTIONAL, "census.json")
_RANKS_AROUND = 200  # rows beyond the void that void.csv has one by one
_RANKS_THINNED = 400  # and how many of those further away


def write_inventory(folder: Path, taken: Inventory, untied: Untied | None) -> list[Written]:
    """Write all that is known of a matrix's rows: what docs/files.md lists under census.

    Files of an earlier census that this one has no content for are removed.

    Raises:
        OutputError: The folder cannot be written.
    """
    if (folder / "census.json").exists():
        for name in _OPTIONAL:  # the earlier census's would not belong to this one
            (folder / name).unlink(missing_ok=True)
    search = taken.search
    masks = {"cluster": search.rows, "zero": search.zero, "dead": taken.dead_rows.rows}
    dead, named = dead_lines(taken, untied), named_lines(taken, untied)
    written = [
        *_write_groups(folder, taken.matrix, taken.census, masks),
        _write_records(folder / "tokens.csv", DeadToken, dead),
    ]
    if taken.labels is not None:
        written.append(_write_records(folder / "special.csv", NamedToken, named))
        written.append(_write_labels(folder / "labels.csv", taken.matrix, taken.labels))
    written.append(_write_distances(folder / "void.csv", search))
    facts = inventory_facts(taken, untied, named)
    return [*written, write_facts(folder / "census.json", facts)]


def write_keep(path: Path, kept: Keep, matrix: Matrix) -> Written:
    """Write the map of ids: ``old_to_new`` (V, -1 where dropped) and ``kept`` (old ids, int64).

    The caveats are in the file's metadata.

    Raises:
        OutputError: The file cannot be written.
    """
    metadata = {
        "source": matrix.source,
        "tensor": matrix.tensor,
        "bytes_saved": str(kept.bytes_saved),
        "caveats": " ".join(kept.caveats),
    }
    return write_arrays(path, {"old_to_new": kept.old_to_new, "kept": kept.kept}, metadata)


def _write_groups(
    folder: Path, matrix: Matrix, found: Census, masks: Mapping[str, BoolArray]
) -> list[Written]:
    rows = np.flatnonzero(found.mask)
    groups = found.groups[rows]
    columns = {"row": rows, "group": groups, "population": found.group_population[groups]}
    if matrix.token_ids is not None:
        columns["token_id"] = matrix.token_ids[rows]
    written = [
        write_columns(folder / "census.csv", columns),
        write_arrays(
            folder / "mask.safetensors",
            {"mask": found.mask, "finite": found.first != NOT_FINITE, **masks},
            {"source": matrix.source},
        ),
    ]
    if not rows.size:
        return written
    # One row of each group is enough: vectors stand in the order of their first rows.
    populations = found.group_population[np.argsort(found.group_first)]
    snowball = replace(
        snowball_of(matrix, found.group_first),
        populations=populations,
        row_ids=None,
        row_vectors=None,
    )
    epsilon = default_epsilon(snowball)
    metadata = {
        "origin": "census",
        "meaning": "mean of rounded rows; not the centre of the noise unless that exceeds the ULP",
        "source": matrix.source,
        "tensor": matrix.tensor,
        "format": snowball.format.name,
        "n_tokens": str(snowball.n_tokens),
        "epsilon": str(epsilon),
        "touching": str(2 * epsilon),
    }
    centroid = {"centroid": snowball.centroid().astype(np.float32)}
    return [*written, write_arrays(folder / "centroid.safetensors", centroid, metadata)]


def _write_records(
    path: Path, kind: type[DeadToken | NamedToken], records: Sequence[DeadToken | NamedToken]
) -> Written:
    names = [field.name for field in fields(kind)]
    write_csv(path, names, ([_cell(value) for value in astuple(record)] for record in records))
    return Written(path, f"{len(records):,} rows x {len(names)} columns")


def _cell(value: object) -> object:
    """A value of a CSV line: truth as yes and no, text such that nothing runs that shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return spreadsheet_safe(value) if isinstance(value, str) else value


def _write_labels(path: Path, matrix: Matrix, labels: Labels) -> Written:
    reachable = {1: "yes", 0: "no", -1: ""}
    names = ("row", "token_id", "token", "piece", "label", "script", "reachable")
    lines = (
        (
            row,
            token_of(matrix, row),
            _cell(labels.texts[row]),
            _cell(labels.pieces[row]),
            labels.label_of(row),
            labels.script_of(row),
            reachable[int(labels.reachable[row])],
        )
        for row in range(matrix.n_rows)
    )
    count = write_csv(path, names, lines)
    return Written(path, f"{count:,} rows x {len(names)} columns")


def _write_distances(path: Path, search: ClusterSearch) -> Written:
    """Rows by distance from the centre: one by one up to the void and a little beyond, then fewer.

    The first lines are those of a picture of the void; the ranks say how many were left out.
    """
    order = search.by_distance()
    near = int(search.rows.sum()) + _RANKS_AROUND
    far = np.geomspace(near + 1, max(order.size, near + 1), _RANKS_THINNED).astype(np.int64) - 1
    ranks = np.unique(np.concatenate([np.arange(min(near, order.size)), far[far < order.size]]))
    rows = order[ranks]
    columns = {"rank": ranks + 1, "row": rows, "distance": search.distances[rows]}
    if search.steps is not None:
        columns["steps"] = search.steps[rows]
    return write_columns(path, columns | {"inside": search.rows[rows].astype(np.int64)})


def inventory_facts(
    taken: Inventory, untied: Untied | None, named: Sequence[NamedToken]
) -> dict[str, Any]:
    """What was found, as JSON values."""
    matrix, found, search, labels = taken.matrix, taken.census, taken.search, taken.labels
    return {
        "source": matrix.source,
        "answer": dead_sentence(taken, untied),
        "tensor": matrix.tensor,
        "tokenizer": _tokenizer_file(matrix),
        "note": matrix.note or matrix.reason,
        "warnings": list(dict.fromkeys(taken.warnings + (untied.warnings if untied else ()))),
        "notes": list(matrix.notes),
        "format": matrix.storage,
        "n_rows": found.n_rows,
        "n_dimensions": matrix.n_dimensions,
        "n_unique": found.n_unique,
        "n_black_holes": found.n_black_holes,
        "black_hole_population": found.black_hole_population,
        "equal_as_stored": _raw_facts(taken.raw),
        "not_finite": found.not_finite.tolist(),
        "zero_rows": int(search.zero.sum()),
        "n_dead": taken.dead_rows.count,
        "dead_by": taken.dead_rows.how,
        "undecided": search.undecided or None,
        "mostly_dead": taken.mostly_dead,
        "dead_words": taken.dead_rows.words,
        "cluster": _search_facts(search),
        "merging": taken.merging,
        "dead_in": untied.counts if untied else None,
        "role": _role(taken, untied),
        "labels": labels.label_counts() if labels else None,
        "dead_labels": labels.label_counts(taken.dead_rows.rows) if labels else None,
        "unreachable": labels.unreachable if labels else None,
        "label_notes": list(labels.notes) if labels else [],
        "named": len(named),
        "named_untrained": sum(token.untrained for token in named),
        "untrained": [
            {
                "row": token.row,
                "token": token.token,
                "label": token.label,
                "dead_in": token.dead_in,
                "evidence": token.evidence,
            }
            for token in named
            if token.untrained
        ],
        "groups": group_facts(taken),
    }


def _tokenizer_file(matrix: Matrix) -> str | None:
    """The tokenizer's file, where another than the source's own was given."""
    path = matrix.tokenizer
    return str(path) if isinstance(path, Path) and path not in matrix.files else None


def _role(taken: Inventory, untied: Untied | None) -> str:
    """Which of two matrices it is; "only" where there is one."""
    if untied is None:
        return "only"
    return "input" if taken is untied.read else "output"


def group_facts(taken: Inventory, most: int | None = None) -> list[dict[str, Any]]:
    """Black holes as JSON values, all or the first so many: size, norm, what the tokens are."""
    found = taken.census
    norms = row_norms(taken.matrix, found.group_first[:most]).tolist()
    facts = []
    for group, (rows, norm) in enumerate(zip(found.group_rows[:most], norms, strict=True)):
        of_group = composition(taken.labels, rows)
        facts.append(
            {
                "group": group,
                "population": of_group.n_rows,
                "first_row": int(rows[0]),
                "norm": norm,
                "labels": of_group.labels,
                "scripts": of_group.scripts,
            }
        )
    return facts


def _raw_facts(raw: Census | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    return {"n_unique": raw.n_unique, "populations": raw.group_population.tolist()}


def _search_facts(search: ClusterSearch) -> dict[str, Any]:
    void = search.void
    facts: dict[str, Any] = {
        "n_rows": int(search.rows.sum()),
        "start": search.start,
        "origin": search.origin,
        "evidence": search.evidence(),
        "second": _second_facts(search),
    }
    if void is not None:
        facts["void"] = {
            "measure": void.measure,
            "inside": void.inside,
            "outside": void.outside,
            "ratio": void.ratio,
            "row_inside": void.row_inside,
            "row_outside": void.row_outside,
            "convincing": void.convincing,
        }
    return facts


def _second_facts(search: ClusterSearch) -> dict[str, Any] | None:
    if search.second is None:
        return None
    return {"n_rows": int(search.second.rows.sum()), "evidence": search.second.words}
