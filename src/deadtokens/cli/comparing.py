"""The command that sets a measured cluster against a sweep's synthetic ones: compare."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deadtokens.cli.commands import Json

if TYPE_CHECKING:
    from deadtokens.compare import Comparison, MetricComparison, SigmaComparison

_DEVIATING_SHOWN = 3
_SECTIONS = {
    "Counts": (
        "n_tokens",
        "n_unique",
        "n_black_holes",
        "n_singletons",
        "total_population",
        "black_hole_population",
    ),
    "Topology": (
        "n_components",
        "n_isolated",
        "largest_component_size",
        "largest_component_density",
        "global_density",
    ),
    "Populations": (
        "largest_bh",
        "smallest_bh",
        "mean_bh_size",
        "median_bh_size",
        "top2_population",
        "gini_coefficient",
    ),
    "Extent, in units of the run's epsilon": ("max_l_inf", "mean_l_inf", "median_l_inf"),
}
_COLUMNS = (
    "metric",
    "observed",
    "synthetic",
    "z",
    "p",
    "p (Holm)",
    "percentile",
    "verdict",
)


def compare(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A sweep's run folder.", show_default=False)
    ],
    measured: Annotated[
        Path,
        typer.Argument(
            metavar="MEASURED.csv",
            help="One measured cluster, as `measure -o` writes it.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write comparison.csv here."),
    ] = None,
    json: Json = False,
) -> None:
    """Compare a measured cluster with a run's synthetic ones.

    Metric by metric and jointly, with Monte Carlo p-values. Of several sigmas, each is compared,
    and the one of the smallest joint statistic is shown in full.
    """
    from deadtokens.cli import display
    from deadtokens.compare import compare as compare_with_run
    from deadtokens.exports import write_comparison
    from deadtokens.writing import check_place, check_spares, make_folder

    if output is not None:
        make_folder(output)
        check_place(output / "comparison.csv")
        check_spares([output / "comparison.csv"], [measured])
    comparison = compare_with_run(run, measured)
    if json:
        display.print_json(_facts(comparison))
    else:
        show(comparison)
    if output is None:
        display.message("nothing written: add -o DIR for comparison.csv")
    else:
        display.announce([write_comparison(output / "comparison.csv", comparison)])


def show(comparison: Comparison) -> None:
    """The sigmas, and the one that fits best in full."""
    from deadtokens.cli import display

    best = comparison.best
    several = len(comparison.sigmas) > 1
    display.line(f"{comparison.measured} against the trials of {comparison.run}")
    for note in comparison.notes:
        display.line(note if note.startswith("WARNING") else f"note: {note}")
    if several:
        columns = ("sigma", "trials", "joint distance", "p", "rejected", "never seen", "furthest")
        lines = [_sigma_line(at) for at in comparison.sigmas]
        display.sections_table(columns, {"": lines})
        display.line("")
    title = f"sigma {best.sigma:g}, {best.trials:,} trials"
    display.line(title + (f": {_why(best)}" if several else ""))
    show_sigma(best)


def show_sigma(best: SigmaComparison) -> None:
    """Every metric of one sigma, by section, and what they say together."""
    from deadtokens.cli import display

    metrics = {metric.metric: metric for metric in best.metrics}
    sections = {
        title: [_metric_line(metrics[name]) for name in names] for title, names in _SECTIONS.items()
    }
    display.sections_table(_COLUMNS, sections)
    for text in (_tally(best), *_joint(best), *_reach(best)):
        display.line(text)


def _why(best: SigmaComparison) -> str:
    """Why this sigma of several is shown."""
    if math.isinf(best.separation):
        return (
            "the one at which fewest metrics deviate. No sigma is near: the joint statistic is as "
            "large as it can be at every one"
        )
    return "the smallest joint statistic of all. Its p-values are not corrected for that choice"


def _sigma_line(at: SigmaComparison) -> list[str]:
    furthest = at.deviating()
    shown = [
        metric.metric if metric.z_score is None else f"{metric.metric} {_z(metric.z_score)}"
        for metric in furthest[:_DEVIATING_SHOWN]
    ]
    left = len(furthest) - len(shown)
    return [
        f"{at.sigma:g}",
        f"{at.trials:,}",
        _number(at.joint.observed),
        _p(at.joint.p_value),
        str(at.count("rejected")),
        str(at.count("never seen")),
        ", ".join(shown) + (f" and {left} more" if left else ""),
    ]


def _metric_line(metric: MetricComparison) -> list[str]:
    synthetic = _number(metric.synthetic_mean)
    if metric.synthetic_std:
        synthetic += f" +- {metric.synthetic_std:.3g}"
    elif metric.synthetic_std == 0:
        synthetic += ", always"
    bound = "<= " if metric.verdict == "never seen" else ""
    return [
        f"  {metric.metric}",
        _number(metric.observed),
        synthetic,
        _z(metric.z_score),
        bound + _p(metric.p_value),
        _p(metric.p_holm),
        "-" if metric.percentile is None else f"{metric.percentile:.4g}",
        metric.verdict,
    ]


def _tally(at: SigmaComparison) -> str:
    tally = at.tally
    varying = tally.within_2 + tally.beyond_2
    text = (
        f"Of {varying} metrics that vary in simulation, {tally.within_1} lie within 1 standard "
        f"deviation of the trials' mean, {tally.within_2} within 2, {tally.beyond_2} beyond 2; "
        f"{tally.constant} are constant in simulation: {at.count('exact')} exact, "
        f"{at.count('never seen')} never seen"
    )
    return text + (f"; {tally.not_measured} not measured." if tally.not_measured else ".")


def _joint(at: SigmaComparison) -> list[str]:
    joint = at.joint
    spread = "" if joint.synthetic_std is None else f" +- {joint.synthetic_std:.3g}"
    lines = [
        f"All metrics jointly: squared distance {_number(joint.observed)}, of trials "
        f"{_number(joint.synthetic_mean)}{spread}, in {at.rank} independent directions; "
        f"p = {_p(joint.p_value)}: {joint.verdict}."
    ]
    if at.rank >= at.trials:
        lines.append(
            f"{at.trials:,} trials are too few for the joint test: it takes more than {at.rank}, "
            "and many more to see anything."
        )
    return lines


def _reach(at: SigmaComparison) -> list[str]:
    adjusted = min(1.0, at.n_tested * at.smallest_p)
    lines = [
        f"The smallest p that {at.trials:,} trials can give is {at.smallest_p:.3g} for a metric "
        f"({adjusted:.3g} after Holm's correction over {at.n_tested}), {1 / (at.trials + 1):.3g} "
        "jointly."
    ]
    if at.trials < at.trials_to_reject:
        lines.append(
            f"No single metric can be rejected with so few: that takes {at.trials_to_reject:,} "
            "trials."
        )
        furthest = next((m for m in at.deviating() if m.verdict == "mild"), None)
        if furthest is not None:
            lines.append(
                f'So "mild" is the most that can be said here, also of {furthest.metric}, which '
                f"lies {abs(furthest.z_score or 0.0):.3g} standard deviations off."
            )
    return lines


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:,.5g}"


def _z(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _facts(comparison: Comparison) -> dict[str, Any]:
    return {
        "run": str(comparison.run),
        "measured": comparison.measured,
        "notes": list(comparison.notes),
        "best_sigma": comparison.best.sigma,
        "sigmas": [
            {
                "sigma": at.sigma,
                "trials": at.trials,
                "joint": {**asdict(at.joint), "rank": at.rank},
                "tally": asdict(at.tally),
                "smallest_p": at.smallest_p,
                "smallest_joint_p": 1 / (at.trials + 1),
                "trials_to_reject": at.trials_to_reject,
                "metrics": [asdict(metric) for metric in at.metrics],
            }
            for at in comparison.sigmas
        ],
    }
