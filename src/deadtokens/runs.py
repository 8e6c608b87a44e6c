"""The run folder: a specification, its parts, and what they come to. No science in here.

    manifest.json         the specification, its digest, versions, machine
    centroid.safetensors  the centre that the trials were drawn around
    parts/                append-only Parquet, a file per range of trials of one sigma
    lock                  held by the process that writes here; the system frees it if that dies

A part is written under a temporary name, flushed and renamed, so that whatever is in parts/ is
whole. What is missing is found by looking, never remembered: resuming and extending are the same.

Only the process that holds the lock gives parts their names. Workers elsewhere that can reach the
folder write into one of that process's own, parts/incoming-...; the next holder removes it, so that
nothing which they finish later can turn up among the parts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from deadtokens.errors import OutputError, SelectionError, SourceError, plain
from deadtokens.files import load_array
from deadtokens.kernels.types import Float64Array
from deadtokens.parts import PART_NAME, Part, read_part, write_part
from deadtokens.showing import Shown
from deadtokens.trial_tables import OfSigma, Trials
from deadtokens.trials import Batch
from deadtokens.writing import (
    locked,
    make_folder,
    remove_abandoned,
    replacing,
    shell_line,
    write_safetensors,
)

_VERSIONED = ("deadtokens", "numpy", "scipy", "numba", "ml_dtypes", "pyarrow")


class RunFolder(Shown):
    """A folder that holds one specification's trials.

    Use `create` or `open`.

    Attributes:
        path: The folder.
        specification: What the trials are, JSON values only.
    """

    def __init__(self, path: Path, specification: dict[str, Any]) -> None:
        self.path = path
        self.specification = specification

    def __repr__(self) -> str:
        sigmas = ", ".join(f"{sigma:.4g}" for sigma in self.specification["sigmas"][:3])
        more = ", ..." if len(self.specification["sigmas"]) > 3 else ""
        return f"<RunFolder {plain(str(self.path))}: sigma {sigmas}{more}>"

    @classmethod
    def create(cls, path: Path, specification: dict[str, Any], centroid: Float64Array) -> RunFolder:
        """Make the folder for a specification, or go on with it if it is there.

        Raises:
            SelectionError: The folder holds another specification; the fields that differ are
                named.
            OutputError: It cannot be written, or holds other things than a run.
        """
        make_folder(path)
        manifest = path / "manifest.json"
        if not manifest.exists():
            with locked(path, "this run"):
                if not manifest.exists():
                    cls._start(path, specification, centroid)
        held = cls.open(path)
        cls.check(path, dict.fromkeys(held.specification) | specification)
        return held

    @classmethod
    def check(cls, path: Path, known: dict[str, Any]) -> None:
        """Refuse a folder that holds another run, as far as its specification is known."""
        held = cls.open(path).specification if (path / "manifest.json").exists() else known
        differing = sorted(name for name in known if held.get(name) != known[name])
        if differing:
            raise SelectionError(
                f"this folder holds a run of another specification: {', '.join(differing)} "
                f"{'differs' if len(differing) == 1 else 'differ'}",
                where=path,
                remedy="choose another folder with -o, or repeat that run's options",
            )

    @staticmethod
    def _start(path: Path, specification: dict[str, Any], centroid: Float64Array) -> None:
        """Write what a run starts with; the manifest comes last."""
        manifest = path / "manifest.json"
        (path / "parts").mkdir(exist_ok=True)
        if any((path / "parts").iterdir()):
            raise OutputError(
                "this folder has parts of a run but no manifest.json",
                where=path,
                remedy="choose another folder with -o",
            )
        write_safetensors(path / "centroid.safetensors", {"centroid": centroid})
        facts = {
            "specification": specification,
            "digest": digest(specification),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": environment(),
        }
        with replacing(manifest) as file:
            file.write((json.dumps(facts, indent=2) + "\n").encode())

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder.

        Raises:
            SourceError: It is none, or its manifest was changed.
        """
        manifest = path / "manifest.json"
        try:
            facts = json.loads(manifest.read_text(encoding="utf-8"))
            specification, expected = facts["specification"], facts["digest"]
        except OSError as error:
            raise SourceError(
                f"not a run folder ({error.strerror or error})", where=manifest
            ) from None
        except (ValueError, KeyError, TypeError):
            raise SourceError("not a run's manifest", where=manifest) from None
        if not isinstance(specification, dict) or digest(specification) != expected:
            raise SourceError(
                "the manifest does not match its digest: it was edited",
                where=manifest,
                remedy="restore it, or run again into another folder",
            )
        return cls(path, specification)

    def centroid(self) -> Float64Array:
        """(d,) float64: the centre that the trials were drawn around."""
        return np.asarray(load_array(str(self.path / "centroid.safetensors"), "centroid"))

    def command(self, n_trials: int) -> str:
        """The command that draws what this folder lacks of so many trials of each sigma."""
        s = self.specification
        samplers = set(s["samplers"])
        options = {
            "centroid": self.path / "centroid.safetensors",
            "sigma": ",".join(map(repr, s["sigmas"])),
            "tokens": s["n_tokens"],
            "trials": n_trials,
            **{name: s[name] for name in ("seed", "epsilon", "touching", "noise", "format")},
            "intermediate": s["intermediate"],
            # Different ones are those of the fixed rule.
            "sampler": samplers.pop() if len(samplers) == 1 else "auto",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return shell_line(["deadtokens", "sweep", *words, "-o", str(self.path)])

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here; the lock goes with the process that holds it.

        Raises:
            OutputError: Another process holds it, or the file system has none.
        """
        with locked(self.path, "this run"):
            # What processes that were killed left behind.
            for path in (self.path / "parts").glob("incoming-*"):
                shutil.rmtree(path, ignore_errors=True)
            # A process without the lock may be writing too: a report, say.
            for folder in (self.path, *self.path.glob("*/")):
                remove_abandoned(folder)
            yield

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder whose name nobody can guess, for parts that other processes write."""
        folder = self.path.absolute() / "parts" / f"incoming-{secrets.token_hex(16)}"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, path: Path) -> None:
        """Take a part that was written into an `incoming` folder.

        Raises:
            OutputError: It is not there.
        """
        try:
            path.rename(self.path / "parts" / path.name)
        except OSError as error:
            raise OutputError(
                f"a part written by a worker cannot be moved ({error.strerror or error})",
                where=path,
                remedy="run the same command again: its trials are made anew",
            ) from None

    def parts(self, sigma_index: int) -> list[Part]:
        """The parts of a sigma, by first trial.

        Raises:
            SourceError: Two of them hold the same trials.
        """
        return self._listed(f"s{sigma_index:04d}-").get(sigma_index, [])

    def _listed(self, prefix: str) -> dict[int, list[Part]]:
        """The parts whose names begin so, by sigma and first trial, in one look at the folder."""
        found: dict[int, list[Part]] = {}
        folder = self.path / "parts"
        for name in os.listdir(folder):  # noqa: PTH208 (a path for each name would take longer)
            if name.startswith(prefix) and (match := PART_NAME.fullmatch(name)):
                index, first, count = map(int, match.groups())
                found.setdefault(index, []).append(Part(index, first, count, folder / name))
        for parts in found.values():
            parts.sort(key=lambda part: (part.first, part.count))
            for one, following in pairwise(parts):
                if following.first < one.first + one.count:
                    raise SourceError(
                        f"this part holds trials that {one.path.name} holds too",
                        where=following.path,
                        remedy="delete one of them and run the same command again",
                    )
        return found

    def leading(self, sigma_index: int) -> list[Part]:
        """The parts of a sigma up to the first gap; later ones wait for the trials between.

        There is one where a run was stopped and then asked for fewer trials.
        """
        reached = 0
        parts = []
        for part in self.parts(sigma_index):
            if part.first != reached:
                break
            parts.append(part)
            reached += part.count
        return parts

    def missing(self, sigma_index: int, n_trials: int) -> list[tuple[int, int]]:
        """Ranges (first, count) of trials 0 .. n_trials - 1 that no part holds."""
        return _gaps(self.parts(sigma_index), n_trials)

    def missing_of_each(self, n_trials: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
        """What is `missing` of each sigma, given the trials wanted of each."""
        held = self._listed("s")
        return {i: _gaps(held.get(i, []), count) for i, count in enumerate(n_trials)}

    def write(self, sigma_index: int, batch: Batch) -> None:
        """Write a batch as a part.

        Raises:
            OutputError: The disk is full, or the folder is gone.
        """
        write_part(self.path / "parts", digest(self.specification), sigma_index, batch)

    def read(self, part: Part) -> Batch:
        """A part's trials.

        Raises:
            SourceError: The file is damaged, or another run's.
        """
        return read_part(digest(self.specification), part)

    def rows(self, sigma_index: int) -> Float64Array:
        """(trials, 20): the statistics of a sigma's trials up to the first gap, at least one.

        Raises:
            SourceError: A part is damaged.
        """
        return np.concatenate([self.read(part).rows for part in self.leading(sigma_index)])

    def trials(self) -> Trials:
        """All trials as a table, a line each; of every sigma those up to the first gap.

        Raises:
            SourceError: A part is damaged, or there are no trials yet.
        """
        s = self.specification
        found = [
            OfSigma(sigma, self.rows(index))
            for index, sigma in enumerate(s["sigmas"])
            if self.leading(index)
        ]
        if not found:
            raise missing_parts(self)
        return Trials(tuple(found), s["epsilon"], s["touching"], s["format"])


def _gaps(parts: list[Part], n_trials: int) -> list[tuple[int, int]]:
    ends = [0, *(part.first + part.count for part in parts)]
    starts = [*(min(part.first, n_trials) for part in parts), n_trials]
    return [(end, start - end) for end, start in zip(ends, starts, strict=True) if end < start]


def missing_parts(run: RunFolder) -> SourceError:
    """That trials are missing which were asked for."""
    return SourceError(
        "parts are missing",
        where=run.path / "parts",
        remedy="run the same command again: their trials are made anew",
    )


def environment() -> dict[str, str]:
    """What trials depend on besides their specification: versions, and the kind of machine."""
    return {
        **{name: metadata.version(name) for name in _VERSIONED},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def open_run(path: str | Path) -> RunFolder:
    """Open the run folder of a sweep.

    Raises:
        SourceError: It is none, or its manifest was changed.
    """
    return RunFolder.open(Path(path))


def digest(specification: Mapping[str, Any]) -> str:
    """SHA-256 of a specification in a canonical form."""
    canonical = json.dumps(specification, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
