"""What a census found, as charts and tables of a page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deadtokens.errors import plain
from deadtokens.report.census_findings import CensusFindings, Dead, Named, Ranked
from deadtokens.report.chartkit import (
    INK,
    MUTED,
    REAL,
    Chart,
    Choice,
    Key,
    Spec,
    layer,
    layered,
    log_axis,
    quantitative,
    tooltip,
)
from deadtokens.report.tablekit import ROWS_AT_MOST, Cell, Table, number_cell, shown_of
from deadtokens.report.words import count, figure, typeset

_SHORTEST_AXIS = 10.0  # ratio of the ends of an axis of distances, at least
_FIRST_TOKENS = 4
_LONGEST_TOKEN = 40
_BAR = 26


def census_charts(findings: CensusFindings) -> list[Chart]:
    """The charts that there is something to draw in."""
    found = [_void_chart(findings), _composition_chart(findings)]
    return [chart for chart in found if chart is not None]


def census_tables(findings: CensusFindings) -> list[Table]:
    """The tables that there is something to say in."""
    found = [
        _named_table(findings),
        _groups_table(findings),
        _tokens_table(findings),
        _labels_table(findings),
    ]
    return [table for table in found if table is not None]


# --- the void ---


def _void_chart(findings: CensusFindings) -> Chart | None:
    void = _mapping(_mapping(findings.facts.get("cluster")).get("void"))
    stepped = void.get("measure") == "lattice steps"
    places = [(ranked, _far(ranked, stepped)) for ranked in findings.ranks]
    drawn = [(ranked, far) for ranked, far in places if far > 0]
    if len(drawn) < 2:
        return None
    convincing = void.get("convincing") is True
    first, last = drawn[0][1], max(far for _, far in drawn)
    last = max(last, first * _SHORTEST_AXIS)
    spec = layered(
        "Rows in order of distance from the centre, both axes logarithmic.",
        380,
        _void_layers(drawn, void if convincing else {}),
        encoding={
            "x": quantitative("rank", "rows, nearest first", **log_axis(1, drawn[-1][0].rank)),
            "y": quantitative(
                "distance",
                "lattice steps, the most in a dimension" if stepped else "Euclidean distance",
                **log_axis(first / 1.3, last * 1.3, grid=True),
            ),
        },
    )
    cluster = _mapping(findings.facts.get("cluster"))
    at_centre = len(places) - len(drawn)
    note = (
        f" {count(at_centre, 'row')} at distance 0 cannot be drawn on this scale."
        if at_centre
        else ""
    )
    evidence = str(cluster.get("evidence") or "")
    caption = f"{evidence[:1].upper()}{typeset(evidence[1:])}.{note} Far rows are thinned out."
    keys = [Key("dot", "real", "inside the cluster")] if convincing else []
    keys.append(Key("dot", "muted", "other rows"))
    return Chart("void", "The void around the dead", caption, {(): spec}, drawn=((),),
                 key=tuple(keys))  # fmt: skip


def _far(ranked: Ranked, stepped: bool) -> float:
    """How far a row is from the centre, in the measure that decided."""
    return float(ranked.steps or 0) if stepped else ranked.distance


def _void_layers(places: Sequence[tuple[Ranked, float]], void: Mapping[str, Any]) -> list[Spec]:
    layers = []
    inside, outside = void.get("inside"), void.get("outside")
    if isinstance(inside, int | float) and isinstance(outside, int | float):
        lowest = min(far for _, far in places) / 1.3  # a logarithmic axis has no 0
        band = [{"low": max(inside, lowest), "high": outside}]
        layers.append(
            {
                "data": {"values": band},
                "mark": {"type": "rect", "color": MUTED, "opacity": 0.16},
                "encoding": {
                    "x": {"value": 0},
                    "x2": {"value": "width"},
                    "y": {"field": "low", "type": "quantitative"},
                    "y2": {"field": "high"},
                },
            }
        )
    for within, colour in ((False, MUTED), (True, REAL)):
        dots = [
            {"rank": r.rank, "distance": far, "row": f"{r.row:,}"}
            | {"exact": figure(far), "place": f"{r.rank:,}"}
            for r, far in places
            if r.inside is within
        ]
        if dots:
            mark = {"type": "circle", "size": 22, "color": colour, "opacity": 0.9}
            shown = tooltip(row="row", place="place in order", exact="distance")
            layers.append(layer(dots, mark, tooltip=shown))
    return layers


# --- what they are ---


def _composition_chart(findings: CensusFindings) -> Chart | None:
    own = [dead for dead in findings.dead if dead.dead_in in ("both", findings.facts.get("role"))]
    if not own or not findings.labelled:
        return None
    by_script = _tally(plain(dead.script) or "no text" for dead in own)
    by_label = _tally(plain(dead.label) for dead in own)
    bars = [
        {"what": what, "name": name, "rows": rows, "shown": f"{rows:,}"}
        for what, tally in (("label", by_label), ("script", by_script))
        for name, rows in tally.items()
    ]
    specs: dict[tuple[str, ...], Spec] = {
        (what,): _bars([bar for bar in bars if bar["what"] == what], f"Dead rows by {what}.")
        for what in ("label", "script")
    }
    return Chart(
        "composition",
        "What the dead tokens are",
        "Dead rows by what the tokenizer says of them, and by the script of their text.",
        specs,
        choices=(Choice("by", ("label", "script")),),
        drawn=(("label",), ("script",)),
    )


def _bars(bars: Sequence[Mapping[str, object]], description: str) -> Spec:
    order = [bar["name"] for bar in bars]
    y: Spec = {"field": "name", "type": "nominal", "sort": order, "title": None}
    number = {"type": "text", "align": "left", "dx": 4, "color": INK}
    return layered(
        description,
        _BAR * len(bars),
        [
            {"mark": {"type": "bar", "color": REAL, "height": {"band": 0.7}}},
            {"mark": number, "encoding": {"text": {"field": "shown"}}},
        ],
        data={"values": [dict(bar) for bar in bars]},
        encoding={
            "y": y | {"axis": {"labelLimit": 200, "ticks": False, "domain": False}},
            "x": quantitative("rows", "rows", axis={"tickMinStep": 1, "grid": True}),
        },
    )


# --- tables ---


def _named_table(findings: CensusFindings) -> Table | None:
    if not findings.named:
        return None
    lines = sorted(findings.named, key=lambda token: (not token.untrained, token.row))
    untrained = sum(token.untrained for token in lines)
    two = any(token.dead_in not in ("", "only") for token in lines)
    rows = tuple(_named_line(token, two) for token in lines[:ROWS_AT_MOST])
    either = " in the input or the output matrix" if two else ""
    note = (
        f"{untrained:,} of {count(len(lines), 'special, reserved or added token')} are untrained: "
        f"their rows are dead{either}. "
        + shown_of(len(rows), len(lines), "token", "the untrained first")
    )
    columns = ("row", "token", "label", "untrained", *(("dead in",) if two else ()), "evidence",
               "norm")  # fmt: skip
    numeric = tuple(name in ("row", "norm") for name in columns)
    return Table("special", "Special and reserved tokens", note, columns, numeric, rows)


def _named_line(token: Named, two: bool) -> tuple[Cell, ...]:
    return (
        number_cell(float(token.row)),
        Cell(token_text(token.token)),
        Cell(token.label),
        Cell("untrained", mark="rejected") if token.untrained else Cell("not shown to be"),
        *([Cell(token.dead_in)] if two else []),
        Cell(typeset(token.evidence)),
        number_cell(token.norm),
    )


def _groups_table(findings: CensusFindings) -> Table | None:
    groups = [_mapping(group) for group in findings.facts.get("groups") or ()]
    if not groups:
        return None
    members: dict[int, list[Dead]] = {}
    for dead in findings.dead:
        if dead.group is not None:
            members.setdefault(dead.group, []).append(dead)
    columns = ["black hole", "rows", "norm", "first row"]
    numeric = [True, True, True, True]
    if findings.labelled:
        columns += ["first tokens", "labels", "scripts"]
        numeric += [False, False, False]
    rows = []
    for group in groups[:ROWS_AT_MOST]:
        cells = [number_cell(_real(group, name))
                 for name in ("group", "population", "norm", "first_row")]  # fmt: skip
        if findings.labelled:
            first = members.get(int(_real(group, "group") or 0), [])[:_FIRST_TOKENS]
            cells.append(Cell(", ".join(token_text(dead.token) for dead in first)))
            cells += [Cell(_counts(_mapping(group.get(name)))) for name in ("labels", "scripts")]
        rows.append(tuple(cells))
    note = shown_of(len(rows), len(groups), "black hole", "the largest")
    return Table("groups", "Black holes and their tokens", note, tuple(columns), tuple(numeric),
                 tuple(rows))  # fmt: skip


def _tokens_table(findings: CensusFindings) -> Table | None:
    if not findings.dead:
        return None
    untied = any(dead.dead_in != "only" for dead in findings.dead)
    columns = ["row", *(["token", "label", "script", "reachable"] if findings.labelled else [])]
    columns += ["evidence", "black hole", "rows alike", "distance", "norm"]
    columns += ["dead in"] if untied else []
    rows = [_token_line(dead, findings.labelled, untied) for dead in findings.dead[:ROWS_AT_MOST]]
    note = shown_of(len(rows), len(findings.dead), "dead row", "the first; tokens.csv has all")
    numeric = [name not in ("token", "label", "script", "reachable", "evidence", "dead in")
               for name in columns]  # fmt: skip
    return Table("tokens", "Dead tokens", note, tuple(columns), tuple(numeric), tuple(rows))


def _token_line(dead: Dead, labelled: bool, untied: bool) -> tuple[Cell, ...]:
    cells = [number_cell(float(dead.row))]
    if labelled:
        texts = (token_text(dead.token), dead.label, dead.script, dead.reachable)
        cells += [Cell(text) for text in texts]
    cells.append(Cell(dead.evidence))
    cells.append(number_cell(None if dead.group is None else float(dead.group)))
    cells += [number_cell(float(dead.population)), number_cell(dead.distance)]
    cells.append(number_cell(dead.norm))
    return (*cells, *([Cell(dead.dead_in)] if untied else []))


def _labels_table(findings: CensusFindings) -> Table | None:
    counts = _mapping(findings.facts.get("labels"))
    if not counts:
        return None
    dead = _mapping(findings.facts.get("dead_labels"))
    rows = tuple(
        (Cell(name), number_cell(float(rows)), number_cell(float(dead.get(name, 0))))
        for name, rows in counts.items()
        if isinstance(rows, int)
    )
    unreachable = findings.facts.get("unreachable")
    tested = "Which ones the tokenizer cannot produce was not tested."
    if isinstance(unreachable, int):
        tested = f"{unreachable:,} rows, whatever their label, cannot be produced by the tokenizer."
    notes = ["Every row has one label.", tested]
    notes += [str(note) for note in findings.facts.get("label_notes") or ()]
    return Table("labels", "What the tokenizer says of all rows", " ".join(notes),
                 ("label", "rows", "dead"), (False, True, True), rows)  # fmt: skip


def token_text(text: str) -> str:
    """A token between quotes: shortened, and no character that cannot be seen."""
    short = text if len(text) <= _LONGEST_TOKEN else text[: _LONGEST_TOKEN - 1] + "…"
    return f"‘{plain(short)}’"


def _counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {rows:,}" for name, rows in counts.items() if isinstance(rows, int))


def _tally(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _real(facts: Mapping[str, Any], name: str) -> float | None:
    value = facts.get(name)
    return float(value) if isinstance(value, int | float) else None
