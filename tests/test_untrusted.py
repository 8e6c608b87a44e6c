"""What comes from strangers: a hostile model through every command, and attacks on each reader."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import struct
import subprocess
import sys
import unicodedata
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import write_header, write_tensors
from hostile_model import ADDED, BYTES, DEAD, FOLDER, INPUT, N_ROWS, OUTPUT, hostile_model
from hypothesis import given
from hypothesis import strategies as st
from made_models import byte_level, piece, write_model
from program import deadtokens, in_a_terminal
from short_studies import shorten_studies

import deadtokens as dt
from deadtokens.cli.display import quoted
from deadtokens.errors import DeadtokensError, SourceError, plain
from deadtokens.files import npy, torch_files
from deadtokens.report.words import typeset
from deadtokens.sources import describe
from deadtokens.tokens import reach, vocabulary
from deadtokens.tokens.reading import open_vocabulary
from deadtokens.writing import json_text, spreadsheet_safe, spreadsheet_text

# --- a hostile model through every command ---

COMMANDS = {
    "inspect": ["inspect", "{a}"],
    "census": ["census", "{a}", "-o", "{out}/census"],
    "measure": ["measure", "{a}", "-o", "{out}/measured.csv", "--save", "{out}/saved"],
    "survey": ["survey", "{a}", "{b}", "-o", "{out}/survey"],
    "diff": ["diff", "{a}", "{b}", "-o", "{out}/diff"],
    "study": ["study", "{a}", "--rows", "cluster", "--trials", "9", "-o", "{out}/study"],
}
# What rich writes to a terminal: bold and back, and a bar's line cleared and redrawn.
OF_RICH = re.compile(r"\x1b\[(?:[0-9;]*m|2K|1A|\?25[lh])|\r\n?")
PINK = "38;5;201"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    hostile_model(folder / "a")
    hostile_model(folder / "b", seed=1)
    return folder


def words(place: Path, name: str, *more: str) -> list[str]:
    named = {"a": place / "a" / FOLDER, "b": place / "b" / FOLDER, "out": place / "out"}
    return [*(word.format(**named) for word in COMMANDS[name]), *more]


@pytest.fixture(scope="module")
def said(place: Path) -> dict[str, str]:
    """What each command prints into pipes; it leaves its files behind."""
    (place / "out").mkdir(exist_ok=True)  # a command of another test may have come first
    outputs = {}
    with pytest.MonkeyPatch.context() as patch:
        shorten_studies(patch)
        for name in COMMANDS:
            ended = deadtokens(*words(place, name))
            assert ended.status == 0, ended.err
            outputs[name] = ended.out + ended.err
    return outputs


def unseen(text: str) -> set[str]:
    """Characters that drive a terminal, turn text around or are not seen, but for line ends."""
    bad = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    found = {c for c in text if unicodedata.category(c) in bad and c != "\n"}
    return found | set(text) & set("\u3164\u034f\ufe0f")


def test_pipes_get_no_character_that_does_anything(said: dict[str, str]) -> None:
    for name, text in said.items():
        assert unseen(text) == set(), name
        assert re.search("(?:[\u0300-\u036f\u0489]){5}", text) is None, name
    assert quoted(DEAD[3]) in said["census"]


def test_every_token_is_shown_escaped(said: dict[str, str]) -> None:
    for token in DEAD[:40]:
        assert plain(quoted(token)) in said["census"], token
    for token, _ in ADDED:
        assert plain(quoted(token)) in said["census"], token
    for name in (OUTPUT, INPUT):
        assert plain(name) in said["inspect"]


@pytest.mark.parametrize(
    "name", ["inspect", "census", "survey", "diff", pytest.param("study", marks=pytest.mark.slow)]
)
def test_terminals_get_nothing_but_richs_own(place: Path, said: dict[str, str], name: str) -> None:
    assert said
    status, shown = in_a_terminal(*words(place, name))
    assert status == 0, shown
    assert PINK not in "".join(OF_RICH.findall(shown))
    assert unseen(OF_RICH.sub("", shown)) == set()


@pytest.mark.parametrize("name", ["inspect", "census", "measure", "survey", "diff"])
def test_json_is_ascii_and_says_the_names_exactly(place: Path, name: str) -> None:
    ended = deadtokens(*words(place, name, "--json"))
    assert ended.status == 0
    text = ended.out
    assert text.isascii()
    assert unseen(text) == set()
    held = json.loads(text)
    names = {"inspect": held.get("used"), "census": held.get("tensor")}
    assert names.get(name, OUTPUT) == OUTPUT
    assert "\\u202e" in text or name == "measure"


def test_bad_sources_are_named_without_harm(tmp_path: Path) -> None:
    bad = tmp_path / FOLDER
    bad.mkdir(parents=True)
    write_header(bad / "m.safetensors", {OUTPUT: {"dtype": "\x1b[2J" * 99, "shape": [1]}})
    (bad / "n.safetensors").write_bytes(b"")
    for wrong in (["census", bad], ["survey", bad / "m.safetensors"]):
        ended = deadtokens(*wrong)
        assert ended.status == 1
        text = ended.out + ended.err
        assert "error: " in text
        assert unseen(text) == set()


# --- in spreadsheets ---

FORMULA = re.compile(r"[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|([\\nrt]))")


def spelled_back(cell: str) -> str:
    """The text of a cell, by what docs/untrusted.md says of it."""
    letters = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\"}
    bare = cell[1:] if re.match(rf"''*{FORMULA.pattern}", cell) else cell
    return ESCAPE.sub(lambda m: letters[m[4]] if m[4] else chr(int(m[1] or m[2] or m[3], 16)), bare)


def is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_no_cell_is_a_formula(place: Path, said: dict[str, str]) -> None:
    assert said
    csv.field_size_limit(1 << 28)
    files = list((place / "out").rglob("*.csv"))
    assert {"tokens.csv", "special.csv", "labels.csv", "diff.csv", "survey.csv"} <= {
        file.name for file in files
    }
    for file in files:
        for parted in ",;":  # a spreadsheet may part cells at either
            with file.open(encoding="utf-8", newline="") as lines:
                cells = [cell for line in csv.reader(lines, delimiter=parted) for cell in line]
            started = [c for c in cells if FORMULA.match(c) and not is_number(c)]
            assert started == [], (file.name, parted)
        assert unseen(file.read_text(encoding="utf-8")) == set()


def test_cells_can_be_spelled_back(place: Path, said: dict[str, str]) -> None:
    assert said
    with (place / "out" / "census" / "labels.csv").open(encoding="utf-8", newline="") as lines:
        cells = [line["token"] for line in csv.DictReader(lines)]
    assert len(cells) == N_ROWS
    assert list(map(spelled_back, cells[: len(DEAD)])) == DEAD
    assert cells[len(DEAD) : len(DEAD) + len(BYTES)] == ["<0xFF>", "<0xED><0xA0><0x80>", "<0xC3>"]
    assert list(map(spelled_back, cells[-len(ADDED) :])) == [token for token, _ in ADDED]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=1", "x\\x3b=1"),
        ("x;\"'+1", "x\\x3b\"'+1"),
        ("x;y", "x;y"),
        ("\uff1d1", "'\uff1d1"),
        ("\\x3b=", "\\\\x3b="),
        ("\\", "\\\\"),
    ],
)
def test_cells_of_other_spreadsheets(text: str, cell: str) -> None:
    assert spreadsheet_safe(text) == cell
    assert spreadsheet_text(cell) == plain(text)
    assert spelled_back(cell) == text


@given(
    st.text(
        alphabet=st.sampled_from(list("=+-@;\"'\\,\t\r\n xnrtuU01\u202e\x9b\u0301\uff1d\U000e0041"))
    )
)
def test_any_text_can_be_spelled_back(text: str) -> None:
    cell = spreadsheet_safe(text)
    assert spelled_back(cell) == text
    assert spreadsheet_text(cell) == plain(text)
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(["0", cell])
    for parted in ",;":
        cells = next(csv.reader([line.getvalue()], delimiter=parted))
        assert not any(FORMULA.match(one) and not is_number(one) for one in cells)


# --- text ---


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u0301\u0302\u0303\u0304", "a\u0301\u0302\u0303\u0304"),
        ("a\u0301\u0302\u0303\u0304\u0305b", "a\u0301\u0302\u0303\u0304\\u0305b"),
        ("x\u3164\ufe0f\U000e0101", "x\\u3164\\ufe0f\\U000e0101"),
        ("\u0e01\u0e34\u0e49 \u0928\u093f", "\u0e01\u0e34\u0e49 \u0928\u093f"),
        ("\ud800\x7f\u009b", "\\ud800\\x7f\\x9b"),
    ],
)
def test_what_is_not_seen_or_piles_up_is_spelled(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_json_has_no_delete_character() -> None:
    assert json.loads(json_text({"a": "\x7f\u202e"}))["a"] == "\x7f\u202e"
    assert unseen(json_text({"a": "\x7f\u202e"})) == set()


def test_the_line_of_an_error_ends() -> None:
    error = DeadtokensError("w" * 10**6, where="x" * 10**6, remedy="r" * 10**6)
    assert len(str(error)) < 4000
    assert len(error.what) == 10**6


def test_a_name_to_be_copied_into_a_shell_is_quoted(tmp_path: Path) -> None:
    name = "$(touch x).embed_tokens.weight"
    model = write_model(tmp_path / "m", {name: np.eye(4, dtype=np.float16)}, tied=False)
    with pytest.raises(SourceError, match=re.escape(f"add --tensor '{name}' to take")):
        dt.open_matrix(model)


def test_long_tokens_reach_the_page(tmp_path: Path) -> None:
    from deadtokens.census_files import write_inventory
    from deadtokens.report.census_page import write_census_page
    from deadtokens.stocktaking import take_inventory

    rows = np.random.default_rng(0).normal(0, 0.05, (40, 8)).astype(np.float16)
    rows[:4] = rows[0]
    tokens = byte_level({piece("\u202e" * 30_000): 0} | {f"w{i}": i for i in range(1, 40)})
    model = write_model(tmp_path / "m", {"lm_head.weight": rows}, tokens=tokens)
    write_inventory(tmp_path, take_inventory(dt.open_matrix(model)), None)
    write_census_page(tmp_path / "report.html", tmp_path)
    assert "\\u202e\\u202e" in (tmp_path / "report.html").read_text(encoding="utf-8")


# --- files ---


def peak_of(source: Path, most_seconds: float = 60) -> tuple[str, int]:
    """The error of opening a source in a process of its own, and the memory it took at most."""
    script = (
        "import re, sys, deadtokens as dt\n"
        "from deadtokens.errors import SourceError\n"
        "try: dt.open_matrix(sys.argv[1])\n"
        "except SourceError as error: print(error)\n"
        "print(*re.findall('VmHWM:\\\\s+(\\\\d+)', open('/proc/self/status').read()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(source)],
        capture_output=True, check=True, text=True, timeout=most_seconds,
    )  # fmt: skip
    *error, peak = ended.stdout.splitlines()
    return " ".join(error), int(peak) << 10


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_an_index_that_never_ends(tmp_path: Path, kind: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    if kind == "pipe":
        os.mkfifo(index)
    else:
        index.symlink_to("/dev/zero")
    with pytest.raises(SourceError, match="not a regular file"):
        dt.open_matrix(tmp_path)


def test_a_configuration_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe.MOST_JSON_BYTES == 100_000_000
    monkeypatch.setattr(describe, "MOST_JSON_BYTES", 1000)
    model = write_model(tmp_path / "m", {"lm_head.weight": np.eye(4, dtype=np.float16)})
    (model / "config.json").write_text("{}" + " " * 999)
    (note,) = dt.open_matrix(model).notes
    assert note.startswith("config.json is left out")
    assert "more than 1,000 bytes" in note


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, "1" * 5000], ids=["deep", "long"])
def test_json_that_python_does_not_take(tmp_path: Path, value: str) -> None:
    write_header(tmp_path / "m.safetensors", b'{"a": ' + value.encode() + b"}")
    with pytest.raises(SourceError, match="its header is not a JSON object"):
        dt.open_matrix(tmp_path / "m.safetensors")
    model = write_model(tmp_path / "m", {"lm_head.weight": np.eye(4, dtype=np.float16)})
    (model / "config.json").write_text('{"a": ' + value + "}")
    (note,) = dt.open_matrix(model).notes
    assert note.startswith("config.json is left out")
    assert "not a JSON object" in note
    tokens = json.dumps(byte_level({"a": 0})).replace('"BPE"', f'"BPE", "x": {value}', 1)
    (tmp_path / "tokenizer.json").write_text(tokens)
    with pytest.raises(SourceError, match="not a tokenizer"):
        open_vocabulary(tmp_path / "tokenizer.json", "x")


def test_headers_of_npy_files_are_not_read_for_ever(tmp_path: Path) -> None:
    mapped, packed = tmp_path / "a.npy", tmp_path / "a.npz"
    start = b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 30)
    with mapped.open("wb") as file:
        file.write(start)
        file.truncate(1 << 31)
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("a.npy", start + bytes(1 << 29))
    for path in (mapped, packed):
        error, peak = peak_of(path)
        assert "is not a readable .npy array" in error
        assert peak < 500 << 20


def npy_bytes(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_npz_arrays_that_unpack_to_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert npy._MOST_LOADED == 1 << 32
    monkeypatch.setattr(npy, "_MOST_LOADED", 10_000)
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros((100, 100), np.float32))
    with pytest.raises(SourceError, match=r"40,128 bytes of memory at once.*save it .* as \.npy"):
        dt.open_matrix(tmp_path / "a.npz")


def test_the_array_that_was_checked_is_the_one_read(tmp_path: Path) -> None:
    """NumPy takes the member without the suffix, where there are both."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x", b"no array")
        archive.writestr("x.npy", npy_bytes(np.eye(4, dtype=np.float32)))
    assert dt.open_matrix(tmp_path / "a.npz").shape == (4, 4)


