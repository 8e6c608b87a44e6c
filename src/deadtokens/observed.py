"""A measured row of statistics, read and checked, in the units of the run it is compared with."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from deadtokens.errors import SelectionError, SourceError
from deadtokens.geometry import touching_distance
from deadtokens.kernels.types import Float64Array
from deadtokens.statistics import Measurement
from deadtokens.trials import STATISTICS

Measured: TypeAlias = Measurement | Mapping[str, Any] | str | Path

IN_EPSILON = ("max_l_inf", "mean_l_inf", "median_l_inf")
_MEASURE = "write it with `deadtokens measure SOURCE -o FILE.csv`"
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Observation:
    """One measured cluster.

    Attributes:
        values: (20,) float64, the statistics of `STATISTICS`; NaN where blank.
        where: What to call it in messages: a file, or "the measured row".
        epsilon: The length that distances are in units of; None if the row does not say.
        touching: The distance up to which vectors touch; None likewise.
        format: The lattice's name; None likewise.
        estimated: Whether mean and median distances are estimates from sampled pairs.
    """

    values: Float64Array
    where: str
    epsilon: float | None
    touching: float | None
    format: str | None
    estimated: bool

    @property
    def bare(self) -> bool:
        """Whether it is the 21 columns alone, as programs other than this one write them."""
        return self.epsilon is None and self.touching is None and self.format is None

    def for_run(self, specification: Mapping[str, Any]) -> tuple[Float64Array, list[str]]:
        """The values in a run's units, and what a reader must know about that.

        Args:
            specification: Of the run: epsilon, touching, format, n_tokens.

        Raises:
            SelectionError: It is of another format, or was measured with another touching distance.
        """
        self._check_format(specification["format"])
        self._check_touching(specification["epsilon"], specification["touching"])
        values = self.values.copy()
        notes = self._assumptions(specification)
        n_tokens, n_simulated = values[STATISTICS.index("n_tokens")], specification["n_tokens"]
        if n_tokens != n_simulated and not math.isnan(n_tokens):
            notes.append(
                f"WARNING: {n_tokens:,.0f} rows were measured, but each trial has {n_simulated:,} "
                "tokens: counts and populations are not comparable; sweep with "
                f"--tokens {n_tokens:.0f}"
            )
        if self.epsilon is not None and self.epsilon != specification["epsilon"]:
            for name in IN_EPSILON:
                values[STATISTICS.index(name)] *= self.epsilon / specification["epsilon"]
            notes.append(
                f"distances were measured in units of epsilon = {self.epsilon!r} and are "
                f"converted to the run's, {specification['epsilon']!r}"
            )
        if self.estimated:
            notes.append(
                "observed mean and median distance are estimates from sampled pairs; their p-values"
                " leave that error out"
            )
        blank = [name for name, value in zip(STATISTICS, values, strict=True) if np.isnan(value)]
        if blank:
            notes.append(f"not measured, and in no test: {', '.join(blank)}")
        return values, notes

    def _check_format(self, simulated: str) -> None:
        if self.format is not None and self.format != simulated:
            raise SelectionError(
                f"the cluster's numbers are {self.format}, the trials' {simulated}: trials of "
                "another lattice say nothing of it",
                where=self.where,
                remedy=f"sweep with --like {self.where}, or --format {self.format}, into another "
                "folder",
            )

    def _check_touching(self, epsilon: float, touching: float) -> None:
        if self.touching is None or touching_distance(self.touching) == touching_distance(touching):
            return
        option = f"--epsilon {epsilon!r}"
        if touching_distance(touching) != touching_distance(2 * epsilon):
            option += f" --touching {touching!r}"
        raise SelectionError(
            f"measured with vectors that touch up to {self.touching!r}, but the run's trials with "
            f"{touching!r}: their topology cannot be compared",
            where=self.where,
            remedy=f"measure again with `deadtokens measure ... {option}`, or sweep with "
            f"--touching {self.touching!r} into another folder",
        )

    def _assumptions(self, specification: Mapping[str, Any]) -> list[str]:
        held = {"epsilon": self.epsilon, "touching": self.touching, "format": self.format}
        assumed = [f"{name} = {specification[name]}" for name in held if held[name] is None]
        if not assumed:
            return []
        note = f"{self.where} does not say {_listed([n for n in held if held[n] is None])}: "
        note += f"assumed as in the run, {_listed(assumed)}"
        if self.bare:
            note += "; numbers that are not counts are compared at float32 precision"
        return [note]


def observe(measured: Measured) -> Observation:
    """What was measured, from a measurement, a row of statistics by name, or a file.

    Raises:
        SourceError: The file cannot be read as one row of statistics.
        SelectionError: A statistic is missing or no number.
    """
    if isinstance(measured, Measurement):
        return _observation(measured.row, "the measured row")
    if isinstance(measured, Mapping):
        return _observation(measured, "the measured row")
    if isinstance(measured, (str, Path)):
        return _observation(_read_row(Path(measured)), str(measured))
    raise SelectionError(
        f"a measured cluster of type {type(measured).__name__}",
        remedy="give a Measurement, a mapping of statistics by name, or the path of a .csv file",
    )


def _observation(row: Mapping[str, Any], where: str) -> Observation:
    missing = [name for name in STATISTICS if name not in row]
    if missing:
        raise SelectionError(
            f"not a row of statistics: {_some(missing)} {'is' if len(missing) == 1 else 'are'} "
            "missing",
            where=where,
            remedy=_MEASURE,
        )
    numbers = [_number(row[name], name, where) for name in STATISTICS]
    if all(number is None for number in numbers):
        raise SelectionError("all statistics are blank", where=where, remedy=_MEASURE)
    lengths = {name: _number(row.get(name), name, where) for name in ("epsilon", "touching")}
    for name, length in lengths.items():
        if length is not None and length <= 0:
            raise SelectionError(f"{name} is {length:g}, not a length", where=where)
    fmt = row.get("format")
    return Observation(
        values=np.array([np.nan if n is None else n for n in numbers], dtype=np.float64),
        where=where,
        epsilon=lengths["epsilon"],
        touching=lengths["touching"],
        format=fmt.strip() if isinstance(fmt, str) and fmt.strip() else None,
        estimated=_number(row.get("mean_l_inf_se"), "mean_l_inf_se", where) is not None,
    )


def _number(value: object, name: str, where: str) -> float | None:
    """A finite number; None for a blank, of which NaN is one way to write it."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.inf
    if math.isinf(number):
        raise SelectionError(
            f"{name} is {str(value)[:40]!r}, not a number", where=where, remedy=_MEASURE
        )
    return None if math.isnan(number) else number


