"""Pictures of results: drawn on the axes given, from the numbers of the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import StepPatch

import deadtokens as dt

WHISPER = "builtin:whisper-tiny.en"
SIGMAS = [5e-9, 1e-8, 1e-7]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three sigmas, of 20 trials each."""
    path = tmp_path_factory.mktemp("figures") / "run"
    dt.sweep(dt.fit(WHISPER), SIGMAS, trials=20, run=path)
    return path


@pytest.fixture
def axes() -> Iterator[Axes]:
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def clustered(steps: float) -> np.ndarray:
    """3,000 rows of which 200 lie together, all equal where steps is 0."""
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.02, (3000, 64)).astype(np.float32)
    rows[10:210] = rows[10] + rng.normal(0, 1, (200, 64)) * steps
    return rows


def drawn_points(axes: Axes, label: str) -> np.ndarray:
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.asarray(line.get_ydata())


def test_the_void(axes: Axes) -> None:
    taken = dt.take_inventory(clustered(1e-6))
    assert taken.plot(axes) is axes
    inside = drawn_points(axes, "the cluster")
    assert inside.size == 200
    assert np.allclose(np.sort(inside), np.sort(taken.search.distances[taken.search.rows]))
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "rows, nearest first"
    (gap,) = (patch for patch in axes.patches if patch.get_label() == "gap")
    void = taken.search.void
    assert void is not None
    low, high = gap.get_extents().transformed(axes.transData.inverted()).intervaly
    assert (low, high) == pytest.approx((void.inside, void.outside))


def test_rows_that_are_the_centre_itself_are_drawn(axes: Axes) -> None:
    taken = dt.take_inventory(clustered(0.0))
    dt.figures.void(taken.search, axes)
    assert drawn_points(axes, "the cluster").tolist() == [0.0] * 200
    assert axes.get_ylim()[0] == 0


def test_components(axes: Axes) -> None:
    measured = dt.measure("builtin:qwen3-4b", 6e-5)
    measured.plot(axes)
    held = measured.connectivity
    assert held is not None
    assert np.asarray(axes.lines[0].get_ydata()).max() == 13
    assert axes.get_ylabel() == "components"


@pytest.mark.parametrize("metric", ["n_unique", "n_black_holes"])
def test_statistics_against_sigma(run: Path, axes: Axes, metric: str) -> None:
    totals = dt.sweep(dt.fit(WHISPER), SIGMAS, trials=20, run=run)
    totals.plot(axes, metric=metric)
    medians = [float(np.median(of_sigma.metric(metric))) for of_sigma in totals]
    assert drawn_points(axes, "median of trials").tolist() == medians
    assert axes.get_xscale() == "log"


def test_elements_and_histograms(run: Path, axes: Axes) -> None:
    totals = dt.sweep(dt.fit(WHISPER), SIGMAS, trials=20, run=run)
    totals[0].plot(axes)
    assert axes.get_xlabel() == "value − centroid"
    axes.clear()
    dt.open_run(run).trials().plot(axes)
    steps = [patch for patch in axes.patches if isinstance(patch, StepPatch)]
    assert [np.asarray(patch.get_data()[0]).sum() for patch in steps] == [20, 20, 20]


def test_deviations(run: Path, axes: Axes) -> None:
    comparison = dt.compare(run, dt.measure(WHISPER))
    comparison.plot(axes, sigma=5e-9)
    varying = [m.metric for m in comparison.sigmas[0].metrics if m.z_score is not None]
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == varying[::-1]
    assert axes.get_title("left") == "σ = 5e-09"


def test_new_axes_where_none_are_given() -> None:
    axes = dt.measure(WHISPER).plot()
    assert isinstance(axes, Axes)
    plt.close("all")


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda _: dt.figures.plot(3), "no picture of a value of type int"),
        (lambda run: dt.open_run(run).trials().plot(metric="x"), "unknown statistic 'x'; use n_to"),
        (lambda run: dt.open_run(run).trials().plot(metrc="x"), "no argument 'metrc'; did you me"),
        (lambda run: dt.compare(run, dt.measure(WHISPER)).plot(sigma=3), "no trials at 3; give"),
        (lambda _: dt.measure(np.ones((4, 3), np.float32)).plot(), "no distances between vectors"),
    ],
)
def test_what_cannot_be_drawn(run: Path, draw: Callable[[Path], object], said: str) -> None:
    with pytest.raises(dt.DeadtokensError, match=said):
        draw(run)


def test_a_result_without_a_picture_says_which_have_one() -> None:
    with pytest.raises(dt.DeadtokensError, match="no picture of a value of type Fit; give an inv"):
        dt.fit(WHISPER).plot()
