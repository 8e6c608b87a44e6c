"""From a vocabulary's spelling of a token to the bytes it stands for, and to what a person reads.

Vocabularies spell tokens in one of a few ways, of which a tokenizer's own parts tell:

- *byte-level*: every byte is one character of a fixed alphabet of 256, in which printable Latin-1
  stands for itself and the other bytes follow from U+0100 on (so that a space is ``Ġ``);
- *byte fallback*: text, and ``<0x0A>`` for the one byte 0A;
- a mark for a space (``▁``), a prefix of pieces that continue a word (``##``), a suffix of pieces
  that end one (``</w>``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _alphabet() -> dict[int, int]:
    """From a character of the byte-level alphabet to the byte it stands for."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: byte for byte in printable} | {0x100 + i: byte for i, byte in enumerate(others)}


# Characters outside the alphabet become one that Latin-1 lacks, so that encoding finds them out.
_BYTES = dict.fromkeys(range(0x180), 0xFFFD) | _alphabet()
_CHARACTERS = {byte: chr(character) for character, byte in _alphabet().items()}
# What Python makes of a byte that is no valid UTF-8, and how it is shown.
_SHOWN = {0xDC00 + byte: f"<0x{byte:02X}>" for byte in range(0x80, 0x100)}

# What completes any beginning of a character that can be completed; E0 and F0 ask for more than 80.
_ENDINGS = (b"", b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xa0\x80", b"\x90\x80\x80")


@dataclass(frozen=True)
class Spelling:
    """How a vocabulary spells its tokens.

    Attributes:
        byte_level: Every character stands for a byte.
        byte_fallback: ``<0x0A>`` stands for a byte.
        space: What stands for a space, ``""`` for nothing.
        prefix: What is put before pieces to say where in a word they stand, ``""`` for nothing.
        suffix: What is put after pieces to say so.
    """

    byte_level: bool = False
    byte_fallback: bool = False
    space: str = ""
    prefix: str = ""
    suffix: str = ""

    def bytes_of(self, piece: str) -> bytes:
        """The bytes that a piece stands for."""
        byte = self.fallback_byte(piece)
        if byte is not None:
            return bytes([byte])
        piece = piece.removeprefix(self.prefix).removesuffix(self.suffix)
        if self.byte_level:
            try:
                return piece.translate(_BYTES).encode("latin-1")
            except UnicodeEncodeError:  # a piece that is spelled as text among those that are not
                pass
        return literal_bytes(self.with_spaces(piece))

    def with_spaces(self, piece: str) -> str:
        """A piece with spaces for their marks."""
        return piece.replace(self.space, " ") if self.space else piece

    def fallback_byte(self, piece: str) -> int | None:
        """The byte that a piece of byte fallback stands for; None for other pieces."""
        found = _FALLBACK.fullmatch(piece) if self.byte_fallback else None
        return int(found[1], 16) if found else None


def byte_level_piece(raw: bytes) -> str:
    """How a byte-level vocabulary spells bytes."""
    return raw.decode("latin-1").translate(_CHARACTERS)


def literal_bytes(piece: str) -> bytes:
    """The bytes of a piece that is spelled as its text (surrogates escape what is no UTF-8)."""
    return piece.encode("utf-8", "surrogateescape")


def shown(raw: bytes) -> str:
    """Bytes as text, those that are no valid UTF-8 as ``<0xE2>`` each."""
    return raw.decode("utf-8", "surrogateescape").translate(_SHOWN)


def shown_piece(piece: str) -> str:
    """A piece, what is no valid UTF-8 in it as ``<0xE2>`` a byte."""
    try:
        piece.encode()
    except UnicodeEncodeError:
        return shown(literal_bytes(piece))
    return piece


def text_of(raw: bytes) -> str | None:
    """Bytes as text; None if they are no valid UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def occurs_in_text(raw: bytes) -> bool:
    """Whether there is valid UTF-8 that has these bytes in a row."""
    start = 0
    while start < len(raw) and 0x80 <= raw[start] < 0xC0:
        start += 1
    if start > 3:  # at most three bytes continue a character
        return False
    return any(text_of(raw[start:] + ending) is not None for ending in _ENDINGS)
