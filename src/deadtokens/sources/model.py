"""A model that was opened: its tensors, its configuration, where its tokenizer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deadtokens.errors import plain
from deadtokens.files import StoredTensor
from deadtokens.showing import Shown
from deadtokens.sources.choose import Choice, candidates, choose
from deadtokens.sources.matrix import Matrix, TokenizerSource, matrix_codes


@dataclass(frozen=True)
class Model(Shown):
    """The tensors of a source, by name, and what stands beside them.

    Attributes:
        source: What was opened, as the user named it.
        tensors: Every tensor, by name; only headers have been read.
        tied: What its configuration says of input and output being one matrix; None if it is
            silent.
        tokenizer: Where its tokenizer is; None if it brings none.
        files: The files read, which results must not replace.
        where: What an error line names.
        remote: Whether reading a tensor transfers it.
        warnings: Where what the source says of itself conflicts, a sentence each.
        notes: What of it was left out or not understood, a sentence each.
    """

    source: str
    tensors: Mapping[str, StoredTensor]
    tied: bool | None = None
    tokenizer: TokenizerSource | None = None
    files: tuple[Path, ...] = ()
    where: object = field(default=None)
    remote: bool = False
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Model {plain(self.source)}: {len(self.tensors):,} tensors>"

    def choose(self, tensor: str | None = None) -> Choice:
        """The tensor to use, by name, or by default the output matrix, or the input one if tied.

        Raises:
            SourceError: The model does not say which.
        """
        return choose(self.tensors, self.where or self.source, tensor, self.tied)

    def matrix(self, tensor: str | None = None) -> Matrix:
        """The matrix in a tensor, as `choose` chooses it.

        Raises:
            SourceError: The model does not say which, or it cannot be read as a matrix.
        """
        return self._matrix(self.choose(tensor))

    def both_names(self) -> tuple[str, ...]:
        """The tensors of the input and the output matrix, nothing read; empty if they are tied."""
        found = candidates(self.tensors)
        first = {candidate.role: candidate.tensor.name for candidate in reversed(found)}
        if self.tied or not {"input", "output"} <= first.keys():
            return ()
        return first["input"], first["output"]

    def _matrix(self, choice: Choice) -> Matrix:
        codes, fmt, quantised = matrix_codes(choice.tensor)
        return Matrix(
            codes,
            fmt,
            self.source,
            choice.tensor.name,
            choice.reason,
            files=self.files,
            quantised=quantised,
            tokenizer=self.tokenizer,
            model=self,
            warnings=self.warnings + choice.warnings,
            notes=self.notes,
        )
