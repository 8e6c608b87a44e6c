r"""How byte-level vocabularies split text before merging, by the name that GGUF files give it.

Only those are here whose published tokenizer.json is known in full: the split, the normalisation
before it, and whether a whole piece that is a token is taken without merging. GGUF files hold none
of the three, and what llama.cpp splits by is an approximation for some.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TAIL_WITH_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+",
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*",
)

_CL100K = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}{{1,3}}|{_TAIL}"
_QWEN2 = rf"{_CONTRACTIONS}|{_WORD}|\p{{N}}|{_TAIL}"
_TEKKEN = rf"{'|'.join(_CASED)}|\p{{N}}|{_TAIL_WITH_SLASH}"
_O200K = (
    "|".join(word + _CONTRACTIONS + "?" for word in _CASED) + rf"|\p{{N}}{{1,3}}|{_TAIL_WITH_SLASH}"
)
_DEEPSEEK_V3 = (
    r"\p{N}{1,3}",
    "[一-龥\u3040-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


@dataclass(frozen=True)
class Splitting:
    """How text is made ready for merging.

    Attributes:
        patterns: Text is split by these, one after the other; by GPT-2's if there are none.
        digits: Whether every digit stands alone.
        composed: Whether text is brought into Unicode's composed form (NFC).
        ignore_merges: Whether a piece that is a token is taken as it is.
    """

    patterns: tuple[str, ...] = ()
    digits: bool = False
    composed: bool = False
    ignore_merges: bool = False

    def pre_tokenizer(self) -> PreTokenizer:
        """The tokenizers package's form of it."""
        from tokenizers import Regex, pre_tokenizers

        steps: list[PreTokenizer] = [
            pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns
        ]
        if self.digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not self.patterns)
        return pre_tokenizers.Sequence([*steps, last])


_GPT2 = Splitting()
_GPT_NEOX = Splitting(composed=True)
_DIGITS = Splitting(digits=True)
_LLAMA3 = Splitting((_CL100K,), ignore_merges=True)
_QWEN = Splitting((_QWEN2,), composed=True)
_GLM4 = Splitting((_CL100K,))

SPLITTINGS: dict[str, Splitting] = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "roberta-bpe": _GPT2,
    "mpt": _GPT_NEOX,
    "olmo": _GPT_NEOX,
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "command-r": Splitting(digits=True, composed=True),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "qwen2": _QWEN,
    "deepseek-r1-qwen": _QWEN,
    "deepseek-v3": Splitting(_DEEPSEEK_V3),
    "tekken": Splitting((_TEKKEN,), ignore_merges=True),
    "gpt-4o": Splitting((_O200K,)),
    "glm4": _GLM4,
    "chatglm-bpe": _GLM4,
}
