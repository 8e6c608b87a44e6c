"""Names, numbers and sentences as the page writes them."""

from __future__ import annotations

import math
import re
from typing import Final

MINUS: Final = "\N{MINUS SIGN}"
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_NO_BREAK = "\N{NO-BREAK SPACE}"
_DIGITS = 4

# In the order of the table of statistics; a metric that is not here keeps its own name.
METRICS: Final = {
    "n_tokens": "tokens",
    "n_unique": "distinct vectors",
    "n_black_holes": "black holes",
    "n_singletons": "singletons",
    "total_population": "tokens in all",
    "black_hole_population": "tokens in black holes",
    "largest_bh": "largest black hole",
    "smallest_bh": "smallest black hole",
    "mean_bh_size": "mean black hole",
    "median_bh_size": "median black hole",
    "top2_population": "two largest together",
    "gini_coefficient": "Gini coefficient",
    "max_l_inf": "largest distance",
    "mean_l_inf": "mean distance",
    "median_l_inf": "median distance",
    "n_components": "components",
    "n_isolated": "isolated vectors",
    "largest_component_size": "largest component",
    "largest_component_density": "component density",
    "global_density": "graph density",
    "joint": "all metrics together",
    "coinciding_pairs": "coinciding pairs",
    "touching_probability": "chance that two tokens touch",
}
_UNITS = {
    "largest_bh": "tokens",
    "smallest_bh": "tokens",
    "mean_bh_size": "tokens",
    "median_bh_size": "tokens",
    "top2_population": "tokens",
    "max_l_inf": "in epsilon",
    "mean_l_inf": "in epsilon",
    "median_l_inf": "in epsilon",
}


NOISES: Final = {"gaussian": "Gaussian", "laplace": "Laplace", "uniform": "uniform"}


def label(metric: str) -> str:
    """A metric in words."""
    return METRICS.get(metric) or metric.replace("_", " ")


def axis_title(metric: str) -> str:
    """A metric in words, with its unit."""
    unit = _UNITS.get(metric)
    return f"{label(metric)} ({unit})" if unit else label(metric)


def figure(value: float | None, digits: int = _DIGITS) -> str:
    """A number as text: whole ones whole, others to some digits, far from 1 as a power of ten."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "–" if math.isnan(value) else ("∞" if value > 0 else f"{MINUS}∞")
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):,}".replace("-", MINUS)
    if 1e-3 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        plain = f"{value:,.{decimals}f}"
        return (plain.rstrip("0").rstrip(".") if "." in plain else plain).replace("-", MINUS)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    scaled = power if mantissa == "1" else f"{mantissa}{_NO_BREAK}×{_NO_BREAK}{power}"
    return scaled.replace("-", MINUS)


def scaled_power(factor: int, exponent: int) -> str:
    """A factor from 1 to 9 times a power of ten, as short as an axis needs it."""
    if -3 <= exponent <= 5:
        return f"{factor * 10.0**exponent:,.{max(0, -exponent)}f}"
    power = f"10{str(exponent).translate(_SUPERSCRIPTS)}"
    return power if factor == 1 else f"{factor}{_NO_BREAK}×{_NO_BREAK}{power}"


def p_value(p: float | None) -> str:
    """A p-value to two digits."""
    return figure(p, 2)


def count(n: int, one: str, many: str | None = None) -> str:
    """A number of things."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


_POWER = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([+-]\d{1,5})(?!\d)")


def typeset(text: str) -> str:
    """Plain text with its numbers as the page writes them: 1.3e-08 +- 2 becomes 1.3 × 10⁻⁸ ± 2."""
    text = _POWER.sub(
        lambda m: f"{m[1]}{_NO_BREAK}×{_NO_BREAK}10{str(int(m[2])).translate(_SUPERSCRIPTS)}", text
    )
    return text.replace(" +- ", f"{_NO_BREAK}±{_NO_BREAK}")
