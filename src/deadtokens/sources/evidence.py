"""What stands beside the tensors: sizes, tied or not, whether the file holds a whole model.

Nothing is decided here; `deadtokens.sources.choose` weighs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VOCABULARY = _words(
    "vocab_size text_vocab_size padded_vocab_size n_vocab vocabulary_size tgt_vocab_size "
    "decoder_vocab_size draft_vocab_size vocab_length n_words n_tokens num_tokens ntoken "
    "tgt_vocab orig_vocab_size"
)
_COLUMNS = _words(
    "hidden_size n_embd n_embed d_model dim embedding_size word_embed_proj_dim embed_dim emb_dim "
    "model_dim decoder_embed_dim hidden_dim d_embed embed_size embedding_dim"
)
# What a config says of other parts of a model says nothing of its text.
_OTHER_PARTS = re.compile(
    r"vision|visual|audio|speech|image|video|codec|talker|token2wav|draft|speculat|code_predictor"
    r"|depth|projector|quantization|rope|lora|acoustic",
)
_SECTIONS_DEEP = 4
_SHARE_OF_PADDING = 20

_TYING = re.compile(
    r"(use_)?(un)?(tie|tied|tying|share|shared)_|weight_tying|logits_via_embedding"
    r"|\w*prj_weight_sharing"
)
_OF_MATRICES = re.compile(
    r"emb|weight_tying|(tie|tied)_(model_)?weights|output|softmax|lm_head|logits|prj_weight"
)
_OF_OTHERS = re.compile(
    r"encoder_decoder|position|qkv|_kv|layer|cross|attention|expert|router|codebook|src_tgt"
)
_NEGATIVE = re.compile(r"^(no|not|dont|disable)_|(^|_)untied?_")
_DRAFT_MODELS = re.compile(r"LMEagle|Eagle3|EagleDraft|EagleSpec|Medusa|Speculator|DraftModel|MTP")
# They may mean the matrices of encoder and decoder, and say nothing of the output's if false.
_LOOSE = frozenset(("share_embeddings", "shared_embeddings", "share_all_embeddings"))


@dataclass(frozen=True)
class Told:
    """What stands beside a model's tensors.

    Attributes:
        vocabulary: Sizes of the vocabulary, by where each is stated.
        columns: Sizes that its vectors may have, by where each is stated.
        ties: What is said of input and output being one matrix, by where.
        tokenizer_size: Counts the tokenizer's tokens when it is asked; None if it cannot.
        adapter: Whether the files are said to be an adapter's.
        part: The part of a model that the file is, in words; "" where it is a whole one.
        gguf: Whether the file is GGUF, which leaves the output matrix out where they are tied.
        draft: Whether the model is said to be a draft model.
        shard: The shard that was opened alone, in words; "" where all of them were.
        trained: Of an adapter that changes single tokens, their ids by the matrix's name.
        name: The file that says it.
        unread: Whether that file is there and could not be understood.
        block: Rows and columns of a block that scales are for; None where it is silent.
    """

    vocabulary: Mapping[str, int] | None = None
    columns: Mapping[str, int] | None = None
    ties: Mapping[str, bool] | None = None
    tokenizer_size: Callable[[], int | None] = lambda: None
    adapter: bool = False
    part: str = ""
    gguf: bool = False
    draft: bool = False
    shard: str = ""
    trained: Mapping[str, tuple[int, ...]] | None = None
    name: str = "config.json"
    unread: bool = False
    block: tuple[int, int] | None = None

    @property
    def tied(self) -> bool | None:
        """What is said of input and output being one matrix; None where nothing is.

        Where both are said it is True: `contradiction` has the words.
        """
        said = set((self.ties or {}).values())
        return (True in said) if said else None

    @property
    def contradiction(self) -> str:
        """What is said for and against one matrix, in words; "" unless both are."""
        ties = self.ties or {}
        if len(set(ties.values())) < 2:
            return ""
        said = ", ".join(f"{key} is {str(value).lower()}" for key, value in ties.items())
        return f"{self.name} contradicts itself: {said}"

    def of_adapter(self, config: Mapping[str, Any]) -> Told:
        """The same of an adapter, with what its own adapter_config.json says."""
        listed = config.get("trainable_token_indices")
        by_name = listed if isinstance(listed, dict) else {"": listed}
        trained = {
            str(name): tuple(ids)
            for name, ids in by_name.items()
            if isinstance(ids, list) and all(type(i) is int for i in ids)
        }
        return replace(self, adapter=True, trained=trained)


def _block(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of a block that FP8 scales are for, as a configuration says."""
    said = config.get("quantization_config")
    size = said.get("weight_block_size") if isinstance(said, dict) else None
    if isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size):
        return size[0], size[1]
    return None


