"""A run to compare with, and the table of faults at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deadtokens.writing import write_safetensors
from faults.processes import succeed, sweep_command

Tally = Callable[..., None]
_PROPERTY = "faults"


@pytest.fixture(scope="session")
def centroid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("centroid") / "centroid.safetensors"
    values = np.random.default_rng(0).standard_t(4.5, 60) * 2.5e-3
    write_safetensors(path, {"centroid": values})
    return path


@pytest.fixture(scope="session")
def undisturbed(centroid: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    succeed(sweep_command(centroid, run))
    return run


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Counts a fault: how often it was inflicted, and what came of it."""

    def count(fault: str, inflicted: int, *, identical: int = 0, refused: int = 0) -> None:
        request.node.user_properties.append((_PROPERTY, [fault, inflicted, identical, refused]))

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: dict[str, Counter[str]] = {}
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == _PROPERTY and report.when == "call":
                fault, inflicted, identical, refused = value
                of_fault = counts.setdefault(fault, Counter())
                of_fault.update(inflicted=inflicted, identical=identical, refused=refused)
    if not counts:
        return
    width = max(map(len, counts))
    terminalreporter.section("faults inflicted")
    titles = ("times", "finished identical", "one clear error")
    terminalreporter.line(f"{'fault':<{width}}  " + "  ".join(titles))
    for fault, of_fault in sorted(counts.items()):
        numbers = zip(titles, ("inflicted", "identical", "refused"), strict=True)
        cells = (f"{of_fault[key]:>{len(title)}}" for title, key in numbers)
        terminalreporter.line(f"{fault:<{width}}  " + "  ".join(cells))
