"""Draw docs/performance/*.svg and fill the tables of docs/performance.md, from the CSV files.

    python docs/generate_performance.py [--check]

With --check nothing is written: it fails if the tables are not what the files give. The files are
written by benchmarks/growth.py, and by sweep.py, distances.py and census.py there with --save.
"""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter

from deadtokens.independence import default_permutations
from deadtokens.statistics import EXACT_LIMIT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PAGE = Path(__file__).parent / "performance.md"
FOLDER = PAGE.with_suffix("")
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"
SIGMAS = {"1.5e-09": BLUE, "1e-07": GREEN, "0.003282": ORANGE}
MARKERS = {BLUE: "o", GREEN: "s", ORANGE: "^", GREY: "x"}
SLOPE_POINTS = 4  # the largest sizes
SLOW_ROWS = 256, 2048, 8192


class Curve(NamedTuple):
    """Costs by size, smallest first, as arrays; what is blank in the file is NaN."""

    x: NDArray[np.float64]
    cpu: NDArray[np.float64]
    wall: NDArray[np.float64]
    peak: NDArray[np.float64]
    active: NDArray[np.float64]
    distinct: NDArray[np.float64]

    def slope(self) -> float:
        """The power of the size with which CPU seconds grow, over the largest sizes."""
        last = slice(-SLOPE_POINTS, None)
        if self.x.size < 2:
            return math.nan
        return float(np.polyfit(np.log(self.x[last]), np.log(self.cpu[last]), 1)[0])

    def line(self) -> tuple[float, float]:
        """Fixed seconds, and seconds for each of x, by least relative squares."""
        each, fixed = np.polyfit(self.x, self.cpu, 1, w=1 / self.cpu)
        return float(fixed), float(each)

    def upto(self, most: float) -> Curve:
        """The part of sizes up to that."""
        return Curve(*(values[self.x <= most] for values in self))


class Growth(dict[tuple[str, str, str], Curve]):
    """Curves by series, case and method; by sigma alone are samplers kept apart."""

    def __missing__(self, key: tuple[str, str, str]) -> Curve:
        print("not measured:", *key, file=sys.stderr)
        return Curve(*np.empty((len(Curve._fields), 0)))


def table(name: str) -> list[dict[str, str]]:
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def growth() -> Growth:
    """What growth.csv holds."""
    columns = ("x", "cpu_s", "wall_s", "peak_mb", "active", "distinct")
    found: dict[tuple[str, str, str], list[list[float]]] = defaultdict(list)
    for row in table("growth"):
        drawn = row["series"] != "sigma" and row["method"] in ("occupancy", "direct")
        key = row["series"], row["case"], "trial" if drawn else row["method"]
        found[key].append([float(row[column] or math.nan) for column in columns])
    return Growth((key, Curve(*np.array(sorted(rows)).T)) for key, rows in found.items())


def number(value: float) -> str:
    """Two digits; more than is repeatable says nothing."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}"


def in_words(seconds: float) -> str:
    """Two digits and a unit."""
    seconds = float(f"{seconds:.2g}")
    units = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
    unit = next((u for u in reversed(units) if seconds >= units[u]), "µs")
    return f"{number(seconds / units[unit])} {unit}"


# Figures


def label(axes: Axes, x: str, y: str = "CPU seconds", title: str = "") -> None:
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontsize=9, fontweight="bold")
    axes.grid(color="#e6e6e6", lw=0.6)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())


def draw(
    axes: Axes, curve: Curve, color: str, name: str, style: str = "-", *, slope: bool = True
) -> None:
    if not curve.x.size:
        return
    power = f", size$^{{{curve.slope():.2f}}}$" if slope else ""
    axes.plot(
        curve.x, curve.cpu, style + MARKERS[color], color=color, ms=4, lw=1.3, label=name + power
    )


def sigma_figure(found: Growth) -> None:
    """A trial's cost by sigma, above what a trial holds."""
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.2, 5.6), sharex=True, height_ratios=[2.2, 1]
    )
    chosen = {"occupancy": BLUE, "direct": ORANGE}
    for method, color in chosen.items():
        draw(top, found["sigma", "", method], color, method, slope=False)
        other = found["sigma", "", f"{method}, not taken"]
        top.plot(
            other.x, other.cpu, MARKERS[color], ms=4, mfc="white", color=color, lw=0,
            label=f"{method}, where the rule does not take it",
        )  # fmt: skip
    draw(top, found["sigma", "", "literal"], GREY, "literal method", slope=False)
    label(top, "", "CPU seconds per trial")
    top.legend(fontsize=8, frameon=False, loc="lower right")
    both = [found["sigma", "", method] for method in chosen]
    for name, color, style in (("active", GREEN, "-"), ("distinct", GREY, "--")):
        values = np.concatenate([getattr(curve, name) for curve in both])
        words = {"active": "dimensions that can split", "distinct": "distinct vectors"}
        bottom.plot(
            np.concatenate([c.x for c in both]), values, style, color=color, label=words[name]
        )
    label(bottom, "sigma", "of a trial")
    bottom.legend(fontsize=8, frameon=False, loc="lower right")
    save(figure, "sigma")