def told_by(config: Mapping[str, Any]) -> Told:
    """What a config.json, or a file like it, says."""
    facts = list(_facts(config, "", 0))
    vocabulary = {where: int(n) for where, key, n in facts if key in _VOCABULARY and _is_size(n)}
    columns = {where: int(n) for where, key, n in facts if key in _COLUMNS and _is_size(n)}
    for where, n in list(columns.items()):  # of OLMo, the rows: the vocabulary and its padding
        if where.endswith("embedding_size") and any(n >= size for size in vocabulary.values()):
            vocabulary[where] = columns.pop(where)
    architectures = config.get("architectures")
    named = " ".join(map(str, architectures)) if isinstance(architectures, list) else ""
    return Told(
        vocabulary,
        columns,
        _ties(facts),
        draft=_DRAFT_MODELS.search(named) is not None or "medusa_num_heads" in config,
        block=_block(config),
    )


def _facts(section: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str, Any]]:
    """Where each fact about the text model stands, its key as other configs spell it, its value."""
    for key, value in section.items():
        spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(key)).replace("-", "_").lower()
        if not isinstance(value, dict):
            yield f"{prefix}{key}", spelled, value
        elif depth < _SECTIONS_DEEP and not _OTHER_PARTS.search(spelled):
            yield from _facts(value, f"{prefix}{key}.", depth + 1)


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 1


def _ties(facts: list[tuple[str, str, Any]]) -> dict[str, bool]:
    found = [
        (where, key, value != (_NEGATIVE.search(key) is not None))
        for where, key, value in facts
        if isinstance(value, bool) and _says_tied(key)
    ]
    plain = [fact for fact in found if fact[1] not in _LOOSE]
    loose = [fact for fact in found if fact[2]]
    return {where: value for where, _, value in (plain or loose)}


def _says_tied(key: str) -> bool:
    if re.search(r"(^|_)encoder_embed", key):
        return False
    is_tying = _TYING.match(key) or re.match(r"(no|not|dont|disable)_(tie|tied|weight_tying)", key)
    return bool(is_tying and _OF_MATRICES.search(key) and not _OF_OTHERS.search(key))


# --- sizes ---


def fits(rows: int, size: int) -> bool:
    """Whether so many rows are a vocabulary of that size, or one with some rows of padding.

    Padding is a twentieth or sixteen rows, or goes up to a multiple of a power of two.
    """
    spare = rows - size
    steps = (8 << i for i in range(10))
    rounded = any(
        rows % step == 0 and spare < step for step in steps if step <= max(128, size // 4)
    )
    return spare >= 0 and (spare <= max(size // _SHARE_OF_PADDING, 16) or rounded)


# --- the file ---

_SHARD = re.compile(r"(?P<stem>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})\.\w+")
_PARALLEL = (
    re.compile(r"consolidated\.(\d+)\.(pth|pt|safetensors)"),
    re.compile(r"(?:model_)?(?:optim_)?mp_rank_(\d+).*"),
    re.compile(r"tp_rank_(\d+).*"),
    re.compile(r"model(\d+)-mp(\d+)\.safetensors"),
    re.compile(r".*[-_]model_part[-_](\d+).*\.pt"),
    re.compile(r".*-part-(\d+)\.pt"),
)


def model_parallel_part(path: Path) -> str:
    """Which part of a model-parallel checkpoint a file is, in words; "" if it is none.

    It is one where others, called alike but for the number, lie beside it or beside its folder.
    """
    for place in (path, path.parent):
        pattern = next((p for p in _PARALLEL if p.fullmatch(place.name)), None)
        if pattern is None:
            continue
        try:
            count = sum(
                pattern.fullmatch(other.name) is not None for other in place.parent.iterdir()
            )
        except OSError:
            continue
        if count > 1:
            return f"{place.name}, one of {count} parts of a model-parallel checkpoint"
    return ""


def shard_of(name: str) -> tuple[str, int] | None:
    """The stem of a numbered shard's name and how many there are; None if it is no shard."""
    match = _SHARD.fullmatch(name)
    if match is None or int(match["count"]) < 2:
        return None
    return match["stem"], int(match["count"])


def one_series(names: Collection[str]) -> list[str]:
    """The numbered shards among files, in order; empty if there are none, or several series."""
    for suffix in (".safetensors", ".bin", ".pt", ".pth"):
        shards = [name for name in sorted(names) if name.endswith(suffix) and shard_of(name)]
        if shards:
            return shards if len({shard_of(name) for name in shards}) == 1 else []
    return []
