"""Many models, one row each: what is dead in them.

Sources are taken side by side, in threads (the kernels release the interpreter's lock) or by the
workers of a cluster. Each result is kept in a file of its own as soon as it is there, and a survey
that was stopped goes on with the sources that are not yet done.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from deadtokens import __version__
from deadtokens.census_files import write_inventory
from deadtokens.errors import ClusterError, DeadtokensError, OutputError, shortened
from deadtokens.files import StoredTensor
from deadtokens.interrupts import held_back
from deadtokens.inventory import Inventory, Untied, named_lines
from deadtokens.listening import watched
from deadtokens.scheduler import Cluster, Job
from deadtokens.sources import PREFIX, Model, open_matrix, open_model
from deadtokens.stocktaking import take_both, take_inventory
from deadtokens.survey_lines import Surveyed
from deadtokens.tabular import Records
from deadtokens.writing import make_folder, replacing

_MEMORY = 4 << 30  # bytes that sources which have to be loaded may take at a time
_MODELS = "models"  # what is kept of each source, by its state
_GROUPS_LISTED = 20
_POLL_SECONDS = 0.2  # between looks at whether Ctrl-C was pressed


def survey(
    sources: str | Path | Sequence[str | Path],
    folder: Path | None = None,
    *,
    tokenizer: Path | None = None,
    workers: int | None = None,
    cluster: Cluster | None = None,
    tell: Callable[[Surveyed], None] = lambda _: None,
) -> Records[Surveyed]:
    """Take stock of each source; one that cannot be read is a line with its error.

    Args:
        sources: As for `open_matrix`, each once; one, or several.
        folder: Where results are kept, source by source: those that are there already, of a source
            that has not changed since, are not taken again. Errors are tried anew. The census of
            each source is written there too, unless a cluster does the work.
        tokenizer: Of all of them, where they bring none, or another one.
        workers: Sources side by side; two by default.
        cluster: Where the work is done, if not in threads of this process. Its workers read the
            sources, so files have to be where they can reach them by the same path.
        tell: Called with each line as it comes.

    Returns:
        A line per source, in the order given.

    Raises:
        OutputError: The folder cannot be written.
        ClusterError: The cluster is gone; what was finished is kept.
    """
    if isinstance(sources, (str, Path)):
        sources = [sources]
    names = list(dict.fromkeys(map(str, sources)))
    place = make_folder(folder / _MODELS) if folder is not None else None
    kept = _Kept(place)
    own = None if tokenizer is None else tokenizer.absolute()
    wanted = [(source, kept.known(source), own) for source in names]
    taken = _on_cluster(cluster, wanted) if cluster else _in_threads(workers or 2, wanted, place)
    lines: dict[str, Surveyed] = {}
    for source, (state, line) in watched(taken, "models", len(wanted)):
        lines[source] = kept.settle(state, line)
        tell(lines[source])
    return Records(Surveyed, (lines[source] for source in names))


# A source's state, if it could be told, and its line unless that was known for this state.
_Taken: TypeAlias = tuple[str | None, Surveyed | None]
# A source, its states whose lines are kept, and the tokenizer that is given.
_Wanted: TypeAlias = list[tuple[str, frozenset[str], Path | None]]


def census_folders(folder: Path) -> dict[str, Path]:
    """The folders with the census of each source, of a survey that was kept in `folder`."""
    kept = sorted((folder / _MODELS).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    lines = ((_read(path), path.with_suffix("")) for path in kept)
    return {
        line.source: place for line, place in lines if line and (place / "census.json").exists()
    }


def _in_threads(workers: int, wanted: _Wanted, place: Path | None) -> Iterator[tuple[str, _Taken]]:
    with ThreadPoolExecutor(workers) as pool:
        try:
            with held_back():
                started = {pool.submit(_take, one[0], *one, place): one[0] for one in wanted}
            at_work = set(started)
            while at_work:
                with held_back():
                    done, at_work = wait(at_work, _POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    yield started[future], future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _on_cluster(cluster: Cluster, wanted: _Wanted) -> Iterator[tuple[str, _Taken]]:
    jobs = (Job(one[0], __version__, (one[0], _reached(one[0]), *one[1:])) for one in wanted)
    for source, result in cluster.results(_take_on_worker, jobs):
        if isinstance(result, ClusterError):
            yield source, (None, Surveyed(source, str(result)))
        else:
            yield source, result


def _reached(source: str) -> str:
    """A source as a process in another folder names it."""
    path = Path(source)
    return str(path.absolute()) if not source.startswith(PREFIX) and path.exists() else source


def _take_on_worker(
    version: str, source: str, place: str, known: frozenset[str], tokenizer: Path | None
) -> _Taken:
    if version != __version__:
        raise ClusterError(
            f"a worker has deadtokens {__version__}, the client {version}",
            remedy="install the client's version on all workers",
        )
    return _take(source, place, known, tokenizer)


def _take(
    source: str,
    place: str,
    known: frozenset[str],
    tokenizer: Path | None,
    folder: Path | None = None,
) -> _Taken:
    start = time.perf_counter()
    try:
        model = None if place.startswith(PREFIX) else open_model(place)
        state = _state(source, model, tokenizer)
        if state in known:
            return state, None
        with _BUDGET.taken(_loaded_bytes(model)):
            matrix = model.matrix() if model else open_matrix(place)
            taken = take_inventory(matrix.with_tokenizer(tokenizer))
            untied = take_both(taken).untied
            line = _line(source, taken, untied)
            if folder is not None:
                write_inventory(make_folder(folder / state), taken, untied)
    except OutputError:
        raise
    except DeadtokensError as error:
        return None, Surveyed(source, " ".join(str(error).splitlines()), seconds=_since(start))
    except Exception as error:  # whatever a stranger's file brings about: it stops no other
        why = f"cannot be read ({type(error).__name__}: {shortened(str(error))})"
        return None, Surveyed(source, " ".join(why.splitlines()), seconds=_since(start))
    return state, Surveyed(**asdict(line) | {"seconds": _since(start)})


def _line(source: str, taken: Inventory, untied: Untied | None) -> Surveyed:
    matrix, found, labels = taken.matrix, taken.census, taken.labels
    named = named_lines(taken, untied) if labels else []
    counts = labels.label_counts() if labels else {}
    return Surveyed(
        source=source,
        tensor=matrix.tensor,
        vocabulary=matrix.n_rows,
        dimensions=matrix.n_dimensions,
        format=matrix.storage,
        tied=_tied(matrix.model),
        distinct=found.n_unique,
        black_holes=found.n_black_holes,
        populations=tuple(found.group_population[:_GROUPS_LISTED].tolist()),
        cluster=int(taken.search.rows.sum()) or None,
        dead=_dead(taken),
        dead_input=untied.read.dead_rows.count if untied else None,
        dead_named=sum(token.untrained for token in named) if labels else None,
        named=len(named) if labels else None,
        unreachable=labels.unreachable if labels else None,
        padding=counts.get("padding", 0) if labels else None,
        warnings=tuple(
            dict.fromkeys(
                taken.warnings
                + (untied.warnings if untied is not None else ())
                + _undecided(taken, *((untied.read,) if untied is not None else ()))
            )
        ),
    )


def _dead(taken: Inventory) -> int | None:
    """The dead rows; None where it is undecided whether there are any."""
    count = taken.dead_rows.count
    return None if taken.search.undecided and not count else count


def _undecided(*taken: Inventory) -> tuple[str, ...]:
    return tuple(
        f"{one.matrix.tensor}: whether {'more ' if one.dead_rows.rows.any() else ''}rows are dead "
        f"is undecided: {one.search.undecided}"
        for one in taken
        if one.search.undecided
    )


def _tied(model: Model | None) -> bool | None:
    if model is None:
        return None
    if not model.remote and model.equal is not None:
        return model.equal
    return False if model.both_names() else model.tied


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 3)


# --- results kept ---


def _state(source: str, model: Model | None, tokenizer: Path | None) -> str:
    """A digest of what a source is at this time, as far as it can be told without reading it."""
    facts: list[Any] = [__version__, source]
    for path in sorted((*(model.files if model else ()), *([tokenizer] if tokenizer else []))):
        if path.is_file():
            status = path.stat()
            facts.append([str(path.absolute()), status.st_size, status.st_mtime_ns])
    if model is not None:
        facts.append([[name, tensor.nbytes] for name, tensor in sorted(model.tensors.items())])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


class _Kept:
    """Lines of earlier surveys, each in a file named by its source's state."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lines: dict[str, Surveyed] = {}
        self._states: dict[str, set[str]] = {}
        for path in folder.glob("*.json") if folder else ():
            line = _read(path)
            if line is not None:
                self._lines[path.stem] = line
                self._states.setdefault(line.source, set()).add(path.stem)

    def known(self, source: str) -> frozenset[str]:
        """States of a source whose lines are kept."""
        return frozenset(self._states.get(source, ()))

    def settle(self, state: str | None, line: Surveyed | None) -> Surveyed:
        """Keep a new line, or find the one kept for this state."""
        if line is None:
            return self._lines[str(state)]
        if state is not None and self._folder is not None:
            with replacing(self._folder / f"{state}.json") as file:
                file.write(json.dumps(asdict(line)).encode())
        return line


def _read(path: Path) -> Surveyed | None:
    """The line kept there; None if there is none that can be read."""
    try:
        facts = json.loads(path.read_bytes())
        facts["populations"] = tuple(facts["populations"])
        facts["warnings"] = tuple(facts.get("warnings", ()))
        return Surveyed(**facts)
    except (OSError, ValueError, TypeError, KeyError):
        return None


# --- memory ---


def _loaded_bytes(model: Model | None) -> int:
    """Bytes of a source's matrices that are held in memory, as against mapped."""
    if model is None:
        return 0
    names = model.weighed.pair or (model.choose().tensor.name,)
    return sum(_held(model.tensors[name]) for name in names)


def _held(tensor: StoredTensor) -> int:
    mapped = tensor.path.suffix.lower() != ".npz" and tensor.dtype not in ("F64", "float64")
    return 0 if mapped else tensor.nbytes


class _Budget:
    """Memory shared by threads: one that asks for more than is left waits, unless it is alone."""

    def __init__(self, total: int) -> None:
        self._left = self._total = total
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        wanted = min(wanted, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= wanted)
            self._left -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._left += wanted
                self._changed.notify_all()


_BUDGET = _Budget(_MEMORY)
