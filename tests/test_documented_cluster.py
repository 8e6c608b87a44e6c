"""The commands in the documented manifest are what the programs take."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

yaml = pytest.importorskip("yaml")
pytest.importorskip("distributed")

MANIFEST = Path(__file__).parent.parent / "docs" / "kubernetes.yaml"


def arguments(**replaced: str) -> dict[str, list[str]]:
    """What each container runs, by its name, with texts replaced."""
    found = {}
    for item in yaml.safe_load_all(MANIFEST.read_text()):
        for container in item["spec"].get("template", {}).get("spec", {}).get("containers", ()):
            words = [str(word) for word in container["args"]]
            for old, new in replaced.items():
                words = [word.replace(ACTUAL[old], new) for word in words]
            found[container["name"]] = [sys.executable, "-m", *words]
    return found


ACTUAL = {
    "host": "deadtokens-scheduler",
    "port": "8786",
    "folder": "/runs",
    "trials": "1000000",
    "sigmas": "1e-10:1e-2:100:log",
    "tokens": "2100",
}


def test_the_manifests_commands_work_together(tmp_path: Path) -> None:
    np.save(tmp_path / "centroid.npy", np.linspace(1e-3, 2e-3, 30))
    commands = arguments(
        host="127.0.0.1", port="28786", folder=str(tmp_path), trials="3", sigmas="1e-8,1e-4",
        tokens="20",
    )  # fmt: skip
    client = [word.replace("centroid.safetensors", "centroid.npy") for word in commands["client"]]
    started: list[subprocess.Popen[Any]] = []
    try:
        for name in ("scheduler", "worker"):
            process = subprocess.Popen(commands[name], cwd=tmp_path, stderr=subprocess.DEVNULL)
            started.append(process)
        done = subprocess.run(client, capture_output=True, text=True, timeout=120)
        assert [process.poll() for process in started] == [None, None]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "trials.csv").read_text().splitlines()) == 1 + 2 * 3
