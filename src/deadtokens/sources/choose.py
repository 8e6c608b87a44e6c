"""Which of a model's tensors holds the token vectors, and why.

Only names and shapes are looked at. The names are those that published checkpoints use; a name
matches when it equals one listed here or ends in a dot and that name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from deadtokens.errors import SourceError
from deadtokens.files import StoredTensor
from deadtokens.sources.matrix import matrix_format

Role: TypeAlias = Literal["output", "input", "other"]

GGUF_INPUT, GGUF_OUTPUT = "token_embd.weight", "output.weight"

# In order of preference where a checkpoint holds several.
OUTPUT_NAMES = (
    "lm_head.weight",
    "embed_out.weight",
    "proj_out.weight",
    "output_projection.weight",
    "output_layer.weight",
    "cls.predictions.decoder.weight",
    "lm_head.decoder.weight",
    GGUF_OUTPUT,
    "head.weight",
    "unembed.weight",
)
INPUT_NAMES = (
    "decoder.embed_tokens.weight",
    "shared.weight",
    "embed_tokens.weight",
    "tok_embeddings.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "word_embedding.weight",
    "token_embedding.weight",
    "token_embeddings.weight",
    "tok_embed.weight",
    "backbone.embeddings.weight",
    "emb.weight",
    "embed.weight",
    "embedding.weight",
    "embeddings.weight",
    GGUF_INPUT,
)
_OF_A_CLASSIFIER = ("cls.output.weight",)  # GGUF's name, which ends like an output matrix's
_IN_A_LAYER = re.compile(r"(^|\.)\d+\.")
_NAMES: dict[Role, tuple[str, ...]] = {"output": OUTPUT_NAMES, "input": INPUT_NAMES, "other": ()}


@dataclass(frozen=True)
class Candidate:
    """A tensor that can hold token vectors, and what its name says of it."""

    tensor: StoredTensor
    role: Role


@dataclass(frozen=True)
class Choice:
    """The tensor to use, and why.

    Attributes:
        tensor: The tensor.
        reason: Why this one, in words.
        warnings: Where the evidence conflicts or is thin, a sentence each.
    """

    tensor: StoredTensor
    reason: str
    warnings: tuple[str, ...] = ()


def candidates(tensors: Mapping[str, StoredTensor]) -> list[Candidate]:
    """2-D tensors with a name the field uses, best first; without any, all 2-D float tensors."""
    matrices = {name: tensor for name, tensor in tensors.items() if len(tensor.shape) == 2}
    named = [
        Candidate(matrices[name], role)
        for role in ("output", "input")
        for listed in _NAMES[role]
        for name in _matching(matrices, listed)
    ]
    if named:
        return named
    return [
        Candidate(tensor, "other")
        for tensor in matrices.values()
        if matrix_format(tensor) is not None
    ]


def choose(
    tensors: Mapping[str, StoredTensor],
    where: object,
    wanted: str | None = None,
    tied: bool | None = None,
) -> Choice:
    """The tensor to read.

    Args:
        tensors: What the source holds, by name.
        where: The source, for error lines.
        wanted: The name the user asked for, if any.
        tied: What the model's config says of input and output being one matrix; None if it is
            silent.

    Raises:
        SourceError: No tensor by the wanted name, no candidate, several equally good ones, or the
            only one is the input matrix of a model that says its output matrix is another.
    """
    if wanted is not None:
        if wanted not in tensors:
            raise SourceError(
                f"no tensor {wanted!r} there",
                where=where,
                remedy=f"name one of: {_listing(list(tensors))}",
            )
        return Choice(tensors[wanted], "named by --tensor")
    found = candidates(tensors)
    if not found:
        raise SourceError(
            "no 2-D floating-point tensor there that could hold token vectors",
            where=where,
            remedy=f"the tensors are: {_described(tensors)}",
        )
    best = found[0]
    if best.role == "other":
        if len(found) > 1:
            raise _several(found, where)
        return Choice(best.tensor, "the only matrix there")
    rivals = [c for c in found if c.role == best.role and _rank(c) == _rank(best)]
    if len(rivals) > 1:
        raise _several(rivals, where)
    if best.role == "output":
        return Choice(best.tensor, "the output (unembedding) matrix, by its name")
    if tied is False:
        raise SourceError(
            f"config.json says that the output matrix is not tied to the input one, but only the "
            f"input matrix {best.tensor.name!r} is there",
            where=where,
            remedy=f"add --tensor {shlex.quote(best.tensor.name)} to take the input matrix",
        )
    why = "config.json says they are tied" if tied else "taken as tied: nothing says otherwise"
    if best.tensor.name == GGUF_INPUT:
        why = "GGUF leaves it out where they are tied"
    return Choice(best.tensor, f"the input matrix, by its name; no output matrix there ({why})")


def _matching(names: Mapping[str, object], listed: str) -> list[str]:
    """Names equal to the listed one or ending in it, and in none listed earlier in that role."""
    role_names = OUTPUT_NAMES if listed in OUTPUT_NAMES else INPUT_NAMES
    earlier = role_names[: role_names.index(listed)]
    return [
        name
        for name in names
        if _ends_in(name, listed) and not any(_ends_in(name, other) for other in earlier)
    ]


def _ends_in(name: str, listed: str) -> bool:
    """Whether a tensor's name is a listed one, outside the numbered layers of a model."""
    if name in _OF_A_CLASSIFIER:
        return False
    return name == listed or (name.endswith(f".{listed}") and not _IN_A_LAYER.search(name))


def _rank(candidate: Candidate) -> int:
    names = _NAMES[candidate.role]
    return next(i for i, listed in enumerate(names) if _ends_in(candidate.tensor.name, listed))


def _several(found: list[Candidate], where: object) -> SourceError:
    names = [candidate.tensor.name for candidate in found]
    return SourceError(
        f"{len(names)} tensors could hold the token vectors: {_listing(names)}",
        where=where,
        remedy="choose one with --tensor",
    )


def _described(tensors: Mapping[str, StoredTensor]) -> str:
    facts = [
        f"{t.name} ({t.dtype[:40]}, {' x '.join(map(str, t.shape))})" for t in tensors.values()
    ]
    return _listing(facts) or "none"


def _listing(names: list[str]) -> str:
    shown = ", ".join(names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
