"""A model of Qwen3-4B's size on a hub: what is transferred, resumed, kept, and held in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from containers import write_tensors
from full_matrix import D, V, write_full_matrix
from hub_server import Fault, Hub, Repository, running_hub

pytestmark = pytest.mark.slow

TENSOR_BYTES = V * D * 2
TOKENIZER_BYTES = 11_422_654  # as large as Qwen3's
PIECE = 1 << 26
SHARD = "model-{:05}-of-00004.safetensors"
NAME, TENSOR = "owner/large", "model.embed_tokens.weight"


@dataclass(frozen=True)
class Served:
    hub: Hub
    dead_rows: npt.NDArray[np.int64]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Four shards: the token matrix is one, the others hold 10 MB of layers each."""
    folder = tmp_path_factory.mktemp("hub")
    dead_rows = write_full_matrix(folder / SHARD.format(1), folder / "mask.safetensors")
    places = {TENSOR: SHARD.format(1)}
    for number in (2, 3, 4):
        layers = {
            f"model.layers.{number}.{i}.weight": np.zeros((100, 2_500), np.float32)
            for i in range(10)
        }
        write_tensors(folder / SHARD.format(number), layers)
        places |= dict.fromkeys(layers, SHARD.format(number))
    files: dict[str, Any] = {
        SHARD.format(number): np.memmap(folder / SHARD.format(number), np.uint8, mode="r")
        for number in (1, 2, 3, 4)
    }
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    files["config.json"] = json.dumps({"tie_word_embeddings": True}).encode()
    files["tokenizer.json"] = b" " * (TOKENIZER_BYTES - 2) + b"{}"
    with running_hub({NAME: Repository(files)}) as hub:
        yield Served(hub, dead_rows)


@pytest.fixture
def hub(served: Served) -> Hub:
    served.hub.forget()
    served.hub.faults.clear()
    return served.hub


# The peak of memory is taken when the tensor has been transferred and mapped, and no page of it was
# looked at yet.
RUN = """
import re, sys
from pathlib import Path
import deadtokens as dt
from deadtokens.listening import Listener, listen

listen(Listener(message=lambda text: print(text, file=sys.stderr)))
matrix = dt.open_matrix("hf:owner/large")
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
found = dt.census(matrix)
print([matrix.shape, found.n_black_holes, found.mask.nonzero()[0].tolist(), peak])
"""


def run(hub: Hub, cache: Path) -> tuple[list[Any], str]:
    result = subprocess.run(
        [sys.executable, "-c", RUN],
        env=environment(hub, cache),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.replace("(", "[").replace(")", "]")), result.stderr


def environment(hub: Hub, cache: Path) -> dict[str, str]:
    return os.environ | {
        "HF_ENDPOINT": hub.url,
        "DEADTOKENS_CACHE": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }


def of_shards(hub: Hub) -> dict[int, int]:
    return {number: hub.sent_of.get(SHARD.format(number), 0) for number in (1, 2, 3, 4)}


def test_bytes_memory_and_a_second_run(served: Served, hub: Hub, tmp_path: Path) -> None:
    (shape, n_black_holes, rows, peak), _ = run(hub, tmp_path)
    assert shape == [V, D]
    assert (n_black_holes, rows) == (13, served.dead_rows.tolist())
    assert of_shards(hub) == {1: TENSOR_BYTES + (1 << 16), 2: 1 << 16, 3: 1 << 16, 4: 1 << 16}
    assert hub.sent_of["tokenizer.json"] == TOKENIZER_BYTES
    without_tokenizer = (hub.sent - TOKENIZER_BYTES) / TENSOR_BYTES
    with_tokenizer = hub.sent / TENSOR_BYTES
    assert 1 < without_tokenizer <= 1.001
    assert without_tokenizer < with_tokenizer <= 1.02
    assert peak < 250e6  # transferred, mapped and not looked at yet
    print(  # noqa: T201
        f"{hub.sent:,} bytes sent: {without_tokenizer:.6f} times the tensor's, "
        f"{with_tokenizer:.4f} with the tokenizer; peak after the transfer {peak / 1e6:.0f} MB"
    )
    hub.forget()
    (_, _, again, peak), _ = run(hub, tmp_path)
    assert again == rows
    assert set(hub.sent_of) == {"api"}
    assert hub.paths() == [f"/api/models/{NAME}"]


def test_a_dropped_connection_and_a_killed_process(
    served: Served, hub: Hub, tmp_path: Path
) -> None:
    """Dropped within the third piece; killed after the fifth has begun; then finished."""
    dropped = 30_000_000
    hub.fail(f"/cdn/.*{SHARD.format(1)}", Fault(), Fault(), Fault(), Fault(drop_after=dropped))
    killed = subprocess.Popen(
        [sys.executable, "-c", RUN],
        env=environment(hub, tmp_path),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    while of_shards(hub)[1] < 5 * PIECE and killed.poll() is None:
        time.sleep(0.001)
    killed.send_signal(signal.SIGKILL)
    _, messages = killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert "trying again" in messages
    (part,) = tmp_path.rglob("*.part")
    kept = int(part.with_name(f"{part.name}.flushed").read_bytes())
    assert 4 * PIECE <= kept < TENSOR_BYTES
    first = of_shards(hub)[1]
    assert first - (1 << 16) - kept < 2 * PIECE  # sent, and lost with the process
    asked = [r.range or "" for r in hub.requests if r.path == f"/cdn/{NAME}/{SHARD.format(1)}"]
    begins = [int(text.removeprefix("bytes=").partition("-")[0]) for text in asked]
    places = [0, PIECE, 2 * PIECE, 2 * PIECE + dropped, 3 * PIECE]
    assert begins[:6] == [0, *(begins[1] + place for place in places)]
    hub.forget()
    (_, _, rows, _), _ = run(hub, tmp_path)
    assert rows == served.dead_rows.tolist()
    assert of_shards(hub)[1] == TENSOR_BYTES - kept
    print(f"kept {kept:,} of {first:,} bytes sent before the kill")  # noqa: T201
