"""Does the simple story fit? The answer of both tests, in words (docs/method.md, section 15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deadtokens.errors import SelectionError
from deadtokens.fit import Fit
from deadtokens.independence import Independence, sentence
from deadtokens.marginals import Marginals
from deadtokens.montecarlo import (
    FAMILY_LEVEL,
    Feature,
    called,
    holm,
    p_words,
    spread_words,
)
from deadtokens.showing import Shown

_NAMES = {
    "n_unique": "distinct vectors",
    "n_black_holes": "black holes",
    "n_singletons": "singletons",
    "largest_bh": "the largest black hole",
    "coinciding_pairs": "pairs of equal rows",
    "squared_correlations": "squared correlations",
    "varying_dimensions": "dimensions that vary",
    "occupied_cells": "occupied cells",
    "skipped_cells": "skipped cells",
    "skipping_dimensions": "dimensions that skip cells",
}
_NONE = 0.05  # of a count, on average
_SAME_DATA = (
    "The width and the centre were fitted to the same rows that are compared here, which flatters "
    "the comparison with trials; the independence test uses neither."
)


@dataclass(frozen=True)
class Judged:
    """A feature and what it says of the story.

    Attributes:
        test: "independence" or "marginals".
        feature: The feature.
        p_holm: Its p-value corrected for all features of both tests.
        verdict: "rejected", "mild" (its own p-value is small, the corrected one is not) or
            "consistent".
    """

    test: str
    feature: Feature
    p_holm: float
    verdict: str


@dataclass(frozen=True)
class Verdict(Shown):
    """The answer.

    Attributes:
        fits: Whether the story survives; None where there is nothing to test.
        headline: The answer in a line.
        sentences: What it rests on.
        judged: Every feature of both tests.
        withheld: Why no interval of the width is given anywhere; empty if it may be.
    """

    fits: bool | None
    headline: str
    sentences: tuple[str, ...]
    judged: tuple[Judged, ...]
    withheld: str = ""

    def __repr__(self) -> str:
        return f"<Verdict: {answer(self.fits)}. {self.headline}>"


def judge(
    fit: Fit,
    independence: Independence | None = None,
    marginals: Marginals | None = None,
    *,
    left_out: int = 0,
) -> Verdict:
    """Put both tests together, at `FAMILY_LEVEL` over all their features (docs/method.md, 15).

    Args:
        fit: The cluster's.
        independence: The first test.
        marginals: The second.
        left_out: Rows of the cluster that were left out because they do not coincide. There can be
            no answer then: that choice alone makes singletons too few.

    Raises:
        SelectionError: A test is missing.
    """
    if independence is None or marginals is None:
        raise SelectionError(
            "the answer is that of both tests",
            where="judge",
            remedy="dt.judge(fit, dt.independence(rows), dt.marginals(fit))",
        )
    tested = [("independence", found) for found in independence.features]
    tested += [("marginals", found) for found in marginals.features]
    adjusted = holm([found.p_value for _, found in tested])
    judged = tuple(
        Judged(test, found, p, called(found.p_value, p))
        for (test, found), p in zip(tested, adjusted, strict=True)
    )
    against = [one for one in judged if one.verdict == "rejected"]
    fits = not against if judged and not left_out else None
    withheld = "the model is rejected" if fits is False else ""
    if left_out:
        withheld = "rows of the cluster were left out"
    width = marginals.sigma
    sentences = [_what(fit)]
    if left_out:
        sentences.append(
            f"{left_out:,} other rows lie as close. Without them the tests and the width mean "
            "little: rows that coincide have no singletons, and too little noise."
        )
    elif fits is None:
        sentences.append(f"Nothing could be tested: {independence.reason}; {marginals.reason}.")
    else:
        sentences += _answers(judged, against, width)
        sentences += _untested(independence, marginals)
    if not left_out:
        sentences.append(_width(fit, fits))
    if fit.n_zero:
        sentences.append(f"{fit.n_zero:,} dimensions are zero in every row and were left out.")
    sentences.append(_SAME_DATA)
    headline = _headline(fit, fits, against, width)
    if left_out:
        headline = (
            "These rows were chosen because they coincide: take the whole cluster, with a mask of "
            "the others too."
        )
    return Verdict(fits, headline, tuple(sentences), judged, withheld)


def answer(fits: bool | None) -> str:
    """The answer in a word or two."""
    return {True: "Yes", False: "No", None: "Cannot tell"}[fits]


def _headline(fit: Fit, fits: bool | None, against: Sequence[Judged], width: float) -> str:
    if fits is None:
        return "There is nothing to test."
    if fits:
        fitted = f" of width {fit.sigma:.3g}" if fit.sigma > 0 else ""
        return f"Gaussian noise{fitted} around one point explains these {fit.n_tokens:,} rows."
    tests = dict.fromkeys(one.test for one in against)
    first = (next(one for one in against if one.test == test) for test in tests)
    reasons = "; ".join(_compared(one, width) for one in first)
    return f"{reasons[:1].upper()}{reasons[1:]}."


def _what(fit: Fit) -> str:
    return (
        f"{fit.n_tokens:,} rows occupy two or more cells in {fit.n_varying:,} of "
        f"{fit.n_dimensions:,} dimensions"
        + (", which are held because they vary." if fit.varying_only else ".")
    )


def _answers(judged: Sequence[Judged], against: Sequence[Judged], width: float) -> list[str]:
    level = f"at the {100 * FAMILY_LEVEL:g} % family-wise level"
    if against:
        verb = "contradicts" if len(against) == 1 else "contradict"
        count = f"{len(against)} of {len(judged)} features"
        named = _listed([_name(one) for one in against])
        sentences = [f"{count} {verb} the simple story {level}: {named}."]
        sentences += _explained([one for one in judged if one.verdict != "rejected"], width)
    else:
        sentences = [f"None of {len(judged)} features contradicts the simple story {level}."]
    mild = [one for one in judged if one.verdict == "mild"]
    sentences += [
        f"Mild departure: {_compared(one, width)} (p = {p_words(one.feature.p_value)}, one-sided "
        f"{p_words(min(one.feature.p_lo, one.feature.p_hi))})."
        for one in mild
    ]
    return sentences


def _explained(survived: Sequence[Judged], width: float) -> list[str]:
    """What does not contradict the story: how single dimensions fill cells hangs on a width."""
    joint = [_name(one) for one in survived if one.test == "independence"]
    single = [_name(one) for one in survived if one.test == "marginals"]
    sentences = [f"It does explain {_listed(joint)}, at any width."] if joint else []
    if single:
        # Not the fitted width: the likelihood gives up everything else for cells skipped.
        own = f"At width {width:.3g}, the one that suits single dimensions,"
        sentences.append(f"{own} it does explain {_listed(single)}.")
    return sentences


def _untested(independence: Independence, marginals: Marginals) -> list[str]:
    reasons = {
        "The independence of dimensions": independence.reason,
        "How single dimensions fill their cells": marginals.reason,
    }
    return [f"{what} was not tested: {why}." for what, why in reasons.items() if why]


def _compared(one: Judged, width: float) -> str:
    if one.test == "independence":
        return sentence(one.feature)
    found = one.feature
    seen = f"{found.observed:,.0f} {_name(one)}"
    # Of counts, next to none is better said than spelled in digits.
    rare = found.high == 0 and found.mean < _NONE
    given = "none" if rare else spread_words(found.mean, found.std)
    return f"{seen} where rounded Gaussian noise of width {width:.3g} gives {given}"


def _name(one: Judged) -> str:
    return _NAMES[one.feature.name]


def _width(fit: Fit, fits: bool | None) -> str:
    if fits is False:
        best = f"The likeliest width, {fit.sigma:.3g}, describes a model that is rejected"
        if fit.without_skipping:
            count = len(fit.without_skipping.dimensions)
            gone = "the dimension that skips" if count == 1 else f"the {count} dimensions that skip"
            best += f": without {gone} cells it is {fit.without_skipping.sigma:.3g}"
        return f"{best}. No interval is given."
    if fit.sigma == 0:
        return f"No width can be told from zero; it is below {fit.sigma_high:.3g} (95 % limit)."
    interval = f"{fit.sigma_low:.4g} to {fit.sigma_high:.4g}"
    return f"The width is {fit.sigma:.4g} (95 % interval {interval})."


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
