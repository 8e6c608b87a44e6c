"""Studies without what takes most of a short one's time: the many points of its curves."""

from __future__ import annotations

from importlib import import_module

import pytest


def shorten_studies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(import_module("deadtokens.study"), "_THEORY_POINTS", 3)
    patch.setattr("deadtokens.pictures._CURVE_POINTS", 3)
