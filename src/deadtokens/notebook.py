"""Results as HTML in notebooks: what the command line prints of them, in the same words.

A page has no colours and fonts of its own, so that it is read in a light theme as in a dark one,
and no scripts. What comes from files is shown as text: escaped, without characters that cannot be
seen, and kept from being typeset as mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from deadtokens.census import Census
from deadtokens.cli import (
    census_tables,
    comparing,
    diffing,
    fitting,
    measuring,
    studying,
    tables,
    testing,
)
from deadtokens.cli.display import (
    Part,
    left_out,
    line,
    new_table,
    print_table,
    recorded,
    sections_table,
    text_cell,
)
from deadtokens.cloud import Cloud
from deadtokens.cluster import ClusterSearch
from deadtokens.compare import Comparison, SigmaComparison
from deadtokens.diff import Diff
from deadtokens.fit import Fit
from deadtokens.independence import Independence
from deadtokens.inventory import Both, Inventory
from deadtokens.marginals import Marginals
from deadtokens.runs import RunFolder
from deadtokens.saved_trials import MeasuredTrials, SavedTrials
from deadtokens.showing import Shown, ShownList
from deadtokens.snowball import Snowball
from deadtokens.solving import Solution
from deadtokens.sources import Matrix, Model
from deadtokens.statistics import Measurement
from deadtokens.study import Study
from deadtokens.summaries import SigmaTotals
from deadtokens.survey_lines import COLUMN_TITLES, Surveyed, cells, short_names
from deadtokens.tabular import Tabular
from deadtokens.theory import Expectation
from deadtokens.tokens import Labels
from deadtokens.verdict import Verdict

_SHOWN = 12  # lines of a table

# MathJax, which notebooks have, leaves elements of these classes alone.
_OPEN = '<div class="deadtokens tex2jax_ignore mathjax_ignore">'

# Lines may be aligned by blanks.
_ALIGNED = "white-space: pre-wrap; font-family: monospace"


def html(shown: Shown) -> str:
    """A result as HTML, by its kind; of one that has no form of its own, its repr."""
    with recorded() as parts:
        _write(shown)
    return f"{_OPEN}{''.join(map(_element, parts))}</div>"


def _write(shown: Shown) -> None:
    kind = type(shown)
    if kind in _TABLES:
        _TABLES[kind]([shown])
    elif kind in _WRITERS:
        _WRITERS[kind](shown)
    elif isinstance(shown, ShownList) and (not shown or isinstance(shown[0], Shown)):
        _list(shown)
    elif isinstance(shown, Tabular):
        _tabular(shown)
    else:
        _one_line(shown)


def _element(part: Part) -> str:
    if isinstance(part, Table):
        return _table(part)
    return f'<div style="{_ALIGNED}">{escape(part)}</div>' if part else "<br>"


def _table(table: Table) -> str:
    columns = table.columns
    head = _row("th", columns, [column.header for column in columns])
    body = (
        _row("td", columns, contents)
        for contents in zip(*(column.cells for column in columns), strict=True)
    )
    return f"<table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"


def _row(tag: str, columns: Sequence[Column], contents: Sequence[Any]) -> str:
    written = (
        f'<{tag} style="text-align: {"right" if column.justify == "right" else "left"}; '
        f'white-space: pre-wrap; padding: 0.1em 1em 0.1em 0">{_cell(content)}</{tag}>'
        for column, content in zip(columns, contents, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"


def _cell(content: str | Text) -> str:
    if isinstance(content, Text):
        text = escape(content.plain)
        return f"<b>{text}</b>" if content.style == "bold" else text
    return escape(content)


def _one_line(shown: Shown) -> None:
    line(repr(shown).removeprefix("<").removesuffix(">"))


def _model(model: Model) -> None:
    _one_line(model)
    table = new_table("tensor", "shape", "dtype")
    for name, tensor in list(model.tensors.items())[:_SHOWN]:
        shape = " x ".join(f"{n:,}" for n in tensor.shape)
        table.add_row(*map(text_cell, (name, shape, tensor.dtype)))
    print_table(table)
    left_out(len(model.tensors) - _SHOWN, "more tensors", "")


def _census(found: Census) -> None:
    census_tables.census_line(found)
    census_tables.not_finite_line(found)
    _populations("group", found.group_population.tolist(), found.group_first.tolist())


def _snowball(snowball: Snowball) -> None:
    _one_line(snowball)
    order = (-snowball.populations).argsort(kind="stable")
    _populations("vector", snowball.populations[order].tolist(), None, order.tolist())


def _populations(
    name: str,
    populations: Sequence[int],
    first_rows: Sequence[int] | None,
    numbers: Sequence[int] | None = None,
) -> None:
    """The largest groups of equal rows, a line each."""
    if not populations:
        return
    table = new_table(name, "population", *(["first row"] if first_rows is not None else []))
    for i, population in enumerate(populations[:_SHOWN]):
        number = i if numbers is None else numbers[i]
        first = [str(first_rows[i])] if first_rows is not None else []
        table.add_row(str(number), f"{population:,}", *first)
    print_table(table)
    left_out(len(populations) - _SHOWN, "more", "")


def _inventory(taken: Inventory) -> None:
    tables.warning_lines(taken.warnings)
    census_tables.inventory_tables(taken, Both())


def _labels(labels: Labels) -> None:
    line(f"{len(labels.texts):,} rows")
    census_tables.labels_table(labels)


def _fit(found: Fit) -> None:
    fitting.print_fit(found, withheld=None)
    if found.sigma:
        line("The interval holds if the story does: independence and marginals test it.")


def _marginals(tested: Marginals) -> None:
    if tested.reason is not None:
        line(tested.reason)
        return
    line(f"{tested.n_dimensions:,} dimensions, {tested.replicates:,} replicates")
    tables.features_table(tested.features, tested.p_holm)


def _solution(found: Solution) -> None:
    line(tables.solution_words(found))
    tables.expectations_table([found.expectation])


def _measured_trials(measured: MeasuredTrials) -> None:
    _one_line(measured)
    measuring.summary_tables(measured)


def _surveyed(lines: Sequence[Surveyed]) -> None:
    names = short_names([surveyed.source for surveyed in lines])
    good = [cells(surveyed, names[surveyed.source]) for surveyed in lines if not surveyed.error]
    if good:
        sections_table(list(COLUMN_TITLES.values()), {"": good})
    for surveyed in lines:
        if surveyed.error:
            line(f"{surveyed.source}: {surveyed.error}")


def _list(results: ShownList[Any]) -> None:
    """In one table where there is one for several; else one after the other."""
    if not results:
        line("none")
    elif (of := type(results[0])) in _TABLES:
        _TABLES[of](results)
    else:
        for result in results[:_SHOWN]:
            _write(result)
        left_out(len(results) - _SHOWN, "more", "")


def _tabular(shown: Tabular) -> None:
    """The first lines of a table that has no form of its own."""
    held = shown.table()
    table = new_table(*held.column_names)
    for record in held.slice(0, _SHOWN).to_pylist():
        table.add_row(*map(text_cell, map(_value, record.values())))
    print_table(table)
    left_out(held.num_rows - _SHOWN, "more: .to_frame() or .table() has all of them", "")


def _value(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _run_folder(run: RunFolder) -> None:
    held = run.specification
    line(f"{run.path}")
    facts = ("n_tokens", "noise", "format", "intermediate", "epsilon", "touching", "seed")
    line(", ".join(f"{name} {held[name]}" for name in facts if name in held))
    table = new_table("sigma", "trials")
    for i, sigma in enumerate(held["sigmas"][:_SHOWN]):
        table.add_row(f"{sigma:.6g}", f"{sum(part.count for part in run.parts(i)):,}")
    print_table(table)
    left_out(len(held["sigmas"]) - _SHOWN, "more sigmas", "")


def _study(found: Study) -> None:
    tables.matrix_lines(found.matrix)
    studying.verdict_lines(found.verdict)
    line(f"report: {found.report}")


# Tables that hold several results.
_TABLES: dict[type[Shown], Callable[[Any], None]] = {
    Expectation: tables.expectations_table,
    SigmaTotals: tables.sweep_tables,
    Surveyed: _surveyed,
}

_WRITERS: dict[type[Shown], Callable[[Any], None]] = {
    Census: _census,
    Cloud: _one_line,
    ClusterSearch: census_tables.search_lines,
    Comparison: comparing.show,
    Diff: diffing.show,
    Fit: _fit,
    Independence: testing.show,
    Inventory: _inventory,
    Labels: _labels,
    Marginals: _marginals,
    Matrix: tables.matrix_lines,
    MeasuredTrials: _measured_trials,
    Measurement: tables.statistics_tables,
    Model: _model,
    RunFolder: _run_folder,
    SavedTrials: _one_line,
    SigmaComparison: comparing.show_sigma,
    Snowball: _snowball,
    Solution: _solution,
    Study: _study,
    Verdict: studying.verdict_lines,
}
