"""A finished run: its record in the store, its summary, whose counts all come from tables, and where those are."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from selectllm import quality
from selectllm.errors import StoreError
from selectllm.llm.prices import list_prices_of, with_list_prices
from selectllm.llm.usage import Usage
from selectllm.paths import redact_url
from selectllm.ranking.near_repeats import count_near_repeated_rows
from selectllm.ranking.stats import agreement, constant_answer, merge, position_bias
from selectllm.report.output import write_folder
from selectllm.report.reasons import with_reasons
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context
from selectllm.store import Artifact, Store, versions
from selectllm.store.runs import RunRecord, StepRecord, new_run_name, save_run

if TYPE_CHECKING:
    from selectllm.report.notebook import Report

RANKING_COUNTS: Final = (
    *("ranked", "repaired", "reasked", "abstained", "split", "ties", "clipped", "pages"),
    *("prompt_tokens", "output_tokens", "errors_by_kind"),
)

APART: Final = ("near_duplicates", "near_repeats")
"""Facts of a selection that stand elsewhere in the summary."""


@dataclass(frozen=True)
class Result:
    """A finished run: its summary, and where in the store its tables are."""

    store: Store
    summary: dict[str, Any] = field(repr=False)
    run: str | None = None  # the name of its record; None where that is not known

    def path(self, kind: str = "selection") -> str:
        """Where the Parquet of one of the run's artifacts is."""
        return self.store.path(self._artifact(kind))

    def table(self, kind: str = "selection") -> pa.Table:
        """One of the run's tables."""
        return self.store.read(self._artifact(kind))

    def chosen(self) -> pa.Table:
        """The selection; where reasons were asked for, with the column `reason` behind `picked_by`."""
        has_reasons = "reasons" in self.summary["artifacts"]
        return with_reasons(self.table(), self.table("reasons")) if has_reasons else self.table()

    def report(self, path: str | Path | None = None) -> "Report":
        """The run as one page of HTML, which is also written to a file where a path is given; a notebook shows it.

        Raises MissingDependency without the extra `report`, UsageError where the path is not one of a page.
        """
        from selectllm.report.notebook import Report
        from selectllm.report.page.build import build_page, check_page, write_page

        file = None if path is None else check_page(path)
        page = build_page(self.store, self.run)
        if file:
            write_page(file, page)
        return Report(page)

    def _repr_html_(self) -> str:
        """What a notebook shows of a run: its first rows, why they were chosen, and where things lie."""
        from selectllm.report.notebook import result_html

        places = {"Selection": self.path(), "Report": "result.report()"}
        try:
            return result_html(self.summary, self.chosen(), places)
        except StoreError as error:
            return result_html(self.summary, None, {"The selection cannot be shown": str(error)} | places)

    def _artifact(self, kind: str) -> Artifact:
        return Artifact(kind=kind, key=self.summary["artifacts"][kind])


def publish(context: Context) -> Result:
    """Sum the run up, record it, and write output folder and Data Docs if asked for; raises StoreError if it cannot."""
    settings, store = context.settings, context.store
    steps: dict[str, StepRecord] = {}
    for one in context.log.results:
        steps[one.kind] = _step_record(one, steps.get(one.kind))
    summary = summarize(context, steps)
    record = _record(context, steps.values(), summary)
    result = Result(store, summary, record.run)
    save_run(store, record)
    if settings.out is not None:
        try:
            tables = result.chosen(), result.table("quarantine")
            write_folder(Path(settings.out).expanduser(), *tables, result.summary)
        except StoreError as error:
            raise StoreError(f"{error}. The selection is kept: {result.path()}") from error
    if settings.quality.data_docs is not None:
        quality.write_data_docs(Path(settings.quality.data_docs).expanduser(), context.log.verdicts, record.run)
    return result


