"""Work handed to the workers of a Dask cluster, and handed out again where a worker was lost.

What jobs have in common (tables of megabytes, say) is sent to the scheduler once, and opened by a
task of its own, whose result workers copy from one another. So everything that a worker can take
with it when it dies is made anew by the scheduler.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import pickle
import queue
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from deadtokens.errors import ClusterError, DeadtokensError, one_line
from deadtokens.interrupts import held_back

if TYPE_CHECKING:
    from distributed import Client, Future

Tag = TypeVar("Tag")

CONNECT_SECONDS = 10.0
_ADDRESS = re.compile(r"(tcp|tls)://([^\s/:]+|\[[^\s/]+\]):\d{1,5}")
_AHEAD = 2  # jobs handed out for each thread: one at work, one waiting
_POLL_SECONDS = 0.5
_COUNT_SECONDS = 5.0  # between looks at how many threads there are
_MORE_MEMORY = "give workers more memory, or fewer threads each"


@dataclass(frozen=True)
class Job(Generic[Tag]):
    """A call of a function on some worker.

    Attributes:
        tag: What the caller knows it by.
        shared: The first argument; one object for many jobs is sent once.
        arguments: The others, small.
    """

    tag: Tag
    shared: object
    arguments: tuple[object, ...]


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[Cluster | None]:
    """The cluster of the scheduler at that address; None for none.

    Raises:
        ClusterError: dask.distributed is not installed, or no scheduler answers there.
    """
    if address is None:
        yield None
        return
    try:
        import dask
        import distributed  # noqa: F401
    except ImportError:
        raise ClusterError(
            "a scheduler needs dask.distributed, which is not installed",
            where=address,
            remedy="pip install 'deadtokens[cluster]'",
        ) from None
    if not _ADDRESS.fullmatch(address):
        raise ClusterError(
            "no address of a scheduler", where=address, remedy="give it as tcp://HOST:PORT"
        )
    if address.startswith("tls") and not dask.config.get("distributed.comm.tls.client.cert"):
        raise ClusterError(
            "Dask has no certificate to show there",
            where=address,
            remedy="set distributed.comm.tls in its configuration",
        )
    # Tables that jobs share are large on purpose: no warning about them.
    unlimited = {"distributed.admin.large-graph-warning-threshold": sys.maxsize}
    with _quiet("distributed", "distributed.client"), dask.config.set(unlimited):
        try:
            client = _client(address)
        except Exception as error:  # what listens there may be anything
            raise ClusterError(
                f"no scheduler answers ({one_line(error)})",
                where=address,
                remedy="start one with `dask scheduler`, and give its address as tcp://HOST:PORT",
            ) from None
        try:
            yield Cluster(client, address)
        finally:
            _close(client)


def _client(address: str) -> Client:
    """A client that has connected within `CONNECT_SECONDS`, or is closed again."""
    from distributed import Client

    class Bounded(Client):  # type: ignore[misc]
        # Dask's own timeout leaves out the wait for what listens there to say who it is.
        def start(self, **options: Any) -> None:
            try:
                super().start(callback_timeout=CONNECT_SECONDS, **options)
            except BaseException:
                _close(self)
                raise

    return Bounded(address, timeout=CONNECT_SECONDS, set_as_default=False)


def _close(client: Client) -> None:
    with contextlib.suppress(OSError):
        client.close(timeout=5)


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Loggers silenced that tell of every lost connection: what matters is raised here."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class Cluster:
    """A scheduler and its workers.

    Use `connected`.
    """

    def __init__(self, client: Client, address: str) -> None:
        self.address = address
        self._client = client
        self._threads = 0
        self._counted = -_COUNT_SECONDS

    def threads(self) -> int:
        """Threads of all workers at this time; 0 if there are no workers yet.

        Raises:
            ClusterError: The scheduler is gone.
        """
        if time.monotonic() - self._counted >= _COUNT_SECONDS:
            try:
                self._threads = sum(self._client.nthreads().values())
            except (OSError, TimeoutError, RuntimeError):
                raise self._gone() from None
            self._counted = time.monotonic()
        return self._threads

    def results(
        self, function: Callable[..., Any], jobs: Iterator[Job[Tag]]
    ) -> Iterator[tuple[Tag, Any]]:
        """Each job's tag and ``function(shared, *arguments)``, in the order they finish.

        The function returns something other than None.

        Jobs are taken as threads need them, so that a long list is never held. In place of the
        result of a job that workers died of again and again there is a ClusterError.

        Raises:
            ClusterError: The scheduler is gone, or workers lack what they need.
            DeadtokensError: What the function raised.
        """
        hand_out = _HandOut(self._client, function)
        try:
            while True:
                wanted = _AHEAD * max(1, self.threads()) - hand_out.open
                following = list(itertools.islice(jobs, max(0, wanted)))
                if not following and not hand_out.open:
                    return
                if self._client.status != "running":
                    raise self._gone()
                with held_back():
                    hand_out.give(following)
                yield from hand_out.take(_POLL_SECONDS)
        except _SchedulerLostError:
            raise self._gone() from None
        finally:
            hand_out.cancel()

    def _gone(self) -> ClusterError:
        return ClusterError(
            "the scheduler is gone",
            where=self.address,
            remedy="what was finished is kept: start it, and run the same command again",
        )


class _SchedulerLostError(Exception):
    pass


class _HandOut:
    """Jobs at work."""

    def __init__(self, client: Client, function: Callable[..., Any]) -> None:
        self._client = client
        self._function = function
        self._at_work: dict[Future, Job[Any]] = {}
        self._done: queue.SimpleQueue[Future] = queue.SimpleQueue()
        # The object is kept beside its future, so that no other can have its id.
        self._shared: tuple[object, Future] | None = None

    @property
    def open(self) -> int:
        return len(self._at_work)

    def give(self, jobs: list[Job[Any]]) -> None:
        """Hand out jobs, in one message for neighbours that share something."""
        for _, together in itertools.groupby(jobs, key=lambda job: id(job.shared)):
            group = list(together)
            futures = self._client.map(
                self._function,
                [self._share(group[0].shared)] * len(group),
                *zip(*(job.arguments for job in group), strict=True),
                key=[f"{self._function.__name__}-{secrets.token_hex(12)}" for _ in group],
                pure=False,
            )
            for job, future in zip(group, futures, strict=True):
                self._at_work[future] = job
                future.add_done_callback(self._done.put)

    def _share(self, thing: object) -> Future:
        if self._shared is None or self._shared[0] is not thing:
            key = f"shared-{secrets.token_hex(12)}"
            self._shared = (
                thing,
                self._client.submit(pickle.loads, pickle.dumps(thing), key=key, pure=False),
            )
        return self._shared[1]

    def take(self, seconds: float) -> list[tuple[Any, Any]]:
        """Tags and results of the jobs that are done; none if there is none within that time."""
        done = []
        with contextlib.suppress(queue.Empty):
            done.append(self._done.get(timeout=seconds))
            while True:
                done.append(self._done.get_nowait())
        found = self._fetched(dict(enumerate(done)))
        return [
            (self._at_work.pop(future).tag, self._result(future, found[i]))
            for i, future in enumerate(done)
        ]

    def _fetched(self, futures: dict[int, Future]) -> dict[int, Any]:
        """Results, all in one message; None for a job that failed."""
        # Without a scheduler it would wait for one, for as long as Dask tries to connect.
        with held_back():
            fetching = asyncio.run_coroutine_threadsafe(
                self._client.gather(futures, errors="skip", asynchronous=True),
                self._client.loop.asyncio_loop,
            )
        try:
            while not fetching.done():
                with held_back():
                    wait([fetching], timeout=_POLL_SECONDS)
                if self._client.status != "running":
                    raise _SchedulerLostError
            return dict(fetching.result())
        except OSError:
            raise _SchedulerLostError from None
        finally:
            fetching.cancel()

    @staticmethod
    def _result(future: Future, found: object) -> object:
        if found is not None:  # whatever has become of its worker since
            return found
        if future.status == "error":
            return _failure(future.exception())
        raise _SchedulerLostError

    def cancel(self) -> None:
        with contextlib.suppress(Exception):  # the scheduler may be gone
            self._client.cancel(list(self._at_work), force=True)
        self._at_work.clear()


def _failure(error: BaseException) -> ClusterError:
    """What stands in place of a job's result if workers died of it.

    Raises:
        ClusterError: The workers cannot do such jobs at all.
        DeadtokensError: What the job raised.
    """
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return ClusterError(
            f"workers died of it again and again ({error.last_worker.address} last)",
            remedy=_MORE_MEMORY,
        )
    if isinstance(error, DeadtokensError):
        raise error
    remedy = "install the same deadtokens on workers and scheduler as here"
    if isinstance(error, MemoryError):
        remedy = _MORE_MEMORY
    elif isinstance(error, OSError):
        remedy = "see to the machine of that worker, and run the same command again"
    raise ClusterError(
        f"a worker cannot do this ({type(error).__name__}: {one_line(error)})", remedy=remedy
    ) from error
