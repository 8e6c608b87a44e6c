"""PyTorch checkpoints, written by torch itself or, where they lie, byte by byte."""

from __future__ import annotations

import collections
import json
import os
import pickle
import re
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hub_server import Repository, running_hub

import deadtokens as dt
from deadtokens.errors import SourceError
from deadtokens.files import read_tensors
from deadtokens.sources import open_model

slow = pytest.mark.slow
EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def numbers(seed: int = 1, rows: int = 50, columns: int = 8) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, columns), dtype=np.float32)


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as refused:
        read_tensors(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_without_torch_the_remedy_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"anything")
    assert refusal(path) == (
        f"{path}: reading this kind of file needs torch, which is not installed; "
        "pip install 'deadtokens[torch]'"
    )


@slow
@pytest.mark.parametrize(
    ("kind", "code", "foreign"),
    [
        ("float32", np.uint32, None),
        ("float16", np.uint16, None),
        ("bfloat16", np.uint16, ml_dtypes.bfloat16),
        ("float8_e4m3fn", np.uint8, ml_dtypes.float8_e4m3fn),
        ("float8_e5m2", np.uint8, ml_dtypes.float8_e5m2),
    ],
)
def test_formats(torch: Any, tmp_path: Path, kind: str, code: Any, foreign: Any) -> None:
    """The bits that torch wrote, against NumPy's or ml_dtypes' own rounding."""
    values = numbers()
    tensor = torch.from_numpy(values).to(getattr(torch, kind))
    torch.save({EMBED: tensor}, tmp_path / "model.bin")
    matrix = dt.open_matrix(tmp_path / "model.bin")
    expected = values.astype(foreign or kind)
    assert matrix.format.name == kind
    assert matrix.codes[:].dtype == code
    assert np.array_equal(matrix.codes[:], expected.view(code))
    assert np.array_equal(matrix.values(), expected.astype(np.float32))
    with pytest.raises(ValueError, match="read-only"):
        matrix.codes[:][0, 0] = 1


@slow
def test_float64_is_narrowed_where_that_is_exact(torch: Any, tmp_path: Path) -> None:
    torch.save({EMBED: torch.from_numpy(numbers().astype(np.float64))}, tmp_path / "a.pt")
    assert np.array_equal(dt.open_matrix(tmp_path / "a.pt").values(), numbers())


@slow
def test_nested_mappings_are_flattened(torch: Any, tmp_path: Path) -> None:
    inner = collections.OrderedDict({EMBED: torch.from_numpy(numbers()), "n": torch.tensor(3)})
    held = {
        "state_dict": {"module": inner},
        "epoch": 3,
        "names": ["a", "b"],
        "optimizer": {"state": {0: {"step": torch.tensor(7)}}},
        "parameter": torch.nn.Parameter(torch.ones(2, 2)),
    }
    torch.save(held, tmp_path / "model.pth")
    tensors = read_tensors(tmp_path / "model.pth")
    assert list(tensors) == [
        f"state_dict.module.{EMBED}",
        "state_dict.module.n",
        "optimizer.state.0.step",
        "parameter",
    ]
    assert dt.open_matrix(tmp_path / "model.pth").tensor == f"state_dict.module.{EMBED}"
    assert tensors["state_dict.module.n"].read() == 3
    assert tensors["parameter"].shape == (2, 2)


@slow
def test_a_single_tensor_goes_by_the_file_name(torch: Any, tmp_path: Path) -> None:
    torch.save(torch.from_numpy(numbers()), tmp_path / "vectors.pt")
    matrix = dt.open_matrix(tmp_path / "vectors.pt")
    assert (matrix.tensor, matrix.shape) == ("vectors", (50, 8))