def summarize(context: Context, steps: Mapping[str, StepRecord]) -> dict[str, Any]:
    """Sum up a run that has chosen its rows, from the records of its steps by kind.

    `asked` of `ranking`, `row_ratings` and `reasons` is what this run paid for, `from_ledger` what earlier ones had
    paid; the other counts are of all replies that the selection rests on. `seconds` are this run's. `queries`,
    `ranking`, `row_ratings`, `likelihoods` and `model` are null where the strategy has none, `criteria` where our own
    counted, `reasons` where none were asked for, `target`, `away_from` and `strata` where the run has no such aim.
    """
    settings, log = context.settings, context.log
    pool, selection = steps["pool"].facts, steps["selection"]
    chosen = log.result("selection")
    assert chosen is not None  # a run is summed up once it has chosen
    judged = log.result("rankings") or log.result("row_ratings")
    queries = steps["queries"].facts if "queries" in steps else None
    ranked = [steps[kind].facts for kind in ("rankings", "looks", "tournament") if kind in steps]
    ranking = merge(*ranked) if ranked else None
    reasons = steps.get("reasons")
    rows = steps.get("row_ratings")
    replies = [facts for facts in (ranking, rows and rows.facts, reasons and reasons.facts) if facts]
    history = {"history": settings.history, "slot": settings.slot} if settings.history else {}
    return {
        "strategy": settings.strategy,
        "pool": {name: pool[name] for name in ("rows_read", "quarantined", "duplicates", "kept")},
        "queries": queries and {name: queries[name] for name in ("count", "size", "composition")},
        "embeddings": _embeddings(steps["embeddings"].facts, settings) if "embeddings" in steps else None,
        "ranking": ranking and _ranking(ranking, _asked_to_rank(steps), log.trial_usage.asked),
        "ratings": _ratings(steps) if "ratings" in steps else None,
        "row_ratings": rows and _row_ratings(rows, log.trial_usage.asked),
        "likelihoods": steps["likelihoods"].facts if "likelihoods" in steps else None,
        "reasons": reasons and _reasons(reasons),
        "validation": {verdict.boundary: verdict.summary() for verdict in log.verdicts},
        "cost": _cost(settings, steps.values(), log.trial_usage, replies) if replies else None,
        "selection": {name: value for name, value in selection.facts.items() if name not in APART} | history,
        "target": steps["targets"].facts if "targets" in steps else None,
        "away_from": steps["too_near"].facts if "too_near" in steps else None,
        "strata": steps["strata"].facts if "strata" in steps else None,
        "near_repeats": _near_repeats(chosen, context.store),
        "model": log.model and asdict(log.model),
        "criteria": judged and judged.manifest.settings.get("criteria"),
        "artifacts": {"quarantine": pool["quarantine"]}
        | {name: selection.facts[name] for name in ("near_duplicates",) if name in selection.facts}
        | {kind: step.key for kind, step in steps.items()}
        # A slot that was filled before holds what it was made from then, whatever has changed since.
        | {kind: key for kind, key in selection.made_from.items() if kind in steps},
        "seconds": {kind: step.seconds for kind, step in steps.items()},
        "cached": sorted(kind for kind, step in steps.items() if step.cached),
        "store": redact_url(context.store.location),
        "seed": settings.seed,
        "versions": versions(),
    }


def _near_repeats(selection: StepResult, store: Store) -> int:
    counted: int | None = selection.facts.get("near_repeats")  # which older selections do not have
    return count_near_repeated_rows(selection.table(store)) if counted is None else counted


def _embeddings(facts: Mapping[str, Any], settings: RunSettings) -> dict[str, int | str]:
    """How many rows have vectors that say little: the model knows no word of them, or cannot tell them apart.

    `given` is where the vectors come from, where they were given.
    """
    counts = {"unknown": facts.get(quality.UNKNOWN, 0), "alike": facts.get(quality.ALIKE, 0)}
    given = settings.embedding.given if facts.get("given") else None
    return {"dimension": facts["dimension"], **counts, **({"given": redact_url(given)} if given else {})}


def _ratings(steps: Mapping[str, StepRecord]) -> dict[str, Any]:
    """What further looks took and saved, and how many of the chosen rows are expected to be the wrong ones."""
    looks = steps["looks"].facts if "looks" in steps else {}
    questions = {"looks": looks.get("questions", 0), "looks_saved": looks.get("saved", 0)}
    return questions | {name: steps["ratings"].facts[name] for name in ("rated", "in_doubt", "expected_wrong")}


def _row_ratings(step: StepRecord, trials: int) -> dict[str, Any]:
    """What asking about single rows took and gave."""
    facts = step.facts
    names = ("rows", "ranked", "abstained", "reasked", "reasked_old", "clipped", "prompt_tokens", "output_tokens")
    counts = {"questions" if name == "ranked" else name: facts[name] for name in names}
    counts["questions"] += facts["abstained"]
    return {
        "asked": step.asked + trials,
        "from_ledger": facts["replies"] - step.asked,
        **counts,
        **{name: facts[name] for name in ("tied_rows", "errors_by_kind")},
        "refused_rows": list(facts["refused_rows"]),
        "abstained_questions": list(facts["abstained_questions"]),
    }


