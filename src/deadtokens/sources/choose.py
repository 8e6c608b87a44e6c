"""Which of a model's tensors holds the token vectors, and why.

Names say which matrix is the input and which the output matrix; shapes, the sizes that config.json
states and the tokenizer's size confirm or overrule them. What each piece of evidence does is in
docs/files.md.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources.candidates import Candidate, Fit
from deadtokens.sources.doubts import (
    doubts_of,
    is_adapter,
    kinds,
    listing,
    none_there,
    notes_of,
    several,
    shape_of,
)
from deadtokens.sources.names import COPY, DRAFT, GGUF_INPUT, LORA, MEDIA, SINGLE
from deadtokens.sources.weighing import Weighed, best

_OF_ANOTHER_PART = (DRAFT, MEDIA, COPY)
_TOWERS = 4  # rows to a column, of a matrix that is taken for its shape alone


@dataclass(frozen=True)
class Choice:
    """The tensor to use, and why.

    Attributes:
        tensor: The tensor.
        reason: Why this one, in words.
        warnings: Where the evidence conflicts or is thin, a sentence each.
        notes: What was left out, a sentence each.
        transposed: Whether tokens are its columns.
    """

    tensor: StoredTensor
    reason: str
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    transposed: bool = False


def choose(weighed: Weighed, where: object, wanted: str | None = None) -> Choice:
    """The tensor to read.

    Args:
        weighed: The source's matrices.
        where: The source, for error lines.
        wanted: The name the user asked for, if any.

    Raises:
        SourceError: No tensor by the wanted name, no candidate, several equally good ones, or only
            the input matrix of a model that has another output matrix.
    """
    if wanted is not None:
        return _named_by_the_user(weighed, where, wanted)
    told = weighed.told
    if told.part and weighed.listed:
        raise SourceError(
            f"this is {told.part}: its matrices hold some of the rows or columns only",
            where=where,
            remedy="merge the parts, or give the model as one file or in shards; --tensor "
            f"{shlex.quote(weighed.listed[0].tensor.name)} reads what is there",
        )
    outputs, inputs = weighed.outputs, weighed.inputs
    if outputs and not (outputs[0].transposed and len(inputs) == 1):
        found = _only(outputs, where)
        return _output(weighed, found, "the output (unembedding) matrix, by its name")
    unreadable = weighed.first_unreadable("output")
    if unreadable and not (told.tied and len(inputs) == 1):
        raise _or_the_input(unreadable, inputs)
    if not outputs and len(weighed.by_shape) == 1:
        found = weighed.by_shape[0]
        return _output(
            weighed, found, f"the output matrix, by its shape: {'; '.join(found.findings)}"
        )
    if inputs:
        return _input(weighed, _only(inputs, where), where)
    in_the_way = unreadable or weighed.first_unreadable("input")
    if in_the_way:
        raise in_the_way
    return _without_a_name(weighed, where)


def _or_the_input(unreadable: SourceError, inputs: Sequence[Candidate]) -> SourceError:
    """Why the output matrix cannot be read, with the input matrix as a way out."""
    if len(inputs) != 1 or not inputs[0].readable:
        return unreadable
    name = shlex.quote(inputs[0].tensor.name)
    remedy = f"{unreadable.remedy}, or add --tensor {name} to take the input matrix"
    return SourceError(unreadable.what, where=unreadable.where, remedy=remedy)


def _named_by_the_user(weighed: Weighed, where: object, wanted: str) -> Choice:
    if wanted in weighed.tensors:
        found = weighed.of(wanted)
        part = weighed.told.part
        warnings = [f"this is {part}: {wanted} holds some rows or columns only"] if part else []
        if found is not None and found.role != "other":
            warnings += doubts_of(weighed, found)
        return Choice(
            weighed.tensors[wanted],
            "named by --tensor" + (", read transposed" if found and found.transposed else ""),
            tuple(warnings),
            transposed=found is not None and found.transposed,
        )
    if wanted in weighed.unreadable:
        raise weighed.unreadable[wanted][1]
    raise SourceError(
        f"no tensor {wanted!r} there",
        where=where,
        remedy=f"name one of: {listing(list(weighed.tensors))}",
    )


def _output(weighed: Weighed, found: Candidate, reason: str) -> Choice:
    warnings = doubts_of(weighed, found)
    if found in weighed.by_shape and "output" not in found.says.like:
        warnings.append(f"nothing but its shape says that {found.tensor.name} is the output matrix")
    if not weighed.sizes.vocabulary and found.rows == found.columns:
        warnings.append(
            f"{found.tensor.name} has as many rows as columns: it may be a projection rather "
            "than the output matrix"
        )
    return _choice(weighed, found, reason, warnings)


def _input(weighed: Weighed, found: Candidate, where: object) -> Choice:
    """The input matrix, where no output matrix can be read."""
    told, name = weighed.told, found.tensor.name
    warnings = doubts_of(weighed, found)
    if weighed.outputs:  # transposed
        head = weighed.outputs[0]
        warnings.append(
            f"the output matrix {head.tensor.name} is stored transposed ({shape_of(head.tensor)}), "
            f"and the input matrix is taken: --tensor {shlex.quote(head.tensor.name)} reads it"
        )
        return _choice(weighed, found, "the input matrix, by its name", warnings)
    if told.tied is False:
        raise SourceError(
            f"{told.name} says that the output matrix is not tied to the input one, but only the "
            f"input matrix {name!r} is there",
            where=where,
            remedy=f"add --tensor {shlex.quote(name)} to take the input matrix",
        )
    if told.contradiction:
        warnings.append(f"{told.contradiction}; taken as tied, since no output matrix is there")
    if unreadable := weighed.first_unreadable("output"):
        warnings.append(f"{told.name} says they are tied, and yet {unreadable.what}")
    if weighed.by_shape:
        names = listing([c.tensor.name for c in weighed.by_shape])
        warnings.append(
            f"no matrix is called like an output matrix, but {names} has the input one's shape: "
            "if one of them is the output matrix, name it with --tensor"
        )
    elif told.unread and told.tied is None:
        warnings.append(
            f"only the input matrix is there, and {told.name}, which says whether the output "
            "matrix is another one, could not be understood"
        )
    elif told.shard and told.tied is None:
        warnings.append(
            f"this is {told.shard}: whether the output matrix is in the others is not known; "
            "give the folder with all of them"
        )
    return _choice(weighed, found, _why_input(weighed), warnings)


def _why_input(weighed: Weighed) -> str:
    told = weighed.told
    if is_adapter(weighed):
        return "the input matrix, by its name, as an adapter holds it"
    if weighed.by_shape:
        return "the input matrix, by its name"
    if told.tied:
        why = f"{told.name} says they are tied"
    else:
        why = "taken as tied: nothing says otherwise"
    if GGUF_INPUT in weighed.tensors and told.gguf:
        why = "GGUF leaves it out where they are tied"
    return f"the input matrix, by its name; no output matrix there ({why})"


def _without_a_name(weighed: Weighed, where: object) -> Choice:
    """The matrix of a source in which none is called like a token matrix."""
    others = weighed.others
    plain = [c for c in others if not c.says.kind]
    exact = [c for c in plain if c.fit is Fit.EXACT]
    likely = [c for c in exact if "output" in c.says.like] or exact
    if likely:
        found = _only(likely, where)
        return _choice(weighed, found, f"by its shape: {'; '.join(found.findings)}", [])
    for role in ("output", "input"):
        parts = [c for c in others if c.says.role == role and c.says.kind in _OF_ANOTHER_PART]
        if parts:
            found = _only(best(parts), where)
            reason = f"called like an {role} matrix, and the only kind of one there"
            return _choice(weighed, found, reason, doubts_of(weighed, found))
    if len(others) == 1 and others[0].says.kind not in (LORA, SINGLE) and not weighed.told.adapter:
        doubts = doubts_of(weighed, others[0])
        if doubts and weighed.told.shard:
            doubts.append(f"this is {weighed.told.shard} without a token matrix: give the folder")
        return _choice(weighed, others[0], "the only matrix there", doubts)
    if len(plain) == 1 and plain[0].rows >= _TOWERS * plain[0].columns:
        name = plain[0].tensor.name
        doubt = f"nothing says what {name} is; all other matrices are {kinds(weighed)}"
        reason = "the only matrix that is not called like another part of a model"
        return _choice(weighed, plain[0], reason, [doubt, *doubts_of(weighed, plain[0])])
    if plain:
        raise several(plain, where)
    matrices = [t for t in weighed.tensors.values() if len(t.shape) == 2]
    if len(matrices) == 1 and matrices[0].name not in [c.tensor.name for c in others]:
        return Choice(matrices[0], "the only matrix there")  # which is refused for what it is
    raise none_there(weighed, where)


def _choice(weighed: Weighed, found: Candidate, reason: str, warnings: list[str]) -> Choice:
    if found.transposed:
        reason += ", read transposed"
    return Choice(
        found.tensor,
        reason,
        tuple(warnings),
        tuple(notes_of(weighed, found)),
        transposed=found.transposed,
    )


def _only(found: Sequence[Candidate], where: object) -> Candidate:
    if len(found) > 1:
        raise several(found, where)
    return found[0]
