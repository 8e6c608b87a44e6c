"""The report's page: whole, one file, harmless whatever the files say, the same every time."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from program import Program
from report_folders import make_run
from safetensors.numpy import load_file, save_file

from deadtokens.errors import DeadtokensError, SelectionError, SourceError
from deadtokens.report import drawing
from deadtokens.report.chartkit import log_axis
from deadtokens.report.drawing import embedded
from deadtokens.report.gathering import gather
from deadtokens.report.layout import nearest_links, positions, touching_pairs
from deadtokens.report.opening import opening
from deadtokens.report.rendering import charts, render, write_report
from deadtokens.report.sweep_charts import _RANKS_DRAWN, _ranks
from deadtokens.report.tables import commands, facts, tables
from deadtokens.report.trial_charts import comparable
from deadtokens.report.words import figure, label

ALL_CHARTS = ["populations", "scores", "histograms", "curves", "lattice", "components", "graph"]
ALL_TABLES = ["comparison", "tests", "dimensions", "holes"]
OPTIONAL = (
    "measured.csv", "comparison.csv", "theory.csv", "cluster", "fit", "tests.json", "study.json"
)  # fmt: skip
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028\"'&{{7*7}}"


class Page(HTMLParser):
    """Elements of a page, its text outside scripts and styles, and the scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.scripts: list[tuple[str | None, str]] = []
        self._within: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("script", "style"):
            self._within.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._within.pop()

    def handle_data(self, data: str) -> None:
        if not self._within:
            self.text += data
        elif self._within[-1] == "script":
            kind, content = self.scripts[-1]
            self.scripts[-1] = (kind, content + data)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "run"
    make_run(folder, "builtin:whisper-tiny.en", trials=40, sigmas=3)
    return folder


@pytest.fixture(scope="module")
def html(study: Path) -> str:
    return render(gather(study))


@pytest.fixture
def copy(study: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    shutil.copytree(study, folder)
    return folder


def change_lines(path: Path, change: Callable[[list[list[str]]], None], to: Path) -> None:
    """Write a changed copy of a CSV file."""
    with path.open(newline="") as file:
        lines = [*csv.reader(file)]
    change(lines)
    with to.open("w", newline="") as file:
        csv.writer(file).writerows(lines)


def without(folder: Path, *parts: str) -> None:
    for part in parts:
        path = folder / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- the page ---


def test_the_answer_comes_first(html: str) -> None:
    page = Page(html)
    text = " ".join(page.text.split())
    assert text.index("Does the story fit?") < text.index("Yes.") < text.index("The story fits:")
    assert text.index("The story fits:") < text.index("Populations by rank")
    assert "253" in text
    identifiers = [value for _, name, value in page.attributes if name == "id"]
    for name in [*ALL_CHARTS, *ALL_TABLES, "run"]:
        assert name in identifiers
    assert len(set(identifiers)) == len(identifiers)


def test_the_page_is_one_small_file_that_loads_nothing(html: str) -> None:
    assert len(html.encode()) < 4_000_000
    page = Page(html)
    assert not page.tags.keys() & {"img", "iframe", "object", "embed", "video", "audio", "base"}
    for tag, name, value in page.attributes:
        if name in ("src", "href", "srcset", "action", "xlink:href", "data"):
            assert value.startswith("#") or value == "data:,", (tag, name, value)
        assert not name.startswith("on")
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert set(re.findall(r"url\((?!#)[^)]*\)", html[: html.index('id="config"')])) == set()


def test_the_policy_allows_these_scripts_and_no_others(html: str) -> None:
    page = Page(html)
    policy = next(v for tag, n, v in page.attributes if n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    allowed = policy.partition("script-src ")[2].partition(";")[0].split()
    run = [content for kind, content in page.scripts if kind is None]
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in run]
    assert allowed == [f"'sha256-{digest}'" for digest in digests]
    assert all(kind in (None, "application/json") for kind, _ in page.scripts)


def test_charts_are_drawn_in_advance(html: str) -> None:
    page = Page(html)
    assert page.tags["figure"] == len(ALL_CHARTS)
    assert page.tags["svg"] >= 5 * 2 + 2
    drawn = html[html.index("<main>") : html.index('id="config"')]
    assert "currentColor" in drawn
    assert "var(--real)" in drawn
    referred = set(re.findall(r"url\(#([^)]+)\)", drawn))
    assert referred <= set(re.findall(r'\bid="([^"]+)"', drawn))


def test_every_option_of_a_chart_has_its_specification(study: Path) -> None:
    for chart in charts(gather(study)):
        options: list[tuple[str, ...]] = [()]
        for choice in chart.choices:
            options = [(*key, option) for key in options for option in choice.options]
        assert set(options) == set(chart.specs), chart.name
        assert set(chart.drawn) <= set(chart.specs)
        assert next(iter(chart.specs)) == options[0]
        json.dumps([*chart.specs.values()], allow_nan=False)


def test_the_page_is_the_same_every_time(study: Path, html: str) -> None:
    assert render(gather(study)) == html


# --- what is missing is left out ---


def test_the_script_of_the_charts_is_kept_and_made_anew_where_it_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEADTOKENS_CACHE", str(tmp_path / "cache"))
    made: list[str] = []

    def bundle(*_: str) -> str:
        made.append("")
        return "go('</script>')\n"

    monkeypatch.setattr("vl_convert.javascript_bundle", bundle)
    script = r"go('<\/script>')"
    make = drawing._engine.__wrapped__
    assert [make(), make()] == [script, script]
    assert len(made) == 1
    (kept,) = (tmp_path / "cache" / "pages").iterdir()
    for damaged in (kept.read_bytes()[:-1], b"\xff", b""):
        kept.write_bytes(damaged)
        assert make() == script
    assert len(made) == 4
    monkeypatch.setenv("DEADTOKENS_CACHE", str(kept))  # a file, in which nothing can be kept
    assert [make(), make()] == [script, script]
    assert len(made) == 6


def test_every_part_but_the_sweep_is_optional(study: Path, copy: Path) -> None:
    lost = {
        "measured.csv": ([], []),
        "comparison.csv": ([], []),  # then it is compared anew
        "theory.csv": ([], []),
        "cluster": (["lattice", "components", "graph"], ["holes"]),
        "fit": ([], ["dimensions"]),
        "tests.json": ([], ["tests"]),
        "study.json": ([], []),
    }
    assert lost.keys() == set(OPTIONAL)
    for part, (no_charts, no_tables) in lost.items():
        without(copy, part)
        found = gather(copy)
        assert [c.name for c in charts(found)] == [c for c in ALL_CHARTS if c not in no_charts]
        assert [t.name for t in tables(found)] == [t for t in ALL_TABLES if t not in no_tables]
        assert opening(found).headline
        assert dict(facts(found))
        source = study / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / part)


