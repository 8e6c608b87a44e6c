"""Outside a terminal: a line every half minute, of what goes on."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest
from program import Program

from deadtokens.cli import heartbeat
from deadtokens.cli.heartbeat import Heartbeat


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def beats(said: list[str], clock: Clock) -> Heartbeat:
    """Beats when it is told to; its own thread looks at a clock that stands still."""
    return Heartbeat(said.append, 30.0, clock)


def after(beats: Heartbeat, clock: Clock, seconds: float) -> None:
    clock.now += seconds
    beats.beat()


def test_nothing_is_said_where_nothing_goes_on(
    beats: Heartbeat, clock: Clock, said: list[str]
) -> None:
    after(beats, clock, 1000)
    with beats.stage("thinking"):
        after(beats, clock, 29)
    after(beats, clock, 1000)
    assert said == []


def test_a_stage_says_how_long_it_is_on(beats: Heartbeat, clock: Clock, said: list[str]) -> None:
    with beats.stage("thinking", 100.0):
        after(beats, clock, 31)
        after(beats, clock, 2)  # too soon after the line before
        after(beats, clock, 57)
        after(beats, clock, 40)  # later than expected: nothing is said of what is left
    assert said == [
        "thinking: 31.0 s so far, about 69.0 s left",
        "thinking: 90.0 s so far, about 10.0 s left",
        "thinking: 2 min so far",
    ]


def test_counted_work_says_how_far_it_is(beats: Heartbeat, clock: Clock, said: list[str]) -> None:
    with beats.stage("a study"), beats.work("trials", 4000) as reached:
        after(beats, clock, 30)
        reached(1000)
        after(beats, clock, 30)
    assert said == [
        "0 of 4,000 trials: 30.0 s so far",
        "1,000 of 4,000 trials: 60.0 s so far, about 3 min left",
    ]


def test_all_is_not_said_while_work_goes_on(
    beats: Heartbeat, clock: Clock, said: list[str]
) -> None:
    with beats.stage("simulating"), beats.work("trials", 4000) as reached:
        reached(4000)
        after(beats, clock, 60)
    assert said == ["simulating: 60.0 s so far"]


def test_all_is_not_said_either_where_no_stage_goes_on(
    beats: Heartbeat, clock: Clock, said: list[str]
) -> None:
    with beats.work("trials", 4000) as reached:
        reached(4000)
        after(beats, clock, 60)
    assert said == ["finishing: 60.0 s so far"]


def test_the_innermost_is_named(beats: Heartbeat, clock: Clock, said: list[str]) -> None:
    with beats.stage("outer"):
        with beats.transfer("model.safetensors", 10_000_000, 2_000_000) as reached:
            reached(4_000_000)
            after(beats, clock, 30)
        after(beats, clock, 30)
    assert said == [
        "model.safetensors: 4.0 MB of 10.0 MB: 30.0 s so far, about 90.0 s left",
        "outer: 60.0 s so far",
    ]


def test_the_outermost_count_says_most(beats: Heartbeat, clock: Clock, said: list[str]) -> None:
    with beats.stage("simulating", 230.0), beats.work("trials", 10) as trials:
        with beats.work("blocks", 20) as blocks:
            blocks(5)
            after(beats, clock, 50)
        trials(2)
        with beats.work("blocks", 20) as blocks:
            blocks(5)
            after(beats, clock, 50)
    assert said == [
        "0 of 10 trials (5 of 20 blocks): 50.0 s so far, about 3 min left",
        "2 of 10 trials: 2 min so far, about 7 min left",
    ]


def test_the_first_few_do_not_tell_the_time(
    beats: Heartbeat, clock: Clock, said: list[str]
) -> None:
    with beats.stage("simulating", 330.0), beats.work("trials", 90) as trials:
        trials(3)
        after(beats, clock, 30)
    assert said == ["3 of 90 trials: 30.0 s so far, about 5 min left"]


def test_a_message_is_a_sign_of_life(beats: Heartbeat, clock: Clock, said: list[str]) -> None:
    with beats.stage("thinking"):
        clock.now = 29
        beats.message("half way")
        after(beats, clock, 20)
        after(beats, clock, 20)
    assert said == ["half way", "thinking: 69.0 s so far"]


def test_it_beats_by_itself_and_ends() -> None:
    heard = threading.Event()
    beats = Heartbeat(lambda _: heard.set(), 0.01)
    with beats.stage("thinking"):
        assert heard.wait(60)
        names = {thread.name for thread in threading.enumerate() if thread.daemon}
    with beats.stage("again"):
        heard.clear()
        assert heard.wait(60)
    assert names


@pytest.mark.parametrize("command", ["census", "measure", "fit", "independence"])
def test_commands_are_never_silent_in_a_pipe(
    command: str, tmp_path: Path, deadtokens: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half a minute made a few milliseconds each says what it is at."""
    monkeypatch.setattr(heartbeat, "SECONDS", 0.003)
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 0.02, (6000, 64)).astype(np.float32)
    rows[:400] = rows[0] + rng.integers(0, 2, (400, 64)) * np.spacing(rows[0])
    np.save(tmp_path / "model.npy", rows)
    done = deadtokens(command, tmp_path / "model.npy")
    assert done.status == 0
    assert re.search(r"^.*: [\d.]+ s so far", done.err, re.MULTILINE), done.err
