"""Draw the pages' pictures.

docs/black_holes.png: the two built-in clusters on their lattices; docs/report.png: the top of a
study's page, in Chromium.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import FixedLocator, NullFormatter

import deadtokens as dt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # distinct to colour-blind readers too
CLUSTERS = {"builtin:qwen3-4b": "Qwen3-4B", "builtin:whisper-tiny.en": "Whisper tiny.en"}


def lattice(axes: Axes, snowball: dt.Snowball) -> None:
    """Cells occupied in each varying dimension, as steps from the fullest one."""
    ordinals = snowball.format.ordinals(snowball.codes[:, snowball.varying])
    order = np.argsort(np.ptp(ordinals, axis=0), kind="stable")
    lowest, highest = 0, 1
    for x, column in enumerate(ordinals.T[order]):
        cells, inverse = np.unique(column, return_inverse=True)
        rows = np.bincount(inverse, weights=snowball.populations).astype(int)
        steps = cells - cells[rows.argmax()]
        sign = -1 if abs(steps.min()) > steps.max() else 1
        axes.plot(
            [x, x], [(sign * steps).min(), (sign * steps).max()], color="#dddddd", lw=1, zorder=1
        )
        sizes = 8 + 160 * np.sqrt(rows / snowball.n_tokens)
        axes.scatter(np.full(cells.size, x), sign * steps, s=sizes, color=BLUE, lw=0, zorder=2)
        highest = max(highest, int((sign * steps).max()))
        lowest = min(lowest, int((sign * steps).min()))
    axes.set_xlabel("dimensions that vary, by range")
    axes.set_ylabel("lattice steps (ULP)")
    axes.set_xticks([])
    axes.set_yticks(sorted({lowest, *range(0, highest + 1, max(1, highest // 5))}))
    margin = 0.3 + highest * 0.06
    axes.set_ylim(lowest - margin, highest + margin)


def populations(axes: Axes, snowball: dt.Snowball) -> None:
    """Rows that hold each distinct vector, largest first."""
    ordered = np.sort(snowball.populations)[::-1]
    axes.plot(np.arange(1, ordered.size + 1), ordered, "o-", color=BLUE, ms=4, lw=1)
    axes.set(xscale="log", yscale="log", xlabel="rank", ylabel="rows that hold the vector")
    axes.set_ylim(0.8, ordered[0] * 1.6)
    nice = np.array([1, 2, 5, 10, 20, 50, 100, 200, 500])
    for axis, largest in ((axes.yaxis, ordered[0]), (axes.xaxis, ordered.size)):
        ticks = nice[nice <= largest]
        axis.set_major_locator(FixedLocator(ticks.tolist()))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())


def thresholds(axes: Axes, snowball: dt.Snowball) -> None:
    """Components of the graph in which vectors up to a distance touch."""
    measured = dt.measure(snowball)
    found = measured.connectivity
    if found is None:
        raise ValueError("a built-in has several vectors")
    touching = float(measured.row["touching"] or 0)
    distances = np.concatenate([[found.distances[0] / 3], found.distances, [touching * 2]])
    components = np.concatenate([[snowball.n_unique], found.n_components, [1]])
    axes.step(distances, components, where="post", color=BLUE, lw=1.5)
    axes.axvline(touching, color=ORANGE, lw=1.2, ls="--")
    axes.text(touching * 0.85, snowball.n_unique, "touching", color=ORANGE, ha="right", va="top")
    axes.set(xscale="log", xlabel="distance up to which vectors touch", ylabel="components")
    axes.set_ylim(0, snowball.n_unique * 1.06)


def report_page() -> None:
    """docs/report.png."""
    with tempfile.TemporaryDirectory() as folder:
        study = ["study", "builtin:whisper-tiny.en", "-o", "run"]
        subprocess.run([sys.executable, "-m", "deadtokens", *study], cwd=folder, check=True)
        page = (Path(folder) / "run" / "report.html").as_uri()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += ["--window-size=1100,1000", "--force-device-scale-factor=1.5"]
        picture = Path(__file__).parent / "report.png"
        subprocess.run(
            ["chromium", *options, "--virtual-time-budget=10000", f"--screenshot={picture}", page],
            check=True,
            stderr=subprocess.DEVNULL,
        )


def black_holes() -> None:
    """docs/black_holes.png."""
    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, grid = plt.subplots(2, 3, figsize=(10.5, 5.8), width_ratios=[1.5, 1, 1])
    for row, (source, name) in zip(grid, CLUSTERS.items(), strict=True):
        matrix = dt.open_matrix(source)
        snowball = dt.snowball_of(matrix, np.arange(matrix.n_rows))
        for draw, axes in zip((lattice, populations, thresholds), row, strict=True):
            draw(axes, snowball)
        row[0].set_title(
            f"{name}: {snowball.n_tokens:,} dead rows, {snowball.n_unique} distinct vectors, "
            f"{snowball.format.name}",
            loc="left",
            fontweight="bold",
        )
    grid[0][0].annotate(
        "cells are skipped", (16.3, 9.1), color=GREY, fontsize=8, ha="right", va="center"
    )
    figure.tight_layout(h_pad=2)
    figure.savefig(Path(__file__).parent / "black_holes.png", dpi=140)


if __name__ == "__main__":
    black_holes()
    report_page()
