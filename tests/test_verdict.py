"""The answer in words: what rejects, what is only mild, and what is never said."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from snowballs import snowball_from_values

import deadtokens as dt
from deadtokens.cli.display import recorded
from deadtokens.cli.fitting import print_fit
from deadtokens.exports import fit_facts
from deadtokens.fit import Fit, fit
from deadtokens.formats import BFLOAT16
from deadtokens.independence import FEATURES as JOINT
from deadtokens.independence import Independence, independence
from deadtokens.marginals import FEATURES as SINGLE
from deadtokens.marginals import Marginals, marginals
from deadtokens.montecarlo import FAMILY_LEVEL, Feature, holm
from deadtokens.snowball import Snowball
from deadtokens.sources import Matrix
from deadtokens.verdict import _NAMES, Verdict, answer, judge


def bfloat16(values: npt.NDArray[np.float64]) -> Snowball:
    codes = BFLOAT16.round(values.astype(np.float32))
    return snowball_from_values(BFLOAT16.values(codes), BFLOAT16)


def noisy(n: int = 60, d: int = 20, sigma: float = 2e-6) -> Snowball:
    rng = np.random.default_rng(4)
    return bfloat16(rng.normal(0, 3e-3, d) + sigma * rng.standard_normal((n, d)))


def one_feature(name: str, p: float) -> Feature:
    return Feature(name, 16, 2.0, 1.0, 1.0, 3.0, 1.0, p / 2, p)


def both(
    changed: Mapping[str, float], *, joint: str | None = None, single: str | None = None
) -> tuple[Independence, Marginals]:
    """Both tests with p = 0.5 everywhere but where given; a reason leaves a test untested."""
    features = {
        names: tuple(one_feature(name, changed.get(name, 0.5)) for name in names)
        for names in (JOINT, SINGLE)
    }
    return (
        Independence(
            features=() if joint else features[JOINT],
            p_holm=() if joint else tuple(holm([f.p_value for f in features[JOINT]])),
            permutations=0 if joint else 9999,
            n_rows=60,
            n_varying=5,
            n_correlated=5,
            reason=joint,
        ),
        Marginals(() if single else features[SINGLE], 2e-6, 0 if single else 4999, 20, single),
    )


@pytest.fixture(scope="module")
def fitted() -> Fit:
    return fit(noisy())


def said(verdict: Verdict) -> str:
    return " ".join((verdict.headline, *verdict.sentences))


def test_yes(fitted: Fit) -> None:
    verdict = judge(fitted, *both({}))
    assert verdict.fits is True
    assert answer(verdict.fits) == "Yes"
    assert repr(verdict) == f"<Verdict: Yes. {verdict.headline}>"
    assert verdict.headline == (
        f"Gaussian noise of width {fitted.sigma:.3g} around one point explains these 60 rows."
    )
    assert f"{fitted.n_varying} of 20 dimensions." in verdict.sentences[0]
    assert verdict.sentences[1].startswith("None of 10 features contradicts the simple story")
    assert "1 % family-wise" in verdict.sentences[1]
    interval = (
        f"{fitted.sigma:.4g} (95 % interval {fitted.sigma_low:.4g} to {fitted.sigma_high:.4g})"
    )
    assert f"The width is {interval}." in verdict.sentences
    assert "Mild" not in said(verdict)
    assert "flatters" in verdict.sentences[-1]
    assert {one.verdict for one in verdict.judged} == {"consistent"}


def test_no(fitted: Fit) -> None:
    verdict = judge(fitted, *both({"n_unique": 2e-4, "skipped_cells": 4e-4, "largest_bh": 0.02}))
    assert verdict.fits is False
    assert answer(verdict.fits) == "No"
    # The first departure of each test, and every one of them below.
    assert verdict.headline == (
        "16 distinct vectors where independent dimensions give 2.0 +- 1.0; 16 skipped cells where "
        "rounded Gaussian noise of width 2e-06 gives 2.0 +- 1.0."
    )
    assert "2 of 10 features contradict the simple story" in verdict.sentences[1]
    # What the story does explain, a mild departure among it.
    *most, last = (_NAMES[name] for name in JOINT if name != "n_unique")
    assert verdict.sentences[2] == f"It does explain {', '.join(most)} and {last}, at any width."
    *most, last = (_NAMES[name] for name in SINGLE if name != "skipped_cells")
    own = "At width 2e-06, the one that suits single dimensions"
    assert verdict.sentences[3] == f"{own}, it does explain {', '.join(most)} and {last}."
    assert any(s.startswith("Mild departure: 16 rows in the largest") for s in verdict.sentences)


@pytest.mark.parametrize("name", [*JOINT, *SINGLE])
def test_no_because_of_one_feature(fitted: Fit, name: str) -> None:
    verdict = judge(fitted, *both({name: 2e-4}))
    assert verdict.fits is False
    assert "1 of 10 features contradicts the simple story" in verdict.sentences[1]
    assert [one.feature.name for one in verdict.judged if one.verdict == "rejected"] == [name]
    explained = [s for s in verdict.sentences if "does explain" in s]
    assert len(explained) == 2
    lists = (re.sub(r", at any width|\.$|.*does explain ", "", one) for one in explained)
    named = [what for one in lists for what in re.split(", | and ", one)]
    assert sorted(named) == sorted(_NAMES[other] for other in (*JOINT, *SINGLE) if other != name)


def test_no_interval_where_the_story_is_rejected(fitted: Fit) -> None:
    verdict = judge(fitted, *both({"n_unique": 2e-4}))
    assert "interval" not in said(verdict).replace("No interval is given.", "")
    assert "95 %" not in said(verdict)
    assert f"{fitted.sigma_high:.4g}" not in said(verdict)
    assert "No interval is given." in said(verdict)
    assert f"The likeliest width, {fitted.sigma:.3g}, describes a model that is rejected" in said(
        verdict
    )


def test_everything_explained_is_not_said_where_nothing_is(fitted: Fit) -> None:
    verdict = judge(fitted, *both(dict.fromkeys((*JOINT, *SINGLE), 2e-4)))
    assert "does explain" not in said(verdict)
    assert "10 of 10 features contradict" in said(verdict)


def test_width_without_the_dimensions_that_skip_cells() -> None:
    values = np.repeat([[1.0] * 12], 60, axis=0)
    rng = np.random.default_rng(1)
    values += 2.0**-7 * (rng.uniform(size=values.shape) < 0.1)
    values[:3, 0] += 5 * 2.0**-7
    with_one = fit(bfloat16(values))
    text = said(judge(with_one, *both({"skipped_cells": 2e-4})))
    assert with_one.without_skipping is not None
    assert (
        "without the dimension that skips cells it is "
        f"{with_one.without_skipping.sigma:.3g}. No interval is given." in text
    )
    values[:3, 1] += 5 * 2.0**-7
    text = said(judge(fit(bfloat16(values)), *both({"skipped_cells": 2e-4})))
    assert "without the 2 dimensions that skip cells it is " in text


def test_mild(fitted: Fit) -> None:
    verdict = judge(fitted, *both({"squared_correlations": 0.013}))
    assert verdict.fits is True
    assert [one.verdict for one in verdict.judged].count("mild") == 1
    assert (
        "Mild departure: squared correlations of 16 where independent dimensions give 2.0 +- 1.0 "
        "(p = .013, one-sided .0065)." in verdict.sentences
    )


def test_holm_is_over_both_tests(fitted: Fit) -> None:
    """A p-value that would reject among one test's features does not among all ten."""
    p = 0.002
    assert min(holm([p, 0.5, 0.5, 0.5])) <= FAMILY_LEVEL < min(holm([p] + [0.5] * 9))
    joint, single = both({"skipped_cells": p})
    assert min(single.p_holm) <= FAMILY_LEVEL
    verdict = judge(fitted, joint, single)
    assert verdict.fits is True
    assert [one.verdict for one in verdict.judged].count("mild") == 1
    values = [one.feature.p_value for one in verdict.judged]
    assert [one.p_holm for one in verdict.judged] == holm(values)
    assert [one.test for one in verdict.judged] == ["independence"] * 6 + ["marginals"] * 4


