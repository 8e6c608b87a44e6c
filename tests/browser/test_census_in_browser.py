"""The page of a census in a browser: its charts are live, and hostile tokens are shown as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_models import byte_level, piece, write_model
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

import deadtokens as dt
from deadtokens.census_files import write_inventory
from deadtokens.inventory import take_inventory
from deadtokens.report.census_page import write_census_page

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
def opened(page: str) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    driver.get(page)
    WebDriverWait(driver, 30).until(
        lambda b: b.execute_script("return document.documentElement.dataset.ready === 'yes'")
    )
    yield driver
    driver.quit()


def test_nothing_runs_and_everything_is_shown(opened: webdriver.Chrome) -> None:
    assert opened.get_log("browser") == []  # type: ignore[no-untyped-call]
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