def _asked_to_rank(steps: Mapping[str, StepRecord]) -> int:
    return sum(step.asked for kind, step in steps.items() if kind != "reasons")


def _reasons(step: StepRecord) -> dict[str, Any]:
    """How many chosen rows have a reason, what asking took, and why it ended early, if it did."""
    counts = {name: step.facts[name] for name in ("given", "missing", "prompt_tokens", "output_tokens")}
    # Replies that came to nothing since, because the model changed, were asked for all the same.
    asked = {"asked": step.asked, "from_ledger": max(step.facts["replies"] - step.asked, 0)}
    return counts | asked | {name: step.facts[name] for name in ("errors_by_kind", "stopped")}


def _ranking(facts: Mapping[str, Any], asked: int, trials: int) -> dict[str, Any]:
    return {
        "asked": asked + trials,
        "from_ledger": facts["replies"] - asked,
        **{name: facts[name] for name in RANKING_COUNTS},
        # Older artifacts do not count these.
        **{name: facts.get(name, 0) for name in ("reasked_old", "undecided")},
        "refused_rows": list(facts.get("refused_rows", ())),
        "rounds": facts.get("rounds", 0),
        "queued_seconds": round(facts["queued_seconds"], 1),
        "abstained_questions": list(facts["abstained_questions"]),
        "agreement": agreement(facts),
        "agreement_by_question": facts["agreement_by_question"],
        "position_bias_pvalue": position_bias(facts),
        "constant_answer": constant_answer(facts),
    }


def _cost(
    settings: RunSettings, steps: Collection[StepRecord], trial: Usage, facts: Collection[Mapping[str, Any]]
) -> dict[str, float | str] | None:
    """What this run paid, and what the selection and its reasons rest on, by the prices given; None without prices.

    By list prices it is an estimate, which says so.
    """
    options = with_list_prices(settings)
    prompt_tokens = sum(step.paid_prompt_tokens for step in steps)
    asked = options.cost(prompt_tokens, sum(step.paid_output_tokens for step in steps))
    tried = options.without_batch().cost(trial.paid_prompt_tokens, trial.paid_output_tokens)
    prompts, outputs = (sum(part[name] for part in facts) for name in ("prompt_tokens", "output_tokens"))
    whole = options.cost(prompts, outputs)
    if asked is None or tried is None or whole is None:
        return None
    date = list_prices_of(settings)
    estimate = {"estimate": f"USD by list prices of {date}"} if date else {}
    return {"this_run": round(asked + tried, 6), "selection": round(whole, 6)} | estimate


def _step_record(result: StepResult, earlier: StepRecord | None) -> StepRecord:
    """A step's record; of a kind that a run made twice, as a pool and its shortlist, it is that of the later."""
    record = StepRecord(
        **result.manifest.model_dump(include={"kind", "key", "sha256", "made_from", "facts"}),
        **result.model_dump(include={"cached", "asked", "paid_prompt_tokens", "paid_output_tokens"}),
        seconds=round(result.seconds, 3),
    )
    if earlier is None:
        return record
    seconds = round(earlier.seconds + record.seconds, 3)
    return record.model_copy(update={"seconds": seconds, "cached": earlier.cached and record.cached})


def _record(context: Context, steps: Iterable[StepRecord], summary: dict[str, Any]) -> RunRecord:
    """The run's record; a URL is kept without the user, the password and the query that it may carry."""
    settings = context.settings.model_dump(mode="json")
    settings |= {name: redact_url(settings[name]) for name in ("pool", "store")}
    settings |= {name: [redact_url(file) for file in settings[name]] for name in ("exclude", "more_files")}
    aim, given = settings["aim"], settings["embedding"]["given"]
    settings["embedding"] |= {"given": given and redact_url(given)}
    aim |= {"away_from": [redact_url(file) for file in aim["away_from"]]}
    aim |= {"target": aim["target"] and redact_url(aim["target"])}
    settings["criteria"] = context.criteria  # the text: a file may change
    settings["ranking"]["hosts"] = [redact_url(host) for host in settings["ranking"]["hosts"]]
    return RunRecord(
        run=new_run_name(),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        settings=settings,
        strategy=context.settings.strategy,
        model=summary["model"],
        steps=tuple(steps),
        summary=summary,
    )
