"""Pages about a hostile model in a browser: nothing runs, nothing is asked for, all is readable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_model import ADDED, DEAD, OUTPUT, hostile_model
from selenium import webdriver

from browser.live_pages import logged, wait_until_live
from deadtokens.errors import plain
from deadtokens.report.census_parts import token_text

pytestmark = pytest.mark.browser

PAGES = ["census", "survey", "study"]
_WIDE, _NARROW = 1280, 380


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("hostile")
    model, missing = str(hostile_model(place)), str(place / "x<script>\u202e")
    for words in (
        ["census", model, "-o", "census"],
        ["survey", model, missing, "-o", "survey"],
        ["study", model, "--rows", "cluster", "--trials", "20", "-o", "study"],
    ):
        whole = [sys.executable, "-m", "deadtokens", *words]
        subprocess.run(whole, cwd=place, check=words[0] != "survey", capture_output=True)
    files = {name: place / name / "report.html" for name in ("census", "study")}
    files["survey"] = place / "survey" / "survey.html"
    return {name: file.as_uri() for name, file in files.items()}


def opened(browser: webdriver.Chrome, url: str, width: int = _WIDE) -> webdriver.Chrome:
    """A page once its charts are live, what was logged before forgotten."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == _NARROW},
    )
    browser.execute_cdp_cmd("Network.enable", {})
    for kind in ("browser", "performance"):
        logged(browser, kind)
    browser.get(url)
    wait_until_live(browser)
    return browser


@pytest.mark.parametrize("name", PAGES)
def test_nothing_runs_and_nothing_is_asked_for(
    browser: webdriver.Chrome, pages: dict[str, str], name: str
) -> None:
    page = opened(browser, pages[name])
    # Whatever waits for the pointer, the focus or a click gets it.
    page.execute_script(
        "for (const e of document.querySelectorAll('main *')) {"
        " for (const kind of ['mouseover', 'focus', 'error', 'load', 'toggle'])"
        "  e.dispatchEvent(new Event(kind));"
        " if (e.matches('th button')) e.click(); }"
    )
    assert page.execute_script("return window.ran") is None
    assert logged(page, "browser") == []
    asked = [
        message["params"]["request"]["url"]
        for entry in logged(page, "performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert {url for url in asked if url != "data:,"} == {pages[name]}
    links = "return [...document.querySelectorAll('[href], [src], [action]')].map("
    links += "e => e.getAttribute('href') || e.getAttribute('src') || '')"
    held = [link for link in page.execute_script(links) if link[:1] != "#"]
    own = [link for link in held if re.fullmatch(r"models/[0-9a-f]{32}/report\.html", link)]
    assert [link for link in held if link not in own] == ["data:,"]
    assert len(own) == (name == "survey")


@pytest.mark.parametrize("name", PAGES)
def test_no_character_is_unseen_or_turns_text_around(
    browser: webdriver.Chrome, pages: dict[str, str], name: str
) -> None:
    page = opened(browser, pages[name])
    found = page.execute_script(
        "const copied = document.title + document.querySelector('main').innerText;"
        "return copied.match(/[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\u3164\\ufe0f\\u2028]/gu)"
        ".filter((c) => c !== '\\n' && c !== '\\t')"
    )
    assert found == []
    text = page.execute_script("return document.querySelector('main').textContent")
    shown = "script>" if name == "survey" else "\\u202e<script>window.ran=1</script>"
    assert shown in text  # a survey names a path by its end


def test_every_token_is_on_the_page(browser: webdriver.Chrome, pages: dict[str, str]) -> None:
    page = opened(browser, pages["census"])
    for table, tokens in (("tokens", DEAD), ("special", [token for token, _ in ADDED])):
        cells = page.execute_script(
            f"return [...document.querySelectorAll('#{table} td:nth-child(2)')]"
            ".map((cell) => cell.textContent)"
        )
        assert {token_text(plain(token)) for token in tokens} <= set(cells)
    text = page.execute_script("return document.querySelector('main').textContent")
    assert plain(OUTPUT) in text


@pytest.mark.parametrize("width", [_WIDE, _NARROW])
@pytest.mark.parametrize("name", PAGES)
def test_the_page_keeps_its_width(
    browser: webdriver.Chrome, pages: dict[str, str], name: str, width: int, tmp_path: Path
) -> None:
    page = opened(browser, pages[name], width)
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.execute_script(f"return {over}") == 0
    heights = page.execute_script(
        "return [...document.querySelectorAll('tbody tr')].map((row) => row.offsetHeight)"
    )
    # Long tokens are broken, and on a narrow page a row's cells stand in lines.
    assert max(heights) < (100 if width == _WIDE and name != "survey" else 300)
    page.save_screenshot(str(tmp_path / "page.png"))
