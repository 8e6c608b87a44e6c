"""A model that was opened: its tensors, its configuration, where its tokenizer is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from deadtokens.errors import SourceError, plain
from deadtokens.files import StoredTensor
from deadtokens.formats import FLOAT32, Format
from deadtokens.rows import RowCodes
from deadtokens.showing import Shown
from deadtokens.sources.choose import Choice, choose
from deadtokens.sources.evidence import Told
from deadtokens.sources.matrix import (
    Matrix,
    Quantised,
    TokenizerSource,
    matrix_codes,
    matrix_format,
)
from deadtokens.sources.names import SINGLE, Role, name_says
from deadtokens.sources.packed import packing
from deadtokens.sources.scales import scaled
from deadtokens.sources.token_ids import UNKNOWN, RowTokens, row_tokens
from deadtokens.sources.tying import equal_codes
from deadtokens.sources.weighing import Weighed, weigh


@dataclass(frozen=True)
class Model(Shown):
    """The tensors of a source, by name, and what stands beside them.

    Attributes:
        source: What was opened, as the user named it.
        tensors: Every tensor, by name; only headers have been read.
        told: What its configuration says.
        tokenizer: Where its tokenizer is; None if it brings none.
        files: The files read, which results must not replace.
        where: What an error line names.
        remote: Whether reading a tensor transfers it.
        absent: Why a tensor that an index lists is not there, by its name.
        warnings: Where what the source says of itself conflicts, a sentence each.
        notes: What of it was left out or not understood, a sentence each.
    """

    source: str
    tensors: Mapping[str, StoredTensor]
    told: Told = field(default=Told(), repr=False)
    tokenizer: TokenizerSource | None = None
    files: tuple[Path, ...] = ()
    where: object = field(default=None)
    remote: bool = False
    absent: Mapping[str, SourceError] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Model {plain(self.source)}: {len(self.tensors):,} tensors>"

    @property
    def tied(self) -> bool | None:
        """What its configuration says of input and output being one matrix; None if it is silent.

        What the matrices themselves say, where both are there, is `equal`.
        """
        return self.told.tied

    @cached_property
    def weighed(self) -> Weighed:
        """Its matrices, by what the evidence says they are; nothing of them is read."""
        return weigh(self.tensors, self.told, self.where or self.source, self.absent)

    def choose(self, tensor: str | None = None) -> Choice:
        """The tensor to use, by name, or by default the output matrix, or the input one if tied.

        Raises:
            SourceError: The model does not say which.
        """
        return choose(self.weighed, self.where or self.source, tensor)

    def matrix(self, tensor: str | None = None) -> Matrix:
        """The matrix in a tensor, as `choose` chooses it.

        Raises:
            SourceError: The model does not say which, or it cannot be read as a matrix.
        """
        return self._matrix(self.choose(tensor))

    def both_names(self) -> tuple[str, ...]:
        """The tensors of the input and the output matrix; empty if they are one.

        Where both are there their numbers decide; of a remote model, where reading transfers them,
        its configuration.
        """
        pair = self.weighed.pair
        one = self.told.tied if self.remote else self.equal
        return () if pair is None or one else pair

    @cached_property
    def equal(self) -> bool | None:
        """Whether the input and the output matrix hold the same numbers; None if it is not known.

        Both are read, up to the first difference.
        """
        pair = self.weighed.pair
        if pair is None:
            return None
        try:
            read, written = (self._codes(self.choose(name)) for name in pair)
        except SourceError:
            return None
        return equal_codes(read[0], written[0], (read[1], written[1]))

    def role_of(self, tensor: str) -> Role:
        """Which matrix a tensor is, as far as the evidence says."""
        weighed = self.weighed
        written = (*weighed.outputs, *weighed.by_shape)
        if tensor in [c.tensor.name for c in written]:
            return "output"
        return "input" if tensor in [c.tensor.name for c in weighed.inputs] else "other"

    def said_of_both(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Warnings and notes about its two matrices, once both have been compared."""
        pair, tied = self.weighed.pair, self.told.tied
        if pair is None:
            return (), ()
        if self.remote and "equal" not in self.__dict__:
            unread = f"{' and '.join(pair)} are both there and were not compared"
            return (), ((f"{unread}: {self.told.name} says that they are tied",) if tied else ())
        names, said = " and ".join(pair), self.told.contradiction
        if self.equal is False and tied:
            claim = said or f"{self.told.name} says that they are tied"
            return (f"{names} hold different numbers, and {claim}: they are two matrices",), ()
        if self.equal:
            against = f", although {self.told.name} says that they are not tied"
            return (), (f"{names} hold the same numbers{against if tied is False else ''}: tied",)
        return (), ()

    def _codes(self, choice: Choice) -> tuple[RowCodes, Format, Quantised | None]:
        held = scaled(self.tensors, choice.tensor, self.told.block)
        if held is not None and not choice.transposed:
            return held.rows, FLOAT32, Quantised(held.kind, held.raw, self_contained=False)
        if matrix_format(choice.tensor) is None:
            self._refuse_packed(choice.tensor)
        return matrix_codes(choice.tensor, choice.transposed)

    def _refuse_packed(self, tensor: StoredTensor) -> None:
        """Name what a matrix is packed with, if what stands beside it tells.

        Raises:
            SourceError: It does.
        """
        kind = packing(self.tensors, tensor.name.removesuffix(".weight"))
        if kind:
            others = [c.tensor.name for c in self.weighed.inputs if c.tensor.name != tensor.name]
            way = f", or add --tensor {others[0]} to take the input matrix" if others else ""
            raise SourceError(
                f"the matrix is there, quantised: {tensor.name} ({kind}), which cannot be read as "
                "numbers",
                where=self.where or self.source,
                remedy=f"give the model that it was quantised from{way}",
            )

    def _matrix(self, choice: Choice) -> Matrix:
        codes, fmt, quantised = self._codes(choice)
        rows = self._row_tokens(choice.tensor)
        return Matrix(
            codes,
            fmt,
            self.source,
            choice.tensor.name,
            choice.reason,
            token_ids=rows.ids,
            files=self.files,
            quantised=quantised,
            tokenizer=self.tokenizer,
            model=self,
            warnings=self.warnings + choice.warnings + rows.warnings,
            notes=self.notes + choice.notes + rows.notes,
        )

    def _row_tokens(self, tensor: StoredTensor) -> RowTokens:
        """The tokens of a matrix's rows: of an adapter's changes of single tokens, as it says."""
        if name_says(tensor.name).kind != SINGLE:
            return RowTokens() if self.remote else row_tokens(self.tensors, tensor)
        trained = self.told.trained or {}
        ids = [held for name, held in trained.items() if name in tensor.name]
        if len(ids) == 1 and len(ids[0]) == tensor.shape[0]:
            return RowTokens(np.array(ids[0], dtype=np.int64))
        return RowTokens(np.full(tensor.shape[0], UNKNOWN, dtype=np.int64))