def size_figure(found: Growth) -> None:
    """A trial's cost by tokens and by dimensions."""
    figure, panels = plt.subplots(1, 2, figsize=(9.6, 4), sharey=True)
    for axes, series in zip(panels, ("tokens", "dimensions"), strict=True):
        for sigma, color in SIGMAS.items():
            draw(axes, found[series, sigma, "trial"], color, f"sigma {float(sigma):.2g}")
        draw(axes, found[series, "1.5e-09", "literal"], GREY, "1.5e-09, literal method")
        label(axes, series, "CPU seconds per trial" if series == "tokens" else "")
        axes.legend(fontsize=8, frameon=False)
    panels[0].set_ylim(1e-7, 1e2)
    save(figure, "size")


def trials_figure(found: Growth) -> None:
    """A sweep's cost by trials, with the line fitted to it."""
    figure, axes = plt.subplots(figsize=(7.2, 4))
    for sigma, color in SIGMAS.items():
        curve = found["trials", sigma, "sweep"]
        fixed, each = curve.line()
        along = np.geomspace(curve.x[0], curve.x[-1], 50)
        axes.plot(along, fixed + each * along, color=color, lw=1.3)
        axes.plot(
            curve.x, curve.cpu, MARKERS[color], color=color, ms=5,
            label=f"sigma {float(sigma):.2g}: {in_words(fixed)} + {in_words(each)} per trial",
        )  # fmt: skip
    label(axes, "trials", "CPU seconds of a sweep")
    axes.set_ylim(top=60)  # room for the legend
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    save(figure, "trials")


def commands_figure(found: Growth) -> None:
    """The other commands, by what their cost depends on."""
    figure, panels = plt.subplots(2, 3, figsize=(11, 6.4))
    for axes, series, x in zip(
        panels[0][:2], ("vocabulary", "width"), ("rows", "dimensions"), strict=True
    ):
        draw(axes, found[series, "", "census"], BLUE, "census")
        draw(axes, found[series, "", "numpy.unique"], GREY, "numpy.unique")
        label(axes, x, title="census")
    measured = found["vectors", "", "measure"]
    axes = panels[0][2]
    draw(axes, measured.upto(EXACT_LIMIT), BLUE, "measure")
    more = measured.x > EXACT_LIMIT
    axes.plot(measured.x[more], measured.cpu[more], "o", mfc="white", color=BLUE)
    draw(axes, found["vectors", "", "literal"], GREY, "literal method")
    label(axes, "distinct vectors", title="measure")
    for axes, kind, title in zip(
        panels[1][:2],
        ("fit", "independence"),
        ("fit", "independence, one permutation"),
        strict=True,
    ):
        method = "fit" if kind == "fit" else "permutation"
        for sigma, color in (("1.3e-08", BLUE), ("1e-06", ORANGE)):
            name = f"sigma {float(sigma):.2g}"
            draw(axes, found[f"{kind} tokens", sigma, method], color, f"{name}, by tokens")
            curve = found[f"{kind} dimensions", sigma, method]
            draw(axes, curve, color, f"{name}, by dimensions", style="--")
        label(axes, "tokens, or dimensions", title=title)
        axes.set_ylim(top=axes.get_ylim()[1] * 30)  # room for the legend
    draw(panels[1][2], found["theory", "", "theory"], BLUE, "theory", slope=False)
    label(panels[1][2], "sigma", title="theory")
    for axes in panels.flat:
        axes.legend(fontsize=7, frameon=False, loc="upper left")
    save(figure, "commands")


