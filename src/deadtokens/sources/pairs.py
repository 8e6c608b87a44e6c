"""Two models side by side: matrices of one role, so that like is compared with like."""

from __future__ import annotations

from deadtokens.errors import SourceError
from deadtokens.sources.matrix import Matrix


def like_with_like(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
    """Two matrices that the sources chose, or others of those sources that have one role.

    Where one model holds its input matrix only and the other one's output matrix was chosen, the
    other's input matrix is taken. Where no such matrix is there, `roles_doubt` has the words.

    Args:
        a: The matrix of one model.
        b: That of the other.
    """
    roles = [_role(matrix) for matrix in (a, b)]
    if roles[0] == roles[1] or "other" in roles:
        return a, b
    for role in ("input", "output"):
        found = [_of_role(matrix, role) for matrix in (a, b)]
        if found[0] is not None and found[1] is not None:
            return found[0], found[1]
    return a, b


def roles_doubt(a: Matrix, b: Matrix) -> str:
    """That two matrices compared are of two roles, in words; "" where they are not."""
    roles = [_role(matrix) for matrix in (a, b)]
    if roles[0] == roles[1] or "other" in roles:
        return ""
    read = (a, b)[roles.index("input")].model
    if read is not None and (read.tied or (not read.remote and read.equal)):
        return ""  # its input matrix is its output matrix too
    return (
        f"the {roles[0]} matrix of A ({a.tensor}) is compared with the {roles[1]} matrix of B "
        f"({b.tensor}): they are one only where input and output are tied"
    )


def roles_compared(a: Matrix, b: Matrix) -> str:
    """Which matrices of two models are compared, in words; "" where it is not known."""
    roles = [_role(matrix) for matrix in (a, b)]
    if "other" in roles:
        return ""
    return f"the {roles[0]} matrix of A with the {roles[1]} matrix of B"


def _role(matrix: Matrix) -> str:
    return matrix.model.role_of(matrix.tensor) if matrix.model else "other"


def _of_role(matrix: Matrix, role: str) -> Matrix | None:
    """The matrix of that role in a matrix's model; None where it has none that can be read."""
    if _role(matrix) == role:
        return matrix
    model = matrix.model
    names = dict(zip(("input", "output"), model.weighed.pair or (), strict=False)) if model else {}
    if model is None or role not in names:
        return None
    try:
        return model.matrix(names[role])
    except SourceError:
        return None
