"""Which rows count as dead, and by which evidence: all that was found put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deadtokens.census import Census
from deadtokens.cluster import ClusterSearch
from deadtokens.copies import Copies
from deadtokens.kernels.types import BoolArray
from deadtokens.near import Near
from deadtokens.sources import Matrix

# In the order in which they are said to count: of two that hold, the later one is named.
EVIDENCE = (
    "",
    "source",
    "black hole",
    "copy",
    "near the mean",
    "near zero",
    "second cluster",
    "cluster",
    "zeros",
)
_WORDS = {
    "cluster": "in the cluster",
    "second cluster": "in a second cluster",
    "black hole": "equal to another",
    "copy": "copied from a trained row",
    "near zero": "near zero",
    "near the mean": "near the mean of all rows, as resizing leaves new ones",
    "zeros": "of zeros",
    "source": "of a source that holds dead rows only",
}


@dataclass(frozen=True)
class DeadRows:
    """The rows that count as dead.

    Attributes:
        rows: (V,) bool.
        how: By what evidence, in words.
        evidence: (V,) int8: for each row its place in `EVIDENCE`; 0 for rows that are not dead.
        copies: Groups of rows of which one, the donor, is not dead.
        near: Rows next to a point named beforehand; empty where there are none.
    """

    rows: BoolArray
    how: str
    evidence: npt.NDArray[np.int8]
    copies: tuple[Copies, ...] = ()
    near: tuple[Near, ...] = ()

    @property
    def words(self) -> list[str]:
        """Sentences about rows that are dead by other evidence than the cluster's void."""
        return [near.words for near in self.near] + [made.words for made in self.copies]


def dead_rows(
    matrix: Matrix,
    found: Census,
    search: ClusterSearch,
    near: tuple[Near, ...] = (),
    copies: tuple[Copies, ...] = (),
) -> DeadRows:
    """The rows that count as dead: of clusters, in black holes, next to a point, zeros.

    A row that equals another one counts wherever it lies, since rows that are trained apart do not
    stay equal, but for the donor of copies. Of a source that holds dead rows only, as the built-ins
    do, all count.

    Args:
        matrix: The matrix.
        found: Its census.
        search: What `find_cluster` found.
        near: What `look_around` found.
        copies: What `find_copies` found.
    """
    evidence = np.zeros(found.n_rows, dtype=np.int8)
    if matrix.default_rows == "all":
        evidence[:] = EVIDENCE.index("source")
    evidence[found.mask] = EVIDENCE.index("black hole")
    near = tuple(one for one in near if one.rows.size)
    for one in reversed(near):
        evidence[one.rows] = EVIDENCE.index(one.anchor)
    if search.second is not None:
        evidence[search.second.rows] = EVIDENCE.index("second cluster")
    evidence[search.rows] = EVIDENCE.index("cluster")
    for made in copies:
        evidence[made.rows] = EVIDENCE.index("copy")
        evidence[made.donor] = 0
    evidence[search.zero] = EVIDENCE.index("zeros")
    counts = {name: int((evidence == EVIDENCE.index(name)).sum()) for name in _WORDS}
    parts = [f"{count:,} {_WORDS[name]}" for name, count in counts.items() if count]
    how = ", ".join(parts) or "no cluster, no equal rows, no zeros"
    return DeadRows(evidence > 0, how, evidence, copies, near)
