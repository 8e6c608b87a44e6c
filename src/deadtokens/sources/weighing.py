"""A model's matrices sorted by what they can be: input, output, neither, or not readable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources.candidates import (
    Candidate,
    Fit,
    Sizes,
    assess,
    draft_layers,
    empty_matrices,
    is_projection,
    packed_heads,
    sizes_of,
    sizes_told,
)
from deadtokens.sources.evidence import Told
from deadtokens.sources.names import LAYER, Role, name_says
from deadtokens.sources.packed import packed_layer, packing

_OF_ONE = 1.25  # times as many rows, at most, have two matrices of one vocabulary
_VOCABULARY_LIKE = 2  # rows to a column, at least, of a matrix that is known by its shape


@dataclass(frozen=True)
class Weighed:
    """A model's matrices, by what the evidence says they are.

    Attributes:
        tensors: Everything the source holds, by name.
        told: What stands beside them.
        sizes: The sizes that shapes were held against.
        outputs: Those that can be the output matrix: one, or several that are equally good.
        inputs: Those that can be the input matrix, likewise.
        by_shape: What could be the output matrix by its shape, where none is called like one.
        projections: Those called like an output matrix that have too few rows for it.
        others: All other matrices of numbers.
        unreadable: Why a matrix that is there cannot be read, by its name; and which it is.
    """

    tensors: Mapping[str, StoredTensor]
    told: Told
    sizes: Sizes
    outputs: tuple[Candidate, ...]
    inputs: tuple[Candidate, ...]
    by_shape: tuple[Candidate, ...]
    projections: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    unreadable: Mapping[str, tuple[Role, SourceError]] = field(default_factory=dict)

    @property
    def listed(self) -> list[Candidate]:
        """What can hold token vectors, best first; without names or shapes, all matrices."""
        found = [*self.outputs, *self.by_shape, *self.inputs, *self.projections]
        if not found:
            found = [c for c in self.others if not c.says.kind] or list(self.others)
        return list({c.tensor.name: c for c in found}.values())

    @property
    def pair(self) -> tuple[str, str] | None:
        """The input and the output matrix, where both are there and known; else None."""
        outputs = self.outputs or (self.by_shape if len(self.by_shape) == 1 else ())
        if len(outputs) != 1 or len(self.inputs) != 1:
            return None
        read, written = self.inputs[0], outputs[0]
        few, many = sorted((read.rows, written.rows))
        return (read.tensor.name, written.tensor.name) if many <= _OF_ONE * few else None

    def first_unreadable(self, role: Role) -> SourceError | None:
        """Why a matrix of that role that is there cannot be read; None if there is none."""
        return next((error for its, error in self.unreadable.values() if its == role), None)

    def of(self, name: str) -> Candidate | None:
        """A matrix as it was weighed; None if it is none."""
        everything = (*self.outputs, *self.inputs, *self.by_shape, *self.projections, *self.others)
        return next((c for c in everything if c.tensor.name == name), None)


def weigh(
    tensors: Mapping[str, StoredTensor],
    told: Told | None = None,
    where: object = None,
    absent: Mapping[str, SourceError] | None = None,
) -> Weighed:
    """Sort a model's matrices by what they can be.

    Args:
        tensors: What the source holds, by name.
        told: What stands beside them.
        where: The source, for error lines.
        absent: Why a tensor that the source lists is not there, by its name.
    """
    told = told or Told()
    found = _weigh(tensors, told, sizes_told(told))
    if not told.vocabulary and (len(found.outputs) != 1 or not found.inputs):
        undecided = len(found.outputs or found.inputs) != 1
        if undecided and (size := told.tokenizer_size()):
            found = _weigh(tensors, told, Sizes({"the tokenizer's tokens": size}, {}))
    return replace(found, unreadable=_unreadable(tensors, where, absent or {}))


def _weigh(tensors: Mapping[str, StoredTensor], told: Told, sizes: Sizes) -> Weighed:
    matrices = [t for t in tensors.values() if len(t.shape) == 2 and 0 not in t.shape]
    drafts = draft_layers(tensors)
    found = [assess(tensor, sizes, drafts) for tensor in matrices]
    inputs = best([c for c in found if c.role == "input"])
    if not sizes.vocabulary and len(inputs) == 1 and inputs[0].readable:
        # Nothing states a size, but the other matrix has one.
        reference = sizes_of(inputs[0])
        found = [assess(t, reference, drafts) if c.role != "input" else c
                 for t, c in zip(matrices, found, strict=True)]  # fmt: skip
    else:
        reference = sizes
    named = [c for c in found if c.role == "output"]
    projections = [c for c in named if is_projection(c, reference)] if reference.vocabulary else []
    if not inputs and not _exact(found):
        projections = []
    outputs = best([c for c in named if c not in projections])
    by_shape = _by_shape(found, inputs, told) if not outputs or outputs[0].fit is Fit.OFF else []
    if len(by_shape) == 1 and outputs:
        outputs = []
    taken = {c.tensor.name for c in (*outputs, *inputs, *by_shape, *projections)}
    others = [c for c in found if c.readable and c.tensor.name not in taken]
    others = [c for c in others if c.rows > 1] or others  # a bias is no matrix
    return Weighed(
        tensors,
        told,
        reference,
        tuple(outputs),
        tuple(inputs),
        tuple(by_shape),
        tuple(projections),
        tuple(others),
    )


def _exact(found: Sequence[Candidate]) -> list[Candidate]:
    return [c for c in found if c.fit is Fit.EXACT and not c.says.kind]


def best(found: Sequence[Candidate]) -> list[Candidate]:
    """The best of those with one role; several where nothing tells them apart."""
    top = min((c.order for c in found), default=None)
    rivals = [c for c in found if c.order == top]
    preferences: tuple[Callable[[Candidate], bool], ...] = (
        lambda c: c.fit is Fit.EXACT,
        lambda c: "encoder" not in c.tensor.name.split("."),  # text is written by the decoder
    )
    for preferred in preferences:
        if len(rivals) > 1:
            rivals = [c for c in rivals if preferred(c)] or rivals
    return rivals


def _by_shape(
    found: Sequence[Candidate], inputs: Sequence[Candidate], told: Told
) -> list[Candidate]:
    """What could be the output matrix though it is not called so: it has the input one's shape."""
    if len(inputs) != 1 or not inputs[0].readable:
        return []
    read = inputs[0]
    if not told.vocabulary and read.rows < _VOCABULARY_LIKE * read.columns:
        return []
    same = [
        c
        for c in found
        if c.role == "other" and c.readable and (c.rows, c.columns) == (read.rows, read.columns)
    ]
    plain = [c for c in same if not c.says.kind]
    if not plain and told.tied is False:  # one there has to be, and some models number all layers
        plain = [c for c in same if c.says.kind == LAYER and "output" in c.says.like]
    like = [c for c in plain if "output" in c.says.like] or plain
    return [c for c in like if "output" in c.says.like or told.tied is not True]


