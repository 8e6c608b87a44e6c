"""What a census folder holds, read for the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deadtokens.report.inputs import known, number, read_object, read_table
from deadtokens.writing import spreadsheet_text

_TOKENS = ("row", "token", "label", "script", "reachable", "evidence", "group", "population",
           "distance", "norm", "dead_in")  # fmt: skip
_NAMED = ("row", "token", "label", "untrained", "evidence", "norm")
_RANKS = ("rank", "row", "distance", "inside")


@dataclass(frozen=True)
class Dead:
    """A line of tokens.csv."""

    row: int
    token: str
    label: str
    script: str
    reachable: str
    evidence: str
    group: int | None
    population: int
    distance: float | None
    norm: float
    dead_in: str


@dataclass(frozen=True)
class Named:
    """A line of special.csv."""

    row: int
    token: str
    label: str
    untrained: bool
    evidence: str
    norm: float
    dead_in: str


@dataclass(frozen=True)
class Ranked:
    """A line of void.csv: a row by its distance from the cluster's centre."""

    rank: int
    row: int
    distance: float
    inside: bool
    steps: int | None = None


@dataclass(frozen=True)
class CensusFindings:
    """All that a census found.

    Attributes:
        facts: census.json.
        dead: The dead tokens, by row.
        named: The special, reserved and added tokens; empty without a tokenizer.
        ranks: Rows by distance, thinned far out; empty where no centre was found.
    """

    facts: Mapping[str, Any]
    dead: tuple[Dead, ...]
    named: tuple[Named, ...]
    ranks: tuple[Ranked, ...]

    @property
    def labelled(self) -> bool:
        """Whether there was a tokenizer."""
        return isinstance(self.facts.get("labels"), dict)


def gather_census(folder: Path) -> CensusFindings | None:
    """Read a census folder; None where none was written.

    Raises:
        SourceError: A file there is damaged.
    """
    path = folder / "census.json"
    if not path.exists():
        return None
    return CensusFindings(
        facts=read_object(path),
        dead=_dead(folder / "tokens.csv"),
        named=_named(folder / "special.csv"),
        ranks=_ranks(folder / "void.csv"),
    )


def _dead(path: Path) -> tuple[Dead, ...]:
    return tuple(
        Dead(
            row=_whole(line, "row", path),
            token=spreadsheet_text(line["token"]),
            label=line["label"],
            script=line["script"],
            reachable=line["reachable"],
            evidence=line["evidence"],
            group=None if line["group"] == "" else _whole(line, "group", path),
            population=_whole(line, "population", path),
            distance=number(line["distance"], path),
            norm=_real(line, "norm", path),
            dead_in=line["dead_in"],
        )
        for line in read_table(path, _TOKENS)
    )


def _named(path: Path) -> tuple[Named, ...]:
    if not path.exists():
        return ()
    return tuple(
        Named(
            row=_whole(line, "row", path),
            token=spreadsheet_text(line["token"]),
            label=line["label"],
            untrained=line["untrained"] == "yes",
            evidence=line["evidence"],
            norm=_real(line, "norm", path),
            dead_in=line.get("dead_in", ""),
        )
        for line in read_table(path, _NAMED)
    )


def _ranks(path: Path) -> tuple[Ranked, ...]:
    if not path.exists():
        return ()
    return tuple(
        Ranked(
            rank=_whole(line, "rank", path),
            row=_whole(line, "row", path),
            distance=_real(line, "distance", path),
            inside=line["inside"] == "1",
            steps=_whole(line, "steps", path) if line.get("steps") else None,
        )
        for line in read_table(path, _RANKS)
    )


def _whole(line: Mapping[str, str], name: str, path: Path) -> int:
    return int(_real(line, name, path))


def _real(line: Mapping[str, str], name: str, path: Path) -> float:
    return known(number(line[name], path), name, path)
