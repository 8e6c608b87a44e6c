"""Which rows count as dead, and by which evidence: all that was found put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deadtokens.census import Census
from deadtokens.cluster import ClusterSearch
from deadtokens.copies import Copies, find_copies
from deadtokens.kernels.types import BoolArray, Int64Array
from deadtokens.near import Near, Surroundings
from deadtokens.sources import Matrix
from deadtokens.tokens import Labels

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
    def count(self) -> int:
        """How many they are."""
        return int(self.rows.sum())

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


def put_together(
    matrix: Matrix,
    found: Census,
    search: ClusterSearch,
    around: Surroundings,
    labels: Labels | None,
) -> tuple[ClusterSearch, DeadRows]:
    """The search without what turns out to be copies of a trained row, and the dead rows.

    Args:
        matrix: The matrix.
        found: Its census.
        search: What `find_cluster` found.
        around: What `look_around` found.
        labels: What the tokenizer says of the rows, if there is one.
    """
    elsewhere = _dead_elsewhere(search, found, [near.rows for near in around.near])
    # Where no row is known to live, none was copied from.
    only_dead = matrix.default_rows == "all" or search.alone
    copies = () if only_dead else tuple(find_copies(found, elsewhere, around.norms, labels))
    search = _without_copies(search, copies)
    return search, dead_rows(matrix, found, search, around.near, copies)


def _dead_elsewhere(search: ClusterSearch, found: Census, near: Sequence[Int64Array]) -> BoolArray:
    """The rows that are dead by where they lie: a cluster of equal rows only may be copies."""
    rows = search.zero.copy()
    for cluster in (search.rows, None if search.second is None else search.second.rows):
        if cluster is not None and not _is_one_vector(cluster, found):
            rows |= cluster
    for chosen in near:
        rows[chosen] = True
    return rows


def _is_one_vector(rows: BoolArray, found: Census) -> bool:
    groups = found.groups[rows]
    return groups.size > 0 and bool(groups[0] >= 0 and (groups == groups[0]).all())


def _without_copies(search: ClusterSearch, copies: Sequence[Copies]) -> ClusterSearch:
    """A cluster that is a trained row and its copies is none."""
    donors = [made.donor for made in copies]
    if search.second is not None and search.second.rows[donors].any():
        search = replace(search, second=None)
    if not search.rows[donors].any():
        return search
    made = next(made for made in copies if search.rows[made.donor])
    none = np.zeros_like(search.rows)
    return replace(search, rows=none, reason=f"no cluster: {made.words}")