def _read_row(path: Path) -> dict[str, str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            filled = (line for line in lines if any(cell.strip() for cell in line))
            header, *rows = [list(line) for line in itertools.islice(filled, 3)] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else "not a CSV file"
        raise SourceError(f"cannot be read ({why or error})", where=path, remedy=_MEASURE) from None
    names = [name.strip() for name in header]
    if not names:
        raise SourceError("an empty file", where=path, remedy=_MEASURE)
    for delimiter, words in _OTHER_DELIMITERS.items():
        if len(names) == 1 and delimiter in names[0]:
            raise SourceError(
                f"its columns are separated by {words}", where=path, remedy="separate by commas"
            )
    twice = sorted({name for name in names if names.count(name) > 1 and name})
    if twice:
        raise SourceError(f"several columns are called {_some(twice)}", where=path)
    if not rows:
        raise SourceError("names of columns, but no row", where=path, remedy=_MEASURE)
    if len(rows) > 1:
        raise SourceError(
            "several rows, as saved trials have them",
            where=path,
            remedy="give the file of one measured cluster: keep the header and one row",
        )
    if len(rows[0]) != len(names):
        raise SourceError(
            f"{len(names)} names of columns, but {len(rows[0])} values in the row",
            where=path,
            remedy=_MEASURE,
        )
    return dict(zip(names, rows[0], strict=True))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _listed(words: list[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
