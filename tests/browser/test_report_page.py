"""The report's page in a browser: it works, asks nothing of the network, and reads without scripts.

Needs Debian's chromium and chromium-driver: `make browser`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_folders import make_run
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from browser.live_pages import SECONDS, logged, wait_until_live
from deadtokens.report.rendering import write_report

pytestmark = pytest.mark.browser

CHARTS = ["populations", "scores", "histograms", "curves", "lattice", "components", "graph"]
_NARROW = 380


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("study") / "run"
    make_run(folder, "builtin:whisper-tiny.en", trials=60, sigmas=3)
    write_report(folder / "report.html", folder)
    return (folder / "report.html").as_uri()


@pytest.fixture
def opened(browser: webdriver.Chrome, page: str) -> Iterator[webdriver.Chrome]:
    """The page, with the network off, once its charts are live."""
    logged(browser, "browser")
    logged(browser, "performance")
    command(browser, "Network.enable")
    command(
        browser, "Network.emulateNetworkConditions",
        offline=True, latency=0, downloadThroughput=0, uploadThroughput=0,
    )  # fmt: skip
    browser.get(page)
    wait_until_live(browser)
    yield browser
    command(browser, "Emulation.clearDeviceMetricsOverride")
    command(browser, "Emulation.setEmulatedMedia", media="", features=[])


def command(browser: webdriver.Chrome, name: str, **parameters: Any) -> dict[str, Any]:
    answer: dict[str, Any] = browser.execute_cdp_cmd(name, parameters)
    return answer


def find(browser: webdriver.Chrome, selector: str) -> WebElement:
    return browser.find_element(By.CSS_SELECTOR, selector)


def count(browser: webdriver.Chrome, selector: str) -> int:
    return len(browser.find_elements(By.CSS_SELECTOR, selector))


def narrow(browser: webdriver.Chrome) -> None:
    command(
        browser, "Emulation.setDeviceMetricsOverride",
        width=_NARROW, height=800, deviceScaleFactor=2, mobile=True,
    )  # fmt: skip


def colour(browser: webdriver.Chrome, selector: str, name: str) -> tuple[int, ...]:
    text = find(browser, selector).value_of_css_property(name)
    return tuple(int(part) for part in text[text.index("(") + 1 : -1].split(",")[:3])


def test_it_opens_without_errors_and_asks_nothing_of_the_network(opened: webdriver.Chrome) -> None:
    assert logged(opened, "browser") == []
    asked = [
        message["params"]["request"]["url"]
        for entry in logged(opened, "performance")
        if (message := json.loads(entry["message"])["message"])["method"]
        == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if url != "data:,"] == [opened.current_url]
    for name in CHARTS:
        assert find(opened, f"#{name} .live svg").is_displayed()
        assert not find(opened, f"#{name} .drawn").is_displayed()


def test_the_answer_is_above_the_fold(opened: webdriver.Chrome) -> None:
    for selector in ("h1", ".headline", ".sentences", ".cards"):
        place = find(opened, selector).rect
        assert place["y"] + place["height"] < 680, selector
    assert "Yes." in find(opened, "h1").text


def test_what_is_not_its_own_does_not_run(opened: webdriver.Chrome) -> None:
    """The policy stops scripts that were not there when the page was written, and eval."""
    opened.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1';"
        "document.body.append(s);"
    )
    assert opened.execute_script("return window.foreign") is None
    blocked = opened.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', (e) => done(e.blockedURI));"
        "fetch('https://example.invalid/').catch(() => {});"
    )
    assert blocked == "https://example.invalid/"
    logged(opened, "browser")


def test_choosing_a_metric_changes_the_chart(opened: webdriver.Chrome) -> None:
    live = find(opened, "#histograms .live")
    before = live.get_attribute("innerHTML")
    assert '["distinct vectors"' in str(live.get_attribute("data-shown"))
    metric, sigma = opened.find_elements(By.CSS_SELECTOR, "#histograms select")
    Select(metric).select_by_visible_text("singletons")
    WebDriverWait(opened, SECONDS).until(
        lambda _: '["singletons"' in str(live.get_attribute("data-shown"))
    )
    assert live.get_attribute("innerHTML") != before
    assert "real: 222" in live.text
    assert "singletons" in live.text
    Select(sigma).select_by_index(1)
    chosen = str(sigma.get_property("value"))
    WebDriverWait(opened, SECONDS).until(lambda _: chosen in str(live.get_attribute("data-shown")))
    assert count(opened, "#histograms .live svg") == 1


def test_tables_sort_by_mouse_and_keyboard(opened: webdriver.Chrome) -> None:
    def column(index: int) -> list[str]:
        cells = opened.find_elements(By.CSS_SELECTOR, f"#holes td:nth-child({index})")
        return [cell.text for cell in cells]

    def sorted_by() -> list[str | None]:
        heads = opened.find_elements(By.CSS_SELECTOR, "#holes th")
        return [head.get_attribute("aria-sort") for head in heads]

    buttons = opened.find_elements(By.CSS_SELECTOR, "#holes th button")
    assert [button.text for button in buttons] == [
        "rank", "rows", "share of the cluster", "first row"
    ]  # fmt: skip
    assert sorted_by() == [None] * 4
    opened.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", buttons[1])
    buttons[1].click()
    assert sorted_by() == [None, "ascending", None, None]
    rows = [int(text) for text in column(2)]
    assert rows == sorted(rows)
    buttons[1].send_keys(Keys.ENTER)
    assert sorted_by() == [None, "descending", None, None]
    assert [int(text) for text in column(2)] == sorted(rows, reverse=True)
    buttons[3].send_keys(Keys.SPACE)
    assert sorted_by() == [None, None, None, "ascending"]
    first = [int(text.replace(",", "")) for text in column(4)]
    assert first == sorted(first)


def test_blanks_sort_last_either_way(opened: webdriver.Chrome) -> None:
    heads = opened.find_elements(By.CSS_SELECTOR, "#comparison th")
    at = 1 + [head.text for head in heads].index("z")
    button = find(opened, f"#comparison th:nth-child({at}) button")
    for _ in range(2):
        opened.execute_script("arguments[0].click()", button)
        cells = opened.find_elements(By.CSS_SELECTOR, f"#comparison td:nth-child({at})")
        blank = [cell.get_attribute("data-number") is None for cell in cells]
        assert blank == sorted(blank)
        assert any(blank)


@pytest.mark.parametrize(
    ("selector", "says"),
    [
        ("#graph .live .mark-symbol path", "vectors touched"),
        ("#lattice .live .mark-symbol path", "dimension"),
        ("#histograms .live .mark-rect path[d]", "trials"),
        ("#scores .live .mark-symbol path", "verdict"),
    ],
)
def test_hovering_tells_more(opened: webdriver.Chrome, selector: str, says: str) -> None:
    mark = opened.find_elements(By.CSS_SELECTOR, selector)[-1]
    opened.execute_script(
        "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", mark
    )
    webdriver.ActionChains(opened).move_to_element(mark).perform()
    WebDriverWait(opened, SECONDS).until(lambda b: count(b, "#vg-tooltip-element.visible") == 1)
    assert says in find(opened, "#vg-tooltip-element").text


def test_it_follows_the_theme(opened: webdriver.Chrome) -> None:
    seen = {}
    for theme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        command(opened, "Emulation.setEmulatedMedia", features=features)
        seen[theme] = {
            "page": colour(opened, "body", "background-color"),
            "text": colour(opened, "body", "color"),
            "axis": colour(opened, "#populations .live svg .role-axis-label text", "fill"),
            "bar": colour(opened, "#histograms .live .mark-rect path", "fill"),
        }
        for ink in ("text", "axis", "bar"):
            wanted = 3.0 if ink == "bar" else 4.5
            assert contrast(seen[theme][ink], seen[theme]["page"]) > wanted, (theme, ink)
    assert sum(seen["light"]["page"]) > 600 > 200 > sum(seen["dark"]["page"])


def contrast(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """The contrast ratio of the Web Content Accessibility Guidelines."""

    def luminance(rgb: tuple[int, ...]) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_it_fits_a_narrow_screen(opened: webdriver.Chrome, page: str) -> None:
    narrow(opened)
    opened.get(page)
    wait_until_live(opened)
    assert opened.execute_script("return document.documentElement.scrollWidth") == _NARROW
    for name in CHARTS:
        box = find(opened, f"#{name} .live svg").rect
        assert 0 <= box["x"] < box["x"] + box["width"] <= _NARROW, name
        assert box["width"] > _NARROW * 0.8, name


@pytest.mark.parametrize("small", [False, True])
def test_it_reads_without_scripts(browser: webdriver.Chrome, page: str, small: bool) -> None:
    command(browser, "Emulation.setScriptExecutionDisabled", value=True)
    try:
        if small:
            narrow(browser)
        browser.get(page)
        assert "Yes." in find(browser, "h1").text
        for name in CHARTS:
            drawings = browser.find_elements(By.CSS_SELECTOR, f"#{name} .drawn svg")
            shown = [drawing for drawing in drawings if drawing.is_displayed()]
            assert shown, name
            for drawing in shown:
                box = drawing.rect
                assert box["width"] > 200
                assert box["x"] + box["width"] <= (_NARROW if small else 1280)
            assert not find(browser, f"#{name} .live").is_displayed()
        assert count(browser, "#holes th button") == 0
        assert not any(s.is_displayed() for s in browser.find_elements(By.TAG_NAME, "select"))
    finally:
        command(browser, "Emulation.setScriptExecutionDisabled", value=False)
        command(browser, "Emulation.clearDeviceMetricsOverride")


def test_it_prints(opened: webdriver.Chrome, tmp_path: Path) -> None:
    printed = base64.b64decode(command(opened, "Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF")
    assert len(printed) > 50_000
    command(opened, "Emulation.setEmulatedMedia", media="print")
    assert find(opened, "#populations .drawn .wide svg").is_displayed()
    assert not find(opened, "#populations .live").is_displayed()
    assert not find(opened, "nav").is_displayed()
    (tmp_path / "report.pdf").write_bytes(printed)