def test_one_test_alone(fitted: Fit) -> None:
    verdict = judge(fitted, *both({}, joint="of 60 rows, 1 dimension varies"))
    assert verdict.fits is True
    assert "None of 4 features" in said(verdict)
    assert (
        "The independence of dimensions was not tested: of 60 rows, 1 dimension varies."
        in verdict.sentences
    )
    verdict = judge(fitted, *both({"n_unique": 2e-4}, single="it is so"))
    assert verdict.fits is False
    assert "How single dimensions fill their cells was not tested: it is so." in verdict.sentences


def test_cannot_tell() -> None:
    snowball = bfloat16(np.ones((30, 4)))
    fitted = fit(snowball)
    verdict = judge(fitted, independence(snowball), marginals(fitted))
    assert verdict.fits is None
    assert answer(verdict.fits) == "Cannot tell"
    assert verdict.headline == "There is nothing to test."
    assert verdict.judged == ()
    assert any(
        s.startswith("Nothing could be tested: ") and s.endswith("; no dimension varies.")
        for s in verdict.sentences
    )
    limit = f"No width can be told from zero; it is below {fitted.sigma_high:.3g} (95 % limit)."
    assert limit in verdict.sentences


def test_dimensions_that_are_zero_are_named() -> None:
    values = np.hstack([noisy(d=6).values(), np.zeros((noisy(d=6).n_unique, 3))])
    verdict = judge(fit(bfloat16(values)), *both({}))
    assert "3 dimensions are zero in every row and were left out." in verdict.sentences


