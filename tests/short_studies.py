"""Studies without what takes most of a short one's time: the many points of its curves."""

from __future__ import annotations

import pytest


def shorten_studies(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("deadtokens.study_plan._THEORY_POINTS", 3)
    patch.setattr("deadtokens.pictures._CURVE_POINTS", 3)
