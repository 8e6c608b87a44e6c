"""The Unicode script of a text: the one that most of its characters have."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

NO_TEXT, COMMON = "", "Common"
_LATIN = "Latin"
# Of any script, or of the one before them: they do not tell texts apart.
_SHARED = ("Zyyy", "Zinh")


def script_of(text: str) -> str:
    """The script that most characters have, Common and Inherited left out, the first of equals.

    ``"Common"`` if there are only such characters, ``""`` if there are none.
    """
    if text.isascii():
        if not text:
            return NO_TEXT
        return _LATIN if any(map(str.isalpha, text)) else COMMON
    counts = Counter(filter(None, map(_script, text)))
    return max(counts, key=counts.__getitem__) if counts else COMMON


@lru_cache(maxsize=1 << 17)
def _script(character: str) -> str:
    """The name of a character's script, ``""`` for Common and Inherited."""
    from fontTools import unicodedata

    code = unicodedata.script(character)
    return "" if code in _SHARED else unicodedata.script_name(code).replace("_", " ")
