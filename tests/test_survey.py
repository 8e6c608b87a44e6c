"""Many models, one row each: one bad source does not stop the others, and what is done is kept."""

from __future__ import annotations

import csv
import json
import re
import threading
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from containers import write_index, write_tensors
from gguf_files import tensor_of, write_gguf
from hub_server import Repository, running_hub
from huggingface_hub import close_session, constants
from made_models import NEAR, TWINS, ZEROS, dead_matrix, tied_model, untied_model
from program import Program

from deadtokens import __version__, stocktaking
from deadtokens.errors import ClusterError
from deadtokens.scheduler import Cluster
from deadtokens.survey import survey
from deadtokens.survey_lines import (
    COLUMN_TITLES,
    Surveyed,
    cells,
    read_survey,
    short_names,
    write_survey,
)

module = import_module("deadtokens.survey")  # the package's attribute is the function


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """Nine kinds of source, the last two of them broken."""
    rows = dead_matrix()
    np.save(tmp_path / "rows.npy", rows)
    np.savez(tmp_path / "rows.npz", rows=rows)
    shards = tmp_path / "shards"
    shards.mkdir()
    write_tensors(shards / "one.safetensors", {"lm_head.weight": rows})
    write_tensors(shards / "two.safetensors", {"norm.weight": np.zeros(4, np.float16)})
    write_index(shards, {"lm_head.weight": "one.safetensors", "norm.weight": "two.safetensors"})
    file = write_tensors(tmp_path / "one.safetensors", {"wte.weight": rows.astype(np.float32)})
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(file.read_bytes()[:-7])
    places = [
        tied_model(tmp_path / "tied"),
        untied_model(tmp_path / "untied"),
        tmp_path / "rows.npy",
        tmp_path / "rows.npz",
        shards,
        file,
    ]
    return [*map(str, places), "builtin:whisper-tiny.en", str(broken), str(tmp_path / "nothing")]


def test_a_row_per_source_in_their_order(sources: list[str]) -> None:
    lines = survey(sources)
    assert [line.source for line in lines] == sources
    assert [bool(line.error) for line in lines] == [False] * 7 + [True] * 2
    assert "truncated" in lines[7].error
    assert "no such file" in lines[8].error
    n_dead = len(TWINS) + len(NEAR) + len(ZEROS)
    for line in lines[:6]:
        assert (line.vocabulary, line.dimensions, line.dead) == (272, 48, n_dead)
        assert line.cluster == len(TWINS) + len(NEAR)
        assert line.populations[0] == len(TWINS)
    tied, untied = lines[:2]
    assert (tied.tied, tied.named, tied.dead_named, tied.padding) == (True, 5, 3, 6)
    assert tied.dead_input is None
    assert (untied.tied, untied.dead_input) == (False, len(TWINS) + 1)
    assert lines[2].named is None
    assert [line.format for line in lines[:7]] == ["float16"] * 5 + ["float32", "float16"]
    assert (lines[6].vocabulary, lines[6].distinct, lines[6].black_holes) == (300, 253, 31)


