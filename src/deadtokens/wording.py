"""Sizes and times in words."""

from __future__ import annotations

import math


def size(n_bytes: float) -> str:
    """Bytes in decimal units."""
    if n_bytes < 1000:
        return f"{n_bytes:.0f} bytes"
    power = min(int(math.log10(n_bytes)) // 3, 3)
    return f"{n_bytes / 1000**power:.1f} {('', 'kB', 'MB', 'GB')[power]}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"


def counted(done: int, total: int, what: str) -> str:
    """So many of so many things."""
    return f"{done:,} of {total:,} {what}"


def transferred(done: int, total: int | None) -> str:
    """So many bytes of so many, where that is known."""
    return size(done) + (f" of {size(total)}" if total is not None else "")