@pytest.mark.parametrize("kind", ["safetensors", "npz", "h5"])
def test_names_without_end(tmp_path: Path, kind: str) -> None:
    array = np.eye(4, dtype=np.float32)
    path = tmp_path / f"m.{kind}"
    if kind == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x" * 1001 + ".npy", npy_bytes(array))
    elif kind == "h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file.create_dataset("x" * 1001, data=array)
    else:
        write_tensors(path, {"x" * 1001: array})
    with pytest.raises(SourceError, match="a tensor's name has 1,001 characters, above 1,000"):
        dt.open_matrix(path)


def test_names_that_lead_elsewhere_are_names(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("../../x.npy", npy_bytes(np.eye(4, dtype=np.float32)))
    assert dt.open_matrix(tmp_path / "a.npz").tensor == "../../x"
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


# --- PyTorch's pickles, within what weights_only allows ---

GROW = b"\x8a\x05" + (3 << 30).to_bytes(5, "little") + b"\x85R"  # called with 3 GiB
TEXT = b"X\x02\x00\x00\x00aaX\x06\x00\x00\x00latin1\x86R"
SWELLING = {
    "bytearray": b"\x80\x02}X\x01\x00\x00\x00ac__builtin__\nbytearray\n" + GROW + b"s.",
    "encode": b"\x80\x02}X\x01\x00\x00\x00ac_codecs\nencode\n" + TEXT + b"s.",
}


@pytest.mark.parametrize("name", SWELLING)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_that_make_much_of_little(tmp_path: Path, name: str, *, zipped: bool) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "m.pt"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", SWELLING[name])
            archive.writestr("archive/version", "3\n")
    else:
        path.write_bytes(SWELLING[name])
    error, peak = peak_of(path)
    assert f"its pickle names {name}, which is not loaded" in error
    assert peak < 1 << 30


def test_large_files_in_pytorchs_old_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    assert torch_files._MOST_LOADED == 1 << 33
    path = tmp_path / "m.pt"
    tensors = {"lm_head.weight": torch.eye(4)}
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    assert dt.open_matrix(path).shape == (4, 4)
    monkeypatch.setattr(torch_files, "_MOST_LOADED", 100)
    with pytest.raises(SourceError, match=r"format before torch 1\.6, of which 100 bytes are the"):
        dt.open_matrix(path)
    torch.save(tensors, path)
    assert dt.open_matrix(path).shape == (4, 4)


# --- tokenizers that do not end ---


def test_a_pattern_that_backtracks_for_hours(tmp_path: Path) -> None:
    """Each beginning of the text costs two million steps, under what the engine gives up at."""
    text = ("a" * 20 + "!") * 4000
    tokens = byte_level({piece(text): 0, "b": 1, "c": 2, "d": 3})
    tokens["pre_tokenizer"] = {
        "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False
    }  # fmt: skip
    model = write_model(
        tmp_path / "m", {"lm_head.weight": np.eye(4, dtype=np.float16)}, tokens=tokens
    )
    script = (
        "import sys, deadtokens as dt\n"
        "from deadtokens.tokens import reach\n"
        "reach.MOST_SECONDS = 0.3\n"
        "print(*dt.label_rows(dt.open_matrix(sys.argv[1])).notes)"
    )
    assert reach.MOST_SECONDS == 300
    ended = subprocess.run(
        [sys.executable, "-c", script, str(model)],
        capture_output=True, check=True, text=True, timeout=60,
    )  # fmt: skip
    assert "not tested: the tokenizer failed (it takes more than 0.3 s)" in ended.stdout


def test_a_spelling_that_is_slow_to_tell() -> None:
    """The pattern's work grows with the square of the length: hours for a million characters."""
    assert vocabulary.looks_reserved("<" + "reserved_" * 22 + ">")
    assert not vocabulary.looks_reserved("<" + "reserved_" * 1_000_000 + "!>")


def test_an_exponent_without_end() -> None:
    assert typeset("1e+" + "9" * 10_000) == "1e+" + "9" * 10_000


def test_panics_and_results_come_through_the_limit() -> None:
    assert vocabulary.within(5, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        vocabulary.within(5, partial(divmod, 1, 0))


def test_what_is_left_to_itself_ends_too() -> None:
    codec = reach._Codec(None, "", deadline=-math.inf)  # type: ignore[arg-type]
    with pytest.raises(vocabulary.Failed, match="it takes more than 300 s"):
        next(codec.round_trips([[1]]))


def test_what_ends_the_program_is_no_failure_of_a_tokenizer() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vocabulary.attempt(interrupted)
