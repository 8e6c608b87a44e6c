"""Every command of docs/claims.md exists, exits with 0 and prints what the page says."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import ROOT, Claim, claims, load_examples

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
def test_commands(claim: Claim, tmp_path: Path) -> None:
    prints(claim, examples.run(["bash", "-c", claim.command], tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("claim", FETCHING, ids=lambda claim: claim.text)
def test_commands_on_fetched_files(claim: Claim, tmp_path: Path) -> None:
    for name in examples.fetched(claim.command):
        (tmp_path / name).symlink_to(examples.models.fetch(examples.FETCHED[name]))
    prints(claim, examples.run(["bash", "-c", claim.command], tmp_path))


def test_tests_that_are_named_are_collected() -> None:
    """They are run where the suite is; here, that each of these files holds tests."""
    files = sorted({word for claim in TESTS for word in shlex.split(claim.command)[1:]})
    assert all((ROOT / file).exists() for file in files)
    command = ["pytest", "--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        [sys.executable, "-m", *command, *files],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": "tests:tools", "PATH": ""},
    )
    assert done.returncode == 0, done.stdout[-2000:]
    collected = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert not [file for file in files if not any(name.startswith(file) for name in collected)]


@pytest.mark.slow
@pytest.mark.parametrize("claim", BENCHMARKS, ids=lambda claim: claim.text)
def test_benchmarks(claim: Claim) -> None:
    done = subprocess.run(
        [sys.executable, *shlex.split(claim.command)[1:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": "tools", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    prints(claim, done.stdout)
