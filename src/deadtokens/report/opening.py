"""The top of the page: the answer, what it rests on, and the numbers of most interest."""

from __future__ import annotations

from dataclasses import dataclass

from deadtokens.report.findings import JOINT, Findings
from deadtokens.report.inputs import texts
from deadtokens.report.words import NOISES, count, figure, p_value, typeset


@dataclass(frozen=True)
class Card:
    """A number of interest: its name, the number, and a line about it."""

    name: str
    number: str
    about: str


@dataclass(frozen=True)
class Opening:
    """What stands above the fold.

    Attributes:
        title: Of the page.
        question: The line over the headline.
        answer: "Yes", "No", "Cannot tell", or empty where nothing was tested.
        mood: yes, no, open or none, for the colour.
        headline: One line.
        sentences: A paragraph.
        cards: Numbers of interest.
        story: What is tested.
        warnings: Where the evidence conflicts or is thin: they stand before the answer.
    """

    title: str
    question: str
    answer: str
    mood: str
    headline: str
    sentences: tuple[str, ...]
    cards: tuple[Card, ...]
    story: str
    warnings: tuple[str, ...] = ()


_ANSWERS = {True: ("Yes", "yes"), False: ("No", "no"), None: ("Cannot tell", "open")}


def opening(findings: Findings) -> Opening:
    """The answer in the words of the tests; without them, what the page is."""
    source = str((findings.study or {}).get("source") or findings.name)
    if findings.answer is not None:
        answer, mood = _ANSWERS[findings.answer.fits]
        headline = typeset(findings.answer.headline)
        sentences = tuple(typeset(sentence) for sentence in findings.answer.sentences)
        question = "Does the story fit?"
    else:
        answer, mood, question = "", "none", "Synthetic clusters of dead tokens"
        headline, sentences = _description(findings)
    noise = NOISES[findings.sweep.noise]
    story = (
        f"The story: all tokens of the cluster started at one point, {noise} noise of one width σ "
        "was added to every coordinate, and the sums were rounded to the storage format."
    )
    cards = tuple(_cards(findings))
    warnings = tuple(map(typeset, texts(findings.study or {}, "warnings")))
    return Opening(source, question, answer, mood, headline, sentences, cards, story, warnings)


def _description(findings: Findings) -> tuple[str, tuple[str, ...]]:
    spec, totals = findings.sweep.spec, findings.totals
    trials = sum(len(t.rows) for t in totals)
    simulated = (
        f"{count(trials, 'synthetic cluster')} of {count(spec.n_tokens, 'token')}"
        f"{' each' if trials > 1 else ''}"
    )
    how = (
        f"Each is {NOISES[findings.sweep.noise]} noise around one point in "
        f"{count(findings.sweep.centroid.size, 'dimension')}, rounded to {findings.sweep.format} "
        f"and measured as a real cluster is, for {count(len(totals), 'sigma')}."
    )
    if findings.measured is None:
        return simulated, (how, "No real cluster is compared with them here.")
    return (
        f"A real cluster beside {simulated}",
        (how, "No test of the story was run: the charts show, they do not decide."),
    )


def _cards(findings: Findings) -> list[Card]:
    main, real, fit = findings.main, findings.measured or {}, findings.fit
    at = f"σ = {figure(main.sigma)}"
    summary = main.metric("n_unique")
    synthetic = figure(float(summary.min()))
    if summary.min() != summary.max():
        synthetic += f" to {figure(float(summary.max()))}"
    cards = []
    if fit is not None:
        interval = "no interval is given"
        if fit.low is not None and fit.high is not None:
            interval = f"interval {figure(fit.low, 3)} to {figure(fit.high, 3)}"
        if findings.answer is not None and findings.answer.fits is False:
            interval = "likeliest in a story that is rejected"
        cards.append(Card("Fitted σ", figure(fit.sigma, 3), interval))
    if "n_unique" in real:
        rows = f", {count(int(real['n_tokens']), 'row')}" if "n_tokens" in real else ""
        cards.append(Card("Distinct vectors", figure(real["n_unique"]), f"real cluster{rows}"))
    cards.append(Card("Distinct vectors", synthetic, f"trials at {at}"))
    joint = [line for line in findings.compared_at(main.sigma) if line.metric == JOINT]
    if joint and joint[0].p is not None:
        cards.append(Card("All metrics together", f"p = {p_value(joint[0].p)}", at))
    trials = sum(len(t.rows) for t in findings.totals)
    cards.append(Card("Trials", f"{trials:,}", f"over {count(len(findings.totals), 'sigma')}"))
    return cards
