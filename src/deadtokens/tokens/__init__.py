"""What each row of a matrix stands for: its text, its label, its script, by the tokenizer."""

from __future__ import annotations

from deadtokens.tokens.labelling import label_rows
from deadtokens.tokens.labels import LABELS, Labels
from deadtokens.tokens.reading import merge_pairs

__all__ = ["LABELS", "Labels", "label_rows", "merge_pairs"]
