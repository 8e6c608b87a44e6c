"""Studies without what takes most of a short one's time: the many points of its curves."""

from __future__ import annotations

import pytest


def shorten_studies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("deadtokens.curves.POINTS", 3)
