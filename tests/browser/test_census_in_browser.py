"""The page of a census in a browser: its charts are live, and hostile tokens are shown as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_models import byte_level, piece, write_model
from selenium import webdriver

import deadtokens as dt
from browser.live_pages import logged, wait_until_live
from deadtokens.census_files import write_inventory
from deadtokens.report.census_page import write_census_page
from deadtokens.stocktaking import take_inventory

pytestmark = pytest.mark.browser

HOSTILE = [
    "<script>document.title='ran'</script>",
    "<img src=x onerror=\"document.title='ran'\">",
    "</script><script>document.title='ran'</script>",
    "{{7*7}}",
    "\u202egnp.exe",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("census")
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.05, (400, 32)).astype(np.float16)
    rows[:30] = (rows[0] + rng.normal(0, 1e-5, (30, 32))).astype(np.float16)
    rows[:9] = rows[0]
    vocabulary = {piece(text): i for i, text in enumerate(HOSTILE)}
    vocabulary |= {f"w{i}": i for i in range(len(HOSTILE), 400)}
    tokens = byte_level(vocabulary)
    model = write_model(place / "m", {"lm_head.weight": rows}, tokens=tokens)
    folder = place / "census"
    folder.mkdir()
    write_inventory(folder, take_inventory(dt.open_matrix(model)), None)
    write_census_page(folder / "report.html", folder)
    return Path(folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def opened(browser: webdriver.Chrome, page: str) -> webdriver.Chrome:
    browser.get(page)
    wait_until_live(browser)
    return browser


def test_nothing_runs_and_everything_is_shown(opened: webdriver.Chrome) -> None:
    assert logged(opened, "browser") == []
    assert "ran" not in opened.title.split()
    text = opened.execute_script("return document.body.textContent")
    for token in HOSTILE[:4]:
        assert token[:39] in text
    assert "\\u202egnp.exe" in text
    assert "\u202e" not in text


def test_charts_are_live_and_the_answer_is_above_the_fold(opened: webdriver.Chrome) -> None:
    drawn = "return [...document.querySelectorAll('figure .live svg')].length"
    assert opened.execute_script(drawn) == 2
    bottom = "return document.querySelector('.cards').getBoundingClientRect().bottom"
    assert opened.execute_script(bottom) < 800
    assert "30 of 400" in opened.find_element("css selector", "h1").text