def test_a_plain_sweep_has_a_page(copy: Path) -> None:
    without(copy, *OPTIONAL)
    found = gather(copy)
    page = Page(render(found))
    text = " ".join(page.text.split())
    assert "Does the story fit?" not in text
    assert "120 synthetic clusters of 300 tokens each" in text
    assert "No real cluster is compared with them here." in text
    assert page.tags["figure"] == 3
    (again, _) = commands(found)
    assert again.startswith("deadtokens sweep --centroid run/centroid.safetensors --sigma ")
    assert str(copy.parent) not in page.text


@pytest.mark.parametrize("part", ["pairs.safetensors", "thresholds.csv"])
def test_a_cluster_too_large_for_its_matrices(copy: Path, part: str) -> None:
    (copy / "cluster" / part).unlink()
    name = {"pairs.safetensors": "graph", "thresholds.csv": "components"}[part]
    assert [c.name for c in charts(gather(copy))] == [c for c in ALL_CHARTS if c != name]


def test_sigmas_without_trials_are_left_out(copy: Path) -> None:
    for path in (copy / "parts").glob("s0000-*"):
        path.unlink()
    assert len(gather(copy).totals) == 2
    shutil.rmtree(copy / "parts")
    (copy / "parts").mkdir()
    with pytest.raises(SelectionError, match="no trials yet"):
        gather(copy)


def test_the_page_opens_with_the_fitted_sigma(study: Path, copy: Path) -> None:
    assert gather(study).main.sigma == pytest.approx(1.3e-8)
    without(copy, "fit")
    assert gather(copy).main.sigma == pytest.approx(1.3e-8), "where the cluster deviates least"
    without(copy, "comparison.csv", "measured.csv")
    found = gather(copy)
    unique = np.median(found.main.metric("n_unique"))
    assert 1 < unique < found.sweep.spec.n_tokens, "some coincide, others do not"


def test_a_sweep_s_page_has_the_theory_s_curve(copy: Path) -> None:
    written = gather(copy).theory
    without(copy, "theory.csv")
    expected = gather(copy).theory
    sigmas = {line["sigma"]: line["n_unique"] for line in expected}
    shared = [line for line in written if line["sigma"] in sigmas]
    assert len(shared) >= len(gather(copy).totals)
    for line in shared:
        assert sigmas[line["sigma"]] == pytest.approx(line["n_unique"], rel=1e-6)