def test_dimensions_held_because_they_vary() -> None:
    snowball = noisy()
    part = Snowball(
        np.ascontiguousarray(snowball.codes[:, snowball.varying]),
        snowball.populations,
        snowball.format,
    )
    fitted = fit(part, varying_only=True)
    joint, single = both({})
    single = dataclasses.replace(single, features=single.features[2:])
    verdict = judge(fitted, joint, single)
    assert verdict.sentences[0].endswith("dimensions, which are held because they vary.")
    assert "None of 8 features" in verdict.sentences[1]


def test_builtins() -> None:
    expected: dict[str, Any] = {"whisper-tiny.en": True, "qwen3-4b": False}
    for name, fits in expected.items():
        matrix = dt.open_matrix(f"builtin:{name}")
        snowball = dt.snowball_of(matrix, np.ones(matrix.n_rows, dtype=np.bool_))
        fitted = fit(snowball, varying_only=matrix.varying_only)
        single = marginals(fitted, count=1999)
        verdict = judge(fitted, independence(snowball, permutations=1999), single)
        assert verdict.fits is fits, name
    # Qwen: far fewer distinct vectors than independence gives, and cells skipped.
    assert "13 distinct vectors where independent dimensions give 430 +- " in verdict.headline
    assert (
        "16 skipped cells where rounded Gaussian noise of width 4.32e-09 gives none"
        in verdict.headline
    )
    assert "without the 4 dimensions that skip cells it is 2.9" in said(verdict)
    assert "95 %" not in said(verdict)


def test_no_answer_from_rows_that_were_chosen_because_they_coincide() -> None:
    """Of a true story, equal rows alone have no singletons: that must not count against it."""
    centre = 0.02 * np.random.default_rng(1).standard_normal(256)
    drawn = dt.sample(dt.Cloud(centre, 5e-8, format="float16"), 500, trial=0)
    held = drawn.populations >= 2
    part = dt.Snowball(drawn.codes[held], drawn.populations[held], drawn.format)
    tests = fit(part), independence(part, permutations=1999), marginals(fit(part), count=1999)
    assert judge(*tests).fits is False
    verdict = judge(*tests, left_out=int((~held).sum()))
    assert verdict.fits is None
    assert "chosen because they coincide" in verdict.headline
    assert "interval" not in said(verdict)


@pytest.fixture(scope="module")
def among_all_dimensions() -> dt.Snowball:
    """Qwen3-4B's dead rows with 2,540 dimensions in which they agree beside the 20."""
    held = dt.open_matrix("builtin:qwen3-4b")
    rng = np.random.default_rng(3)
    values = np.repeat((rng.standard_t(4.5, (1, 2560)) * 0.0024).astype(np.float32), 2100, axis=0)
    values[:, rng.choice(2560, 20, replace=False)] = held.values()
    codes = BFLOAT16.round(values)
    matrix = Matrix(codes, BFLOAT16, "test", "gamma", "the only one there")
    return dt.snowball_of(matrix, np.ones(2100, dtype=np.bool_))


def test_every_number_stands_beside_its_own_width(among_all_dimensions: dt.Snowball) -> None:
    """The likeliest width would make half of 2,560 dimensions vary, the other one some 20."""
    fitted = fit(among_all_dimensions)
    assert fitted.n_varying == 20
    assert fitted.expected_varying > 500
    single = marginals(fitted, count=1999)
    joint = independence(among_all_dimensions, permutations=1999)
    verdict = judge(fitted, joint, single)
    varying = next(one for one in verdict.judged if one.feature.name == "varying_dimensions")
    assert varying.verdict == "consistent"
    assert fitted.expected_varying > 20 * varying.feature.mean
    own = next(s for s in verdict.sentences if "dimensions that vary and" in s)
    assert own.startswith(
        f"At width {single.sigma:.3g}, the one that suits single dimensions, it does explain "
    )
    assert f"{fitted.sigma:.3g}" not in own
    assert verdict.withheld == "the model is rejected"
    facts = fit_facts(fitted, verdict.withheld)
    assert (facts["sigma_low"], facts["sigma_high"]) == (None, None)
    with recorded() as parts:
        print_fit(fitted, withheld=verdict.withheld)
    said = "\n".join(map(str, parts))
    assert f"{fitted.expected_varying:,.1f} expected at sigma {fitted.sigma:.4g}" in said
    assert f"{fitted.sigma_high:.4g}" not in said