@slow
def test_mappings_without_end(torch: Any, tmp_path: Path) -> None:
    """One that holds itself, and one that holds the next twice, 40 times over."""
    itself: dict[str, Any] = {EMBED: torch.ones(2, 2)}
    itself["again"] = itself
    torch.save(itself, tmp_path / "a.pt")
    assert list(read_tensors(tmp_path / "a.pt")) == [EMBED]
    twice: dict[str, Any] = {EMBED: torch.ones(2, 2)}
    for _ in range(40):
        twice = {"a": twice, "b": twice}
    torch.save(twice, tmp_path / "b.pt")
    assert "more than 200,000 tensors and mappings" in refusal(tmp_path / "b.pt")


def pickled_depth(depth: int) -> bytes:
    """A pickle of so many mappings within each other, written byte by byte."""
    return b"\x80\x02" + b"}X\x01\x00\x00\x00a" * depth + b"}" + b"s" * depth + b"."


@slow
@pytest.mark.parametrize("depth", [64, 200_000])
def test_mappings_too_deep(torch: Any, tmp_path: Path, depth: int) -> None:
    path = tmp_path / "a.pt"
    torch.save({EMBED: torch.ones(2, 2)}, path)
    pickled = pickled_depth(depth)
    rewritten(path, lambda name, content: pickled if name.endswith("data.pkl") else content)
    start = time.process_time()
    assert "mappings within mappings, more than 64 deep" in refusal(path)
    assert time.process_time() - start < 10


@slow
def test_mappings_as_deep_as_allowed(torch: Any, tmp_path: Path) -> None:
    held: dict[str, Any] = {EMBED: torch.ones(2, 2)}
    for _ in range(63):
        held = {"a": held}
    torch.save(held, tmp_path / "a.pt")
    assert list(read_tensors(tmp_path / "a.pt")) == ["a." * 63 + EMBED]


@slow
def test_one_mapping_in_many_places(torch: Any, tmp_path: Path) -> None:
    """20,000 times 20,000 entries that are no tensors, and as many that are."""
    numbers = dict.fromkeys(range(20_000), 1)
    torch.save({"x": torch.ones(1), **{str(i): numbers for i in range(20_000)}}, tmp_path / "a.pt")
    start = time.process_time()
    assert list(read_tensors(tmp_path / "a.pt")) == ["x"]
    assert time.process_time() - start < 10
    tensors = dict.fromkeys(range(20_000), torch.ones(1))
    torch.save({str(i): tensors for i in range(20_000)}, tmp_path / "b.pt")
    assert "more than 200,000 tensors and mappings" in refusal(tmp_path / "b.pt")


@slow
def test_names_that_cannot_be_written(torch: Any, tmp_path: Path) -> None:
    torch.save({"\ud800.weight": torch.ones(1)}, tmp_path / "a.pt")
    assert "is called '\\ud800.weight', which is not text" in refusal(tmp_path / "a.pt")
    torch.save({"a" * 600: {"b" * 400: torch.ones(1)}}, tmp_path / "b.pt")
    assert "names of more than 1,000 characters" in refusal(tmp_path / "b.pt")


@slow
def test_views_are_read_as_they_are_seen(torch: Any, tmp_path: Path) -> None:
    whole = torch.from_numpy(numbers(rows=20, columns=20)).to(torch.bfloat16)
    torch.save({"turned": whole.T, "part": whole[3:7, 2:5], "all": whole}, tmp_path / "a.pt")
    tensors = read_tensors(tmp_path / "a.pt")
    expected = numbers(rows=20, columns=20).astype(ml_dtypes.bfloat16)
    assert np.array_equal(tensors["turned"].read(), expected.T)
    assert np.array_equal(tensors["part"].read(), expected[3:7, 2:5])
    found = dt.census(dt.open_matrix(tmp_path / "a.pt", tensor="turned"))
    assert found.n_unique == 20


@slow
def test_an_index_of_shards(torch: Any, tmp_path: Path) -> None:
    places = {}
    for number, name in enumerate([EMBED, "a.b", HEAD]):
        file = f"pytorch_model-{number}.bin"
        torch.save({name: torch.from_numpy(numbers(number))}, tmp_path / file)
        places[name] = file
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    assert np.array_equal(dt.open_matrix(tmp_path).values(), numbers(2))
    assert list(open_model(index).tensors) == list(places)


