"""A model whose tokens, tensors, metadata and file names are hostile, all of its tokens dead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from containers import write_header
from made_models import byte_level, piece

RAN = "window.ran=1"
# By what they attack; terminals are attacked in a colour that nothing else is printed in.
TEXTS = [
    # pages
    f"<script>{RAN}</script>",
    f"</script><script>{RAN}</script>",
    f"<img src=x onerror={RAN}>",
    f'" onmouseover="{RAN}" x="',
    f"' autofocus onfocus='{RAN}'",
    f"javascript:{RAN}",
    f"<a href=javascript:{RAN}>a</a>",
    "<!-- <script>",
    "]]></svg><svg onload=1>",
    "&lt;b&gt;&#x202e;",
    f"</title><script>{RAN}",
    f"</style><script>{RAN}",
    "http://127.0.0.1:9/x",
    # templates and formats
    f"${{{RAN}}}",
    "{{7*7}}{% x %}",
    "%s%n%p%x",
    "datum.constructor",
    "[red]x[/red][link=u]",
    # spreadsheets
    "=cmd|'/C calc'!A0",
    "@SUM(1)",
    "+1",
    "-1",
    "\t=1+1",
    "\r=1+1",
    "'=1+1",
    "x;=1+1",
    "\uff1d1+1",
    '"=1+1',
    # terminals
    "\x1b[38;5;201mpink",
    "\x1b]8;;http://x\x07link\x1b]8;;\x07",
    "\x1b]52;c;eA==\x07",
    "\u009b38;5;201mC1",
    "\x00\x08\x7f",
    "a\r\nb\u2028c",
    # eyes
    "\u202egnp.exe",
    "\u2066x\u2069\u200f",
    "\u200b\u200d\ufeff\u3164\ufe0f",
    "\U000e0041\U000e0042",
    "z" + "\u0301\u0489\u033f" * 300,
]
LONGEST = "A" * 100_000
OTHERS = ["\U0001f468\u200d\U0001f469\u200d\U0001f467", 'quote"\\x1b[0m\\', "\u0301mark"]
BYTES = [b"\xff", b"\xed\xa0\x80", b"\xc3"]  # no text: one byte, half a pair, half a character
ADDED = [
    (f"<script>{RAN}</script>!", True),
    ("\x1b[38;5;201m!", True),
    ("=1+1!", False),
    ("\u202e!", False),
    ("<|reserved_special_token_0|>\u200b", True),
]
DEAD = [*TEXTS, *OTHERS, LONGEST]
HOLE = 9  # rows that are equal, the rest of the dead are near them
N_ROWS, N_DIMENSIONS = 400, 32

OUTPUT = f"\x1b[38;5;201m\u202e<script>{RAN}</script>=1.lm_head.weight"
INPUT = f"'\"><img src=x onerror={RAN}>\n.embed_tokens.weight"
FOLDER = f"=1+1\x1b[38;5;201m\u202e<script>{RAN}</script><img src=x onerror={RAN}>"
FILE = f"<img src=x onerror={RAN}>\x1b[38;5;201m.safetensors"


def hostile_model(place: Path, seed: int = 0) -> Path:
    """The folder of an untied model; `DEAD` and `BYTES` are its first rows, `ADDED` its last."""
    rng = np.random.default_rng(seed)
    folder = place / FOLDER
    folder.mkdir(parents=True)
    pieces = [*map(piece, DEAD), *map(piece, BYTES)]
    others = range(len(pieces), N_ROWS - len(ADDED))
    vocabulary = {spelled: i for i, spelled in enumerate(pieces)} | {f"w{i}": i for i in others}
    added = [(text, others.stop + i, special) for i, (text, special) in enumerate(ADDED)]
    tokens = byte_level(vocabulary, added=added)
    (folder / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
    config = {"tie_word_embeddings": False, "model_type": OUTPUT, "_name_or_path": INPUT}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    rows = rng.normal(0, 0.05, (N_ROWS, N_DIMENSIONS)).astype(np.float16)
    dead = np.setdiff1d(np.arange(N_ROWS), others)
    rows[dead] = (rows[0] + rng.normal(0, 1e-5, (dead.size, N_DIMENSIONS))).astype(np.float16)
    rows[:HOLE] = rows[0]
    raw = rows.tobytes()
    places = {OUTPUT: [0, len(raw)], INPUT: [len(raw), 2 * len(raw)]}
    header = {
        name: {"dtype": "F16", "shape": list(rows.shape), "data_offsets": place}
        for name, place in places.items()
    }
    metadata = {"origin": "census\x1b[38;5;201m", "\u202e": f"<script>{RAN}</script>"}
    write_header(folder / FILE, header | {"__metadata__": metadata}, raw + raw)
    return folder
