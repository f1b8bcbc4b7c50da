"""Before the choice, where values of a column have quotas: which stratum each row is of, and how many are wanted of it.

Values are compared by their JSON text, as selection.jsonl shows it. A quota may name a text without its quotes.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from selectllm.errors import TooFewRanked, UsageError
from selectllm.pool.carried import original_values
from selectllm.ranking.strata import NO_STRATUM, Strata, proportional
from selectllm.schemas import STRATA, own_name
from selectllm.settings import RunSettings
from selectllm.steps.cache import CacheEntry, StepResult
from selectllm.steps.context import Context
from selectllm.steps.exclude import excluded_ids
from selectllm.text import finite, join_names, json_text, one_line

CODE_VERSION: Final = 1
"""Raise it when the same pool is to be divided otherwise."""

NO_COLUMNS: Final = ("id", "row")
"""Columns of a pool that name a row, and so divide nothing."""

MAYBE_ABSENT: Final = ("input", "output")
"""Columns that every pool has, though its file may not: there all their values are null."""

VALUE_LENGTH: Final = 80
"""Characters of a value that a message shows."""


@dataclass(frozen=True)
class Stratum:
    """A value of the column as JSON, None for all that no quota names; its rows that may be chosen; the wanted ones."""

    value: str | None
    rows: int
    wanted: int


def stratify(context: Context, pool: StepResult, excluded: StepResult | None) -> StepResult | None:
    """Divide the rows that may be chosen by the column of the quotas; None without any.

    Raises UsageError where there is no such column or value, or where more rows are wanted than there are.
    """
    store, aim = context.store, context.settings.aim
    if aim.column is None:
        return None
    inputs = {"pool": pool} | ({"excluded": excluded} if excluded else {})
    decisive = {"budget": context.settings.budget, "column": aim.column}
    decisive |= {"quotas": [asdict(quota) for quota in aim.quotas]} if aim.quota else {}
    entry = CacheEntry(store, "strata", CODE_VERSION, inputs, decisive)
    if result := entry.load():
        return result
    table, ids = pool.table(store), excluded_ids(context, excluded)
    strata, values = divide(context.settings, table, ids, is_shortlist="targets" in pool.manifest.made_from)
    number_of = {stratum.value: number for number, stratum in enumerate(strata)}
    rows = [
        (id, number_of.get(value, number_of.get(None)), value)
        for id, value in zip(table["id"].to_pylist(), values, strict=True)
        if id not in ids
    ]
    facts = {"column": aim.column, "values": [asdict(stratum) for stratum in strata]}
    return entry.save(pa.table(list(zip(*rows, strict=True)), schema=STRATA), facts)


def divide(
    settings: RunSettings, pool: pa.Table, excluded: Collection[str], *, is_shortlist: bool = False
) -> tuple[list[Stratum], list[str]]:
    """The strata of a pool, and the value of each of its rows as JSON; raises UsageError as `stratify` does.

    A value that is in the pool need not be on its shortlist.
    """
    column, budget = settings.aim.column, settings.budget
    assert column is not None  # else nothing is to be divided
    values = _values(pool, column, is_shortlist)
    allowed = [value for id, value in zip(pool["id"].to_pylist(), values, strict=True) if id not in excluded]
    rows = Counter(allowed)
    if not settings.aim.quota:
        names = sorted(rows)
        shares = proportional([rows[name] for name in names], min(budget, len(allowed)))
        return [Stratum(name, rows[name], share) for name, share in zip(names, shares, strict=True)], values
    wanted, known = dict[str, int](), Counter(values)
    for quota in settings.aim.quotas:
        value = _value_of(quota.value, known, column, is_shortlist)
        if value in wanted:
            raise UsageError(f"two quotas name the value {shown(value)} of the column {shown(column)}: give one")
        wanted[value] = quota.wanted
    strata = [Stratum(value, rows[value], count) for value, count in wanted.items()]
    others, rest = len(allowed) - sum(stratum.rows for stratum in strata), budget - sum(wanted.values())
    for stratum in [*strata, Stratum(None, others, rest)]:
        if stratum.wanted > stratum.rows:
            hint = ", or raise --target-rows: only the shortlist's rows count" if is_shortlist else ""
            raise UsageError(_too_few_rows(column, stratum) + hint)
    return strata + ([Stratum(None, others, rest)] if others else []), values


def strata_of(rows: pa.Table, strata: pa.Table, facts: Mapping[str, Any]) -> Strata:
    """The strata of some rows with an `id`, by STRATA and its artifact's facts."""
    place = pc.index_in(rows["id"], value_set=strata["id"].combine_chunks())
    of = pc.fill_null(strata["stratum"].take(place), NO_STRATUM).to_numpy().astype("int64")
    return Strata(of, pa.array([value["wanted"] for value in facts["values"]], pa.int64()).to_numpy())


def check_enough(chosen: Strata, facts: Mapping[str, Any], strategy: str) -> None:
    """Raise TooFewRanked where the chosen rows do not fill a stratum: too few of it are among the preferences."""
    missing = chosen.missing(range(len(chosen.of)))
    short = [number for number, count in enumerate(missing.tolist()) if count > 0]
    if short:
        first = facts["values"][short[0]]
        name = stratum_name(facts["column"], first["value"])
        more = f" (and of {len(short) - 1:,} other values)" if len(short) > 1 else ""
        raise TooFewRanked(
            f"{missing[short[0]]:,} of the {first['wanted']:,} rows with {name} are missing"
            f"{more}: the strategy {strategy} names too few of the {first['rows']:,} that may be chosen, or "
            "too many were passed over as near-duplicates. All replies are kept. With tiers, rank more rows by a "
            "larger --depth; with --gather ratings every judged row counts; or ask for fewer of these rows"
        )


def stratum_name(column: str, value: str | None) -> str:
    """A stratum as it stands in messages: `category = "math"`."""
    return f"{shown(column)} = {'any other value' if value is None else shown(value)}"


def shown(text: str) -> str:
    """A name or value of a pool, as one short line."""
    return one_line(text, VALUE_LENGTH)


def _values(pool: pa.Table, column: str, is_shortlist: bool) -> list[str]:
    """Each row's value of a column as JSON; of a shortlist any value may be missing."""
    absent = [name for name in MAYBE_ABSENT if pool[name].null_count == len(pool) and not is_shortlist]
    names = [name for name in pool.column_names if name not in (*NO_COLUMNS, *absent)]
    if (name := own_name(column, names)) not in names:
        raise UsageError(f"the pool has no column {shown(column)!r}: it has {join_names(names)}")
    field = pool.schema.field(name)
    return [json_text(finite(value)) for value in original_values(field, pool[name])]


def _value_of(text: str, rows: Counter[str], column: str, is_shortlist: bool) -> str:
    """The value that a quota names: as JSON where a row has that very value, else as a text."""
    for value in (text, json_text(text)):
        if value in rows:
            return value
    if is_shortlist:
        return json_text(text)
    known = join_names(value for value, _ in rows.most_common())
    raise UsageError(f"no row has the value {shown(text)!r} in the column {shown(column)!r}: there are {known}")


def _too_few_rows(column: str, stratum: Stratum) -> str:
    rows = f"{stratum.wanted:,} rows with {stratum_name(column, stratum.value)}"
    if stratum.value is None:
        return (
            f"the quotas leave {rows}, and only {stratum.rows:,} of these may be chosen: "
            "raise a quota, or lower the budget"
        )
    return f"the quotas want {rows}, and only {stratum.rows:,} of these may be chosen: lower that quota"
