"""Saved trials: T x n x d numbers in a file, each trial a cluster of its own, measured one by one.

Of all trials one is held at a time. What has to be the same for their rows to be compared is fixed
once: the format (the narrowest lattice that the numbers of all trials lie on), epsilon and
touching.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deadtokens.census import NOT_FINITE, first_equal_rows
from deadtokens.errors import SelectionError, SourceError, plain
from deadtokens.files import AnyArray, PartedTensor, StoredTensor
from deadtokens.formats import (
    FORMATS,
    Codes,
    Format,
    convert,
    narrowest,
)
from deadtokens.kernels.types import BoolArray
from deadtokens.listening import watched
from deadtokens.showing import Shown
from deadtokens.snowball import Snowball
from deadtokens.sources import PREFIX, Matrix, Model, open_model
from deadtokens.sources.matrix import matrix_format
from deadtokens.sources.quantised import is_quantisation
from deadtokens.statistics import COLUMNS, FURTHER_COLUMNS, Cell, measure
from deadtokens.tabular import Tabular
from deadtokens.trial_tables import summary_of

_ONE_THREAD = 512  # distinct vectors up to which threads cost more than they save
_DESCRIBED = tuple(
    name
    for name in (*COLUMNS[1:], *FURTHER_COLUMNS)
    if name not in ("epsilon", "touching", "format") and not name.endswith("_se")
)


@dataclass(frozen=True)
class SavedTrials(Shown):
    """Trials in a file, or in an array.

    Attributes:
        source: What was opened, as the user named it.
        tensor: The tensor's name there.
        shape: (T, n, d): trials, tokens of each, dimensions.
        storage: The format the numbers are stored in; float32 for float64.
        read: Gives the n x d numbers of a trial as they are stored.
        reason: Why this tensor was taken.
        files: The files read, which results must not replace.
    """

    source: str
    tensor: str
    shape: tuple[int, int, int]
    storage: Format
    read: Callable[[int], AnyArray]
    reason: str
    files: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        shape = " x ".join(f"{n:,}" for n in self.shape)
        return plain(f"<SavedTrials {self.tensor}, {shape} {self.storage.name}, of {self.source}>")

    def codes(self, trial: int) -> Codes:
        """(n, d) bit patterns of a trial in the storage format, in memory of their own.

        Raises:
            SourceError: They are float64 and float32 does not hold one of them.
        """
        stored = np.array(self.read(trial), order="C")
        if stored.dtype != np.float64:
            return np.asarray(stored.view(self.storage.code_dtype))
        with np.errstate(over="ignore", under="ignore"):
            narrow = stored.astype(np.float32)
        inexact = (narrow != stored) & ~np.isnan(stored)
        if bool(inexact.any()):
            row, column = (int(axis[0]) for axis in np.nonzero(inexact))
            raise SourceError(
                f"tensor {self.tensor!r} is float64 and float32 does not hold every number (trial "
                f"{trial}, row {row}, column {column}: {float(stored[row, column])!r})",
                where=self.source,
                remedy=f"store it as one of {', '.join(FORMATS)}",
            )
        return narrow.view(self.storage.code_dtype)

    def matrix(self, trial: int) -> Matrix:
        """A trial as a matrix, in memory of its own."""
        return Matrix(
            self.codes(trial),
            self.storage,
            self.source,
            f"{self.tensor}[{trial}]",
            self.reason,
            default_rows="all",
            files=self.files,
        )


@dataclass(frozen=True)
class MeasuredTrials(Tabular):
    """The statistics of saved trials.

    Attributes:
        rows: A row per trial: the 21 columns of `statistics.COLUMNS`, of which ``trial_id`` is the
            trial's index, then those of `statistics.FURTHER_COLUMNS`.
        format: The lattice that the numbers of all trials lie on.
        epsilon_origin: Where epsilon comes from, in words.
        blank_reasons: Why the topology columns are blank, by trial; where they are not, nothing.
    """

    rows: list[dict[str, Cell]]
    format: Format
    epsilon_origin: str
    blank_reasons: Mapping[int, str]

    def __repr__(self) -> str:
        return f"<MeasuredTrials: {len(self.rows):,} trials, {self.format.name}>"

    def columns(self) -> Mapping[str, Any]:
        """The columns of `rows`, a line per trial."""
        return {name: [row[name] for row in self.rows] for name in (*COLUMNS, *FURTHER_COLUMNS)}

    @property
    def estimated(self) -> int:
        """Trials whose mean and median distances are estimates."""
        return sum(row["mean_l_inf_se"] is not None for row in self.rows)

    def summary(self) -> dict[str, dict[str, float | None]]:
        """Of each statistic: trials that have it, mean, std (ddof 1), min, quartiles and max."""
        return {name: self._summary(name) for name in _DESCRIBED}

    def _summary(self, name: str) -> dict[str, float | None]:
        values = np.array([row[name] for row in self.rows if row[name] is not None], np.float64)
        names = ("mean", "std", "min", "q25", "median", "q75", "max")
        numbers = summary_of(values) if values.size else (None,) * len(names)
        return {"trials": values.size, **dict(zip(names, numbers, strict=True))}


def find_trials(model: Model, tensor: str | None = None) -> StoredTensor | None:
    """The tensor of a model or file that holds trials; None if what it holds is a matrix.

    It is the one named, if that has three axes; else the only tensor of floating-point numbers with
    three axes, where there is none with two.

    Raises:
        SourceError: There are several.
    """
    if tensor is not None:
        named = model.tensors.get(tensor)
        return named if named is not None and len(named.shape) == 3 else None
    if model.weighed.listed:
        return None
    found = [t for t in model.tensors.values() if len(t.shape) == 3 and _storage(t)]
    if len(found) > 1:
        shown = ", ".join(t.name for t in found[:8])
        more = f" and {len(found) - 8} more" if len(found) > 8 else ""
        raise SourceError(
            f"{len(found)} tensors could hold trials: {shown}{more}",
            where=model.where or model.source,
            remedy="choose one with --tensor",
        )
    return found[0] if found else None


def open_trials(source: str | Path | npt.NDArray[Any], tensor: str | None = None) -> SavedTrials:
    """Open saved trials: an array of trials x tokens x dimensions.

    Opening reads headers only. Trials are read one by one from .npy and safetensors files, which
    are mapped, and from HDF5 files, which are where they can be; those of .npz are loaded.

    Args:
        source: A file or folder as for `open_matrix`, or an array.
        tensor: The tensor's name; by default the only one with three axes, if none has two.

    Raises:
        SourceError: There is no such source, it is damaged, or holds no trials.
    """
    if isinstance(source, np.ndarray):
        held = StoredTensor(
            "array", Path("array"), str(source.dtype), source.shape, source.nbytes, lambda: source
        )
        return _opened(held, "array", "given as an array", ())
    trials = None if str(source).startswith(PREFIX) else trials_of(open_model(source), tensor)
    if trials is None:
        raise SourceError(
            "no trials there: no tensor of trials x tokens x dimensions",
            where=source,
            remedy="name one with --tensor",
        )
    return trials


def trials_of(model: Model, tensor: str | None = None) -> SavedTrials | None:
    """The trials that a file or model holds, as `find_trials` finds them; None without any.

    Raises:
        SourceError: Several tensors could hold them, or they cannot be read.
    """
    found = find_trials(model, tensor)
    if found is None:
        return None
    reason = "named by --tensor" if tensor else "the only tensor with three axes, and none has two"
    return _opened(found, model.source, reason, model.files)


def _opened(tensor: StoredTensor, source: str, reason: str, files: tuple[Path, ...]) -> SavedTrials:
    storage = _storage(tensor)
    if len(tensor.shape) != 3 or 0 in tensor.shape or storage is None:
        shape = " x ".join(map(str, tensor.shape))
        raise SourceError(
            f"tensor {tensor.name!r} ({tensor.dtype}, {shape or 'no axes'}) holds no trials",
            where=tensor.path,
            remedy=f"give trials x tokens x dimensions, none of them 0, as {', '.join(FORMATS)}",
        )
    n_trials, n_tokens, n_dimensions = tensor.shape
    shape3 = (n_trials, n_tokens, n_dimensions)
    return SavedTrials(source, tensor.name, shape3, storage, _reader(tensor), reason, files)


def _storage(tensor: StoredTensor) -> Format | None:
    """The format that a tensor of trials is stored in; None where they cannot be read."""
    return None if is_quantisation(tensor.dtype) else matrix_format(tensor)


def _reader(tensor: StoredTensor) -> Callable[[int], AnyArray]:
    if isinstance(tensor, PartedTensor):
        part = tensor.part
        return lambda trial: part(trial, trial + 1)[0]
    array = tensor.read()
    return lambda trial: np.asarray(array[trial])


def measure_trials(
    source: SavedTrials | str | Path | npt.NDArray[Any],
    tensor: str | None = None,
    *,
    mask: npt.ArrayLike | None = None,
    epsilon: float | None = None,
    touching: float | None = None,
) -> MeasuredTrials:
    """Measure saved trials: each a cluster of all its tokens, a row of statistics each.

    The format is decided once: that of the storage, and for float32 and float64 the narrowest
    lattice that the numbers of all trials lie on, for which every number is read once beforehand.

    Args:
        source: The trials, or what `open_trials` opens.
        tensor: The tensor's name, where a file is to be opened.
        mask: (n,) bool: the tokens of every trial that are measured; all of them by default.
        epsilon: The length in which distances are quoted; by default what `measure` takes for the
            first trial.
        touching: The distance up to which two vectors touch; 2 epsilon by default.

    Raises:
        SourceError: As for `open_trials`, or float32 does not hold every number of float64 trials.
        SelectionError: A trial holds NaN or an infinity, or the mask does not fit.
    """
    trials = source if isinstance(source, SavedTrials) else open_trials(source, tensor)
    tokens = _tokens(mask, trials.shape[1])
    fmt = _common_format(trials, tokens)
    rows: list[dict[str, Cell]] = []
    blank: dict[int, str] = {}
    origin = "given"
    for trial in watched(range(trials.shape[0]), "trials", trials.shape[0]):
        snowball = _snowball(trials, trial, tokens, fmt)
        workers = 1 if snowball.n_unique <= _ONE_THREAD else None
        measured = measure(snowball, epsilon, touching, workers=workers)
        if epsilon is None:
            epsilon = float(measured.row["epsilon"] or 0)
            origin = f"of trial 0: {measured.epsilon_origin}"
        rows.append(measured.row | {"trial_id": trial})
        if measured.blank_reason:
            blank[trial] = measured.blank_reason
    return MeasuredTrials(rows, fmt, origin, blank)


def _tokens(mask: npt.ArrayLike | None, n_tokens: int) -> BoolArray:
    tokens = np.ones(n_tokens, np.bool_) if mask is None else np.asarray(mask)
    if tokens.dtype != np.bool_ or tokens.shape != (n_tokens,) or not tokens.any():
        raise SelectionError(
            f"a mask of {tokens.dtype}, shape {list(tokens.shape)}, {int(tokens.sum()):,} set, for "
            f"trials of {n_tokens:,} tokens",
            remedy="give a bool for each token of a trial, at least one of them true",
        )
    return tokens


def _common_format(trials: SavedTrials, tokens: BoolArray) -> Format:
    """The narrowest lattice that all numbers measured lie on; see `formats.effective_format`."""
    n_trials = trials.shape[0]
    return narrowest(trials.storage, (trials.codes(trial)[tokens] for trial in range(n_trials)))


def _snowball(trials: SavedTrials, trial: int, tokens: BoolArray, fmt: Format) -> Snowball:
    """The snowball of a trial; vectors are ordered by first row, as `census.snowball_of` does."""
    storage = trials.storage
    codes = trials.codes(trial)[tokens]
    first = first_equal_rows(codes, storage.sign_bit, storage.max_ordinal)
    bad = np.flatnonzero(tokens)[first == NOT_FINITE]
    if bad.size:
        raise SelectionError(
            f"trial {trial} holds NaN or an infinity in {bad.size:,} of its rows (the first: row "
            f"{int(bad[0])})",
            where=f"{trials.source}: {trials.tensor}",
            remedy="leave those tokens out of every trial with --mask, or that trial out",
        )
    distinct, populations = np.unique(first, return_counts=True)
    return Snowball(convert(codes[distinct], storage, fmt), populations.astype(np.int64), fmt)
