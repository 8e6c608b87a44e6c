"""Models on a hub, against a server on this machine that counts what it sends."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from containers import write_header, write_tensors
from gguf_files import FLOAT32, UINT16, gguf_bytes, quantised, strings, tensor_of
from hub_server import Fault, Hub, Repository, running_hub
from huggingface_hub import close_session, constants

import deadtokens as dt
from deadtokens.errors import SourceError
from deadtokens.inventory import Both
from deadtokens.listening import Listener, Reached, listen
from deadtokens.sources import cache, inspect, open_model, repository, transfer
from deadtokens.sources.cache import cache_folder, safe_name
from deadtokens.stocktaking import take_both, take_inventory
from deadtokens.tokens import hugging_face

V, D = 1200, 128
PROBE = 1 << 16  # what is asked for first of a safetensors file
NAME = "owner/name"
SOURCE = f"hf:{NAME}"
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def bfloat16(seed: int, rows: int = V, columns: int = D) -> npt.NDArray[ml_dtypes.bfloat16]:
    normal = np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)
    return normal.astype(ml_dtypes.bfloat16)


@pytest.fixture(scope="module")
def embed() -> npt.NDArray[ml_dtypes.bfloat16]:
    return bfloat16(1)


@pytest.fixture(scope="module")
def weights(
    tmp_path_factory: pytest.TempPathFactory, embed: npt.NDArray[ml_dtypes.bfloat16]
) -> bytes:
    """A file of three tensors of 307 kB each, the token matrix between the others."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    tensors = {"model.layers.0.a": bfloat16(2), EMBED: embed, "model.norm.b": bfloat16(3)}
    return write_tensors(path, tensors).read_bytes()


