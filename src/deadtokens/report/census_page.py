"""A census folder → one HTML page: which tokens are dead, and how we know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deadtokens.answers import in_families, named_sentence
from deadtokens.errors import SelectionError
from deadtokens.report.census_findings import CensusFindings, gather_census
from deadtokens.report.census_parts import census_charts, census_tables
from deadtokens.report.drawing import Page, render_page
from deadtokens.report.inputs import texts
from deadtokens.report.opening import Card, Opening
from deadtokens.report.words import count, typeset
from deadtokens.writing import Written, replacing, shell_line

_NAMES = 60  # special tokens that the opening names


def write_census_page(path: Path, folder: Path) -> Written:
    """Write the page about a census folder.

    Args:
        path: The HTML file.
        folder: What ``census -o`` wrote.

    Raises:
        SourceError: A file there is damaged.
        SelectionError: There is no census.
        OutputError: The file cannot be written.
    """
    findings = gather_census(folder)
    if findings is None:
        raise SelectionError(
            "no census.json there", where=folder, remedy="run deadtokens census SOURCE -o DIR first"
        )
    content = render_page(census_page(findings)).encode("utf-8", "backslashreplace")
    with replacing(path) as file:
        file.write(content)
    return Written(path, "the page")


def census_page(findings: CensusFindings) -> Page:
    """The page of a census."""
    facts = findings.facts
    command = ["deadtokens", "census", str(facts.get("source"))]
    for option in ("tensor", "tokenizer"):
        command += [f"--{option}", str(facts[option])] if facts.get(option) else []
    command += ["-o", "census"]
    return Page(
        opening=_opening(findings),
        charts=census_charts(findings),
        tables=census_tables(findings),
        facts=list(_facts(facts)),
        commands=[shell_line(command)],
    )


def _opening(findings: CensusFindings) -> Opening:
    facts = findings.facts
    dead, rows = _number(facts, "n_dead"), _number(facts, "n_rows")
    elsewhere = 0 if dead else _dead_in_the_other(facts)
    undecided = bool(facts.get("undecided")) and not elsewhere
    return Opening(
        title=str(facts.get("source") or ""),
        question="Which tokens are dead?",
        answer=_answer(facts, dead, elsewhere, rows),
        mood="open" if undecided else "no" if dead or elsewhere else "yes",
        headline=typeset(str(facts.get("answer") or "")),
        sentences=tuple(typeset(sentence) for sentence in _sentences(facts) if sentence),
        cards=tuple(_cards(findings)),
        story="",
        warnings=tuple(map(typeset, texts(facts, "warnings"))),
    )


def _dead_in_the_other(facts: Mapping[str, Any]) -> int:
    """Dead rows of the two matrices together, where there are two."""
    dead_in = facts.get("dead_in")
    counts = dead_in.values() if isinstance(dead_in, dict) else ()
    return sum(n for n in counts if isinstance(n, int))


def _answer(facts: Mapping[str, Any], dead: int, elsewhere: int, rows: int) -> str:
    if elsewhere:
        return f"{elsewhere:,} in the other matrix"
    if facts.get("undecided"):
        return f"{dead:,} or more, undecided" if dead else "Undecided"
    half = ", more than half" if facts.get("mostly_dead") else ""
    return f"{dead:,} of {rows:,}{half}" if dead else "None found"


def _special(facts: Mapping[str, Any]) -> str:
    """Which special, reserved and added tokens are untrained, by name."""
    untrained, named = facts.get("untrained"), _number(facts, "named")
    if not isinstance(untrained, list) or not isinstance(facts.get("labels"), dict):
        return ""
    names = [str(token.get("token")) for token in untrained if isinstance(token, dict)]
    shown = in_families(names)
    more = f" and {len(shown) - _NAMES:,} more, in the table below" if len(shown) > _NAMES else ""
    text = named_sentence(len(names), named)
    return f"{text} {', '.join(shown[:_NAMES])}{more}." if names else text


def _evidence(facts: Mapping[str, Any]) -> str:
    cluster = facts.get("cluster")
    evidence = str(cluster.get("evidence") or "") if isinstance(cluster, dict) else ""
    return f"How this was found: {evidence}." if evidence else ""


def _sentences(facts: Mapping[str, Any]) -> Iterator[str]:
    yield _special(facts)
    yield _evidence(facts)
    for sentence in texts(facts, "dead_words"):
        yield f"{sentence[:1].upper()}{sentence[1:]}."
    second = (facts.get("cluster") or {}).get("second")
    if isinstance(second, dict):
        yield f"A second cluster: {second.get('evidence')}."
    if facts.get("dead_by"):
        yield f"Dead here: {facts['dead_by']}."
    if zero := _number(facts, "zero_rows"):
        yield f"{count(zero, 'row')} of zeros are a group of their own."
    dead_in = facts.get("dead_in")
    if isinstance(dead_in, dict):
        parts = ", ".join(f"{rows:,} in {name}" for name, rows in dead_in.items())
        yield f"Input and output matrix are two; dead rows: {parts}."
    merging = facts.get("merging")
    if isinstance(merging, dict):
        for name, rows in merging.items():
            yield f"Rounded to {name}, {count(int(rows), 'row')} would equal another one."


def _cards(findings: CensusFindings) -> Iterator[Card]:
    facts = findings.facts
    holes = _number(facts, "n_black_holes")
    yield Card("Distinct vectors", f"{_number(facts, 'n_unique'):,}", "over all rows")
    held = f"with {count(_number(facts, 'black_hole_population'), 'row')}"
    yield Card("Black holes", f"{holes:,}", held if holes else "no two rows are equal")
    labels = facts.get("labels")
    if not isinstance(labels, dict):
        return
    named = _number(facts, "named")
    yield Card(
        "Untrained special tokens",
        f"{_number(facts, 'named_untrained'):,}",
        f"of {named:,} special, reserved and added",
    )
    yield Card("Padding", f"{int(labels.get('padding', 0)):,}", "rows beyond the tokenizer")
    unreachable = facts.get("unreachable")
    if isinstance(unreachable, int):
        yield Card("Unreachable", f"{unreachable:,}", "that the tokenizer cannot produce")
    else:
        yield Card("Unreachable", "–", "not tested")


def _facts(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Matrix", f"{facts.get('tensor')}: {facts.get('note')}"
    rows, columns = _number(facts, "n_rows"), _number(facts, "n_dimensions")
    yield "Size", f"{rows:,} rows x {columns:,} dimensions, {facts.get('format')}"
    stored = facts.get("equal_as_stored")
    if isinstance(stored, dict):
        sizes = ", ".join(f"{n:,}" for n in (stored.get("populations") or ())[:20])
        unique = f"{_number(stored, 'n_unique'):,} distinct rows"
        yield "As stored, byte for byte", f"{unique}, black holes of {sizes or 'none'} rows"
    not_finite = facts.get("not_finite")
    if isinstance(not_finite, list) and not_finite:
        yield "NaN or infinity", f"{count(len(not_finite), 'row')}, in no group"


def _number(facts: Mapping[str, Any], name: str) -> int:
    value = facts.get(name)
    return value if isinstance(value, int) else 0
