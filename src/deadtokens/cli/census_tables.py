"""What a census found, as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text

from deadtokens.answers import dead_sentence, in_families, named_sentence
from deadtokens.census import Census
from deadtokens.census_files import group_facts
from deadtokens.cli.display import (
    advice,
    is_wide,
    left_out,
    line,
    names,
    new_table,
    packed,
    print_table,
    quoted,
    text_cell,
)
from deadtokens.cli.tables import matrix_lines
from deadtokens.cluster import ClusterSearch
from deadtokens.errors import plain
from deadtokens.inventory import NAMED, Both, Inventory, NamedToken, Untied, named_lines
from deadtokens.keep import Keep
from deadtokens.kernels.types import BoolArray, Int64Array
from deadtokens.tokens import Labels
from deadtokens.writing import shell_line

GROUPS_SHOWN = 40
_LINES_OF_NAMES = 8
_NAMED_SHOWN = 20
_OTHERS_SHOWN = 40
_TOKENS_SHOWN = 4
_TOKENS_WIDTH = 46  # what a line of 80 columns leaves for them


def inventory_tables(taken: Inventory, both: Both) -> None:
    """The answer, what can be done next, and how it was found: evidence, groups and labels."""
    named = named_lines(taken, both.untied)
    _answer_lines(taken, both, named)
    line("")
    line("How this was found:")
    matrix_lines(taken.matrix, ())
    found = taken.census
    census_line(found)
    if taken.raw is not None:
        _raw_line(taken.raw, found)
    not_finite_line(found)
    search_lines(taken.search)
    for name, n_rows in taken.merging.items():
        line(f"in {name}, {n_rows:,} rows would equal another one")
    dead_lines(taken)
    both_lines(both)
    if found.n_black_holes:
        _groups_table(taken)
    else:
        line("no two rows are equal")
    if taken.labels is None:
        return
    labels_table(taken.labels, taken.dead_rows.rows)
    _texts_line(taken.labels, taken.dead_rows.rows)
    if both.untied is not None:
        _other_matrix_line(taken, both.untied)
    named_table(named)


def _answer_lines(taken: Inventory, both: Both, named: Sequence[NamedToken]) -> None:
    line(dead_sentence(taken, both.untied))
    untrained = [token.token for token in named if token.untrained]
    if taken.labels is not None:
        line(named_sentence(len(untrained), len(named)))
        names(in_families(untrained), _LINES_OF_NAMES, ": all of them in special.csv (-o DIR)")
    elif taken.matrix.tokenizer is None:
        line("Tokens are not named: the source brings no tokenizer", ", add --tokenizer FILE.")
    source = shell_line([taken.matrix.source])
    if untrained:
        advice(
            "Nothing was learned for these: train them before a prompt or a fine-tune uses them."
        )
    if taken.dead_rows.rows.any():
        advice(f"Next: deadtokens census {source} -o DIR writes masks and a page to read.")
    # Of quantised numbers there are no studies.
    if taken.dead_rows.count > 1 and not taken.matrix.quantised:
        advice(f"      deadtokens study {source} -o DIR asks how they came to lie as they do.")


def census_line(found: Census) -> None:
    """Rows, distinct vectors and black holes in a line."""
    holes = "1 black hole" if found.n_black_holes == 1 else f"{found.n_black_holes:,} black holes"
    line(
        f"{found.n_rows:,} rows, {found.n_unique:,} distinct vectors, "
        f"{holes} with {found.black_hole_population:,} rows"
    )


def search_lines(search: ClusterSearch) -> None:
    """The cluster that was found, and by what evidence."""
    if zero := int(search.zero.sum()):
        line(f"{zero:,} rows are all zeros, a group of their own")
    line(f"{'cluster: ' if search.rows.any() else ''}{search.evidence()}")


def dead_lines(taken: Inventory) -> None:
    """How many rows are dead, and by what evidence; never none where that cannot be told."""
    for text in taken.dead_rows.words:
        line(text)
    if taken.search.second is not None:
        line(f"second cluster: {taken.search.second.words}")
    line(f"dead: {dead_count(taken)} ({taken.dead_rows.how})")


def dead_count(taken: Inventory) -> str:
    """The dead rows in words."""
    count, undecided = taken.dead_rows.count, taken.search.undecided
    if undecided:
        least = f"at least {count:,} rows, and whether others are is " if count else ""
        return f"{least}undecided: {undecided}"
    return f"{count:,} rows" + (", more than half" if taken.mostly_dead else "")


def both_lines(both: Both) -> None:
    """Which rows of two matrices are dead, or why the other was not looked at."""
    if both.unread:
        line(f"the other of the two matrices was not looked at: {both.unread}")
    if both.untied is None:
        return
    counts = both.untied.counts
    line(
        f"input matrix {both.untied.read.matrix.tensor}, output matrix "
        f"{both.untied.written.matrix.tensor}: {counts['input only']:,} rows dead in the input "
        f"only, {counts['output only']:,} in the output only, {counts['both']:,} in both"
    )


def keep_lines(kept: Keep, size: str) -> None:
    """What the map of ids saves, and what it breaks."""
    line(f"keep: {kept.kept.size:,} of {kept.old_to_new.size:,} ids, {size} saved")
    for caveat in kept.caveats:
        line(f"- {caveat}")


def _raw_line(raw: Census, found: Census) -> None:
    sizes = raw.group_population.tolist()
    same = (raw.n_unique, sizes) == (found.n_unique, found.group_population.tolist())
    line(
        "as stored, byte for byte: "
        + ("the same" if same else f"{raw.n_unique:,} distinct rows, {len(sizes):,} black holes")
    )


def not_finite_line(found: Census) -> None:
    """The rows that belong to no group, if there are any."""
    if found.not_finite.size:
        shown = ", ".join(map(str, found.not_finite[:10]))
        more = ", ..." if found.not_finite.size > 10 else ""
        line(f"{found.not_finite.size:,} rows hold NaN or an infinity, in no group: {shown}{more}")


def _groups_table(taken: Inventory) -> None:
    """The black holes; where there is no room, with their first tokens but not their rows."""
    found, labels = taken.census, taken.labels
    wide = is_wide()
    table = new_table("group", "rows", "share of rows" if wide else "share", "norm")
    columns = ["first rows"] if wide or labels is None else []
    if columns and taken.matrix.token_ids is not None:
        columns.append("first tokens' ids")
    if labels is not None:
        columns += ["first tokens", "labels", "scripts"] if wide else ["first tokens"]
    for title in columns:
        table.add_column(title, overflow="fold")
    for facts in group_facts(taken, GROUPS_SHOWN):
        population, rows = facts["population"], found.group_rows[facts["group"]][:_TOKENS_SHOWN]
        cells = {
            "first rows": text_cell(_some(list(map(str, rows.tolist())), population)),
            "first tokens' ids": text_cell(_first_ids(taken, rows, population)),
            "first tokens": _first_tokens(labels, rows, population, wide),
            "labels": text_cell(tally(facts["labels"])),
            "scripts": text_cell(tally(facts["scripts"])),
        }
        share = f"{population / found.n_rows:.3%}"
        numbers = [str(facts["group"]), f"{population:,}", share, f"{facts['norm']:.5g}"]
        table.add_row(*map(text_cell, numbers), *(cells[title] for title in columns))
    print_table(table)
    where = ": all of them in census.csv (-o DIR) and in --json"
    left_out(found.n_black_holes - GROUPS_SHOWN, "smaller ones", where)


def _first_ids(taken: Inventory, rows: Int64Array, population: int) -> str:
    if taken.matrix.token_ids is None:
        return ""
    return _some([str(i) for i in taken.matrix.token_ids[rows].tolist() if i >= 0], population)


def _first_tokens(labels: Labels | None, rows: Int64Array, population: int, wide: bool) -> Text:
    if labels is None:
        return Text()
    tokens = [quoted(labels.texts[row]) for row in rows.tolist()]
    tokens += ["..."] if population > len(tokens) else []
    lines = [tokens] if wide else packed(tokens, _TOKENS_WIDTH)
    return Text(",\n".join(plain(", ".join(together)) for together in lines))


def labels_table(labels: Labels, dead: BoolArray | None = None) -> None:
    """How many rows have each label, and how many of the dead ones."""
    everywhere = labels.label_counts()
    of_dead = {} if dead is None else labels.label_counts(dead)
    table = new_table("label", "rows", *([] if dead is None else ["dead"]))
    for name, count in everywhere.items():
        cells = [f"{count:,}"] if dead is None else [f"{count:,}", f"{of_dead.get(name, 0):,}"]
        table.add_row(name, *cells)
    print_table(table)
    for note in labels.notes:
        line(f"note: {note}")


def _other_matrix_line(taken: Inventory, untied: Untied) -> None:
    """The tokens that are dead in the other matrix only."""
    read, written = untied.dead_in
    only, name = (written & ~read, "output") if taken is untied.read else (read & ~written, "input")
    if taken.labels is not None:
        what = f"other tokens dead in the {name} only"
        _texts_line(taken.labels, only[: taken.matrix.n_rows], what)


def _texts_line(labels: Labels, dead_rows: BoolArray, what: str = "other dead tokens") -> None:
    """The dead tokens that are not known by name, one after another."""
    dead = dead_rows.nonzero()[0].tolist()
    others = [row for row in dead if labels.label_of(row) not in (*NAMED, "padding")]
    if others:
        texts = [f"{row} {quoted(labels.texts[row])}" for row in others[:_OTHERS_SHOWN]]
        line(f"{len(others):,} {what}: {_some(texts, len(others))}")


def named_table(named: Sequence[NamedToken]) -> None:
    """Which special, reserved and added tokens are untrained, and the evidence."""
    if not named:
        return
    untrained = [token for token in named if token.untrained]
    share = (
        f"all {len(named):,}"
        if len(untrained) == len(named)
        else (f"{len(untrained):,} of {len(named):,}")
    )
    line(
        f"{share} special, reserved and added tokens are shown to be untrained"
        + (":" if untrained else "")
    )
    if not untrained:
        return
    two = any(token.dead_in != "only" for token in untrained)
    table = new_table("row", "token", "label", "norm", *(["dead in"] if two else []), "evidence")
    for token in untrained[:_NAMED_SHOWN]:
        cells = [str(token.row), quoted(token.token), token.label, f"{token.norm:.5g}"]
        cells += [str(token.dead_in)] if two else []
        table.add_row(*map(text_cell, (*cells, token.evidence)))
    print_table(table)
    where = ": all of them in special.csv (-o DIR)"
    left_out(len(untrained) - _NAMED_SHOWN, "more", where)


def tally(counts: Mapping[str, int], most: int = 4) -> str:
    """Counts by name in words, the most frequent ones."""
    parts = [f"{name} {count:,}" for name, count in list(counts.items())[:most]]
    return ", ".join(parts) + (", ..." if len(counts) > most else "")


def _some(words: Sequence[str], total: int) -> str:
    return ", ".join(words) + (", ..." if total > len(words) else "")