def test_other_units_are_not_marked(copy: Path) -> None:
    """A cluster measured with another epsilon is not compared where that counts."""

    def another_epsilon(lines: list[list[str]]) -> None:
        lines[1][lines[0].index("epsilon")] = "1.0"

    other = copy / "other.csv"
    change_lines(copy / "measured.csv", another_epsilon, other)
    chart = next(c for c in charts(gather(copy, other)) if c.name == "histograms")
    marked = {
        key[0]: any("real" in str(layer["data"]) for layer in spec["layer"])
        for key, spec in chart.specs.items()
    }
    assert marked[label("n_unique")]
    assert not marked[label("max_l_inf")]
    assert "another epsilon" in chart.caption


def test_another_touching_is_not_marked_either(copy: Path) -> None:
    def another_touching(lines: list[list[str]]) -> None:
        lines[1][lines[0].index("touching")] = "1.0"

    other = copy / "other.csv"
    change_lines(copy / "measured.csv", another_touching, other)
    assert {"n_components", "max_l_inf"} <= comparable(gather(copy)).keys()
    held = comparable(gather(copy, other)).keys()
    assert "max_l_inf" in held
    assert "n_components" not in held


def test_one_sigma_has_nothing_to_choose(copy: Path) -> None:
    for index in (0, 2):
        for path in (copy / "parts").glob(f"s{index:04d}-*"):
            path.unlink()
    without(copy, "theory.csv")
    drawn = {chart.name: chart for chart in charts(gather(copy))}
    assert set(ALL_CHARTS) - set(drawn) == {"curves"}
    assert {len(key) for key in drawn["histograms"].specs} == {1}
    titles = [choice.name for chart in drawn.values() for choice in chart.choices]
    assert "σ of the trials" not in titles


def test_a_fit_without_an_interval(copy: Path) -> None:
    facts_of_fit = json.loads((copy / "fit" / "fit.json").read_text())
    facts_of_fit |= {"sigma_low": None, "sigma_high": None}
    (copy / "fit" / "fit.json").write_text(json.dumps(facts_of_fit))
    found = gather(copy)
    assert "no interval is given" in " ".join(Page(render(found)).text.split())
    (chart,) = (chart for chart in charts(found) if chart.name == "curves")
    assert not any('"to"' in json.dumps(spec) for spec in chart.specs.values())


def test_a_cluster_whose_rows_are_not_known(copy: Path) -> None:
    """None are named, or not of every vector: no first rows are shown."""
    path = copy / "cluster" / "snowball.safetensors"
    tensors = load_file(path)
    known = gather(copy).cluster
    assert known is not None
    assert known.first_rows is not None
    fewer = {name: tensors[name][1:] for name in ("row_ids", "row_vectors")}
    vectors = fewer["row_vectors"]
    fewer["row_ids"], fewer["row_vectors"] = fewer["row_ids"][vectors > 0], vectors[vectors > 0]
    unnamed = {n: array for n, array in tensors.items() if not n.startswith("row_")}
    for changed in (tensors | fewer, unnamed):
        save_file(changed, path, {"format": "float16"})
        found = gather(copy)
        assert found.cluster is not None
        assert found.cluster.first_rows is None
        (holes,) = (table for table in tables(found) if table.name == "holes")
        assert "first row" not in holes.columns
        (graph,) = (chart for chart in charts(found) if chart.name == "graph")
        assert not any("first row" in json.dumps(spec) for spec in graph.specs.values())


def test_a_cluster_without_black_holes(copy: Path) -> None:
    path = copy / "cluster" / "snowball.safetensors"
    tensors = load_file(path)
    without(copy, "comparison.csv", "measured.csv")
    tensors["populations"] = np.ones_like(tensors["populations"])
    save_file(tensors, path, {"format": "float16"})
    assert "holes" not in [table.name for table in tables(gather(copy))]


def test_a_study_that_says_no_versions(copy: Path) -> None:
    assert "Versions" in dict(facts(gather(copy)))
    for name in ("study.json", "manifest.json"):
        held = json.loads((copy / name).read_text())
        del held["versions"]
        (copy / name).write_text(json.dumps(held))
    assert "Versions" not in dict(facts(gather(copy)))


def test_tests_without_a_verdict(copy: Path) -> None:
    held = json.loads((copy / "tests.json").read_text())
    del held["verdict"]
    (copy / "tests.json").write_text(json.dumps(held))
    found = gather(copy)
    assert found.answer is None
    assert found.tested


