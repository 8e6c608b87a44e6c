"""What a tensor's name says: input matrix, output matrix, or a part that holds no vocabulary.

Names are a first guess, which shapes confirm or overrule (`deadtokens.sources.choose`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["output", "input", "other"]

GGUF_INPUT, GGUF_OUTPUT = "token_embd.weight", "output.weight"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Names of the layers whose weights are the matrix, in order of preference where a checkpoint holds
# several. A layer is called so if its name ends in one of these.
_OUTPUT_NAMES = _words(
    "lm_head embed_out proj_out output_projection output_layer cls.predictions.decoder "
    "lm_head.decoder output head unembed unembedding unembeddings out_head to_logits final_linear "
    "ff_out pred_layer.proj predictions.decoder vocab_projector lm_loss generator.0 generator.proj "
    "generator.linear generator lm_head.out_proj lm_head.linear lm_head.lm_head lm_head.head "
    "embed_tokens_out output_embedding output_embeddings embedding_out word_embeddings_for_head "
    "output_head output_proj language_model_head mlm_head.decoder mlm_head "
    "lm_predictions.lm_head.decoder emb_out logits logits_dense logits_proj logits_projection "
    "logits_linear logit_projection token_logits vocab_proj vocab_projection vocab_head softmax "
    "final_proj fc_out readout unembed.w_u w_u decoder_ff_logit_out_w token_unembedding "
    "unembed_tokens tgt_word_prj text_linear decoder"
)
_INPUT_NAMES = _words(
    "decoder.embed_tokens shared embed_tokens tok_embeddings wte embed_in word_embeddings "
    "word_embedding token_embedding token_embeddings tok_embed backbone.embeddings emb embed "
    "embedding embeddings token_embd tok_embedding tok_emb token_emb token_embed token_embeds "
    "tokens_embed token_embedder embedder input_embeddings input_embedding input_embeds "
    "input_embeds_layer embed_text_tokens embed_token word_emb word_embed embed_words vocab_embed "
    "vocab_embedding vocab_embeddings embed.w_e w_e wemb decoder_wemb tgt_word_emb trg_word_emb "
    "emb_luts.0 embedding_table text_embedding text_embeddings text_emb "
    "shared_embedding embedding_layer encoder"
)
_RANKS: dict[str, tuple[Role, int]] = {
    **{name: ("input", rank) for rank, name in enumerate(_INPUT_NAMES)},
    **{name: ("output", rank) for rank, name in enumerate(_OUTPUT_NAMES)},
}
_LONGEST = 3
# Other parts of models are called so too: such a name counts outside numbered layers only, and
# only as the name of a layer's weights.
WEAK = frozenset(
    _words(
        "proj_out output_projection output_layer output head unembed ff_out generator output_head "
        "output_proj emb_out logits softmax final_proj fc_out readout decoder shared emb embed "
        "embedding embeddings embedder text_embeddings encoder"
    )
)

LORA, SINGLE, DRAFT, LAYER = (
    "a factor of a LoRA adapter",
    "the changes of single tokens",
    "a draft head's",
    "a layer's",
)
COPY, MEDIA = "the base model's copy in an adapter", "part of an image or audio model"
# Parts that hold no vocabulary of text, by words in their names; the first that holds.
_KINDS: dict[str, str] = {
    LORA: r"lora_|lora\.(up|down)|(^|\.)(lokr|loha|hada|oft|boft|vera)_|ia3_",
    SINGLE: r"trainable_tokens",
    "an adapter's prompt": r"prompt_embeddings|prompt_encoder|prefix_encoder|soft_prompt"
    r"|emb_params|string_to_param|^clip_[lg]$",
    "an optimiser's or a running mean's": r"(^|[._])optimi[sz]er|exp_avg|momentum_buffer"
    r"|(^|\.)(ema|ema_model|model_ema|ema_state_dict|teacher)(\.|$)",
    COPY: r"original_module",
    DRAFT: r"(^|[._])(mtp|medusa|eagle|draft|speculator|nextn)([._\d]|$)|shared_head|eh_proj",
    MEDIA: r"codec|audio|speech|vision(?!_?lang)|visual|image|pixel|patch|video|talker|token2wav"
    r"|depformer|depth_decoder|code_predictor|codebook|(^|[._])vq[._]|quantizer|per_layer|value_embed"
    r"|ngram|bigram|time_emb|timestep",
    "a table of positions or kinds": r"(^|[._])pos(itions?)?([._\d]|$)|(^|[._])wpe([._]|$)"
    r"|(?<!com)position|token_type|segment|lang_emb|rel_emb|rel_pos|rotary|relative_attention"
    r"|alibi|(^|\.)w_pos$",
    "a normalisation's": r"norm([._\d]|$)|(^|[._])ln([._\d]|$)",
    "a router": r"(^|[._])router|(^|\.)(gate|gating)(\.|$)",
    "a classifier's": r"(^|\.)(score|classifier|classification_head|pooler|qa_outputs|v_head"
    r"|value_head|reward_head|seq_relationship|cls\.output|regression_head)(\.|$)",
}
_PATTERNS = tuple((kind, re.compile(words, re.IGNORECASE)) for kind, words in _KINDS.items())
# What frameworks put around the name of a layer, and after it.
_WRAPPERS = frozenset(
    _words(
        "_orig_mod module _forward_module _fsdp_wrapped_module _checkpoint_wrapped_module "
        "base_layer modules_to_save default parametrizations original original0 params _fpw_module"
    )
)
_ENDINGS = frozenset(("weight", "weights", "kernel", "w", "original1", "vars", "value"))
# Flax and Keras call the array of a layer so: wte.embedding is the weights of wte.
_ARRAYS = frozenset(("embedding", "embeddings", "emb", "embed"))
_NUMBER = re.compile(r"[1-9]\d*")
_NUMBERED = re.compile(r"(^|\.)\d+\.")
_OUTPUT_WORDS = re.compile(r"head|out|logit|unemb|vocab|predict|generator|lm|softmax|w_u|linear")
_INPUT_WORDS = re.compile(r"emb|wte|lookup|vocab|token|lut|w_e")


@dataclass(frozen=True)
class NameSays:
    """What a tensor's name says.

    Attributes:
        role: The matrix it is, by its name.
        rank: Its place in the order of preference in that role.
        weak: Whether other parts of models are called so too.
        kind: What else it is, in words, where it is no matrix of the vocabulary by its name.
        layered: Whether it stands in a numbered layer.
        like: The roles that words in it suggest, where it is no name of a role.
    """

    role: Role
    rank: int = 0
    weak: bool = False
    kind: str = ""
    layered: bool = False
    like: frozenset[Role] = frozenset()


def name_says(name: str) -> NameSays:
    """What a tensor's name says, whichever framework gave it."""
    return _says(_NUMBER.sub("1", name))  # which layer or expert it is makes no difference


