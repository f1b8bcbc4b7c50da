"""The summary of a run, in numbers. Every count can be traced to a table, and the pool's add up."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from selectllm.llm.model import ModelInfo
from selectllm.paths import redact_url
from selectllm.ranking.stats import agreement, merge, position_bias
from selectllm.settings import RunSettings
from selectllm.steps.cache import StepResult
from selectllm.steps.context import Context
from selectllm.store import versions

RANKING_COUNTS: Final = (
    *("ranked", "repaired", "reasked", "abstained", "split", "ties", "clipped", "pages"),
    *("prompt_tokens", "output_tokens", "errors_by_kind"),
)


def summarize(context: Context) -> dict[str, Any]:
    """Sum up a run that has chosen its rows.

    `ranking.asked` is what this run paid for and `from_ledger` what earlier ones had paid; the other counts of
    `ranking` are of all replies that the selection rests on. `seconds` are this run's. `queries`, `ranking` and `model`
    are null where the strategy has none.
    """
    settings, log = context.settings, context.log
    steps = {result.kind: result for result in log.results}
    facts = {kind: result.facts for kind, result in steps.items()}
    selection = steps["selection"]
    ranking = merge(facts["rankings"], facts.get("tournament", {})) if "rankings" in facts else None
    history = {"history": settings.history, "slot": settings.slot} if settings.history else {}
    return {
        "strategy": settings.strategy,
        "pool": {name: facts["pool"][name] for name in ("rows_read", "quarantined", "duplicates", "kept")},
        "queries": facts.get("queries") and {name: facts["queries"][name] for name in ("count", "size", "composition")},
        "ranking": ranking and _ranking(ranking, sum(result.asked for result in steps.values())),
        "validation": {verdict.boundary: verdict.summary() for verdict in log.verdicts},
        "cost": ranking and _cost(settings, steps.values(), ranking),
        "selection": facts["selection"] | history,
        "model": log.model and _model(log.model),
        "artifacts": {"quarantine": facts["pool"]["quarantine"]}
        | {kind: result.artifact.key for kind, result in steps.items()}
        # A slot that was filled before holds what it was made from then, whatever has changed since.
        | {kind: key for kind, key in selection.manifest.made_from.items() if kind in steps},
        "seconds": {kind: round(result.seconds, 3) for kind, result in steps.items()},
        "cached": sorted(kind for kind, result in steps.items() if result.cached),
        "store": redact_url(context.store.location),
        "seed": settings.seed,
        "versions": versions(),
    }


def _ranking(facts: Mapping[str, Any], asked: int) -> dict[str, Any]:
    return {
        "asked": asked,
        "from_ledger": facts["replies"] - asked,
        **{name: facts[name] for name in RANKING_COUNTS},
        "rounds": facts.get("rounds", 0),
        "queued_seconds": round(facts["queued_seconds"], 1),
        "abstained_questions": list(facts["abstained_questions"]),
        "agreement": agreement(facts),
        "agreement_by_question": facts["agreement_by_question"],
        "position_bias_pvalue": position_bias(facts),
    }


def _model(model: ModelInfo) -> dict[str, Any]:
    return {
        "selector": model.selector,
        "name": model.name,
        "digest": model.digest,
        "server_version": model.server_version,
        "kind": model.kind,
        "mode": model.mode,
    }


def _cost(settings: RunSettings, results: Iterable[StepResult], ranking: Mapping[str, Any]) -> dict[str, float] | None:
    """What this run paid and what the whole selection rests on, by the prices given; None without prices."""
    price_in, price_out = settings.ranking.price_in / 1e6, settings.ranking.price_out / 1e6
    if not price_in and not price_out:
        return None
    paid = sum(result.paid_prompt_tokens * price_in + result.paid_output_tokens * price_out for result in results)
    whole = ranking["prompt_tokens"] * price_in + ranking["output_tokens"] * price_out
    return {"this_run": round(paid, 6), "selection": round(whole, 6)}