def test_parts_about_another_cluster_are_refused(copy: Path) -> None:
    def fewer(lines: list[list[str]]) -> None:
        lines[1][lines[0].index("n_unique")] = "13"

    change_lines(copy / "measured.csv", fewer, copy / "other.csv")
    with pytest.raises(SelectionError, match="n_unique is 253 there and 13") as raised:
        gather(copy, copy / "other.csv")
    assert str(copy / "comparison.csv") in str(raised.value)
    without(copy, "comparison.csv")
    with pytest.raises(SelectionError, match="about another cluster"):
        gather(copy, copy / "other.csv")
    without(copy, "cluster")
    assert gather(copy, copy / "other.csv").measured


# --- what files say is text ---


def test_what_files_say_cannot_leave_its_place(copy: Path, html: str) -> None:
    facts_of_study = json.loads((copy / "study.json").read_text())
    facts_of_study |= {"source": HOSTILE, "note": HOSTILE, "commands": [HOSTILE]}
    facts_of_study |= {"versions": {HOSTILE: HOSTILE}, "seconds": {HOSTILE: HOSTILE}}
    (copy / "study.json").write_text(json.dumps(facts_of_study))
    tests = json.loads((copy / "tests.json").read_text())
    sentences = [HOSTILE] * len(tests["verdict"]["sentences"])
    tests["verdict"] |= {"headline": HOSTILE, "sentences": sentences}
    tests["independence"]["features"][0] |= {"name": HOSTILE, "verdict": HOSTILE}
    (copy / "tests.json").write_text(json.dumps(tests))
    fit = json.loads((copy / "fit" / "fit.json").read_text())
    (copy / "fit" / "fit.json").write_text(json.dumps(fit | {"notes": [HOSTILE]}))

    def hostile_metric(lines: list[list[str]]) -> None:
        for line in lines:
            line[0] = HOSTILE if line[0] == "n_unique" else line[0]

    comparison = copy / "comparison.csv"
    change_lines(comparison, hostile_metric, comparison)
    page, plain = Page(render(gather(copy))), Page(html)
    inside_svg = {"text", "g", "path", "line", "rect", "title", "svg", "defs", "clippath"}
    assert {t: n for t, n in page.tags.items() if t not in inside_svg} == {
        t: n for t, n in plain.tags.items() if t not in inside_svg
    }
    assert len(page.scripts) == len(plain.scripts)
    assert [s for k, s in page.scripts if k is None] == [s for k, s in plain.scripts if k is None]
    assert all(not name.startswith("on") for _, name, _ in page.attributes)
    assert "{{7*7}}" in page.text
    for kind, content in page.scripts:
        if kind:
            json.loads(content)


def test_json_in_a_script_has_no_character_that_ends_it() -> None:
    content = str(embedded({"a": HOSTILE, "b": "\u2029<!--"}))
    assert not set(content) & set("<>&\u2028\u2029")
    assert json.loads(content) == {"a": HOSTILE, "b": "\u2029<!--"}
    with pytest.raises(ValueError, match="Out of range"):
        embedded([float("nan")])


