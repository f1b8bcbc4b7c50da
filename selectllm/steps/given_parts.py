"""Vectors that the user gives for a large pool, in a Parquet file of which one part is in memory at a time."""

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from selectllm.embedding.ordered_vectors import Bytes, IdLookup, OrderedVectors
from selectllm.errors import PoolError
from selectllm.paths import redact_url
from selectllm.pool.formats import suffix_of
from selectllm.pool.records import Records, refuse_repeated_names, values
from selectllm.queries import Rows
from selectllm.steps.given_vectors import (
    length_faults,
    none_matches,
    own_ids,
    places_of,
    refuse,
    unit_vectors,
    vector_column,
)
from selectllm.store.tables import in_batches
from selectllm.store.values import with_readable_types
from selectllm.text import short_error

_LISTED: Final = 100_000  # ids that are Python's own at a time


def is_read_in_parts(given: str) -> bool:
    """Whether a source of vectors is one file of a format that can be read in parts, on a local disk."""
    return suffix_of(given) == ".parquet" and Path(given).expanduser().is_file()


def given_into(vectors: OrderedVectors, given: str, rows: pa.Table) -> None:
    """Read the vectors of a pool's rows, as `given_vectors` does; raises PoolError as it does."""
    shown, numbers = redact_url(given), rows["row"].to_numpy()
    try:
        with Path(given).expanduser().open("rb") as file:
            name = _column(file, shown)
            lookup, lengths = _ids_and_lengths(file, name, shown)
            _refuse_repeats(file, name, list(lookup.repeats()), shown)
            places = places_of(shown, rows, *_places(lookup, rows))
            if (places < 0).all():
                first = next(_batches(file, ["id"]))["id"].slice(0, _LISTED)
                raise none_matches(shown, rows, dict.fromkeys(map(str, values(first))))
            faults = length_faults(np.where(places < 0, -1, lengths[places]))
            refuse(shown, faults, numbers)
            _read(file, name, places, vectors, faults)
            refuse(shown, faults, numbers)
    except (pa.ArrowException, OSError) as error:
        raise PoolError(f"{shown} is not a Parquet file that can be read: {short_error(error)}") from error


def _column(file: Any, shown: str) -> str:
    """The name of the column of vectors; raises PoolError where it, or `id`, is not there."""
    empty = with_readable_types(pq.read_schema(file).empty_table())
    refuse_repeated_names(empty.column_names, shown)
    if "id" not in empty.column_names:
        raise PoolError(f"{shown} has no column `id`: give each vector the id of its row")
    columns = dict(zip(empty.column_names, empty.columns, strict=True))
    return vector_column(Records([], columns, {}, lambda _: []), shown)


def _ids_and_lengths(file: Any, name: str, shown: str) -> tuple[IdLookup, np.ndarray]:
    """The ids of the file, to be found, and how many numbers each of its vectors has; -1 where there is none."""
    ids, lengths, start = [np.empty(0, dtype="S32")], [np.empty(0, dtype=np.int64)], 0
    for batch in _batches(file, ["id", name]):
        own = values(batch["id"])
        if None in own:
            row = start + own.index(None) + 1
            raise PoolError(f"row {row} of {shown} has no id: give each vector the id of its row")
        ids.append(_keys(own))
        lengths.append(pc.list_value_length(batch[name]).fill_null(-1).to_numpy().astype(np.int64))
        start += len(own)
    if not start:
        raise PoolError(f"{shown} has no rows. Check how it was written or fetched.")
    return IdLookup(np.concatenate(ids)), np.concatenate(lengths)


def _refuse_repeats(file: Any, name: str, repeats: Sequence[tuple[int, int]], shown: str) -> None:
    """Raise PoolError where an id has two vectors."""
    if not repeats:
        return
    wanted = np.unique(np.array(repeats).ravel())
    seen: dict[int, bytes] = {}
    start = 0
    for batch in _batches(file, [name]):
        for place in wanted[slice(*np.searchsorted(wanted, (start, start + len(batch))))].tolist():
            seen[place] = blake2b(str(batch[name][place - start].as_py()).encode(), digest_size=16).digest()
        start += len(batch)
    for first, place in sorted(repeats, key=lambda pair: pair[1]):
        if seen[first] != seen[place]:
            raise PoolError(
                f"{shown} has two vectors for one id, in rows {first + 1} and {place + 1}: leave one of them out"
            )


def _places(lookup: IdLookup, rows: pa.Table) -> tuple[Rows, Rows]:
    """Where each row's vector stands in the file by our id, and by the row's own; -1 where it does not."""
    by_id, by_own = [], []
    for start in range(0, len(rows), _LISTED):
        part = rows.slice(start, _LISTED)
        by_id.append(lookup.find(_keys(part["id"].to_pylist())))
        others = own_ids(part)
        has_id = np.array([other is not None for other in others])
        by_own.append(np.where(has_id, lookup.find(_keys(others)), -1) if has_id.any() else np.full(len(part), -1))
    return np.concatenate(by_id), np.concatenate(by_own)


def _read(file: Any, name: str, places: Rows, vectors: OrderedVectors, faults: dict[Any, str]) -> None:
    """Read the vectors of all rows, which stand at these places of the file, and note which cannot be used."""
    order, start = np.argsort(places, kind="stable"), 0
    in_order = places[order]
    for batch in _batches(file, [name]):
        rows = order[slice(*np.searchsorted(in_order, (start, start + len(batch))))]
        if len(rows):
            lists = batch[name].take(pa.array(places[rows] - start)).combine_chunks()
            unit, wrong = unit_vectors(lists, len(rows))
            faults |= {rows[place]: fault for place, fault in wrong.items()}
            if not faults:
                vectors.add(rows, unit)
        start += len(batch)


def _batches(file: Any, columns: Sequence[str]) -> Iterator[pa.Table]:
    file.seek(0)
    for batch in in_batches(file, columns):
        yield with_readable_types(pa.Table.from_batches([batch]))


def _keys(ids: Sequence[Any]) -> Bytes:
    """A digest of each id's text, all of one length: an id may be long, and hold anything."""
    return np.array([blake2b(str(id).encode(), digest_size=16).hexdigest() for id in ids], dtype="S32")
