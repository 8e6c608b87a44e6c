"""deadtokens: which tokens are dead, what do their vectors look like, does a simple story fit?

Names are loaded when first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deadtokens import figures
    from deadtokens.around import sample, solve, theory
    from deadtokens.census import Census, census
    from deadtokens.cloud import Cloud
    from deadtokens.cluster import ClusterSearch, find_cluster
    from deadtokens.compare import Comparison, compare
    from deadtokens.diff import Diff, diff
    from deadtokens.errors import DeadtokensError
    from deadtokens.fit import Fit, fit
    from deadtokens.formats import FORMATS, Format, get_format
    from deadtokens.independence import Independence, independence
    from deadtokens.inventory import DeadTokens, Inventory
    from deadtokens.keep import keep_map
    from deadtokens.marginals import Marginals, marginals
    from deadtokens.progress import progress
    from deadtokens.runs import RunFolder, open_run
    from deadtokens.saved_trials import MeasuredTrials, SavedTrials, measure_trials, open_trials
    from deadtokens.selection import snowball_of
    from deadtokens.snowball import Snowball
    from deadtokens.solving import Solution
    from deadtokens.sources import Matrix, Model, inspect, open_matrix, open_model
    from deadtokens.statistics import Measurement, measure
    from deadtokens.stocktaking import dead_tokens, take_inventory
    from deadtokens.study import Study, study
    from deadtokens.survey import survey
    from deadtokens.survey_lines import Surveyed
    from deadtokens.sweep import sweep
    from deadtokens.theory import Expectation
    from deadtokens.tokens import Labels, label_rows
    from deadtokens.trial_tables import Summary, Trials
    from deadtokens.verdict import Verdict, judge

from deadtokens import showing as _showing

__version__ = "0.1.0"

_showing.views |= {
    "notebook": lambda: import_module(f"{__name__}.notebook"),
    "figures": lambda: import_module(f"{__name__}.figures"),
}

_MODULES = {
    "FORMATS": "formats",
    "Census": "census",
    "Cloud": "cloud",
    "Comparison": "compare",
    "DeadtokensError": "errors",
    "Fit": "fit",
    "Expectation": "theory",
    "Format": "formats",
    "Independence": "independence",
    "Marginals": "marginals",
    "Matrix": "sources",
    "Measurement": "statistics",
    "RunFolder": "runs",
    "Snowball": "snowball",
    "Study": "study",
    "Solution": "solving",
    "census": "census",
    "figures": "figures",
    "fit": "fit",
    "compare": "compare",
    "get_format": "formats",
    "independence": "independence",
    "inspect": "sources",
    "judge": "verdict",
    "Verdict": "verdict",
    "marginals": "marginals",
    "measure": "statistics",
    "open_matrix": "sources",
    "open_run": "runs",
    "progress": "progress",
    "sample": "around",
    "snowball_of": "selection",
    "solve": "around",
    "study": "study",
    "sweep": "sweep",
    "theory": "around",
    "Inventory": "inventory",
    "Labels": "tokens",
    "ClusterSearch": "cluster",
    "Diff": "diff",
    "MeasuredTrials": "saved_trials",
    "SavedTrials": "saved_trials",
    "open_trials": "saved_trials",
    "Surveyed": "survey_lines",
    "Model": "sources",
    "diff": "diff",
    "find_cluster": "cluster",
    "keep_map": "keep",
    "label_rows": "tokens",
    "measure_trials": "saved_trials",
    "open_model": "sources",
    "survey": "survey",
    "take_inventory": "stocktaking",
    "dead_tokens": "stocktaking",
    "DeadTokens": "inventory",
    "Trials": "trial_tables",
    "Summary": "trial_tables",
}

__all__ = [
    "FORMATS",
    "Census",
    "Cloud",
    "ClusterSearch",
    "Comparison",
    "DeadTokens",
    "DeadtokensError",
    "Diff",
    "Expectation",
    "Fit",
    "Format",
    "Independence",
    "Inventory",
    "Labels",
    "Marginals",
    "Matrix",
    "MeasuredTrials",
    "Measurement",
    "Model",
    "RunFolder",
    "SavedTrials",
    "Snowball",
    "Solution",
    "Study",
    "Summary",
    "Surveyed",
    "Trials",
    "Verdict",
    "__version__",
    "census",
    "compare",
    "dead_tokens",
    "diff",
    "figures",
    "find_cluster",
    "fit",
    "get_format",
    "independence",
    "inspect",
    "judge",
    "keep_map",
    "label_rows",
    "marginals",
    "measure",
    "measure_trials",
    "open_matrix",
    "open_model",
    "open_run",
    "open_trials",
    "progress",
    "sample",
    "snowball_of",
    "solve",
    "study",
    "survey",
    "sweep",
    "take_inventory",
    "theory",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES[name]}")
    return module if name == "figures" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps the function `census` from being hidden by the module of that name, and its like.

    The import system sets each submodule as an attribute of its package once it is loaded; for
    the names above, the package's attribute is what it exports.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _MODULES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