# --- what cannot be used ---


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("study.json", "[1]", "not a JSON object"),
        ("tests.json", '{"independence": {"features": [1]}}', "no list of objects"),
        ("tests.json", "{", "not a JSON object"),
        ("fit/fit.json", '{"sigma": "wide"}', "'sigma' is no number"),
        ("fit/fit.json", "{}", "a blank sigma"),
        ("measured.csv", "a,b\n1,2\n", "no column 'trial_id'"),
        ("comparison.csv", "metric\nn_unique\n", "no column 'observed'"),
        ("theory.csv", "sigma,n_unique\nx,1\n", "'x' is no number"),
        ("cluster/dimensions.csv", "dimension\n1\n", "no column 'ordinal'"),
        ("cluster/snowball.safetensors", "", "not a safetensors file"),
        ("comparison.csv", "metric\n\ud800\n", "not a CSV file ('utf-8' codec can't decode"),
    ],
)
def test_a_damaged_part_is_named(copy: Path, file: str, content: str, says: str) -> None:
    (copy / file).write_text(content, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(SourceError, match=re.escape(says)) as raised:
        gather(copy)
    assert str(copy / file) in str(raised.value)


def test_parts_that_do_not_belong_together(copy: Path) -> None:
    def twice(lines: list[list[str]]) -> None:
        lines.append(lines[1])

    change_lines(copy / "measured.csv", twice, copy / "other.csv")
    with pytest.raises(SourceError, match="2 rows of statistics instead of one; give the file"):
        gather(copy, copy / "other.csv")
    pairs, snowball = (copy / "cluster" / f"{n}.safetensors" for n in ("pairs", "snowball"))
    tensors = load_file(pairs)
    save_file({name: array[1:, 1:].copy() for name, array in tensors.items()}, pairs)
    with pytest.raises(SourceError, match=r"distances of shape \[252, 252\] for 253 vectors"):
        gather(copy)
    save_file({"bits": np.zeros((2, 2), np.uint16)}, snowball)
    with pytest.raises(SourceError, match="no tensor 'populations'"):
        gather(copy)


def test_a_folder_in_place_of_a_part(copy: Path) -> None:
    (copy / "study.json").unlink()
    (copy / "study.json").mkdir()
    with pytest.raises(SourceError, match=r"study\.json: cannot be read \(Is a directory\)"):
        gather(copy)


def test_no_run_no_page(tmp_path: Path) -> None:
    with pytest.raises(DeadtokensError, match="not a run folder"):
        write_report(tmp_path / "page.html", tmp_path / "nothing")
    assert not (tmp_path / "page.html").exists()


def test_the_command(copy: Path, deadtokens: Program) -> None:
    assert deadtokens("report", copy, "-o", copy / "page.pdf").message == (
        f"error: {copy / 'page.pdf'}: not an .html file; name one with -o FILE.html"
    )
    assert deadtokens("report", copy, "--measured", copy / "nothing.csv").message == (
        f"error: {copy / 'nothing.csv'}: cannot be read (No such file or directory)"
    )
    status, out, err = deadtokens("report", copy)
    assert status == 0
    assert out.startswith("Does the story fit? Yes.\nThe story fits:")
    assert re.fullmatch(rf"wrote {re.escape(str(copy / 'report.html'))}: \d\.\d MB\n", err)
    assert (copy / "report.html").read_text().startswith("<!doctype html>")


# --- places and words ---


def test_dots_of_the_graph_lie_apart_and_inside() -> None:
    rng = np.random.default_rng(1)
    points = np.sort(rng.integers(0, 50, (40, 3)), axis=0) * rng.choice([1e-8, 1e-5], (40, 1))
    l_inf = np.abs(points[:, None] - points[None]).max(axis=2).astype(np.float32) + 1e-9
    np.fill_diagonal(l_inf, 0)
    radii = np.linspace(3, 12, 40)
    places = positions(l_inf.astype(np.float32), radii, 800.0, 400.0)
    assert np.array_equal(places, positions(l_inf.astype(np.float32), radii, 800.0, 400.0))
    assert (places.min(axis=0) >= radii.max()).all()
    assert (places.max(axis=0) <= np.array([800, 400]) - radii.max()).all()
    between = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    np.fill_diagonal(between, np.inf)
    assert (between > 0.8 * (radii[:, None] + radii[None])).all()


def test_ranks_that_are_drawn() -> None:
    assert _ranks(_RANKS_DRAWN) == list(range(1, _RANKS_DRAWN + 1))
    many = _ranks(100_000)
    assert many[:50] == list(range(1, 51))
    assert many[-1] == 100_000
    assert many == sorted(set(many))
    assert len(many) < 50 + _RANKS_DRAWN


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_dots_have_places(n: int) -> None:
    l_inf = np.ones((n, n), dtype=np.float32) - np.eye(n, dtype=np.float32)
    places = positions(l_inf, np.full(n, 5.0), 100.0, 50.0)
    assert places.shape == (n, 2)
    assert np.isfinite(places).all()
    assert len({tuple(place) for place in places.tolist()}) == n


def test_links_hold_together_what_touches() -> None:
    line = np.array([0.0, 1.0, 2.0, 10.0, 11.0])
    l_inf = np.abs(line[:, None] - line[None]).astype(np.float32)
    assert touching_pairs(l_inf, 2.0).tolist() == [[0, 1], [0, 2], [1, 2], [3, 4]]
    assert nearest_links(l_inf, 2.0).tolist() == [[0, 1], [1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (2100.0, "2,100"),
        (-3.0, "−3"),
        (0.75314, "0.7531"),
        (161.53846, "161.5"),
        (1.3e-8, "1.3\u00a0×\u00a010⁻⁸"),
        (-2.5e12, "−2.5\u00a0×\u00a010¹²"),
        (float("inf"), "∞"),
        (float("nan"), "–"),
    ],
)
def test_numbers_in_words(value: float | None, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (0.9, 300.0, [1, 10, 100]),
        (1.2e-9, 4e-8, [2e-9, 5e-9, 1e-8, 2e-8]),
        (1e-30, 1.0, [10.0**k for k in range(-30, 1, 4)]),
    ],
)
def test_logarithmic_axes_have_few_labels(low: float, high: float, values: list[float]) -> None:
    assert log_axis(low, high)["axis"]["values"] == pytest.approx(values)