def save(figure: Figure, name: str) -> None:
    figure.tight_layout()
    figure.savefig(FOLDER / f"{name}.svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)


# Tables


def markdown(*rows: tuple[object, ...]) -> str:
    """Rows, the first of them the header."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def machine_text(_: Growth) -> str:
    machines = json.loads((FOLDER / "machine.json").read_text(encoding="utf-8"))
    m = machines["growth"]
    loads = [each["load at the start"] for each in machines.values()]
    versions = ", ".join(f"{name} {m[name]}" for name in ("numpy", "scipy", "numba", "torch"))
    busy = (
        f"Other programs ran meanwhile: at the start the load was {min(loads):g} to {max(loads):g}."
        if max(loads) > 0.5
        else "The machine was idle otherwise."
    )
    return (
        f"Measured on {m['cores']} cores of an {m['processor']}, Python {m['python']}, {versions}. "
        + busy
    )


def beside_literal(name: str, sizes: dict[str, str]) -> str:
    """Times of both methods; ``sizes`` gives columns of the file their names on the page."""
    return markdown(
        (*sizes.values(), "literal method", "deadtokens", "times faster"),
        *(
            (
                *(f"{float(row[column]):.4g}" for column in sizes),
                in_words(float(row["literal_s"])),
                in_words(float(row["ours_s"])),
                number(float(row["ratio"])),
            )
            for row in table(name)
        ),
    )


def census_table(_: Growth) -> str:
    return markdown(
        ("", "time", "peak memory", "times as fast as NumPy"),
        *(
            (
                row["command"],
                in_words(float(row["seconds"])),
                f"{int(row['peak_mb']):,} MB",
                number(float(row["ratio"])),
            )
            for row in table("census")
        ),
    )


def slopes_table(found: Growth) -> str:
    rows: list[tuple[object, ...]] = []
    for (series, case, method), curve in found.items():
        if series in ("sigma", "theory", "trials", "workers", "memory"):
            continue
        if series == "vectors":
            curve = curve.upto(EXACT_LIMIT)
        what = "trial, literal method" if series != "vectors" and method == "literal" else method
        by = "distinct vectors" if series == "vectors" else series.split()[-1]
        rows.append(
            (
                what,
                f"{float(case):.2g}" if case else "",
                by,
                f"{curve.slope():.2f}",
                f"{curve.x[0]:,.0f}: {in_words(curve.cpu[0])}",
                f"{curve.x[-1]:,.0f}: {in_words(curve.cpu[-1])}",
            )
        )
    return markdown(("cost of", "sigma", "by", "power", "smallest", "largest"), *rows)


def trials_table(found: Growth) -> str:
    rows: list[tuple[object, ...]] = []
    for sigma in SIGMAS:
        fixed, each = found["trials", sigma, "sweep"].line()
        one, two = found["workers", sigma, "sweep"].wall
        rows.append((f"{float(sigma):.4g}", in_words(fixed), in_words(each), f"{one / two:.2f}"))
    return markdown(("sigma", "fixed", "each trial", "two threads against one"), *rows)


def memory_table(found: Growth) -> str:
    rows: list[tuple[object, ...]] = []
    for (series, case, method), curve in found.items():
        peaks = np.flatnonzero(~np.isnan(curve.peak))
        if peaks.size:
            what = {"memory": "tokens", "vocabulary": "rows", "width": "dimensions"}.get(
                series, "distinct vectors"
            )
            sizes = ", ".join(
                f"{curve.x[i]:,.0f}: {curve.peak[i]:,.0f}"
                for i in peaks[:: max(1, peaks.size // 4)]
            )
            rows.append((method + (f", sigma {float(case):.2g}" if case else ""), what, sizes))
    return markdown(("", "by", "peak memory in MB"), *rows)


def slow_table(found: Growth) -> str:
    """The independence test as it is by default: permutations times the cost of one."""
    rows: list[tuple[object, ...]] = []
    for sigma in ("1.3e-08", "1e-06"):
        curve = found["independence tokens", sigma, "permutation"]
        for i in np.flatnonzero(np.isin(curve.x, SLOW_ROWS)):
            times = default_permutations(int(curve.x[i]), int(curve.active[i]))
            rows.append(
                (
                    f"{curve.x[i]:,.0f}",
                    f"{curve.active[i]:,.0f}",
                    f"{times:,}",
                    in_words(curve.cpu[i]),
                    in_words(times * curve.cpu[i]),
                )
            )
    return markdown(("rows", "varying dimensions", "permutations", "each", "CPU time"), *rows)


TABLES: dict[str, Callable[[Growth], str]] = {
    "machine": machine_text,
    "sweep": lambda _: beside_literal("sweep", {"sigma": "sigma"}),
    "distances": lambda _: beside_literal(
        "distances", {"spread": "spread", "touching": "touching distance"}
    ),
    "census": census_table,
    "slopes": slopes_table,
    "trials": trials_table,
    "memory": memory_table,
    "slow": slow_table,
}


def filled(text: str, found: Growth) -> str:
    """The page with what stands between its markers made anew."""
    for name, make in TABLES.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if not block.search(text):
            raise SystemExit(f"{PAGE.name} has no place for {name}")
        content = f"\n{make(found)}\n\n"
        text = block.sub(lambda m, c=content: m[1] + c + m[2], text)  # type: ignore[misc]
    return text


def main() -> None:
    found = growth()
    text = PAGE.read_text(encoding="utf-8")
    new = filled(text, found)
    if "--check" in sys.argv:
        if new != text:
            raise SystemExit(
                f"{PAGE.name} is not what its CSV files give: run {Path(__file__).name}"
            )
        return
    PAGE.write_text(new, encoding="utf-8")
    plt.rc("font", size=9)
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("svg", hashsalt="deadtokens")
    for figure in (sigma_figure, size_figure, trials_figure, commands_figure):
        figure(found)


if __name__ == "__main__":
    main()
