"""A part of a run: some trials of one sigma in a Parquet file, which is whole and sealed.

The statistics are columns; what the trials add up to stands in the metadata, as does the seal, by
which a part that was changed or put in another's place is known.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deadtokens.errors import SourceError
from deadtokens.kernels.types import Int64Array
from deadtokens.trial_tables import trial_columns
from deadtokens.trials import STATISTICS, Batch
from deadtokens.writing import replacing

PART_NAME = re.compile(r"s(\d{4,})-t(\d{12})-n(\d{6,})\.parquet")


@dataclass(frozen=True)
class Part:
    """Trials first .. first + count - 1 of the sigma of that index, in a file."""

    sigma_index: int
    first: int
    count: int
    path: Path


def write_part(folder: Path, of: str, sigma_index: int, batch: Batch) -> Path:
    """Write a batch as a part of the run with that digest into a folder.

    Raises:
        OutputError: The disk is full, or the folder is gone.
    """
    count = len(batch.rows)
    totals = {
        b"elements": _packed(batch.elements),
        b"ranked": _packed(batch.ranked),
        b"power_sums": json.dumps([str(power) for power in batch.power_sums]).encode(),
        b"seal": _seal(of, sigma_index, batch),
    }
    table = pa.table(trial_columns(batch.first, batch.rows)).replace_schema_metadata(totals)
    path = folder / f"s{sigma_index:04d}-t{batch.first:012d}-n{count:06d}.parquet"
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return path


def read_part(of: str, part: Part) -> Batch:
    """A part's trials, of the run with that digest.

    Raises:
        SourceError: The file is damaged.
    """
    try:
        # Arrow opens no file whose name is not UTF-8.
        content = pa.BufferReader(part.path.read_bytes())
        table = pq.read_table(content, page_checksum_verification=True)
        trials = table["trial_id"].to_numpy()
        rows = np.stack([table[name].to_numpy() for name in STATISTICS], 1).astype(np.float64)
        facts = table.schema.metadata
        elements, ranked = (_unpacked(facts[name]) for name in (b"elements", b"ranked"))
        power_sums = tuple(int(power) for power in json.loads(facts[b"power_sums"]))
        seal = facts[b"seal"]
    except (OSError, ValueError, KeyError, TypeError, zlib.error, pa.ArrowException) as error:
        raise _damaged(part, str(error).splitlines()[0]) from None
    if not np.array_equal(trials, np.arange(part.first, part.first + part.count)):
        raise _damaged(part, "it holds other trials than its name says")
    batch = Batch(part.first, rows, ranked, elements, power_sums)
    if seal != _seal(of, part.sigma_index, batch):
        raise _damaged(part, "it was changed, or is another run's or another sigma's")
    return batch


def _seal(of: str, sigma_index: int, batch: Batch) -> bytes:
    """SHA-256 of all that a part says, and of which run and sigma it says that."""
    content = hashlib.sha256(f"{of} {sigma_index} {batch.first} {batch.power_sums}".encode())
    content.update((batch.rows + 0.0).astype("<f8").tobytes())  # whole numbers have no -0.0
    for counts in (batch.ranked, batch.elements):
        content.update(counts.astype("<i8").tobytes())
    return content.hexdigest().encode()


def _packed(counts: Int64Array) -> bytes:
    return zlib.compress(counts.astype("<i8").tobytes(), level=1)


def _unpacked(content: bytes) -> Int64Array:
    return np.frombuffer(zlib.decompress(content), dtype="<i8").astype(np.int64)


def _damaged(part: Part, why: str) -> SourceError:
    return SourceError(
        f"this part is damaged ({why})",
        where=part.path,
        remedy="delete it and run the same command again: its trials are made anew",
    )
