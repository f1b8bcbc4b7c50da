"""The second step: every row becomes a vector."""

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from selectllm import blocks, quality, schemas
from selectllm.embedding import models
from selectllm.embedding.ordered_vectors import OrderedVectors
from selectllm.embedding.parts import ONE_FILE_ROWS, Cut, CutPool, cut, in_pieces, note, vectors_from_parts
from selectllm.embedding.vector_cache import table_of
from selectllm.errors import UsageError
from selectllm.queries import Vectors
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.embed_rows import embedder_key, gather, gather_large
from selectllm.steps.given_vectors import example_vectors, source_digest
from selectllm.steps.take_given import take_given
from selectllm.store import digest
from selectllm.store.digests import Digests
from selectllm.store.store import NewPart
from selectllm.store.table_files import EarlierPart


def embed(context: Context, pool: StepResult) -> StepResult:
    """Embed every row of the pool that no earlier run has embedded, shard by shard; or take the vectors given."""
    store, settings = context.store, context.settings
    if settings.embedding.given is not None:
        return take_given(context, pool, settings.embedding.given)
    embedder = models.open_embedder(settings.embedding.model)
    made_by = embedder_key(embedder)
    entry = CacheEntry(store, "embeddings", models.CODE_VERSION, {"pool": pool}, {"model": made_by})
    if result := entry.load():
        return result
    table = pool.table(store)
    if len(table) > ONE_FILE_ROWS:
        # Parts that were checked by other rules are not taken over.
        return _embed_parts(context, entry, table, digest(made_by, quality.CODE_VERSION))
    vectors, embedded = gather(context, table)
    warned = quality.check_embeddings(vectors, table["id"])
    _refuse_unknown(settings, len(vectors), warned)
    facts = {"dimension": vectors.shape[1], "embedded": embedded, **warned}
    return entry.save(table_of(table["id"].combine_chunks(), vectors), facts)


def _embed_parts(context: Context, entry: CacheEntry, table: pa.Table, made_by: str) -> StepResult:
    """The embeddings of a large pool as many files, of which those are new that no earlier pool has had.

    New vectors of a very large pool lie in a file until they are checked and written.
    """
    store, ids = context.store, table["id"]
    parted = cut(store, ids, made_by)
    sizes = [each.rows for each in parted.new]
    rows = pa.concat_tables([table.slice(0, 0), *(table.slice(each.start, each.rows) for each in parted.new)])
    with OrderedVectors(store.scratch, len(rows)) as on_disk:
        vectors, embedded = _new_vectors(context, rows, parted, on_disk)
        facts = quality.join_facts(_facts(parted.cuts, in_pieces(vectors, sizes)))
        warned = quality.check_vector_facts(facts, ids)
        _refuse_unknown(context.settings, len(table), warned)
        dimension = int(facts.dimensions[0])
        parts = _parts(parted.cuts, ids, facts.digests, in_pieces(vectors, sizes))
        counts = {"dimension": dimension, "embedded": embedded, **warned}
        is_held = len(rows) == len(table) <= blocks.WHOLE_ROWS
        whole = table_of(ids.combine_chunks(), next(iter(vectors))) if is_held else None
        return entry.save_parts(schemas.embeddings(dimension), parts, counts, whole)


def _new_vectors(
    context: Context, rows: pa.Table, parted: CutPool, on_disk: OrderedVectors
) -> tuple[Iterable[Vectors], int]:
    """The vectors of rows in any parts, and how many of them this run had to embed."""
    if len(rows) > blocks.WHOLE_ROWS:
        return on_disk, gather_large(context, rows, on_disk)
    vectors, known = vectors_from_parts(context.store, parted.not_shared, rows["id"])
    if not known.any():
        vectors, embedded = gather(context, rows)
        return [vectors], embedded
    others, embedded = gather(context, rows.filter(pa.array(~known)))
    if not known.all():
        vectors[~known] = others
    return [vectors], embedded


def _facts(cuts: Iterable[Cut], vectors: Iterator[Vectors]) -> Iterator[quality.VectorFacts]:
    """The facts about the vectors of each part; `vectors` are those of the new ones, which alone are looked at."""
    for each in cuts:
        if each.shared:
            yield quality.facts_from_digests(each.shared.digests, each.shared.part.manifest.facts["dimension"])
        else:
            yield quality.facts_about([next(vectors)])


def _parts(
    cuts: Iterable[Cut], ids: pa.ChunkedArray, digests: Digests, vectors: Iterator[Vectors]
) -> Iterator[NewPart | EarlierPart]:
    """The parts of an artifact in order; `vectors` are those of the new ones."""
    for each in cuts:
        if each.shared:
            yield each.shared.part
        else:
            names = pa.concat_arrays(ids.slice(each.start, each.rows).chunks)
            noted = note(digests[each.start : each.start + each.rows])
            yield NewPart(each.key, table_of(names, next(vectors)), noted)


def _refuse_unknown(settings: RunSettings, rows: int, warned: Mapping[str, int]) -> None:
    """Raise UsageError where the model knows no word of any row."""
    if warned.get(quality.UNKNOWN) == rows:
        raise UsageError(
            f"the embedding model {settings.embedding.model} knows no word of the pool's rows: "
            "name one for their language with --embedding-model"
        )


def vectors_of(
    context: Context, rows: pa.Table, embeddings: StepResult | None = None, pool: StepResult | None = None
) -> Vectors:
    """The vectors (M, d) of rows beside the pool, by the same model; those that no run has embedded are, and kept.

    Where vectors are given, those of these rows must be, too: in the same file, or in a column of the same name.
    Raises PoolError where given vectors have another length than the pool's `embeddings`, or may be those of its rows.
    """
    given = context.settings.embedding.given
    if given is None:
        return gather(context, rows)[0]
    beside = pool.table(context.store) if pool else None
    return example_vectors(given, rows, embeddings.facts["dimension"] if embeddings else None, beside)


def made_by(context: Context, embeddings: StepResult) -> str:
    """What decides the vectors of rows beside the pool, for keys: the model, or what the user gives."""
    model, given = str(embeddings.manifest.settings["model"]), context.settings.embedding.given
    return model if given is None else digest(model, source_digest(given))