@lru_cache(maxsize=1 << 14)
def _says(name: str) -> NameSays:
    dotted = name.replace("/", ".").removesuffix(":0")
    dotted = dotted.replace("token_and_position_", "")  # Keras's layer that holds both tables
    layer, ended = layer_name(dotted)
    role, rank, listed = _role(layer, ended)
    kind = next((kind for kind, words in _PATTERNS if words.search(dotted)), "")
    before = layer.lower().removesuffix(listed) if listed else f"{layer}."
    layered = "." in layer and _NUMBERED.search(before) is not None
    if layered and listed in WEAK:
        role = "other"
    if layered and role == "other" and not kind:
        kind = LAYER
    last = layer.lower().rpartition(".")[2]
    suggested: tuple[tuple[Role, re.Pattern[str]], ...] = (
        ("output", _OUTPUT_WORDS),
        ("input", _INPUT_WORDS),
    )
    like = frozenset(role for role, words in suggested if words.search(last))
    return NameSays(role, rank, listed in WEAK, kind, layered, like)


def layer_name(dotted: str) -> tuple[str, bool]:
    """The name of the layer whose weights a tensor is, and whether something said "weights"."""
    parts = [part for part in dotted.split(".") if part not in _WRAPPERS]
    if len(parts) > 1 and parts[0] == "0" and not parts[1].isdigit():
        del parts[0]  # the first of a pipeline is the transformer itself
    if len(parts) > 2 and parts[-1].isdigit() and parts[-2] == "vars":
        parts.pop()
    ended = False
    while len(parts) > 1 and parts[-1].lower() in _ENDINGS:
        ended = True
        parts.pop()
    return ".".join(parts), ended


def _role(layer: str, ended: bool) -> tuple[Role, int, str]:
    """The role, the rank and the listed name that a layer's name ends in: the longest one."""
    parts = layer.lower().split(".")
    is_array = len(parts) > 1 and parts[-1] in _ARRAYS
    for held, said in ((parts, ended), (parts[:-1] if is_array else [], True)):
        for length in range(min(_LONGEST, len(held)), 0, -1):
            listed = ".".join(held[-length:])
            if listed in _RANKS and (said or listed not in WEAK):
                return *_RANKS[listed], listed
    return "other", 0, ""