# --- matrices that are there, or listed, and cannot be read ---


def _kind(tensors: Mapping[str, StoredTensor], name: str) -> str:
    kind = packing(tensors, packed_layer(name))
    return f" ({kind})" if kind else ""


def _unreadable(
    tensors: Mapping[str, StoredTensor], where: object, absent: Mapping[str, SourceError]
) -> dict[str, tuple[Role, SourceError]]:
    """Why an input or output matrix cannot be read, and which it is, by its name."""
    found: dict[str, tuple[Role, SourceError]] = {}
    for name, role in empty_matrices(tensors):
        found[name] = (
            role,
            SourceError(
                f"the {role} matrix {name!r} is empty, as DeepSpeed ZeRO-3 saves it",
                where=where,
                remedy="gather the checkpoint with its zero_to_fp32.py, or save it again with "
                "stage3_gather_16bit_weights_on_model_save",
            ),
        )
    for name, role in packed_heads(tensors):
        found[name] = (
            role,
            SourceError(
                f"the {role} matrix is there, quantised: {name}{_kind(tensors, name)}, which "
                "cannot be read as numbers",
                where=where,
                remedy="give the model that it was quantised from",
            ),
        )
    for name, error in absent.items():
        says = name_says(name)
        aside = says.kind != "" or says.layered
        found[name] = "other" if aside else says.role, error
    return found
