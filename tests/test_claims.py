"""Every command of docs/claims.md exists, exits with 0 and prints what the page says."""

from __future__ import annotations

import functools
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import ROOT, Claim, claims, load_examples
from program import Program

examples = load_examples()
CLAIMS = claims()
TESTS = [claim for claim in CLAIMS if claim.command.startswith("pytest ")]
BENCHMARKS = [claim for claim in CLAIMS if claim.command.startswith("python benchmarks/")]
COMMANDS = [claim for claim in CLAIMS if claim.command.startswith("deadtokens ")]
FETCHING = [claim for claim in COMMANDS if examples.fetched(claim.command)]
AT_ONCE = [claim for claim in COMMANDS if claim not in FETCHING]


def prints(claim: Claim, output: str) -> None:
    assert claim.prints, "nothing is claimed of the output"
    assert not [fragment for fragment in claim.prints if fragment not in output], output


def test_every_claim_has_a_command_that_is_run() -> None:
    assert len(CLAIMS) == len(TESTS) + len(BENCHMARKS) + len(COMMANDS) > 20


@pytest.mark.parametrize("claim", AT_ONCE, ids=lambda claim: claim.text)
def test_commands(
    claim: Claim, tmp_path: Path, deadtokens: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in examples.TERMINAL.items():
        monkeypatch.setenv(name, value)
    program, *words = shlex.split(claim.command)
    assert program == "deadtokens"
    done = deadtokens(*words)
    assert done.status == 0, done.err
    prints(claim, done.out)


@pytest.mark.slow
@pytest.mark.parametrize("claim", FETCHING, ids=lambda claim: claim.text)
def test_commands_on_fetched_files(claim: Claim, tmp_path: Path) -> None:
    for name in examples.fetched(claim.command):
        (tmp_path / name).symlink_to(examples.models.fetch(examples.FETCHED[name]))
    prints(claim, examples.run(["bash", "-c", claim.command], tmp_path))


def test_tests_that_are_named_are_there() -> None:
    """They are run where the suite is; here, that each of these files or folders holds tests."""
    for word in sorted({word for claim in TESTS for word in shlex.split(claim.command)[1:]}):
        path = ROOT / word
        files = sorted(path.glob("test_*.py")) if path.is_dir() else [path]
        assert any("\ndef test_" in file.read_text() for file in files), word


@functools.cache
def benchmark(command: str) -> str:
    """What a benchmark prints; several claims may rest on one."""
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": "tools", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("claim", BENCHMARKS, ids=lambda claim: claim.text)
def test_benchmarks(claim: Claim) -> None:
    prints(claim, benchmark(claim.command))
