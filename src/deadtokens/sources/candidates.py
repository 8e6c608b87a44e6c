"""Tensors that can hold token vectors, and what speaks for and against each.

Names, shapes and what stands beside the tensors are looked at; no tensor is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum

from deadtokens.files import StoredTensor
from deadtokens.sources.evidence import Told, fits
from deadtokens.sources.matrix import matrix_format
from deadtokens.sources.names import DRAFT, NameSays, Role, name_says
from deadtokens.sources.packed import packed_layer


class Fit(IntEnum):
    """How a matrix's rows agree with the size of the vocabulary; less is better."""

    EXACT = 0
    PADDED = 1
    UNKNOWN = 2
    OFF = 3


@dataclass(frozen=True)
class Sizes:
    """What a matrix's shape is held against.

    Attributes:
        vocabulary: Sizes of the vocabulary, by where each is stated.
        columns: Lengths of its vectors, likewise.
        loose: Whether a few rows fewer agree too: the other matrix may have the padding.
    """

    vocabulary: Mapping[str, int]
    columns: Mapping[str, int]
    loose: bool = False

    def fit(self, rows: int) -> Fit:
        """How so many rows agree with the vocabulary."""
        if not self.vocabulary:
            return Fit.UNKNOWN
        if rows in self.vocabulary.values():
            return Fit.EXACT
        padded = any(
            fits(rows, size) or (self.loose and size - size // 20 <= rows < size)
            for size in self.vocabulary.values()
        )
        return Fit.PADDED if padded else Fit.OFF

    def nearest(self, rows: int) -> str:
        """The size nearest to so many rows, and where it is stated."""
        where, size = min(self.vocabulary.items(), key=lambda item: abs(item[1] - rows))
        return f"{size:,} ({where})"


_UNKNOWN = Sizes({}, {})


@dataclass(frozen=True)
class Candidate:
    """A tensor that can hold token vectors, and what is known of it.

    Attributes:
        tensor: The tensor.
        role: The matrix that it is, by its name.
        says: What its name says.
        fit: How its rows agree with the size of the vocabulary.
        transposed: Whether tokens are its columns.
        sizes: What its shape was held against.
    """

    tensor: StoredTensor
    role: Role
    says: NameSays = field(default=NameSays("other"), repr=False)
    fit: Fit = Fit.UNKNOWN
    transposed: bool = False
    sizes: Sizes = field(default=_UNKNOWN, repr=False)

    @property
    def findings(self) -> tuple[str, ...]:
        """What speaks for and against it, in words."""
        return tuple(_findings(self))

    @property
    def rows(self) -> int:
        """Its tokens, if it holds token vectors."""
        return self.tensor.shape[1 if self.transposed else 0]

    @property
    def columns(self) -> int:
        """The length of its vectors."""
        return self.tensor.shape[0 if self.transposed else 1]

    @property
    def readable(self) -> bool:
        """Whether its type is one that can be read."""
        return matrix_format(self.tensor) is not None

    @property
    def order(self) -> tuple[bool, bool, int]:
        """Candidates of a role in order of preference."""
        return self.fit is Fit.OFF, self.says.layered, self.says.rank


def sizes_told(told: Told) -> Sizes:
    """The sizes that a model's config states."""
    return Sizes(
        {f"{key} of {told.name}": size for key, size in (told.vocabulary or {}).items()},
        {f"{key} of {told.name}": size for key, size in (told.columns or {}).items()},
    )


def sizes_of(matrix: Candidate) -> Sizes:
    """The sizes of another matrix."""
    name = matrix.tensor.name
    rows, columns = {f"rows of {name}": matrix.rows}, {f"columns of {name}": matrix.columns}
    return Sizes(rows, columns, loose=True)


def assess(tensor: StoredTensor, sizes: Sizes, drafts: frozenset[str] = frozenset()) -> Candidate:
    """A matrix as a candidate, held against those sizes.

    Args:
        tensor: The matrix.
        sizes: The sizes.
        drafts: The numbered layers that are draft heads, as `draft_layers` finds them.
    """
    says = name_says(tensor.name)
    if drafts and says.layered and _numbered_layer(tensor.name) in drafts:
        says = replace(says, kind=DRAFT)
    if says.kind and says.role == "other":  # most of a model's matrices: nothing more is asked
        return Candidate(tensor, "other", says)
    transposed = _is_transposed(tensor, says, sizes)
    readable = matrix_format(tensor) is not None
    fit = sizes.fit(tensor.shape[1 if transposed else 0]) if readable else Fit.UNKNOWN
    return Candidate(tensor, "other" if says.kind else says.role, says, fit, transposed, sizes)


def _is_transposed(tensor: StoredTensor, says: NameSays, sizes: Sizes) -> bool:
    """Whether tokens are the columns, as in dense layers of Flax, Keras and TransformerLens."""
    rows, columns = tensor.shape
    if says.kind or says.role == "input" or matrix_format(tensor) is None or rows == columns:
        return False
    if sizes.vocabulary:
        of_vectors = rows in sizes.columns.values() if sizes.columns else rows < columns
        return of_vectors and sizes.fit(rows) is Fit.OFF and sizes.fit(columns) is not Fit.OFF
    dense = re.search(r"kernel(:0)?$|\bW_U$", tensor.name) is not None
    return says.role == "output" and dense and rows < columns


def _findings(found: Candidate) -> list[str]:
    says = found.says
    words = []
    if says.role != "other":
        words.append(f"called like an {says.role} matrix")
    if says.kind:
        words.append(f"called like {says.kind}")
    elif says.layered:
        words.append("in a numbered layer")
    if not found.readable:
        return [*words, f"of type {found.tensor.dtype[:40]}, which is not read"]
    if found.transposed:
        words.append("stored transposed: tokens are its columns")
    return [*words, *_rows_words(found), *_columns_words(found)]


def _rows_words(found: Candidate) -> list[str]:
    if found.fit is Fit.UNKNOWN:
        return []
    nearest = found.sizes.nearest(found.rows)
    return [
        {
            Fit.EXACT: f"its rows are the vocabulary: {nearest}",
            Fit.PADDED: f"{found.rows:,} rows, little else than the vocabulary: {nearest}",
            Fit.OFF: f"{found.rows:,} rows against a vocabulary of {nearest}",
        }[found.fit]
    ]


def _columns_words(found: Candidate) -> list[str]:
    stated = found.sizes.columns
    if not stated:
        return []
    if same := [key for key, size in stated.items() if size == found.columns]:
        return [f"as many columns as {same[0]}"]
    sizes = ", ".join(f"{key} ({size:,})" for key, size in list(stated.items())[:3])
    return [f"{found.columns:,} columns agree with none of {sizes}"]


def is_projection(found: Candidate, sizes: Sizes) -> bool:
    """Whether a matrix called like an output matrix has too few rows to be one."""
    if found.fit is not Fit.OFF:
        return False
    smallest = min(sizes.vocabulary.values())
    square = found.rows == found.columns
    return found.rows < smallest and (
        square or found.rows * 20 < smallest or (found.says.weak and found.rows * 2 < smallest)
    )


# --- matrices that are there, and cannot be read as one ---


def packed_heads(tensors: Mapping[str, StoredTensor]) -> list[tuple[str, Role]]:
    """Tensors that hold an input or output matrix packed by a quantiser, and which it is."""
    found: list[tuple[str, Role]] = []
    for name in tensors:
        if layer := packed_layer(name):
            says = name_says(f"{layer}.weight")
            if says.role != "other" and not says.kind and not says.layered:
                found.append((name, says.role))
    return found


def empty_matrices(tensors: Mapping[str, StoredTensor]) -> list[tuple[str, Role]]:
    """Tensors called like an input or output matrix that hold no number, and which it is."""
    return [
        (name, says.role)
        for name, tensor in tensors.items()
        if 0 in tensor.shape and (says := name_says(name)).role != "other" and not says.kind
    ]


def draft_layers(tensors: Mapping[str, StoredTensor]) -> frozenset[str]:
    """The numbered layers of which a tensor is called like a draft head's."""
    names = (name for name in tensors if name_says(name).kind == DRAFT)
    return frozenset(map(_numbered_layer, names)) - {""}


def _numbered_layer(name: str) -> str:
    match = re.match(r"(.*\.)?\d+\.", name)
    return match[0] if match else ""


def of_draft(tensors: Mapping[str, StoredTensor], told: Told, found: Candidate) -> bool:
    """Whether a matrix is a draft model's or a draft head's."""
    by_name = any(other.rpartition(".")[2] in ("d2t", "t2d") for other in tensors)
    return told.draft or by_name or found.says.kind == DRAFT