@slow
def test_a_file_is_mapped_not_loaded(torch: Any, tmp_path: Path) -> None:
    """400 MB of which one row is looked at, in a process of its own."""
    torch.save({EMBED: torch.zeros(100_000, 1_000)}, tmp_path / "model.bin")
    code = """
        import re, sys
        from pathlib import Path
        import torch
        def peak():
            return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
        import deadtokens as dt
        before = peak()
        matrix = dt.open_matrix(sys.argv[1])
        assert not matrix.codes[50_000:50_001].any()
        print((peak() - before) / 1024)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "model.bin")]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(grown) < 40


@slow
def test_files_older_than_the_zip_format(torch: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    held = {EMBED: torch.from_numpy(numbers()).to(torch.bfloat16)}
    torch.save(held, path, _use_new_zipfile_serialization=False)
    assert path.read_bytes()[:2] != b"PK"
    expected = numbers().astype(ml_dtypes.bfloat16).view(np.uint16)
    assert np.array_equal(dt.open_matrix(path).codes[:], expected)


# --- files that are not what they seem ---


class Malicious:
    """Unpickled, it runs a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


@slow
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_something_is_refused(
    torch: Any, tmp_path: Path, *, zipped: bool
) -> None:
    target = tmp_path / "run"
    path = tmp_path / "model.bin"
    held = {EMBED: torch.ones(2, 2), "x": Malicious(target)}
    torch.save(held, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert not target.exists()
    line = refusal(path)
    assert re.search(r"its pickle names (posix|nt)\.system, which is not loaded", line)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists()  # the trap would have worked


@slow
@pytest.mark.usefixtures("torch")
def test_a_plain_pickle_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "run"
    path = tmp_path / "training_args.bin"
    path.write_bytes(pickle.dumps(Malicious(target)))
    assert "\n" not in refusal(path)
    assert not target.exists()


@slow
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_and_damaged_files(torch: Any, tmp_path: Path, *, zipped: bool) -> None:
    path = tmp_path / "model.bin"
    torch.save({EMBED: torch.ones(40, 40)}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for length in [0, 1, 3, 4, 30, 100, 500, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        refusal(path)
    rng = np.random.default_rng(5)
    for _ in range(200):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        try:
            for tensor in read_tensors(path).values():
                assert tensor.read().nbytes == tensor.nbytes <= len(content)
        except SourceError as error:
            assert "\n" not in str(error)  # noqa: PT017


@slow
@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("content", [b"", b"text\n" * 99, b"PK\x03\x04" + bytes(500), bytes(4096)])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    assert f"{path}: not a" in refusal(path)


@slow
def test_checkpoints_without_tensors(torch: Any, tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "a.pt")
    assert "no tensors in this checkpoint" in refusal(tmp_path / "a.pt")
    torch.save({"a": {"b": torch.ones(1)}, "a.b": torch.ones(1)}, tmp_path / "b.pt")
    assert "two tensors are called 'a.b'" in refusal(tmp_path / "b.pt")


def rewritten(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> None:
    """An archive again, each member passed through ``change(name, content)``."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))


@slow
def test_compressed_members_are_refused(torch: Any, tmp_path: Path) -> None:
    """A bomb: 100 MB of zeros in 100 kB, and as the pickle."""
    path = tmp_path / "model.pt"
    torch.save({EMBED: torch.ones(2, 2)}, path)

    def bomb(name: str, content: bytes) -> bytes:
        return bytes(100_000_000) if name.endswith("data.pkl") else content

    rewritten(path, bomb, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    assert "is compressed, which PyTorch does not do" in refusal(path)


FOUR_THOUSAND, FORTY, HUNDRED = b"M\xa0\x0f", b"K(Kd\x86", b"KdK\x01\x86"  # as pickled


@slow
@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({FOUR_THOUSAND: b"\x8a\x06" + (2**40).to_bytes(6, "little")}, "nothing there has that"),
        ({FORTY: b"J" + (2**30).to_bytes(4, "little") + b"Kd\x86"}, "not a readable PyTorch"),
        (
            {FOUR_THOUSAND: b"M\xb4\x0f", FORTY: b"KCK<\x86", HUNDRED: b"K<K\x01\x86"},
            "16,080 bytes",
        ),
    ],
    ids=["storage", "shape", "both"],
)
def test_pickles_that_lie_about_sizes(
    torch: Any, tmp_path: Path, said: dict[bytes, bytes], line: str
) -> None:
    """A tensor of 40 x 100, said to lie in 2**40 numbers, have 2**30 rows, or be 67 x 60."""
    path = tmp_path / "model.pt"
    torch.save({EMBED: torch.ones(40, 100)}, path)

    def lie(name: str, content: bytes) -> bytes:
        for true, false in said.items() if name.endswith("data.pkl") else ():
            assert true in content
            content = content.replace(true, false)
        return content

    rewritten(path, lie)
    assert line in refusal(path)


@slow
def test_tensors_that_are_not_plain(torch: Any, tmp_path: Path) -> None:
    held = {
        "sparse": torch.eye(4).to_sparse(),
        "repeated": torch.ones(1, 4).expand(1_000_000, 4),
        EMBED: torch.ones(2, 2),
    }
    torch.save(held, tmp_path / "a.pt")
    tensors = read_tensors(tmp_path / "a.pt")
    assert tensors["sparse"].dtype == "float32 (sparse_coo, cpu)"
    assert tensors["repeated"].dtype == "float32 (repeated)"
    for name in "sparse", "repeated":
        with pytest.raises(SourceError, match="which is not supported; save it as a plain tensor"):
            tensors[name].read()
    assert dt.open_matrix(tmp_path / "a.pt").tensor == EMBED


# --- on a hub ---


@slow
def test_on_a_hub(torch: Any, tmp_path: Path) -> None:
    """Fetched whole; of an index, only the files that hold what is called like a token matrix."""
    files: dict[str, bytes] = {}
    places = {}
    for number, name in enumerate([EMBED, "model.layers.0.mlp.weight", HEAD]):
        file = f"pytorch_model-{number}.bin"
        torch.save({name: torch.from_numpy(numbers(number))}, tmp_path / file)
        files[file] = (tmp_path / file).read_bytes()
        places[name] = file
    index = json.dumps({"weight_map": places}).encode()
    repositories = {
        "owner/one": Repository({"pytorch_model.bin": files["pytorch_model-0.bin"]}),
        "owner/many": Repository({**files, "pytorch_model.bin.index.json": index}),
    }
    code = """
        import sys
        import deadtokens as dt
        from deadtokens.listening import Listener, listen
        from deadtokens.sources import open_model
        listen(Listener(message=lambda text: print(text, file=sys.stderr)))
        for source in sys.argv[1:]:
            model = open_model(source)
            print(list(model.tensors), model.remote, model.matrix().values()[7].tolist())
    """
    with running_hub(repositories) as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "DEADTOKENS_CACHE": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        sources = ["hf:owner/one", "hf:owner/many", "hf:owner/many:pytorch_model-1.bin"]
        command = [sys.executable, "-c", textwrap.dedent(code), *sources]
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        )
        assert hub.sent_of["pytorch_model-1.bin"] == len(files["pytorch_model-1.bin"])
        hub.forget()
        subprocess.run(command, env=environment, capture_output=True, check=True)
        assert set(hub.sent_of) == {"api"}
    one, many, named = result.stdout.splitlines()
    assert one == f"{[EMBED]} False {numbers(0)[7].tolist()}"
    assert many == f"{[EMBED, HEAD]} False {numbers(2)[7].tolist()}"
    assert named == f"{['model.layers.0.mlp.weight']} False {numbers(1)[7].tolist()}"
    assert "all of it is fetched" in result.stderr
    assert "1 of its files are not fetched" in result.stderr
