"""Results and progress in notebooks, in a kernel as Jupyter starts it."""

from __future__ import annotations

import html.parser
import queue
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile_model import hostile_model
from jupyter_client.manager import start_new_kernel

import deadtokens as dt
from deadtokens import listening
from deadtokens.cli import transferring
from deadtokens.errors import plain
from deadtokens.notebook import _TABLES, _WRITERS
from deadtokens.progress import Board, progress
from deadtokens.showing import Shown
from deadtokens.tabular import Tabular

BUILTIN = "builtin:qwen3-4b"

SETUP = f"""
import sys
import numpy as np
import deadtokens as dt
from deadtokens.progress import progress
matrix = dt.open_matrix({BUILTIN!r})
snowball = dt.snowball_of(matrix, np.arange(matrix.n_rows))
measurement = dt.measure(snowball)
fit = dt.fit(snowball)
centre = fit.centre
lengths = dict(epsilon=measurement.row["epsilon"], touching=measurement.row["touching"])
totals = dt.sweep(centre, [1e-9, 2e-9], 100, 20, "run", **lengths)
run = dt.open_run("run")
theory = dt.theory(centre, 1e-9, 100)
model = run.path / "model.npz"
np.savez(model, lm_head=np.ones((9, 5), np.float32))
"""
EXPRESSIONS = {
    "matrix": "2,100 rows x 20 dimensions",
    "snowball": "13 distinct vectors",
    "measurement": "largest L-infinity distance",
    "fit": "dimensions vary|dimensions +20 of 20",
    "dt.independence(snowball, permutations=99)": "squared_correlations",
    "dt.marginals(fit, count=20)": "replicates",
    "dt.census(matrix)": "13 black holes with 2,100 rows",
    "dt.take_inventory(matrix)": "dead: 2,100 rows",
    "dt.take_inventory(matrix).search": "cluster",
    "totals[0]": "n_unique",
    "totals": "1e-09(.|\\n)*2e-09",
    "theory": "coinciding_pairs",
    "dt.solve(centre, 'n_unique', 50, 100)": "sigma = ",
    "type(totals)()": "none",
    f"dt.survey([{BUILTIN!r}, 'nowhere.npy'])": "2,100(.|\\n)*nowhere.npy: ",
    "dt.open_model(str(model))": "lm_head(.|\\n)*9 x 5",
    "run": "2e-09",
    "dt.compare(run, measurement)": "joint",
    "dt.compare(run, measurement).best": "p \\(Holm\\)",
    "theory[0]": "coinciding_pairs",
    "dt.solve(centre, 'n_unique', 50, 100)[0]": "sigma = ",
    "dt.Cloud(centre, 1e-9)": "gaussian noise of sigma 1e-09",
    "dt.diff(matrix, matrix)": "13 unchanged",
    f"dt.survey([{BUILTIN!r}])[0]": "2,100",
    "dt.survey(['nowhere.npy'])[0]": "nowhere.npy",
    "dt.measure_trials(np.ones((3, 5, 4), np.float32), epsilon=1.0)": "3 trials",
}


@dataclass(frozen=True)
class Kernel:
    """A kernel as Jupyter starts it, in a folder of its own."""

    manager: Any
    client: Any

    def messages(self, code: str) -> Iterator[tuple[str, Any]]:
        """Kinds and contents of what a cell publishes, until it has ended."""
        request = self.client.execute(code)
        while self.manager.is_alive():
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                continue
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return
            yield kind, content
        raise AssertionError(f"the kernel died of {code}")

    def run(self, code: str) -> list[tuple[str, Any]]:
        """What a cell shows; it ends well."""
        shown = [m for m in self.messages(code) if m[0] not in ("status", "execute_input")]
        assert "error" not in dict(shown), shown
        return shown

    def result(self, code: str) -> Any:
        """The forms of a cell's value."""
        ((kind, content),) = self.run(code)
        assert kind == "execute_result"
        return content["data"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """With everything that is shown below."""
    folder = tmp_path_factory.mktemp("notebook")
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(folder))
    try:
        started = Kernel(manager, client)
        started.run(SETUP)
        yield started
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


class Page(html.parser.HTMLParser):
    """The tags of a page and its text; raises at tags that are not closed as they were opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "br":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_results_are_shown_as_tables(kernel: Kernel) -> None:
    for expression, expected in EXPRESSIONS.items():
        result = kernel.result(expression)
        page = Page(result["text/html"])
        assert re.search(expected, page.text), (expression, page.text)
        assert set(page.tags) <= {"div", "br", "table", "thead", "tbody", "tr", "th", "td", "b"}
        assert not re.search("color|background", result["text/html"]), "a theme of its own"
        words = result["text/plain"]
        assert words.startswith(("<", "["))
        assert len(words) < 400 * (1 + words.count("<SigmaTotals")), words


def test_every_kind_of_result_has_a_form() -> None:
    exported = [getattr(dt, name) for name in dt.__all__]
    kinds = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, Shown)}
    own = {kind for kind in kinds if kind in _WRITERS or kind in _TABLES}
    assert all(issubclass(kind, Tabular) for kind in kinds - own)
    without = {kind.__name__ for kind in exported if isinstance(kind, type)} - {
        kind.__name__ for kind in kinds
    }
    assert without == {"DeadtokensError", "Format"}


def test_hostile_tokens_are_text(tmp_path: Path) -> None:
    inventory = dt.take_inventory(dt.open_matrix(str(hostile_model(tmp_path / "model"))))
    shown = inventory._repr_html_()
    page = Page(shown)
    assert set(page.tags) <= {"div", "br", "table", "thead", "tbody", "tr", "th", "td", "b"}
    assert {name for name, _ in page.attributes} == {"class", "style"}
    assert plain(page.text.replace("\n", "")) == page.text.replace("\n", "")
    assert ("class", "deadtokens tex2jax_ignore mathjax_ignore") in page.attributes
    assert "<" in page.text, "the model has tokens that are tags"


def test_numbers_go_into_tables_of_pandas(kernel: Kernel) -> None:
    code = """
