"""Pages in the browser: what they log, and when they are live."""

from __future__ import annotations

from typing import Any

from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 60


def logged(browser: webdriver.Chrome, kind: str) -> list[dict[str, Any]]:
    """What was logged since the last call."""
    entries: list[dict[str, Any]] = browser.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


def wait_until_live(browser: webdriver.Chrome) -> None:
    """Wait for the charts of the page that is shown."""
    WebDriverWait(browser, SECONDS).until(
        lambda b: b.execute_script("return document.documentElement.dataset.ready === 'yes'")
    )
