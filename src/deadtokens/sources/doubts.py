"""What is said beside a choice: doubts that stand before it, notes below it, and refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources.candidates import Candidate, Fit, Sizes, of_draft
from deadtokens.sources.names import LAYER, LORA, SINGLE, layer_name
from deadtokens.sources.weighing import Weighed

_PARTS = (2, 4, 8, 16, 32, 64)  # of a model-parallel checkpoint
_CLOSE = 0.02  # what padding does to a share


def doubts_of(weighed: Weighed, found: Candidate) -> list[str]:
    """What speaks against a matrix that is taken all the same, a sentence each."""
    name, says = found.tensor.name, found.says
    doubts = []
    if of_draft(weighed.tensors, weighed.told, found):
        doubts.append(
            f"{name} is a draft model's: its rows need not be the tokens of the main model"
        )
    elif says.kind:
        doubts.append(f"{name} is called like {says.kind}: it may hold no vocabulary of text")
    elif says.layered and found.fit not in (Fit.EXACT, Fit.PADDED):
        doubts.append(f"{name} stands in a numbered layer: it may be no matrix of the vocabulary")
    if found.fit is Fit.OFF:
        doubts.append(_off(found, weighed.sizes))
    doubts += _cut_columns(found, weighed.sizes)
    doubts += _other_vocabulary(weighed, found)
    if any(_is_factor_of(other, name) for other in weighed.tensors):
        doubts.append(
            f"LoRA factors of {name} are there too and are not added to it: merge them first"
        )
    return doubts


def _off(found: Candidate, sizes: Sizes) -> str:
    stated = sizes.nearest(found.rows)
    said = f"{found.tensor.name} has {found.rows:,} rows, and the vocabulary {stated}"
    times = [size / found.rows for size in sizes.vocabulary.values() if size > found.rows]
    if any(round(ratio) in _PARTS and abs(ratio - round(ratio)) < _CLOSE for ratio in times):
        return f"{said}: it may be one part of a model-parallel checkpoint, or cut"
    return f"{said}: rows need not be tokens by number"


def _cut_columns(found: Candidate, sizes: Sizes) -> list[str]:
    lengths = sizes.columns.values()
    if found.role == "other" or not found.readable or found.columns in lengths:
        return []
    whole = [n for n in lengths if n % found.columns == 0 and n // found.columns in _PARTS]
    if not whole:
        return []
    return [
        f"{found.tensor.name} has {found.columns:,} columns, and vectors have {min(whole):,}: it "
        "may be one part of a model-parallel checkpoint, which has to be merged first"
    ]


def _other_vocabulary(weighed: Weighed, found: Candidate) -> list[str]:
    """That input and output matrix have numbers of rows which no padding explains."""
    if len(weighed.outputs) != 1 or len(weighed.inputs) != 1 or weighed.pair is not None:
        return []
    read, written = weighed.inputs[0], weighed.outputs[0]
    if not (read.readable and written.readable) or found not in (read, written):
        return []
    other = written if found is read else read
    return [
        f"{found.tensor.name} has {found.rows:,} rows and {other.tensor.name} {other.rows:,}: they "
        "are not of one vocabulary"
    ]


def _is_factor_of(other: str, name: str) -> bool:
    """Whether a tensor is a LoRA factor of the layer that another is the weights of."""
    before, lora, _ = other.partition("lora_")
    return lora != "" and f"{layer_name(before)[0]}.".startswith(f"{layer_name(name)[0]}.")


def notes_of(weighed: Weighed, found: Candidate) -> list[str]:
    """What of the source was left out beside a matrix, a sentence each."""
    notes = [
        f"{c.tensor.name} ({shape_of(c.tensor)}) is called like an output matrix, but has too few "
        "rows for one"
        for c in weighed.projections
    ]
    if is_adapter(weighed):
        notes.append("this is an adapter: what it does not hold is in its base model")
    if found.fit is Fit.PADDED and weighed.told.vocabulary:
        notes.append(f"{found.rows:,} rows, a few more than {weighed.sizes.nearest(found.rows)}")
    return notes


def is_adapter(weighed: Weighed) -> bool:
    """Whether the source is an adapter of a model, and not a model with adapters in it."""
    return weighed.told.adapter or (has(weighed, LORA) and not has(weighed, LAYER))


def has(weighed: Weighed, kind: str) -> bool:
    """Whether a matrix of that kind is among those that are neither input nor output."""
    return any(c.says.kind == kind for c in weighed.others)


def kinds(weighed: Weighed) -> str:
    """What the other matrices are called like, in words."""
    counts = Counter(c.says.kind for c in weighed.others if c.says.kind)
    return ", ".join(f"{kind} ({n:,})" for kind, n in counts.most_common(4))


# --- refusals ---


def several(found: Sequence[Candidate], where: object) -> SourceError:
    """The line that asks for a choice among equally good tensors."""
    names = [candidate.tensor.name for candidate in found]
    return SourceError(
        f"{len(names)} tensor{'s' * (len(names) != 1)} could hold the token vectors: "
        f"{listing(names)}",
        where=where,
        remedy="choose one with --tensor",
    )


def none_there(weighed: Weighed, where: object) -> SourceError:
    """What a source without a token matrix holds instead, and the way out."""
    if not weighed.others:
        facts = [f"{t.name} ({t.dtype[:40]}, {shape_of(t)})" for t in weighed.tensors.values()]
        return SourceError(
            "no 2-D floating-point tensor there that could hold token vectors",
            where=where,
            remedy=f"the tensors are: {listing(facts) or 'none'}",
        )
    first = weighed.others[0].tensor.name
    if single := [c for c in weighed.others if c.says.kind == SINGLE]:
        name = single[0].tensor.name
        return SourceError(
            f"an adapter without token matrices: {name} holds the changes of "
            f"{single[0].rows:,} single tokens, whose rows are not the vocabulary's",
            where=where,
            remedy=f"merge it into its base model; --tensor {name} reads the changes",
        )
    if is_adapter(weighed):
        return SourceError(
            f"an adapter without token matrices: it holds {kinds(weighed)}",
            where=where,
            remedy="merge it into its base model, or give the base model",
        )
    if weighed.told.draft:
        return SourceError(
            f"no token matrix there: these are the heads of a draft model, {kinds(weighed)}",
            where=where,
            remedy=f"give the main model; --tensor {first} reads one of them",
        )
    what = f"this is {weighed.told.shard} and what" if weighed.told.shard else "what"
    layers = has(weighed, LAYER)
    whole = "give the folder with all shards, or the index; " if layers else ""
    return SourceError(
        f"no token matrix there: {what} is there is, by its name, {kinds(weighed)}",
        where=where,
        remedy=f"{whole}if one of them is it, name it: --tensor {first}",
    )


def shape_of(tensor: StoredTensor) -> str:
    """A tensor's shape in words."""
    return " x ".join(f"{n:,}" for n in tensor.shape)


def listing(names: list[str]) -> str:
    """Names in words, the first eight of them."""
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