@pytest.fixture
def files(weights: bytes) -> dict[str, bytes]:
    """A repository of one safetensors file, with configuration and tokenizer."""
    return {
        "config.json": b'{"tie_word_embeddings": true}',
        "tokenizer.json": b'{"version": "1.0"}',
        "model.safetensors": weights,
        "README.md": b"not asked for",
    }


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Iterator[Hub]:
    """A hub with that repository, set in the environment, and an empty cache."""
    with running_hub({NAME: Repository(files)}) as running:
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("DEADTOKENS_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(transfer, "_WAITS", (0.0, 0.0, 0.0))
        yield running
        close_session()


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.transfers: list[tuple[str, int | None, int]] = []
        self.reached: list[int] = []

    @contextlib.contextmanager
    def transfer(self, label: str, total: int | None, done: int) -> Iterator[Reached]:
        self.transfers.append((label, total, done))
        yield self.reached.append


@pytest.fixture
def heard() -> Iterator[Heard]:
    ears = Heard()
    listen(Listener(ears.messages.append, ears.transfer))
    yield ears
    listen(None)


def fails(source: str) -> str:
    """The line with which a source is refused: one line, and no more."""
    with pytest.raises(SourceError) as refused:
        dt.open_matrix(source)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def cached() -> list[Path]:
    return sorted(path for path in cache_folder().rglob("*") if path.is_file())


def ranges(hub: Hub) -> list[str | None]:
    """The ranges asked of the place where large files are."""
    return [request.range for request in hub.requests if request.path.startswith("/cdn/")]


# --- what is transferred ---


def test_only_the_header_and_the_chosen_tensor_are_transferred(
    hub: Hub, weights: bytes, embed: npt.NDArray[ml_dtypes.bfloat16]
) -> None:
    model = open_model(SOURCE)
    assert hub.sent_of["model.safetensors"] == PROBE
    assert list(model.tensors) == ["model.layers.0.a", EMBED, "model.norm.b"]
    assert (model.source, model.tied, model.remote) == (SOURCE, True, True)
    matrix = model.matrix()
    assert matrix.tensor == EMBED
    assert np.array_equal(matrix.codes[:], embed.view(np.uint16))
    assert isinstance(matrix.codes[:].base, np.memmap)
    start = weights.index(embed.tobytes())
    assert ranges(hub) == ["bytes=0-65535", f"bytes={start}-{start + embed.nbytes - 1}"]
    assert hub.sent_of["model.safetensors"] == PROBE + embed.nbytes
    assert "README.md" not in hub.sent_of


def test_configuration_and_tokenizer_come_along(hub: Hub, files: dict[str, bytes]) -> None:
    model = open_model(SOURCE)
    assert isinstance(model.tokenizer, Path)
    assert model.tokenizer.read_bytes() == files["tokenizer.json"]
    assert model.tokenizer.name == "tokenizer.json"
    assert all(path.is_file() and cache_folder() in path.parents for path in model.files)
    files["config.json"] = b'{"tie_word_embeddings": false}'
    hub.repositories[NAME] = Repository(files)
    assert "not tied" in fails(SOURCE)


def test_a_second_run_transfers_nothing(hub: Hub) -> None:
    first = dt.open_matrix(SOURCE)
    files = open_model(SOURCE).files
    hub.forget()
    second = dt.open_matrix(SOURCE)
    assert hub.paths() == [f"/api/models/{NAME}"]
    assert set(hub.sent_of) == {"api"}
    assert np.array_equal(first.codes[:], second.codes[:])
    assert open_model(SOURCE).files == files


def test_a_commit_is_never_asked_about_again(hub: Hub) -> None:
    commit = hub.repositories[NAME].commit
    dt.open_matrix(f"{SOURCE}@main")
    hub.forget()
    matrix = dt.open_matrix(f"{SOURCE}@{commit}")
    assert hub.requests == []
    assert matrix.source == f"{SOURCE}@{commit}"


def test_a_new_commit_of_a_branch_is_seen(hub: Hub, files: dict[str, bytes]) -> None:
    assert dt.open_matrix(SOURCE).n_rows == V
    path = cache_folder().parent / "other.safetensors"
    other = write_tensors(path, {EMBED: bfloat16(9, 7)}).read_bytes()
    hub.repositories[NAME] = Repository({**files, "model.safetensors": other})
    assert dt.open_matrix(SOURCE).n_rows == 7


def test_shards(hub: Hub, tmp_path: Path, files: dict[str, bytes]) -> None:
    places: dict[str, str] = {}
    head = bfloat16(5)
    for number, tensors in enumerate([{EMBED: bfloat16(4)}, {"a": bfloat16(6)}, {HEAD: head}]):
        name = f"model-{number:05}-of-00003.safetensors"
        files[name] = write_tensors(tmp_path / name, tensors).read_bytes()
        places |= dict.fromkeys(tensors, name)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    files["config.json"] = b"{}"
    hub.repositories[NAME] = Repository(files)
    model = open_model(SOURCE)
    assert set(model.tensors) == {EMBED, "a", HEAD}
    assert np.array_equal(model.matrix().codes[:], head.view(np.uint16))
    assert hub.sent_of["model-00000-of-00003.safetensors"] == PROBE
    assert hub.sent_of["model-00002-of-00003.safetensors"] == PROBE + head.nbytes
    assert "model.safetensors" not in hub.sent_of  # the index goes before it, as on disk
    places["a"] = "model-00000-of-00003.safetensors"
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    hub.repositories[NAME] = Repository(files, commit="1" * 40)
    matrix = open_model(SOURCE).matrix()  # a tensor that is elsewhere is a note
    assert np.array_equal(matrix.codes[:], head.view(np.uint16))
    assert "the index names tensors that are not there: a" in matrix.notes
    places[HEAD] = "model-00000-of-00003.safetensors"
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    hub.repositories[NAME] = Repository(files, commit="2" * 40)
    assert f"places tensor {HEAD!r} in model-00000" in fails(SOURCE)


def test_inspecting_transfers_headers_only(hub: Hub) -> None:
    found = inspect(SOURCE)
    assert found.choice is not None
    assert found.choice.tensor.path.name == "model.safetensors"
    assert hub.sent_of["model.safetensors"] == PROBE


def test_a_header_longer_than_the_first_request(hub: Hub, tmp_path: Path) -> None:
    tensors = {EMBED: bfloat16(4)} | {
        f"model.layers.{i}.{'x' * 60}": np.zeros((1, 1), np.float32) for i in range(1000)
    }
    content = write_tensors(tmp_path / "m.safetensors", tensors).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    assert end > PROBE
    hub.repositories[NAME] = Repository({"model.safetensors": content})
    assert len(open_model(SOURCE).tensors) == 1001
    assert hub.sent_of["model.safetensors"] == max(end, 2 * PROBE)


def test_an_empty_tensor_is_not_asked_for(hub: Hub, tmp_path: Path) -> None:
    tensors = {EMBED: bfloat16(4), "nothing": np.zeros((0, 4), np.float32)}
    content = write_tensors(tmp_path / "m.safetensors", tensors).read_bytes()
    hub.repositories[NAME] = Repository({"model.safetensors": content})
    model = open_model(SOURCE)
    hub.forget()
    assert model.tensors["nothing"].read().shape == (0, 4)
    assert hub.requests == []


# --- which file ---


def test_a_file_can_be_named(hub: Hub, files: dict[str, bytes], tmp_path: Path) -> None:
    other = write_tensors(tmp_path / "x.safetensors", {EMBED: bfloat16(9, 7)}).read_bytes()
    files |= {"a.safetensors": other, "deep/er/b.safetensors": other}
    hub.repositories[NAME] = Repository(files, branches=("main", "v1.0"))
    assert dt.open_matrix(SOURCE).n_rows == V
    assert dt.open_matrix(f"{SOURCE}:a.safetensors").n_rows == 7
    matrix = dt.open_matrix(f"{SOURCE}@v1.0:deep/er/b.safetensors")
    assert matrix.n_rows == 7
    assert isinstance(matrix.tokenizer, Path)  # of the repository, as there is none beside it
    assert "no such file there" in fails(f"{SOURCE}:c.safetensors")
    assert "no such file there" in fails(f"{SOURCE}@v1.0:../a.safetensors")
    assert "cannot be opened on a hub" in fails(f"{SOURCE}:README.md")


def test_several_files_need_a_name(hub: Hub, weights: bytes) -> None:
    names = ["q4.gguf", "q8.gguf"]
    hub.repositories[NAME] = Repository(dict.fromkeys(names, weights))
    line = fails(f"{SOURCE}@main")
    assert "q4.gguf, q8.gguf" in line
    assert line.endswith(f"name one: {SOURCE}@main:FILE")
    hub.repositories[NAME] = Repository({"onnx/model.safetensors": weights, "a.txt": b""})
    assert "below are onnx/model.safetensors" in fails(SOURCE)


@pytest.mark.parametrize(
    "source",
    [
        "hf:",
        "hf:a/b/c",
        "hf:a/b@",
        "hf:a/b:",
        "hf:../b",
        "hf:a/..",
        "hf:a/b c",
        "hf:@main",
        "hf:a--b",
    ],
)
def test_what_names_no_repository(hub: Hub, source: str) -> None:
    assert "write hf:owner/name" in fails(source)
    assert hub.requests == []


# --- GGUF ---


def gguf_model(words: int = 200_000) -> tuple[bytes, npt.NDArray[np.uint8]]:
    """A GGUF file with a header of several MB, and its token matrix's raw bytes."""
    raw = np.random.default_rng(3).integers(0, 256, (500, 20 * 4), dtype=np.uint8)
    metadata = {"tokenizer.ggml.tokens": strings([f"word{i}" for i in range(words)])}
    metadata["general.some"] = (FLOAT32, 0.5)
    norm = np.ones((1 << 18,), np.float32)
    tensors = {"token_embd.weight": quantised("Q4_1", raw), "output_norm.weight": tensor_of(norm)}
    return gguf_bytes(tensors, metadata), raw


def test_gguf(hub: Hub) -> None:
    content, raw = gguf_model()
    hub.repositories[NAME] = Repository({"model-Q4_1.gguf": content})
    model = open_model(SOURCE)
    header = content.index(raw.tobytes()[:4000])
    assert 1 << 20 < header <= hub.sent_of["model-Q4_1.gguf"] <= 1 << 22
    assert not isinstance(model.tokenizer, Path)
    assert model.tokenizer is not None
    assert model.tokenizer["tokenizer.ggml.tokens"][77] == "word77"
    assert (model.tied, model.remote) == (True, True)
    opened = hub.sent_of["model-Q4_1.gguf"]
    assert np.array_equal(model.tensors["token_embd.weight"].read(), raw)
    assert hub.sent_of["model-Q4_1.gguf"] == opened + raw.nbytes
    hub.forget()
    assert np.array_equal(open_model(SOURCE).tensors["token_embd.weight"].read(), raw)
    assert set(hub.sent_of) == {"api"}


def test_gguf_in_parts(hub: Hub) -> None:
    raw = np.arange(4 * 20, dtype=np.uint8).reshape(4, 20)
    parts = {"token_embd.weight": quantised("Q4_1", raw), "output.weight": tensor_of(np.eye(4))}
    hub.repositories[NAME] = Repository(
        {
            f"m-{number:05}-of-00002.gguf": gguf_bytes(
                {name: tensor}, {"split.count": (UINT16, 2), "split.no": (UINT16, number - 1)}
            )
            for number, (name, tensor) in enumerate(parts.items(), start=1)
        }
        | {"tokenizer.json": b"{}"}
    )
    model = open_model(SOURCE)
    assert set(model.tensors) == set(parts)
    assert np.array_equal(model.tensors["token_embd.weight"].read(), raw)
    assert isinstance(model.tokenizer, Path)  # the metadata holds none
    assert open_model(f"{SOURCE}:m-00002-of-00002.gguf").tensors.keys() == parts.keys()


# --- connections that break ---


def test_a_dropped_connection_goes_on_where_it_was(
    hub: Hub, heard: Heard, embed: npt.NDArray[ml_dtypes.bfloat16]
) -> None:
    model = open_model(SOURCE)
    hub.forget()
    hub.fail("/cdn/", Fault(drop_after=100_000), Fault(drop_after=50_000))
    assert np.array_equal(model.matrix().codes[:], embed.view(np.uint16))
    assert hub.sent_of["model.safetensors"] == embed.nbytes  # not one byte twice
    assert len(ranges(hub)) == 3
    assert heard.transfers[-1] == (f"{EMBED} of {SOURCE}/model.safetensors", embed.nbytes, 0)
    assert heard.reached[-1] == embed.nbytes
    assert [message for message in heard.messages if "trying again" in message]


def test_headers_and_whole_files_survive_drops_too(hub: Hub, files: dict[str, bytes]) -> None:
    hub.fail("/cdn/", Fault(drop_after=10), Fault(drop_after=0))
    hub.fail("tokenizer.json", Fault(drop_after=5), Fault(status=502))
    model = open_model(SOURCE)
    assert isinstance(model.tokenizer, Path)
    assert model.tokenizer.read_bytes() == files["tokenizer.json"]
    assert hub.sent_of["tokenizer.json"] == len(files["tokenizer.json"])
    assert hub.sent_of["model.safetensors"] == PROBE


def test_patience_comes_back_with_progress(
    hub: Hub, embed: npt.NDArray[ml_dtypes.bfloat16], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine drops in a row, twice as many as are borne where nothing comes between them."""
    monkeypatch.setattr(transfer, "_PROGRESS_BYTES", 20_000)
    model = open_model(SOURCE)
    hub.fail("/cdn/", *[Fault(drop_after=20_000)] * 9)
    assert np.array_equal(model.matrix().codes[:], embed.view(np.uint16))


def test_a_body_that_ends_before_it_said(
    hub: Hub, weights: bytes, embed: npt.NDArray[ml_dtypes.bfloat16]
) -> None:
    stated = {"Content-Range": f"bytes 0-{PROBE - 1}/{len(weights)}"}
    hub.fail("/cdn/", Fault(status=206, garbage=weights[:100], headers=stated))
    assert np.array_equal(dt.open_matrix(SOURCE).codes[:], embed.view(np.uint16))
    assert ranges(hub)[:2] == [f"bytes=0-{PROBE - 1}", f"bytes=100-{PROBE - 1}"]


def test_giving_up_keeps_what_came(hub: Hub, embed: npt.NDArray[ml_dtypes.bfloat16]) -> None:
    model = open_model(SOURCE)
    hub.fail("/cdn/", *[Fault(drop_after=20_000)] * 4)
    with pytest.raises(SourceError, match="4 times in a row; try again later"):
        model.matrix()
    assert [path.stat().st_size for path in cached() if path.suffix == ".part"] == [80_000]
    hub.forget()
    assert np.array_equal(dt.open_matrix(SOURCE).codes[:], embed.view(np.uint16))
    assert hub.sent_of["model.safetensors"] == embed.nbytes - 80_000
    assert not [path for path in cached() if path.suffix == ".part"]


KILLED = """
    import contextlib, os, signal, sys
    import deadtokens as dt
    from deadtokens.listening import Listener, listen
    from deadtokens.sources import cache

    cache.PIECE_BYTES = 1 << 16

    def reached(done):
        if done >= 200_000:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextlib.contextmanager
    def transfer(label, total, done):
        yield reached if label.startswith("model.embed") else lambda done: None

    listen(Listener(transfer=transfer))
    dt.open_matrix(sys.argv[1])
"""


def test_a_killed_process_is_gone_on_from(hub: Hub, embed: npt.NDArray[ml_dtypes.bfloat16]) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), SOURCE]
    environment = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"}
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    (part,) = (path for path in cached() if path.suffix == ".part")
    kept = int(part.with_name(f"{part.name}.flushed").read_bytes())
    assert 3 << 16 == kept <= part.stat().st_size  # the last piece that was whole
    hub.forget()
    assert np.array_equal(dt.open_matrix(SOURCE).codes[:], embed.view(np.uint16))
    assert hub.sent_of["model.safetensors"] == embed.nbytes - kept


def interrupted(hub: Hub) -> Path:
    """The part of a transfer that was given up after 80,000 bytes."""
    model = open_model(SOURCE)
    hub.fail("/cdn/", *[Fault(drop_after=20_000)] * 4)
    with pytest.raises(SourceError, match="4 times in a row"):
        model.matrix()
    (part,) = (path for path in cached() if path.suffix == ".part")
    hub.forget()
    return part


@pytest.mark.parametrize("length", [80_001, 200_000, 2 * V * D])
def test_a_loss_of_power_leaves_no_zeros(
    hub: Hub, embed: npt.NDArray[ml_dtypes.bfloat16], length: int
) -> None:
    """A part has its length again, and zeros where its blocks were still to be written."""
    os.truncate(interrupted(hub), length)
    assert np.array_equal(dt.open_matrix(SOURCE).codes[:], embed.view(np.uint16))
    assert hub.sent_of["model.safetensors"] == embed.nbytes - 80_000
    assert not [path for path in cached() if ".part" in path.name]


@pytest.mark.parametrize("mark", [None, b"", bytes(20), b"%020d" % (2 * V * D)])
def test_a_part_is_believed_no_more_than_its_mark(
    hub: Hub, embed: npt.NDArray[ml_dtypes.bfloat16], mark: bytes | None
) -> None:
    part = interrupted(hub)
    place = part.with_name(f"{part.name}.flushed")
    assert int(place.read_bytes()) == 80_000
    place.unlink()
    if mark is not None:
        place.write_bytes(mark)
    known = part.stat().st_size if mark and int(mark.strip(b"\0") or 0) else 0
    assert np.array_equal(dt.open_matrix(SOURCE).codes[:], embed.view(np.uint16))
    assert hub.sent_of["model.safetensors"] == embed.nbytes - known


def test_parts_longer_than_what_is_wanted_and_wants_beyond_the_end(
    hub: Hub, tmp_path: Path
) -> None:
    hub.repositories[NAME] = Repository({"tokenizer.json": b"0123456789"})
    file = transfer.RemoteFile(f"{hub.url}/{NAME}/resolve/main/tokenizer.json", "here", 10)
    hub.fail("tokenizer", Fault(drop_after=6), *[Fault(drop_after=0)] * 3)
    with pytest.raises(SourceError, match="4 times in a row"):
        cache.fetch(file, tmp_path / "x", 0, None, "it")
    assert (tmp_path / "x.part").read_bytes() == b"012345"
    assert cache.fetch(file, tmp_path / "x", 2, 3, "it").read_bytes() == b"234"
    with pytest.raises(SourceError, match="here: the file ends at byte 10"):
        cache.fetch(file, tmp_path / "y", 5, 20, "it")


def test_a_part_that_begins_anew_is_marked_before_it_is_cut(hub: Hub, tmp_path: Path) -> None:
    """The server forgets ranges: the mark of what was there is not one of what comes."""
    hub.repositories[NAME] = Repository({"tokenizer.json": b"0123456789"})
    file = transfer.RemoteFile(f"{hub.url}/{NAME}/resolve/main/tokenizer.json", "here", 10)
    place, mark = tmp_path / "x", tmp_path / "x.part.flushed"
    hub.fail("tokenizer", Fault(drop_after=6), *[Fault(drop_after=0)] * 3)
    with pytest.raises(SourceError, match="4 times in a row"):
        cache.fetch(file, place, 0, None, "it")
    assert (int(mark.read_bytes()), (tmp_path / "x.part").read_bytes()) == (6, b"012345")
    marks: list[tuple[int, int]] = []

    @contextlib.contextmanager
    def watching(_label: str, _total: int | None, _done: int) -> Iterator[Reached]:
        yield lambda n_bytes: marks.append((int(mark.read_bytes()), n_bytes))

    listen(Listener(transfer=watching))
    try:
        hub.fail("tokenizer", Fault(whole=True))
        assert cache.fetch(file, place, 0, None, "it").read_bytes() == b"0123456789"
    finally:
        listen(None)
    assert marks == [(0, 10)]
    assert not mark.exists()


def test_many_at_once_transfer_it_once(hub: Hub, embed: npt.NDArray[ml_dtypes.bfloat16]) -> None:
    model = open_model(SOURCE)
    hub.forget()
    with ThreadPoolExecutor(8) as pool:
        arrays = list(pool.map(lambda _: model.tensors[EMBED].read(), range(8)))
    assert all(np.array_equal(array, embed) for array in arrays)
    assert hub.sent_of["model.safetensors"] == embed.nbytes
    assert not [path for path in cached() if path.suffix == ".part"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_trouble_of_the_server_may_pass(hub: Hub, status: int) -> None:
    hub.fail("/api/", Fault(status=status))
    hub.fail("/resolve/", Fault(status=status, headers={"Retry-After": "0"}))
    hub.fail("/cdn/", Fault(status=status))
    assert dt.open_matrix(SOURCE).n_rows == V


def test_trouble_that_does_not_pass(hub: Hub) -> None:
    hub.fail("/api/", *[Fault(status=503)] * 9)
    assert fails(SOURCE) == (
        f"{SOURCE}: the server answers 503, 4 times in a row; try again later: what was "
        "transferred is kept"
    )
    assert len(hub.requests) == 4


def test_what_is_known_waits_for_no_server(hub: Hub, heard: Heard) -> None:
    open_model(SOURCE)
    hub.forget()
    hub.fail("/api/", Fault(status=503))
    assert EMBED in open_model(SOURCE).tensors
    assert heard.messages[-1].startswith(f"{SOURCE}: the server answers 503; taking commit ")
    assert len(hub.requests) == 1


@pytest.mark.parametrize("headers", [{"Retry-After": "300"}, {"RateLimit": '"api";r=0;t=300'}])
def test_a_server_that_asks_to_wait_for_long(hub: Hub, headers: dict[str, str]) -> None:
    hub.fail("/api/", Fault(status=429, headers=headers))
    assert "answers 429 and asks to wait 300 s;" in fails(SOURCE)
    assert len(hub.requests) == 1


# --- servers that do otherwise than asked ---


def test_a_server_without_ranges_is_refused(hub: Hub) -> None:
    hub.fail("/cdn/", Fault(whole=True))
    assert "does not send parts of files (status 200" in fails(SOURCE)
    model = open_model(SOURCE)
    hub.fail("/cdn/", Fault(whole=True))
    with pytest.raises(SourceError, match="does not send parts of files"):
        model.matrix()


@pytest.mark.parametrize(
    "stated",
    ["bytes 1-65536/922000", "bytes 0-65535/*", "bytes 0-9/922000", "nonsense", "bytes 0-65535/10"],
)
def test_a_wrong_range_is_refused(hub: Hub, stated: str) -> None:
    hub.fail("/cdn/", Fault(headers={"Content-Range": stated}))
    assert f"the server sends '{stated}'" in fails(SOURCE)


def test_more_than_was_asked_for_is_refused(hub: Hub, weights: bytes) -> None:
    stated = {"Content-Range": f"bytes 0-{PROBE - 1}/{len(weights)}"}
    hub.fail("/cdn/", Fault(status=206, garbage=weights[: PROBE + 1], headers=stated))
    assert "more bytes came than were asked for" in fails(SOURCE)


def test_a_file_of_no_known_length_is_refused() -> None:
    file = transfer.RemoteFile("http://host/x", "here")
    answer = SimpleNamespace(status_code=200, headers={})
    with pytest.raises(SourceError, match="here: the server does not say how long it is"):
        transfer._extent(file, answer, 0, None)
    assert transfer._extent(replace(file, size=7), answer, 0, None) == (7, 7)


def test_another_size_than_before_is_refused(hub: Hub, weights: bytes) -> None:
    model = open_model(SOURCE)
    hub.repositories[NAME].files = {"model.safetensors": weights + b"x"}
    with pytest.raises(SourceError, match=r"921,894 bytes of it, but 921,893 were announced"):
        model.matrix()


def test_compression_is_refused(hub: Hub) -> None:
    hub.fail("/cdn/", Fault(headers={"Content-Encoding": "gzip"}))
    assert "sends it compressed" in fails(SOURCE)


@pytest.mark.parametrize("garbage", [b"<html>sign in</html>", b"[]", b"{}", b'{"sha": "../x"}'])
def test_what_is_no_hub(hub: Hub, garbage: bytes) -> None:
    hub.fail("/api/", Fault(garbage=garbage))
    assert "the answer is not that of a hub" in fails(SOURCE) or "no commit" in fails(SOURCE)


def test_a_commit_that_is_none(hub: Hub) -> None:
    hub.fail("/api/", Fault(garbage=b'{"id": "owner/name", "sha": "../x", "siblings": []}'))
    assert "the server names no commit, but '../x'" in fails(SOURCE)


def test_sizes_that_the_hub_does_not_list(hub: Hub) -> None:
    hub.repositories[NAME].sizes = False
    assert dt.open_matrix(SOURCE).n_rows == V


# --- what is refused ---


def test_repositories_that_are_not_to_be_had(
    hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["owner/private"] = Repository(files, token="secret")  # noqa: S106
    hub.repositories["owner/gated"] = Repository(files, gated=True)
    nothing = "no such repository, or it is private; check the name; if it is private, log in with"
    assert fails("hf:owner/missing").startswith(f"hf:owner/missing: {nothing}")
    assert nothing in fails("hf:owner/private")
    gated = fails("hf:owner/gated")
    assert "this repository is gated" in gated
    assert f"accept its terms on {hub.url}/owner/gated, then log in with `hf auth login`" in gated
    assert "no such revision" in fails(f"{SOURCE}@nowhere")
    monkeypatch.setenv("HF_TOKEN", "another")
    assert nothing in fails("hf:owner/missing")
    assert "is gated" in fails("hf:owner/gated")
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert dt.open_matrix("hf:owner/private").n_rows == V


def test_other_refusals(hub: Hub) -> None:
    hub.fail("/api/", Fault(status=403, headers={"X-Error-Message": "not for you"}))
    assert "access is forbidden (not for you); use a token" in fails(SOURCE)
    hub.fail("/api/", Fault(status=418))
    assert "the server answers 418" in fails(SOURCE)
    message = "Invalid credentials in Authorization header"
    hub.fail("/api/", Fault(status=401, headers={"X-Error-Message": message}))
    assert "the hub refuses the token" in fails(SOURCE)
    message = "Access to this resource is disabled."
    hub.fail("/api/", Fault(status=403, headers={"X-Error-Message": message}))
    assert "this repository has been disabled" in fails(SOURCE)


def test_connections_and_tokens_that_cannot_be_had(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path))
    assert "the token cannot be read (" in fails(SOURCE)
    close_session()
    monkeypatch.setenv("ALL_PROXY", "nonsense://proxy")
    assert "no connection can be set up (" in fails(SOURCE)
    assert not hub.requests


def test_the_token_does_not_leave_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    dt.open_matrix(SOURCE)
    seen = {(request.path[:5] == "/cdn/", request.authorization) for request in hub.requests}
    assert seen == {(False, "Bearer secret"), (True, None)}


# --- without a connection ---


def test_offline_with_everything_kept(
    hub: Hub, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = dt.open_matrix(SOURCE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    after = dt.open_matrix(SOURCE)
    assert np.array_equal(before.codes[:], after.codes[:])
    commit = hub.repositories[NAME].commit
    assert heard.messages[-1] == (
        f"{SOURCE}: HF_HUB_OFFLINE forbids asking the hub; taking commit {commit}, as last time"
    )
    assert "HF_HUB_OFFLINE forbids asking the hub" in fails(f"{SOURCE}@v2")
    assert "unset it: not all of this is in the cache" in fails("hf:owner/other")


@pytest.mark.usefixtures("hub")
def test_no_connection(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(SOURCE)
    with running_hub() as gone:
        pass
    monkeypatch.setenv("HF_ENDPOINT", gone.url)
    assert "the connection failed" in fails("hf:owner/other")
    assert open_model(SOURCE).tensors.keys() == model.tensors.keys()
    assert "taking commit" in heard.messages[-1]
    assert "the connection failed" in fails(SOURCE)  # the tensor was not transferred before


# --- the cache ---


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DEADTOKENS_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "deadtokens"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "deadtokens"
    monkeypatch.setenv("DEADTOKENS_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.usefixtures("hub")
def test_what_is_damaged_is_fetched_again() -> None:
    right = dt.open_matrix(SOURCE).codes[:].copy()
    (tensor,) = (path for path in cached() if path.parent.name == "tensors")
    (header,) = (path for path in cached() if path.parent.name == "headers")
    listing = header.parent.parent / "listing.json"
    for path, content in [
        (tensor, b"short"),
        (header, b"922216\n12345678{}"),
        (header, b"nonsense"),
        (listing, b"[]"),
    ]:
        path.write_bytes(content)
        assert np.array_equal(dt.open_matrix(SOURCE).codes[:], right)
        assert path.read_bytes() != content
    tensor.rename(tensor.with_name(f"{tensor.name}.part"))
    with tensor.with_name(f"{tensor.name}.part").open("ab") as part:
        part.write(b"more than the tensor has")
    assert np.array_equal(dt.open_matrix(SOURCE).codes[:], right)


def test_no_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(SOURCE)
    usage = shutil.disk_usage(cache_folder())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    hub.forget()
    with pytest.raises(SourceError, match=r"no room: 307,200 bytes are to come, 1,000 are free"):
        model.matrix()
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_a_disk_that_fills_up(embed: npt.NDArray[ml_dtypes.bfloat16]) -> None:
    model = open_model(SOURCE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(SourceError, match=r"cache cannot be used \(File too large\); free"):
            model.matrix()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    tensors = [path for path in cached() if path.parent.name == "tensors"]
    assert [path.suffix for path in tensors] == [".part", ".flushed"]
    assert np.array_equal(model.matrix().codes[:], embed.view(np.uint16))


def test_a_cache_that_cannot_be_written(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DEADTOKENS_CACHE", str(tmp_path / "file" / "deeper"))
    assert "name another folder in DEADTOKENS_CACHE" in fails(SOURCE)
    assert hub.sent_of.get("model.safetensors", 0) == 0


def test_a_cache_that_becomes_read_only(read_only_folder: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be written.*folder in DEADTOKENS_CACHE"):
        cache.store(read_only_folder / "x", b"")


def outside(folder: Path) -> set[str]:
    """What lies in a folder and not in the cache."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in found if cache_folder() not in path.parents}


HOSTILE = ["../../../escaped", "/escaped", "a/../../escaped", "..", "\0", "x" * 300, "a\nb", ""]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tensor_names_stay_in_the_cache(hub: Hub, tmp_path: Path, name: str) -> None:
    content = write_tensors(tmp_path / "m.safetensors", {name: bfloat16(4)}).read_bytes()
    hub.repositories[NAME] = Repository({"model.safetensors": content})
    assert dt.open_matrix(SOURCE).n_rows == V
    assert outside(tmp_path) == {"m.safetensors"}
    assert len([path for path in cached() if path.parent.name == "tensors"]) == 1


@pytest.mark.parametrize(
    "name",
    ["../../config.json", "/x.safetensors", "a/../b.safetensors", "c:\\x.bin", "a\0.bin"],
)
def test_hostile_file_names_are_refused(
    hub: Hub, weights: bytes, tmp_path: Path, name: str
) -> None:
    with pytest.raises(SourceError, match="no name for a file"):
        cache.safe_path(tmp_path, name, "here")
    hub.repositories[NAME] = Repository({name: weights, "model.safetensors": weights})
    assert dt.open_matrix(SOURCE).n_rows == V
    index = json.dumps({"weight_map": {EMBED: name}}).encode()
    hub.repositories[NAME] = Repository({name: weights, "model.safetensors.index.json": index})
    with contextlib.suppress(SourceError):
        dt.open_matrix(SOURCE)
    hub.repositories[NAME] = Repository({f"pytorch/{name}": weights, name: weights})
    with contextlib.suppress(SourceError):
        dt.open_matrix(f"{SOURCE}:{name}")
    assert outside(tmp_path) == set()


def test_names_that_differ_are_kept_apart() -> None:
    names = {
        safe_name(name, *facts) for name in ("a.b", "a_b", "a/b") for facts in [(), (1,), (2,)]
    }
    assert len(names) == 9
    assert all("/" not in name and len(name) < 120 for name in [*names, safe_name("é" * 999)])


@pytest.mark.parametrize("length", [0, 7, 1 << 30, 1 << 62])
def test_headers_that_lie(hub: Hub, tmp_path: Path, length: int) -> None:
    path = write_header(tmp_path / "m.safetensors", {}, bytes(1000), length)
    hub.repositories[NAME] = Repository({"model.safetensors": path.read_bytes()})
    assert f"{SOURCE}/model.safetensors" in fails(SOURCE)
    assert hub.sent_of["model.safetensors"] <= 2 * path.stat().st_size
    assert not [path for path in cached() if path.parent.name == "headers"]


@pytest.mark.parametrize("kept", [0, 5, 100, 5000])
def test_truncated_files(hub: Hub, weights: bytes, kept: int) -> None:
    hub.repositories[NAME] = Repository({"model.safetensors": weights[:kept]})
    assert "truncated" in fails(SOURCE)
    content, _ = gguf_model(words=10)
    hub.repositories[NAME] = Repository({"model.gguf": content[:kept]})
    assert f"{SOURCE}/model.gguf" in fails(SOURCE)


# --- files that are fetched whole ---


def test_torch_files_are_not_fetched_without_torch(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    hub.repositories[NAME] = Repository({"pytorch_model.bin": bytes(100)})
    assert fails(SOURCE).endswith("pip install 'deadtokens[torch]'")
    assert "pytorch_model.bin" not in hub.sent_of


SMALL_FILES = ["config.json", "model.safetensors.index.json", "tokenizer.json"]


@pytest.mark.parametrize("sizes", [True, False], ids=["listed", "not listed"])
@pytest.mark.parametrize("name", SMALL_FILES)
def test_small_files_that_are_large_are_not_fetched(
    hub: Hub,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    sizes: bool,
) -> None:
    monkeypatch.setattr(repository, "_MOST_JSON_BYTES", 3_000_000)
    monkeypatch.setattr(repository, "_MOST_TOKENIZER_BYTES", 3_000_000)
    files = files | {name: b'{"weight_map": {}}' + b" " * 30_000_000}
    hub.repositories[NAME] = Repository(files, sizes=sizes)
    refused = fails(SOURCE)
    assert f"{SOURCE}/{name}: 30,000,0" in refused
    assert "too large: 3,000,000 are the most" in refused
    assert hub.sent_of.get(name, 0) < (1 if sizes else 20_000_000)  # what lay in buffers
    assert all(path.stat().st_size < 1_000_000 for path in cached())


def test_the_most_that_is_fetched_of_small_files() -> None:
    assert repository._MOST_JSON_BYTES == 100_000_000
    assert repository._MOST_TOKENIZER_BYTES == hugging_face._MAX_BYTES


# --- from the command line ---


@pytest.mark.usefixtures("hub")
def test_the_program() -> None:
    command = [sys.executable, "-m", "deadtokens", "inspect", SOURCE, "--json"]
    environment = os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout)["candidates"][0]["tensor"] == EMBED
    command[-2] = "hf:owner/missing"
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "no such repository" in result.stderr


def test_where_nobody_answers_it_says_so_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, heard: Heard
) -> None:
    assert hub.url
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(transfer, "_WAITS", (60.0,))  # nobody waits that long
    assert "no hub answers" in fails(f"hf:{NAME}")
    assert not any("trying again" in message for message in heard.messages)


# --- which matrix, and what is missing ---


def test_sizes_and_untied_matrices_are_read_from_the_configuration(
    hub: Hub, tmp_path: Path, files: dict[str, bytes]
) -> None:
    path = tmp_path / "m.safetensors"
    square = bfloat16(3, D, D)
    tensors = {EMBED: bfloat16(1), "text_model.head.weight": square}
    files["model.safetensors"] = write_tensors(path, tensors).read_bytes()
    files["config.json"] = json.dumps({"text_config": {"vocab_size": V}}).encode()
    hub.repositories[NAME] = Repository(files)
    matrix = dt.open_matrix(SOURCE)
    assert matrix.tensor == EMBED
    assert "too few rows" in matrix.notes[0]


def test_a_configuration_that_is_no_json(hub: Hub, files: dict[str, bytes]) -> None:
    files["config.json"] = b'{"tie_word_embeddings": true,}'
    hub.repositories[NAME] = Repository(files)
    matrix = dt.open_matrix(SOURCE)
    assert "could not be understood" in matrix.warnings[0]
    assert "config.json is left out" in matrix.notes[0]


def test_both_matrices_of_a_model_that_says_it_is_tied(
    hub: Hub, tmp_path: Path, files: dict[str, bytes]
) -> None:
    """They are compared once both are transferred, and the contradiction is said."""
    del files["tokenizer.json"]
    path = tmp_path / "m.safetensors"
    files["model.safetensors"] = write_tensors(
        path, {EMBED: bfloat16(1), HEAD: bfloat16(2)}
    ).read_bytes()
    hub.repositories[NAME] = Repository(files)
    taken = take_inventory(dt.open_matrix(SOURCE))
    assert take_both(taken) == Both()
    assert "were not compared: config.json says that they are tied" in taken.matrix.notes[0]
    untied = take_both(taken, transfer=True).untied
    assert untied is not None
    assert "hold different numbers" in untied.warnings[0]


def test_a_shard_that_the_repository_has_not(hub: Hub, tmp_path: Path, weights: bytes) -> None:
    head = write_tensors(tmp_path / "h.safetensors", {HEAD: bfloat16(2)}).read_bytes()
    places = {EMBED: "gone.safetensors", HEAD: "here.safetensors"}
    index = json.dumps({"weight_map": places}).encode()
    kept = {"here.safetensors": head, "model.safetensors.index.fp16.json": index}
    hub.repositories[NAME] = Repository(kept)
    matrix = dt.open_matrix(SOURCE)
    assert matrix.tensor == HEAD
    assert "gone.safetensors was left out: no such file in the repository" in matrix.notes
    places = {EMBED: "here.safetensors", HEAD: "gone.safetensors"}
    index = json.dumps({"weight_map": places}).encode()
    kept = {"here.safetensors": weights, "model.safetensors.index.fp16.json": index}
    hub.repositories[NAME] = Repository(kept, commit="3" * 40)
    assert f"the index places {HEAD!r} there" in fails(SOURCE)
