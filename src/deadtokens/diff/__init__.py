"""One model against another: what became of the black holes of A in B.

Rows are matched by their number, as ids of one vocabulary are; B may have fewer rows or more. What
became of a black hole of A is one or several of these words, joined by ``+``:

- *unchanged*: the same rows share the same vector, and no others do;
- *trimmed*: rows of it lie beyond B's matrix;
- *not finite*: rows of it hold NaN or an infinity in B;
- *split*: the rows that are left hold several vectors in B;
- *moved*: the rows that are left hold one vector, and it is another than in A;
- *merged*: they share a vector in B with rows of another black hole of A;
- *grown*: they share a vector in B with rows that were in no black hole of A, or are not in A.

A black hole of B that has no row of a black hole of A is *new*, and *added* too where it has rows
that are not in A. What became of a row:

- *unchanged* or *moved*: it is in a black hole of both, with the same vector or another one;
- *left* or *joined*: it is in a black hole of A only, or of B only;
- *not finite*, *trimmed*, *added*: it holds NaN or an infinity in B, is in A only, or in B only.

Vectors are compared by value, so that the formats may differ. Where that of one side is coarser,
what rounding alone would have done is counted (`Rounding`).
"""

from __future__ import annotations

from deadtokens.diff.comparing import diff
from deadtokens.diff.results import NONE, Diff, GroupChange, Movement, Rounding, RowChanges

__all__ = ["NONE", "Diff", "GroupChange", "Movement", "Rounding", "RowChanges", "diff"]
