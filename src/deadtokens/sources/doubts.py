"""What is said beside a choice: doubts that stand before it, notes below it, and refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources.candidates import Candidate, Fit, Sizes, of_draft
from deadtokens.sources.names import DRAFT, LAYER, LORA, SINGLE, layer_name
from deadtokens.sources.weighing import Weighed


def doubts_of(weighed: Weighed, found: Candidate) -> list[str]:
    """What speaks against a matrix that is taken all the same."""
    name, sizes = found.tensor.name, weighed.sizes
    doubts = []
    if found.says.kind and found.says.kind != DRAFT:
        doubts.append(f"{name} is called like {found.says.kind}: it may hold no vocabulary of text")
    if of_draft(weighed.tensors, weighed.told, found):
        doubts.append(
            f"{name} is a draft model's: its rows need not be the tokens of the main model"
        )
    elif found.says.layered and not found.says.kind and found.fit not in (Fit.EXACT, Fit.PADDED):
        doubts.append(f"{name} stands in a numbered layer: it may be no matrix of the vocabulary")
    if found.fit is Fit.OFF:
        doubts.append(_off(found, sizes))
    lengths = sizes.columns.values()
    if lengths and found.columns not in lengths and found.role != "other":
        whole = [n for n in lengths if n % found.columns == 0]
        if whole and found.readable:
            doubts.append(
                f"{name} has {found.columns:,} columns, and vectors have {min(whole):,}: it may be "
                "one part of a model-parallel checkpoint, which has to be merged first"
            )
    pair = (weighed.outputs, weighed.inputs)
    if all(len(side) == 1 and side[0].readable for side in pair) and weighed.pair is None:
        other = pair[0][0] if found in weighed.inputs else pair[1][0]
        doubts.append(
            f"{name} has {found.rows:,} rows and {other.tensor.name} {other.rows:,}: they are not "
            "of one vocabulary"
        )
    factors = [n for n in weighed.tensors if _is_factor_of(n, name)]
    if factors:
        doubts.append(
            f"LoRA factors of {name} are there too and are not added to it: merge them first"
        )
    return doubts


def _is_factor_of(other: str, name: str) -> bool:
    """Whether a tensor is a LoRA factor of the layer that another is the weights of."""
    before, lora, _ = other.partition("lora_")
    return lora != "" and f"{layer_name(before)[0]}.".startswith(f"{layer_name(name)[0]}.")


def _off(found: Candidate, sizes: Sizes) -> str:
    said = f"{found.tensor.name} has {found.rows:,} rows, and the vocabulary {sizes.nearest(found.rows)}"
    times = [n / found.rows for n in sizes.vocabulary.values() if n > found.rows]
    if any(abs(ratio - round(ratio)) * found.rows < 256 and round(ratio) in (2, 4, 8, 16)
           for ratio in times):  # fmt: skip
        return f"{said}: it may be one part of a model-parallel checkpoint, or cut"
    return f"{said}: rows need not be tokens by number"


def notes_of(weighed: Weighed, found: Candidate) -> list[str]:
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
    return any(c.says.kind == kind for c in weighed.others)


def kinds(weighed: Weighed) -> str:
    counts = Counter(c.says.kind for c in weighed.others if c.says.kind)
    return ", ".join(f"{kind} ({n:,})" for kind, n in counts.most_common(4))


# --- refusals ---


def several(found: Sequence[Candidate], where: object) -> SourceError:
    """The line that asks for a choice among equally good tensors."""
    names = [candidate.tensor.name for candidate in found]
    return SourceError(
        f"{len(names)} tensors could hold the token vectors: {listing(names)}",
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