def test_every_kind_of_source(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file of each other kind, and of a model on a hub, the same rows are dead."""
    h5py = pytest.importorskip("h5py")
    rows = dead_matrix()
    gguf = write_gguf(tmp_path / "m.gguf", {"token_embd.weight": tensor_of(rows)})
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["lm_head/weight"] = rows
    held = {path.name: path.read_bytes() for path in Path(sources[0]).iterdir()}
    with running_hub({"someone/model": Repository(held)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("DEADTOKENS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        wanted = [str(gguf), str(tmp_path / "m.h5"), "hf:someone/model", "hf:someone/else"]
        lines = survey(wanted, tmp_path / "out")
        close_session()
    for line in lines[:3]:
        assert (line.error, line.vocabulary, line.dead) == ("", 272, 21)
    assert lines[2].dead_named == 3
    assert "someone/else" in lines[3].error


def test_a_survey_goes_on_where_it_stopped(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []
    take = stocktaking.take_inventory

    def counted(matrix: object) -> object:
        taken.append(matrix.source)  # type: ignore[attr-defined]
        return take(matrix)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "take_inventory", counted)
    first = survey(sources[:3], tmp_path / "out")
    assert sorted(taken) == sorted(sources[:3])
    again = survey(sources, tmp_path / "out")
    assert sorted(taken) == sorted(sources[:7])  # each once; the broken ones never got so far
    assert again[:3] == first

    time.sleep(0.01)
    np.save(tmp_path / "rows.npy", dead_matrix(seed=9))
    survey(sources, tmp_path / "out")
    assert taken[7:] == [str(tmp_path / "rows.npy")]


def test_a_damaged_result_is_taken_anew(sources: list[str], tmp_path: Path) -> None:
    first = survey(sources[:1], tmp_path / "out")
    (kept,) = (tmp_path / "out" / "models").glob("*.json")
    kept.write_text('{"source": ')
    again = survey(sources[:1], tmp_path / "out")
    assert again[0].dead == first[0].dead
    assert json.loads(kept.read_text())["dead"] == first[0].dead


def test_workers_do_not_change_what_is_found(sources: list[str]) -> None:
    def facts(workers: int) -> list[tuple[object, ...]]:
        return [(line.source, line.dead, line.error) for line in survey(sources, workers=workers)]

    assert facts(1) == facts(4)


def test_sources_that_are_loaded_wait_for_memory() -> None:
    budget = module._Budget(100)
    held, most, lock = 0, 0, threading.Lock()

    def use(wanted: int) -> None:
        nonlocal held, most
        with budget.taken(wanted):
            with lock:
                held += min(wanted, 100)
                most = max(most, held)
            time.sleep(0.005)
            with lock:
                held -= min(wanted, 100)

    threads = [threading.Thread(target=use, args=(wanted,)) for wanted in (60, 60, 30, 1000, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert 0 < most <= 100


def test_the_csv_has_a_line_per_source(sources: list[str], tmp_path: Path) -> None:
    hostile = Surveyed("=cmd|' /C calc'!A0", error="no such file")
    lines = [*survey([*sources[:1], sources[-1]]), hostile]
    write_survey(tmp_path / "survey.csv", lines)
    with (tmp_path / "survey.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["dead"] for row in rows] == ["21", "", ""]
    assert rows[0]["populations"].split()[0] == "5"
    assert rows[2]["source"].startswith("'=")


def test_cells_are_words() -> None:
    line = Surveyed("m", vocabulary=1234, tied=False, black_holes=6, populations=(9, 5, 4, 3, 2, 2),
                    dead_named=0, named=7, seconds=1.26)  # fmt: skip
    shown = dict(zip(COLUMN_TITLES, cells(line, line.source), strict=True))
    assert shown["vocabulary"] == "1,234"
    assert shown["populations"] == "9, 5, 4, 3, ..."
    assert (shown["tied"], shown["dead_named"], shown["seconds"]) == ("no", "0 of 7", "1.3")
    assert shown["cluster"] == "-"


def test_the_command(sources: list[str], tmp_path: Path, deadtokens: Program) -> None:
    """Tables and files for the good ones, an error line for the bad ones, and status 1."""
    done = deadtokens("survey", *sources, "-o", tmp_path / "out")
    assert done.status == 1
    names = short_names(sources[:7])
    for source in sources[:7]:
        assert any(line.startswith(names[source]) for line in done.out.splitlines())
    errors = [line for line in done.out.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "Traceback" not in done.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "models", "survey.csv", "survey.html"
    }  # fmt: skip
    page = (tmp_path / "out" / "survey.html").read_text(encoding="utf-8")
    assert "Which models have dead tokens?" in page
    assert "vegaEmbed = " not in page  # no charts, no chart engine
    assert len(page) < 60_000

    done = deadtokens("survey", sources[2], "--json")
    assert done.status == 0
    assert json.loads(done.out)["models"][0]["dead"] == 21


# --- what stops one source, and what stops all ---


def test_an_error_of_any_kind_stops_no_other(
    sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take = stocktaking.take_inventory

    def fails_once(matrix: object) -> object:
        if matrix.source == sources[2]:  # type: ignore[attr-defined]
            raise ZeroDivisionError("one\ntwo")
        return take(matrix)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "take_inventory", fails_once)
    bad, good = survey([sources[2], sources[5]])
    assert bad.error == "cannot be read (ZeroDivisionError: one two)"
    assert (good.error, good.dead) == ("", 21)


def test_interrupted(
    sources: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadtokens: Program
) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "take_inventory", interrupted)
    with pytest.raises(KeyboardInterrupt):
        survey(sources[:1], tmp_path / "a")
    result = deadtokens("survey", sources[0], "-o", tmp_path / "b")
    assert (result.status, result.out) == (130, "")
    assert "with -o DIR the same command goes on where it stopped" in result.err
    for folder in ("a", "b"):
        assert not list((tmp_path / folder / "models").iterdir())


def test_a_worker_of_another_version_takes_nothing(sources: list[str]) -> None:
    with pytest.raises(ClusterError, match=f"a worker has deadtokens {__version__}, the client 0"):
        module._take_on_worker("0", sources[2], sources[2], frozenset(), None)
    state, line = module._take_on_worker(__version__, "here", sources[2], frozenset(), None)
    assert (line.source, line.dead) == ("here", 21)
    assert module._take_on_worker(__version__, "here", sources[2], {state}, None) == (state, None)


def test_a_source_that_workers_die_of_is_a_line(sources: list[str]) -> None:
    def results(_: object, jobs: object) -> object:
        return ((job.tag, ClusterError("workers died of it")) for job in jobs)  # type: ignore[attr-defined]

    cluster = cast("Cluster", SimpleNamespace(results=results))
    (line,) = survey(sources[:1], cluster=cluster)
    assert (line.source, line.error) == (sources[0], "workers died of it")


def test_undecided_is_never_none(tmp_path: Path) -> None:
    """Eight rows that a gap sets apart, which is too narrow for so few."""
    rng = np.random.default_rng(2)
    rows = rng.normal(0, 0.02, (1200, 48))
    rows[:8] = rng.normal(0, 0.02, 48) + rng.normal(0, 0.0006, (8, 48))
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    (line,) = survey([str(tmp_path / "rows.npy")])
    assert line.dead is None
    assert "undecided" in cells(line, "a name")
    assert "rows are dead is undecided: 8 rows inside" in line.warnings[0]


# --- names, pages and earlier lists ---


def test_short_names_tell_sources_apart() -> None:
    sources = [
        "builtin:qwen3-4b",
        "hf:owner/name",
        "/models/qwen/model.safetensors",
        "/models/llama/model.safetensors",
        "/models/tiny/",
        "/other/tiny",
        "weights/smol.gguf",
        "plain.npy",
    ]
    assert list(short_names(sources).values()) == [
        "builtin:qwen3-4b",
        "hf:owner/name",
        "qwen/model.safetensors",
        "llama/model.safetensors",
        "models/tiny",
        "other/tiny",
        "smol.gguf",
        "plain.npy",
    ]


def test_a_survey_is_read_as_it_was_written(sources: list[str], tmp_path: Path) -> None:
    lines = [*survey(sources), Surveyed("=evil()", "an error; with = signs", warnings=("a", "b"))]
    write_survey(tmp_path / "survey.csv", lines)
    assert read_survey(tmp_path / "survey.csv") == lines
    assert read_survey(tmp_path / "nothing.csv") == []


def test_another_list_keeps_the_rows_of_the_former(
    sources: list[str], tmp_path: Path, deadtokens: Program
) -> None:
    out = tmp_path / "out"
    assert deadtokens("survey", *sources[:2], "-o", out).status == 0
    done = deadtokens("survey", sources[2], sources[1], "-o", out)
    assert "1 row of an earlier list kept; to be rid of them, remove" in done.err
    kept = [line.source for line in read_survey(out / "survey.csv")]
    assert kept == [sources[2], sources[1], sources[0]]
    page = (out / "survey.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="(models/[0-9a-f]+/report.html)">', page)
    assert len(links) == 3
    for link in links:
        assert "Which tokens are dead?" in (out / link).read_text(encoding="utf-8")


def test_a_file_that_is_no_survey_is_not_replaced(
    sources: list[str], tmp_path: Path, deadtokens: Program
) -> None:
    (tmp_path / "survey.csv").write_text("my,own\n1,2\n")
    done = deadtokens("survey", sources[2], "-o", tmp_path)
    assert done.status == 1
    assert "cannot be read as a survey's" in done.message
    assert (tmp_path / "survey.csv").read_text() == "my,own\n1,2\n"
