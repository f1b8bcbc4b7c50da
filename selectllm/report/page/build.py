"""Builds the report of a run from its record and its tables; no model is asked."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from selectllm.errors import MissingDependency, StoreError, UsageError
from selectllm.report.format import counts, notes, of_strata
from selectllm.report.page import charts, figures, scripts, tables
from selectllm.report.page.groups import by_cluster, by_columns
from selectllm.report.page.map import MOST_CHOSEN, MOST_POINTS, PoolMap, draw_map
from selectllm.report.page.map import SIDE as MAP_SIDE
from selectllm.report.page.near_cut import near_cut
from selectllm.report.page.packed import pack
from selectllm.report.page.pool_facts import PoolFacts, read_pool_facts
from selectllm.report.page.positions import bias, first_picks, ranking_facts
from selectllm.report.page.replies import read_replies
from selectllm.report.page.rows import STATIC_ROWS, ChosenRows, read_chosen
from selectllm.report.page.source import RunSource
from selectllm.report.page.texts import visible
from selectllm.store import Store
from selectllm.store.files import write_atomically
from selectllm.store.runs import RunRecord, load_run

MARK: Final = b'<meta name="generator" content="selectllm">'
"""What tells a page of ours from another file."""


@dataclass(frozen=True)
class Page:
    """The page of a run as HTML, its figures, and whether all tables were there that it shows."""

    run: str
    html: str
    figures: tuple[figures.Figure, ...]
    is_whole: bool


@dataclass(frozen=True)
class _Map:
    packed: str
    projections: list[str]
    rows: int
    chosen: int
    kept: float
    spec: dict[str, Any]


def build_page(store: Store, run: str | None = None, *, umap: bool = True) -> str:
    """The page of a run as HTML, by default of the latest; the same for the same record and tables.

    With `umap`, the map is drawn by UMAP too, where that is installed; that takes about a minute of processor time for
    20,000 points.
    Raises UsageError when the store has no such run, MissingDependency without the extra `report`, StoreError when the
    selection is gone or damaged. What else is gone is named on the page.
    """
    return make_page(store, load_run(store, run), umap=umap).html


def check_page(file: str | Path) -> Path:
    """The path of a page that is to be written; raises UsageError where that is a folder, or a file of others."""
    path = Path(file).expanduser()
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UsageError(f"--out {file} cannot be written: name a file in a folder that there is")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise UsageError(f"--out {file} cannot be written: its folder may not be written to. Name another one")
    if path.exists() and MARK not in path.read_bytes()[:4096]:
        raise UsageError(f"--out would write over {file}, which is no report of a run: name another file, or move it")
    return path


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all; raises StoreError when it cannot be."""
    try:
        write_atomically(path, page.encode())
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be written: {error.strerror}") from error


def make_page(store: Store, record: RunRecord, *, umap: bool = True) -> Page:
    """The page of a run that this is the record of; see `build_page`."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingDependency("jinja2", extra="report", purpose="the report of a run") from error
    source = RunSource(store, record)
    vega, script = scripts.vega(), scripts.template("page.js")
    ids = source.table("selection", "id")["id"].combine_chunks()
    pool = read_pool_facts(source, ids)
    divisions = by_columns(source, pool.chosen) if pool else []
    chosen = read_chosen(source, pool, [division.by for division in divisions])
    clusters = by_cluster(source, ids)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = lambda value: visible(str(value))
    found = [figures.division_figure(clusters, 0)] if clusters else []
    found += [figures.division_figure(division, number) for number, division in enumerate(divisions, start=1)]
    found += [figures.lengths_figure(pool)] if pool else []
    pool_map = _map(source, pool, chosen, umap=umap)
    ranked = _ranking_figures(source, ids)
    specs = {figure.key: figure.spec for figure in (*found, *ranked)} | ({"map": pool_map.spec} if pool_map else {})
    html = environment.from_string(scripts.template("page.html.jinja")).render(
        policy=scripts.policy(vega, script),
        style=scripts.template("page.css"),
        vega=vega,
        script=script,
        charts=specs,
        source=source,
        selected=len(ids),
        headline=tables.headline(source),
        notes=_notes(source),
        sentences=_sentences(source),
        chosen=chosen,
        static_rows=STATIC_ROWS,
        replies=read_replies(source, chosen.ids),
        map=pool_map,
        most_points=MOST_POINTS,
        most_chosen=MOST_CHOSEN,
        divided=found,
        ranked=ranked,
        outcomes=tables.outcomes_table(ranking_facts(source)),
        steps=tables.steps_table(source),
        quarantine=tables.quarantine_table(source),
        validation=tables.validation_table(source),
        artifacts=tables.artifacts_table(source),
        versions=tables.versions_table(source),
        settings=tables.settings_text(source),
        criteria=visible(str(source.summary.get("criteria") or "")),
    )
    return Page(record.run, html, (*found, *ranked), is_whole=not source.missing)


def _ranking_figures(source: RunSource, chosen: pa.Array) -> list[figures.Figure]:
    facts = ranking_facts(source)
    positions, rated = first_picks(facts), near_cut(source, chosen)
    found = [figures.positions_figure(positions, bias(facts))] if positions else []
    return found + ([figures.ratings_figure(rated)] if rated else [])


def _map(source: RunSource, pool: PoolFacts | None, chosen: ChosenRows, *, umap: bool) -> _Map | None:
    drawn: PoolMap | None = draw_map(source, pool, umap=umap) if pool else None
    if drawn is None or pool is None:
        return None
    order = {id: place for place, id in enumerate(chosen.ids, start=1)}
    marks = pool.chosen[drawn.rows]
    ids = pool.ids.take(pa.array(drawn.rows)).to_pylist()
    # A chosen row beyond the table's last has no place there: it is marked all the same.
    orders = [order.get(id, len(order) + 1) if mark else 0 for id, mark in zip(ids, marks, strict=True)]
    points = {
        "row": pool.numbers[drawn.rows].tolist(),
        "order": orders,
        "places": {name: places.T.tolist() for name, places in drawn.projections.items()},
        "side": MAP_SIDE,
    }
    return _Map(
        pack(points),
        list(drawn.projections),
        len(drawn.rows),
        int(marks.sum()),
        drawn.kept,
        charts.map_chart(len(drawn.rows)),
    )


def _sentences(source: RunSource) -> list[str]:
    """The run in a few sentences; a record of version 0.1 counts less than they say."""
    summary = source.summary
    try:
        return [visible(sentence) for sentence in (*counts(summary), *of_strata(summary.get("strata")))]
    except KeyError:
        kept = summary["pool"]["kept"]
        return [f"Chose {summary['selection']['selected']:,} of {kept:,} rows, by an earlier version of SelectLLM."]


def _notes(source: RunSource) -> list[str]:
    try:
        found = notes(source.summary)
    except KeyError:  # as above
        found = []
    if target := source.summary.get("target"):
        rows = f"{target['shortlisted']:,} rows"
        found.append(f"The map and what was left out are of the shortlist of {rows}, not of the whole pool.")
    lost = [f"The table {kind} {fault}: what it would show is left out." for kind, fault in source.missing.items()]
    return [visible(note) for note in (*found, *lost)]