import pandas as pd
one = pd.Series(measurement.row)
trials = pd.read_csv("run/trials.csv")
summary = pd.read_csv("run/summary.csv")
(one["n_unique"], len(trials), sorted(trials["sigma"].unique().tolist()), len(summary) > 0)
"""
    assert kernel.result(code)["text/plain"] == "(13, 40, [1e-09, 2e-09], True)"


SLOW = """
import importlib
importlib.import_module("deadtokens.progress").SHORT_SECONDS = 0.0
importlib.import_module("deadtokens.progress")._REDRAWN_SECONDS = 0.0
"""
BAR = re.compile(r"<progress value=\"(\d+)\" max=\"(\d+)\"></progress> [\d,]+ of [\d,]+ trials")
SHOWING = ("display_data", "update_display_data")


def test_a_bar_goes_and_leaves_a_line(kernel: Kernel) -> None:
    kernel.run(SLOW)
    code = "another = dt.sweep(centre, 1e-9, 100, {}, 'second', epsilon=6e-5)"
    shown = kernel.run(f"with progress(): {code.format(50)}")
    assert [kind for kind, _ in shown].count("display_data") == 1, "replaced in place"
    left = [content["data"]["text/html"] for kind, content in shown if kind in SHOWING][-1]
    assert "50 of 50 trials in" in left
    assert "<progress" not in left
    assert not kernel.run(code.format(90))
    noted = kernel.result("'ipywidgets' in sys.modules, dt.measure(snowball) is None")
    assert noted["text/plain"] == "(False, False)"


def test_an_interrupt_leaves_no_bar_and_the_run_goes_on(kernel: Kernel) -> None:
    """Were it lost, the sweep would end some minutes later, without an error."""
    kernel.run(SLOW)
    many = "with progress(): dt.sweep(centre, 2e-6, 2100, 5_000, 'long', epsilon=6e-5)"
    bars: list[int] = []
    last = ""
    errors = []
    for kind, content in kernel.messages(many):
        if kind in SHOWING:
            last = content["data"]["text/html"]
            found = BAR.search(last)
            bars += [int(found[1])] if found else []
            if found and len(bars) == 3:
                kernel.manager.interrupt_kernel()
        if kind == "error":
            errors.append(content["ename"])
    assert errors == ["KeyboardInterrupt"]
    assert bars == sorted(bars)
    assert "<progress" not in last
    assert re.search("of 5,000 trials in", last)
    after = """
import threading, deadtokens.listening as listening
print(listening.listener() == listening.Listener(), threading.active_count() < 12)
print(len(dt.sweep(centre, 2e-6, 2100, 3, 'long', epsilon=6e-5)[0].rows) >= 3)
"""
    said = [content["text"] for _, content in kernel.run(after)]
    assert "".join(said) == "True True\nTrue\n"


def test_bars_share_one_display(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["deadtokens.progress"]
    monkeypatch.setattr(module, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(module, "_REDRAWN_SECONDS", 0.0)
    published: list[tuple[str, bool, str]] = []

    def publish(data: Any, *, transient: Any, update: bool) -> None:
        published.append((data["text/html"], update, transient["display_id"]))

    board = Board(publish)
    with board.work("models", 2) as models:
        with board.transfer("<i>x</i>\x1b", 4_000_000, 1_000_000) as reached:
            reached(2_000_000)
        models(1)
    assert published[0][0].count("<progress") == 2
    assert "&lt;i&gt;x&lt;/i&gt;\\x1b: 2.0 MB of 4.0 MB" in published[0][0]
    assert [update for _, update, _ in published] == [False, True, True]
    assert len({name for _, _, name in published}) == 1
    assert "<progress" not in published[-1][0]
    with board.work("trials", 5) as trials:
        trials(3)
    assert not published[-2][1], "the next work has a display of its own"
    assert published[-2][2] != published[0][2]


def test_a_terminal_shows_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(transferring, "SHORT_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    told = transferring.terminal_listener()
    with told.work("trials", 2_000) as reached:
        reached(1_234)
    assert "1,234 of 2,000 trials" in capsys.readouterr().err
    monkeypatch.setattr(transferring, "SHORT_SECONDS", 1e9)
    with told.work("trials", 2_000) as reached:
        reached(1_234)
    assert capsys.readouterr().err == ""


def test_short_work_is_not_shown() -> None:
    published: list[object] = []
    board = Board(lambda *_, **__: published.append(None))
    with board.work("trials", 5) as trials:
        trials(5)
    assert published == []


def test_progress_ends_with_its_block() -> None:
    before = listening.listener()
    with progress():
        assert listening.listener() is not before
        with progress(shown=False):
            assert listening.listener() == listening.Listener()
        assert listening.listener() is not before
    assert listening.listener() is before


def test_nothing_of_a_notebook_is_loaded_before_one_asks() -> None:
    code = (
        "import deadtokens as dt, sys; dt.Cloud([1.0], 1e-3);"
        "print([m for m in ('IPython', 'deadtokens.notebook', 'deadtokens.cli', 'typer') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_progress_in_a_pipe_says_lines_only() -> None:
    code = (
        "from deadtokens.progress import progress\n"
        "import deadtokens.listening as listening\n"
        "with progress():\n"
        "    list(listening.watched(range(3), 'things', 3)); listening.listener().message('a line')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "a line\n")
