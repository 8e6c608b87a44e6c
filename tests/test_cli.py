"""The commands as a user meets them: what goes to stdout and stderr, and the exit status."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from containers import AnyArray, write_header, write_npy_header, write_tensors
from made_models import byte_level, tied_model, tokenizer, write_model
from program import Program, Result
from safetensors.numpy import load_file

from deadtokens import __version__, geometry, sources, statistics
from deadtokens.cli import app, display, measuring, testing, transferring
from deadtokens.statistics import COLUMNS
from deadtokens.wording import duration

EMBED = "model.embed_tokens.weight"
PROGRAM = str(Path(sys.executable).with_name("deadtokens"))
COMMANDS = [
    "inspect",
    "census",
    "measure",
    "independence",
    "fit",
    "compare",
    "report",
    "study",
    "survey",
    "diff",
    "demo",
]
# The published table of the built-in, at the precision published.
QWEN = {
    "n_tokens": "2,100",
    "n_unique": "13",
    "n_black_holes": "13",
    "n_singletons": "0",
    "total_population": "2,100",
    "black_hole_population": "2,100",
    "largest_bh": "814",
    "smallest_bh": "2",
    "mean_bh_size": "161.5",
    "median_bh_size": "6",
    "top2_population": "1,518",
    "gini_coefficient": "0.753",
    "max_l_inf": "1.017",
    "mean_l_inf": "0.483",
    "median_l_inf": "0.509",
    "n_components": "1",
    "n_isolated": "0",
    "largest_component_size": "13",
    "largest_component_density": "1.000",
    "global_density": "1.000",
}


def process(
    *arguments: object, environment: dict[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Runs the program as installed."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [PROGRAM, *map(os.fsencode, map(str, arguments))],
        check=False,
        env=os.environ | (environment or {}),
        text=False,
        **(pipes | options),
    )
    return done


def assert_refused(result: Result, *expected: str) -> None:
    """Status 1, nothing but one line on stderr, which says all of that."""
    assert result.status == 1
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert result.err[:-1].isprintable()  # nothing that drives a terminal
    assert "Traceback" not in result.err
    for text in expected:
        assert text in result.err


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def table(out: str) -> dict[str, str]:
    """The statistics in the printed table, by name."""
    cells = [line.split() for line in out.splitlines() if line.startswith("  ")]
    return {words[0]: words[1] for words in cells if words[0] in COLUMNS}


@pytest.fixture
def rows_file(tmp_path: Path) -> Callable[[AnyArray], Path]:
    def write(rows: AnyArray) -> Path:
        np.save(tmp_path / "rows.npy", rows)
        return tmp_path / "rows.npy"

    return write


# --- the program ---


@pytest.mark.parametrize("command", ["", *COMMANDS])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(deadtokens: Program, command: str, flag: str) -> None:
    result = deadtokens(*command.split(), flag)
    assert (result.status, result.err) == (0, "")
    assert f"Usage: deadtokens {command}".strip() in result.out
    for expected in ["--help"] if command else COMMANDS:
        assert expected in result.out


def test_version(deadtokens: Program) -> None:
    assert deadtokens("--version") == Result(0, f"deadtokens {__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["measure"],
        ["census", "a", "b"],
        ["census", "a", "--rows", "all"],
        ["measure", "a", "--rows", "some"],
        ["measure", "a", "--epsilon", "wide"],
        ["measure", "a", "--epsilon"],
        ["--nothing"],
    ],
    ids=" ".join,
)
def test_wrong_usage(deadtokens: Program, arguments: list[str]) -> None:
    result = deadtokens(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err
    assert "Traceback" not in result.err


# --- inspect ---


def test_inspect(deadtokens: Program, tmp_path: Path) -> None:
    path = write_tensors(
        tmp_path / "model.safetensors",
        {name: np.zeros((1200, 5), np.float16) for name in ("lm_head.weight", "wte.weight", "x")},
    )
    result = deadtokens("inspect", path)
    assert (result.status, result.err) == (0, "")
    row = next(line for line in result.out.splitlines() if line.startswith("lm_head.weight"))
    expected = "lm_head.weight output 1,200 x 5 F16 12,000 model.safetensors used"
    assert row.split() == expected.split()
    assert "2 of 3 tensors can hold token vectors" in result.out
    assert "used: lm_head.weight: the output (unembedding) matrix" in result.out

    facts = json.loads(deadtokens("inspect", path, "--json").out)
    assert (facts["used"], facts["n_tensors"], facts["refusal"]) == ("lm_head.weight", 3, None)
    assert [(c["tensor"], c["used"]) for c in facts["candidates"]] == [
        ("lm_head.weight", True), ("wte.weight", False)
    ]  # fmt: skip
    assert facts["candidates"][0]["shape"] == [1200, 5]


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_inspect_lists_what_there_is_though_nothing_is_chosen(
    deadtokens: Program, tmp_path: Path, option: list[str]
) -> None:
    array = np.zeros((2, 2), np.float32)
    path = write_tensors(tmp_path / "m.safetensors", {"a": array, "b": array})
    result = deadtokens("inspect", path, *option)
    assert result.status == 1
    assert result.err.startswith(f"error: {path}: 2 tensors could hold the token vectors: a, b")
    assert result.err.count("\n") == 1
    if option:
        assert json.loads(result.out)["used"] is None
    else:
        assert "used:" not in result.out


def test_durations_in_words() -> None:
    seconds = (99.94, 100, 5940, 6000, 36_000)
    assert [duration(s) for s in seconds] == [
        "99.9 s",
        "2 min",
        "99 min",
        "1.7 h",
        "10.0 h",
    ]


def test_numbers_of_numpy_are_plain_json(capsys: pytest.CaptureFixture[str]) -> None:
    display.print_json({"a": np.int64(3), "b": [np.float32(0.5), np.float64("nan")]})
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"schema_version": 1, "a": 3, "b": [0.5, None]}


def test_warnings_are_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    app._warn(RuntimeWarning("one\ntwo\x1b[2J"))
    assert capsys.readouterr() == ("", "warning: one two\\x1b[2J\n")


def test_bars_share_one_display() -> None:
    bars = transferring._Bars()
    with bars.transfer("config.json", 10, 0) as reached:
        reached(10)
        assert bars._progress is None  # too small to be worth one
    with bars.transfer("a", None, 0):
        shown = bars._progress
        assert shown is not None
        with bars.transfer("b", 10**9, 5) as reached:
            reached(10**8)
            assert bars._progress is shown
            assert [(t.description, t.completed) for t in shown.tasks] == [("a", 0), ("b", 10**8)]
        assert bars._progress is shown
    assert bars._progress is None


@pytest.mark.parametrize(
    ("speed", "left", "words"),
    [
        (None, None, "1,500 of 3,000 trials"),
        (12.34, 121.0, "1,500 of 3,000 trials, 12.3 per s, 2 min left"),
    ],
)
def test_how_far_work_is(speed: float | None, left: float | None, words: str) -> None:
    task = SimpleNamespace(
        completed=1500, total=3000, fields={"unit": "trials"}, speed=speed, time_remaining=left
    )
    assert transferring._counted_words(task) == words


# --- census ---


def test_census(deadtokens: Program, model: Path, tmp_path: Path) -> None:
    result = deadtokens("census", model, "-o", tmp_path / "out")
    assert result.status == 0
    assert "12 rows, 8 distinct vectors, 2 black holes with 6 rows" in result.out
    lines = [line.split() for line in result.out.splitlines()]
    assert ["0", "4", "33.333%"] in [words[:3] for words in lines]
    assert ["1", "2", "16.667%"] in [words[:3] for words in lines]
    assert "1, 4, 7, 11" in result.out
    for name, size in (("census.csv", 6), ("mask.safetensors", 12), ("centroid.safetensors", 6)):
        path = tmp_path / "out" / name
        assert path.exists()
        line = next(line for line in result.err.splitlines() if str(path) in line)
        assert line.startswith("wrote ")
        assert str(size) in line
        assert line.endswith(("bytes", "kB"))
    assert "wrote" not in result.out


def test_census_json(deadtokens: Program, model: Path) -> None:
    result = deadtokens("census", model, "--json")
    facts = json.loads(result.out)
    assert (facts["n_rows"], facts["n_unique"], facts["n_black_holes"]) == (12, 8, 2)
    assert (facts["black_hole_population"], facts["not_finite"]) == (6, [])
    assert [(group["population"], group["first_row"]) for group in facts["groups"]] == [
        (4, 1),
        (2, 2),
    ]
    assert "-o DIR" in result.err


def test_census_without_equal_rows(
    deadtokens: Program, rows_file: Callable[[AnyArray], Path], tmp_path: Path
) -> None:
    path = rows_file(np.arange(6, dtype=np.float32).reshape(3, 2))
    result = deadtokens("census", path, "-o", tmp_path / "out")
    assert result.status == 0
    assert "no two rows are equal" in result.out
    assert names_in(tmp_path / "out") == [
        "census.csv", "census.json", "mask.safetensors", "report.html", "tokens.csv", "void.csv"
    ]  # fmt: skip
    assert load_file(tmp_path / "out" / "mask.safetensors")["mask"].tolist() == [False] * 3


def test_census_reports_rows_that_are_not_finite(
    deadtokens: Program, rows_file: Callable[[AnyArray], Path], values: npt.NDArray[np.float32]
) -> None:
    rows = values.copy()
    rows[[0, 4], 0] = np.nan, -np.inf
    path = rows_file(rows)
    result = deadtokens("census", path)
    assert "2 rows hold NaN or an infinity, in no group: 0, 4" in result.out
    assert json.loads(deadtokens("census", path, "--json").out)["not_finite"] == [0, 4]


def test_census_of_a_tied_model(deadtokens: Program, tmp_path: Path) -> None:
    out = deadtokens("census", tied_model(tmp_path / "m")).out
    assert "2 rows are all zeros, a group of their own" in out
    assert "3 of 5 special, reserved and added tokens are shown to be untrained:" in out


def test_census_takes_another_tokenizer(deadtokens: Program, tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(0, 0.05, (266, 16)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "t.json").write_text(json.dumps(tokenizer()), encoding="utf-8")
    assert "Tokens are not named" in deadtokens("census", tmp_path / "rows.npy").out
    out = deadtokens("census", tmp_path / "rows.npy", "--tokenizer", tmp_path / "t.json").out
    assert "tokens are not named" not in out
    assert out.endswith("0 of 5 special, reserved and added tokens are shown to be untrained\n")
    assert "other dead tokens" not in out


def test_census_of_a_vocabulary_without_special_tokens(deadtokens: Program, tmp_path: Path) -> None:
    rows = np.random.default_rng(3).normal(0, 0.05, (60, 16)).astype(np.float32)
    tokens = byte_level({f"w{i}": i for i in range(60)})
    folder = write_model(tmp_path / "m", {"lm_head.weight": rows}, tokens=tokens)
    result = deadtokens("census", folder)
    assert result.status == 0
    assert "No special, reserved or added tokens are known." in result.out


def test_census_says_why_the_other_matrix_was_not_looked_at(
    deadtokens: Program, tmp_path: Path
) -> None:
    rows = np.random.default_rng(3).normal(0, 0.05, (60, 16)).astype(np.float32)
    write_model(tmp_path, {EMBED: np.zeros((60, 16), np.int8), "lm_head.weight": rows}, tied=False)
    out = deadtokens("census", tmp_path).out
    assert "the other of the two matrices was not looked at: " in out
    assert "holds 8-bit integers, and no scales stand beside it" in out


# --- measure ---


def test_long_work_is_announced(
    deadtokens: Program, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_MANY_VECTORS", 7)
    result = deadtokens("measure", model, "--rows", "all")
    assert "8 distinct vectors: distances of all 28 pairs, which takes a while" in result.err
    monkeypatch.setattr(testing, "_MANY_CELLS", 1)
    result = deadtokens("independence", model, "--rows", "all", "--permutations", 200)
    assert "dealing 72 cells 200 times, which takes a while" in result.err


def test_estimates_and_blanks_are_said_to_be_some(
    deadtokens: Program, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = functools.partial(statistics.measure, exact_limit=5)
    monkeypatch.setattr(statistics, "measure", measure)
    arguments = ("measure", model, "--rows", "all", "--touching", 0.02)
    out = deadtokens(*arguments).out
    assert "Mean and median distances are estimates from sampled pairs, +- a standard" in out
    assert " +- " in next(line for line in out.splitlines() if line.startswith("  mean_l_inf"))
    monkeypatch.setattr(geometry, "_PAIR_VISITS", 1)
    assert "Topology is blank: " in deadtokens(*arguments).out


def test_measure_prints_the_published_table(deadtokens: Program) -> None:
    result = deadtokens("measure", "builtin:qwen3-4b", "--epsilon", "6e-5")
    assert (result.status, result.err) == (0, "")
    assert table(result.out) == QWEN
    for title in ("Basic counts", "Black holes", "Extent, in units of epsilon", "Topology"):
        assert f"\n{title}" in result.out
    assert "epsilon = 6e-05: given" in result.out
    assert "72.3% of all rows" in result.out
    # All-or-none edges hinge on one threshold: the output says how much hinges on it.
    assert "connected from 6.10352e-05 (1.017 epsilon)" in result.out
    thresholds = result.out.partition("vectors touch up to")[2].splitlines()[1:]
    assert [line.split()[2] for line in thresholds] == ["13", "11", "10", "7", "4", "2", "1"]


def test_measure_json(deadtokens: Program) -> None:
    result = deadtokens("measure", "builtin:qwen3-4b", "--json")
    facts = json.loads(result.out)
    assert result.err == ""
    assert set(COLUMNS) <= facts.keys()
    assert (facts["n_tokens"], facts["n_unique"], facts["largest_bh"]) == (2100, 13, 814)
    # The ULP that epsilon is taken from, with where it comes from.
    assert facts["epsilon"] == facts["touching"] / 2
    assert "bfloat16 ULP" in facts["epsilon_origin"]
    assert facts["connected_at"] == facts["complete_at"] == 2.0**-14


@pytest.mark.parametrize(
    ("choice", "n_tokens", "n_unique"),
    [([], "6", "2"), (["--rows", "duplicates"], "6", "2"), (["--rows", "all"], "12", "8")],
    ids=["default", "duplicates", "all"],
)
def test_rows_measured(
    deadtokens: Program, model: Path, choice: list[str], n_tokens: str, n_unique: str
) -> None:
    printed = table(deadtokens("measure", model, *choice).out)
    assert (printed["n_tokens"], printed["n_unique"]) == (n_tokens, n_unique)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
@pytest.mark.parametrize("name", ["mask.npy", "mask.safetensors", "mask.safetensors:mask"])
def test_mask(deadtokens: Program, model: Path, tmp_path: Path, dtype: Any, name: str) -> None:
    mask = np.isin(np.arange(12), [1, 2, 3, 4]).astype(dtype)
    np.save(tmp_path / "mask.npy", mask)
    write_tensors(tmp_path / "mask.safetensors", {"other": ~mask, "mask": mask})
    result = deadtokens("measure", model, "--mask", tmp_path / name)
    printed = table(result.out)
    assert (printed["n_tokens"], printed["n_unique"], printed["n_black_holes"]) == ("4", "3", "1")


def test_the_mask_that_census_writes_gives_what_duplicates_gives(
    deadtokens: Program, model: Path, tmp_path: Path
) -> None:
    deadtokens("census", model, "-o", tmp_path)
    by_mask = deadtokens("measure", model, "--mask", tmp_path / "mask.safetensors")
    assert table(by_mask.out) == table(deadtokens("measure", model).out)


def test_measure_writes_and_says_so(deadtokens: Program, model: Path, tmp_path: Path) -> None:
    csv_file, folder = tmp_path / "new" / "m.csv", tmp_path / "cluster"
    result = deadtokens("measure", model, "-o", csv_file, "--save", folder)
    assert csv_file.read_text().startswith(",".join(COLUMNS) + ",epsilon,touching,format,")
    assert names_in(folder) == [
        "dimensions.csv", "pairs.safetensors", "snowball.safetensors", "thresholds.csv"
    ]  # fmt: skip
    assert result.err.count("wrote ") == result.err.count("\n") == 5


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.ones((1, 3), np.float32), ("1", "1", "0", "1", "1", "1", "1.000")),
        (np.ones((5, 3), np.float32), ("5", "1", "1", "1", "1", "1", "1.000")),
        (np.zeros((5, 1), np.float32), ("5", "1", "1", "1", "1", "1", "1.000")),
    ],
    ids=["one row", "all equal", "all zero"],
)
def test_a_single_vector(
    deadtokens: Program,
    rows_file: Callable[[AnyArray], Path],
    rows: AnyArray,
    expected: tuple[str, ...],
) -> None:
    result = deadtokens("measure", rows_file(rows), "--rows", "all")
    printed = table(result.out)
    counts = ("n_tokens", "n_unique", "n_black_holes", "n_components", "n_isolated")
    names = (*counts, "largest_component_size", "global_density")
    assert tuple(printed[name] for name in names) == expected
    assert printed["max_l_inf"] == "0.000"
    assert result.err == ""


def test_effective_format_is_printed(
    deadtokens: Program, rows_file: Callable[[AnyArray], Path]
) -> None:
    out = deadtokens("measure", rows_file(np.ones((2, 2), np.float32))).out
    assert ", float32\n" in out
    assert "as bfloat16" in out


def test_largest_numbers_leave_no_noise_on_stderr(
    deadtokens: Program, rows_file: Callable[[AnyArray], Path]
) -> None:
    """Their difference is beyond float32; warnings are errors here."""
    path = rows_file(np.array([[3e38, -3e38], [-3e38, 3e38]], np.float32))
    deadtokens("measure", path, "--rows", "all")  # in a fresh checkout it says what is compiled
    result = deadtokens("measure", path, "--rows", "all")
    assert (result.status, result.err) == (0, "")
    assert table(result.out)["n_components"] == "2"


@pytest.mark.parametrize("epsilon", ["1e39", "1e308", "5e-324", "1e-46"])
def test_extreme_epsilon_still_gives_strict_json(
    deadtokens: Program, model: Path, epsilon: str
) -> None:
    result = deadtokens("measure", model, "--epsilon", epsilon, "--json")
    if result.status:
        assert_refused(result, "epsilon")
    else:
        facts = json.loads(result.out, parse_constant=pytest.fail)
        assert facts["n_components"] == (1 if float(epsilon) > 1 else 2)


# --- bad input ---


BAD_SOURCES = [
    "no such file",
    "folder without models",
    "truncated",
    "lying",
    "empty",
    "pickled",
    "truncated npy",
    "no rows",
    "one-dimensional",
    "new line in its name",
    "escape in its name",
    "builtin",
]


def bad_sources(folder: Path) -> dict[str, tuple[Path | str, str]]:
    """Sources that no command can read, and what the line has to say."""
    good = write_tensors(folder / "good.safetensors", {"x": np.zeros((9, 9), np.float32)})
    cut = folder / "cut.safetensors"
    cut.write_bytes(good.read_bytes()[:-1])
    good.unlink()
    lying = write_header(
        folder / "lying.safetensors",
        {"x": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 4]}},
        bytes(4),
    )
    (folder / "empty").mkdir()
    (folder / "empty.npy").touch()
    np.save(folder / "objects.npy", np.array([[None]], dtype=object))
    np.save(folder / "no rows.npy", np.zeros((0, 4), np.float32))
    np.save(folder / "flat.npy", np.zeros(4, np.float32))
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9), }\n"
    return {
        "no such file": (folder / "nothing.npy", "check the path"),
        "folder without models": (folder / "empty", "no model file"),
        "truncated": (cut, "truncated"),
        "lying": (lying, "which is 324 bytes, but has 4"),
        "empty": (folder / "empty.npy", "not a readable .npy array"),
        "pickled": (folder / "objects.npy", "never loaded"),
        "truncated npy": (write_npy_header(folder / "cut.npy", header, bytes(9)), "truncated"),
        "no rows": (folder / "no rows.npy", "[0, 4]"),
        "one-dimensional": (folder / "flat.npy", "2-D"),
        "new line in its name": (folder / "a\nb.npy", "check the path"),
        "escape in its name": (folder / "\x1b[2J.npy", "check the path"),
        "builtin": ("builtin:nothing", "builtin:qwen3-4b"),
    }


@pytest.mark.parametrize("kind", BAD_SOURCES)
@pytest.mark.parametrize("command", ["inspect", "census", "measure", "study"])
def test_bad_source(deadtokens: Program, tmp_path: Path, command: str, kind: str) -> None:
    source, expected = bad_sources(tmp_path)[kind]
    output = ["-o", tmp_path / "run"] if command == "study" else []
    result = deadtokens(command, source, *output)
    if command == "inspect" and kind in {"no rows", "one-dimensional"}:
        result = result._replace(out="")  # the file is readable: its candidates are listed
    assert_refused(result, expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--mask", "short.npy"], ["short.npy: a mask of shape [3] for a matrix of 12 rows"]),
        (["--mask", "column.npy"], ["a mask of shape [12, 1]"]),
        (["--mask", "int64.npy"], ["a mask of int64", "bool"]),
        (["--mask", "float.npy"], ["a mask of float32", "bool"]),
        (["--mask", "twos.npy"], ["entries other than 0 and 1"]),
        (["--mask", "none.npy"], ["nothing to measure", "--rows", "--mask"]),
        (["--mask", "two.safetensors"], ["no tensor 'mask' there", "FILE:key", "a, b"]),
        (["--mask", "two.safetensors:c"], ["no tensor 'c' there"]),
        (["--mask", "nothing.npy"], ["nothing.npy", "check the path"]),
        (["--mask", ""], ["not supported"]),
        (["--mask", "good.npy", "--rows", "all"], ["--mask", "--rows"]),
        (["--epsilon", "nan"], ["epsilon nan"]),
        (["--epsilon", "inf"], ["epsilon inf"]),
        (["--epsilon", "-1"], ["epsilon -1"]),
        (["--epsilon", "0"], ["epsilon 0"]),
        (["--touching", "nan"], ["touching nan"]),
        (["--touching", "-2"], ["touching -2"]),
        (["--tensor", "nothing"], ["no tensor 'nothing' there"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_choice_of_what_to_measure(
    deadtokens: Program,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: list[str],
) -> None:
    monkeypatch.chdir(model.parent)
    good = np.arange(12) < 3
    for name, mask in {
        "good": good,
        "short": good[:3],
        "column": good[:, None],
        "int64": good.astype(np.int64),
        "float": good.astype(np.float32),
        "twos": good.astype(np.uint8) * 2,
        "none": good & False,
    }.items():
        np.save(f"{name}.npy", mask)
    write_tensors(Path("two.safetensors"), {"a": good, "b": good})
    assert_refused(deadtokens("measure", model, *arguments), *expected)


def test_nothing_to_measure(deadtokens: Program, rows_file: Callable[[AnyArray], Path]) -> None:
    path = rows_file(np.arange(6, dtype=np.float32).reshape(3, 2))
    assert_refused(
        deadtokens("measure", path), "no two of the 3 rows are equal", "--rows", "--mask"
    )


def test_rows_that_are_not_finite_among_those_measured(
    deadtokens: Program, rows_file: Callable[[AnyArray], Path], values: npt.NDArray[np.float32]
) -> None:
    rows = values.copy()
    rows[[0, 3], 0] = np.nan, np.inf
    path = rows_file(rows)
    assert_refused(
        deadtokens("measure", path, "--rows", "all"),
        "2 of the 12 rows",
        "the first: row 0",
        "--mask",
    )
    # They are in no group, so they are no obstacle to measuring the groups.
    assert table(deadtokens("measure", path).out)["n_tokens"] == "6"


# --- bad output ---


@pytest.mark.parametrize(
    "arguments",
    [
        ["census", "-o", "model.npy"],
        ["census", "-o", "model.npy/below"],
        ["measure", "-o", "model.npy/below.csv"],
        ["measure", "-o", "folder"],
        ["measure", "-o", "."],
        ["measure", "-o", ""],
        ["measure", "-o", "pipe"],
        ["measure", "-o", "x" * 300],
        ["measure", "--save", "model.npy"],
        ["demo", "-o", "model.npy"],
        ["study", "-o", "model.npy"],
        ["study", "-o", "model.npy/below"],
    ],
    ids=lambda arguments: " ".join(arguments)[:30],
)
def test_output_that_cannot_be_written_is_refused_before_any_work(
    deadtokens: Program, model: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(model.parent)
    Path("folder").mkdir()
    os.mkfifo("pipe")
    command, *options = arguments
    before = model.read_bytes()
    result = deadtokens(command, *([] if command == "demo" else [model]), *options)
    if command in ("demo", "study"):  # their heading and stages come first
        result = result._replace(out="", err=result.err.splitlines(keepends=True)[-1])
    assert_refused(result, "written")
    assert model.read_bytes() == before
    assert Path("pipe").is_fifo()
    assert names_in(Path()) == ["folder", "model.npy", "pipe"]


def test_output_never_takes_the_place_of_the_source(deadtokens: Program, model: Path) -> None:
    before = model.read_bytes()
    assert_refused(deadtokens("measure", model, "-o", model), str(model))
    assert model.read_bytes() == before


def test_results_never_take_the_place_of_what_is_read(deadtokens: Program, tmp_path: Path) -> None:
    """Nor of model files that nobody asked to read: they are no results of this program."""
    ones = {"lm_head.weight": np.ones((4, 2), np.float32)}
    write_tensors(tmp_path / "a.safetensors", ones)
    write_tensors(tmp_path / "b.safetensors", {"x": np.ones(3, np.float32)})
    index = {"weight_map": {"lm_head.weight": "a.safetensors", "x": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    mask = tmp_path / "mask.safetensors"
    write_tensors(mask, {"mask": np.ones(4, np.bool_)})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        result = deadtokens("measure", tmp_path, "--mask", mask, "-o", path)
        assert_refused(result, path.name)
    assert_refused(deadtokens("census", tmp_path, "-o", tmp_path), "mask.safetensors")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    done = deadtokens("census", tmp_path, "-o", tmp_path / "census")
    assert done.status == 0
    again = deadtokens("census", tmp_path, "-o", tmp_path / "census")
    assert again.status == 0  # its own results may be replaced


def test_rows_that_are_not_finite_can_be_left_out(deadtokens: Program, tmp_path: Path) -> None:
    values = np.array([[1, 2], [np.nan, 1], [1, 2], [3, np.inf]], np.float32)
    source = write_tensors(tmp_path / "m.safetensors", {"x": values})
    assert_refused(deadtokens("measure", source, "--rows", "all"), "mask.safetensors:finite")
    assert deadtokens("census", source, "-o", tmp_path / "c").status == 0
    finite = f"{tmp_path / 'c' / 'mask.safetensors'}:finite"
    result = deadtokens("measure", source, "--mask", finite, "--json")
    assert json.loads(result.out)["n_tokens"] == 2


def test_census_never_takes_the_place_of_its_source(deadtokens: Program, tmp_path: Path) -> None:
    """A matrix may well be called centroid.safetensors; census writes or removes one."""
    source = write_tensors(tmp_path / "centroid.safetensors", {"x": np.eye(3, dtype=np.float32)})
    before = source.read_bytes()
    assert_refused(deadtokens("census", source, "-o", tmp_path), "centroid.safetensors")
    assert source.read_bytes() == before


def test_read_only_folder(deadtokens: Program, read_only_folder: Path) -> None:
    for command, place in (("census", read_only_folder), ("measure", read_only_folder / "m.csv")):
        assert_refused(deadtokens(command, "builtin:qwen3-4b", "-o", place), "Permission denied")


# --- names that are no plain text ---


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2Jb", "a\u202eb", "[red]b", "a\tb"], ids=ascii)
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_odd_tensor_names_are_printed_safely(
    deadtokens: Program, tmp_path: Path, name: str, option: list[str]
) -> None:
    header = {name: {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
    path = write_header(tmp_path / "m.safetensors", header, bytes(16))
    result = deadtokens("inspect", path, *option)
    assert result.status == 0
    assert all(line.isprintable() for line in result.out.split("\n"))
    if option:
        assert json.loads(result.out)["used"] == name
    elif name.isprintable():
        assert f"used: {name}: " in result.out
    else:
        assert "used: a" in result.out


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1:strict"])
def test_file_name_that_stdout_cannot_spell(tmp_path: Path, encoding: str) -> None:
    """File names are bytes; an encoding that lacks one must not end in a traceback."""
    path = os.fsencode(tmp_path) + b"/\xff\xc3\xa9\xe2\x82\xac.npy"
    with open(path, "wb") as file:  # noqa: PTH123 (pathlib takes no bytes)
        np.save(file, np.ones((2, 2), np.float32))
    done = process("census", os.fsdecode(path), environment={"PYTHONIOENCODING": encoding})
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0
    assert b"2 rows, 1 distinct vectors" in done.stdout


# --- as a process ---


def test_statuses_of_the_installed_program(model: Path, tmp_path: Path) -> None:
    good = process("measure", model, "--json")
    assert (good.returncode, good.stderr) == (0, b"")
    assert json.loads(good.stdout)["n_tokens"] == 6
    bad = process("measure", tmp_path / "nothing.npy")
    assert (bad.returncode, bad.stdout) == (1, b"")
    assert bad.stderr.count(b"\n") == 1
    wrong = process("measure")
    assert (wrong.returncode, wrong.stdout) == (2, b"")


def test_traceback_only_with_debug(tmp_path: Path) -> None:
    done = process("--debug", "measure", tmp_path / "nothing.npy")
    assert done.returncode == 1
    assert b"Traceback" in done.stderr
    assert b"SourceError" in done.stderr


def test_errors_of_the_system_too(
    deadtokens: Program, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sources, "open_matrix", fails)
    assert_refused(deadtokens("census", model), "out of memory; run again with --debug")
    with pytest.raises(MemoryError):
        deadtokens("--debug", "census", model)


def test_interrupted(deadtokens: Program, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sources, "open_matrix", fails)
    assert deadtokens("census", model).status == 130


def test_full_stdout_is_an_error_in_one_line(model: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = process("measure", model, stdout=full)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("columns", ["40", "400"])
def test_tables_are_not_cut_when_piped(
    tmp_path: Path, columns: str, deadtokens: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe has no width: neither a narrow terminal nor long names may lose a character."""
    name = "model.text." + "very_long_module_name." * 8 + "lm_head.weight"
    path = write_tensors(tmp_path / "model.safetensors", {name: np.ones((9, 3), np.float32)})
    monkeypatch.setenv("COLUMNS", columns)
    row = next(line for line in deadtokens("inspect", path).out.splitlines() if "9 x 3" in line)
    assert name in row
    assert row.split()[-1] == "used"
    measured = deadtokens("measure", "builtin:qwen3-4b").out
    assert "\nlargest_component_density" in measured.replace("\n  ", "\n")
    assert "edges there, over possible ones" in measured
    assert "\x1b" not in measured
