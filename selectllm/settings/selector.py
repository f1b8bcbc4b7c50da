"""The forms in which a model is named, and what can be asked of each."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from selectllm.settings.ranking import RankingSettings

SCRIPTED_RULES: Final = ("longest", "first")

SELECTOR_FORMS: Final = (
    "ollama:MODEL, embedded, embedded:/path/model.gguf, openai:MODEL, scripted:longest, scripted:first"
)


def check_selector(selector: str) -> str:
    """The selector itself; raises ValueError where it is of no known form."""
    kind, _, name = selector.partition(":")
    is_model = kind in ("ollama", "embedded", "openai") and name
    if not (is_model or selector == "embedded" or (kind == "scripted" and name in SCRIPTED_RULES)):
        raise ValueError(f"unknown selector {selector!r}: use one of {SELECTOR_FORMS}")
    return selector


def check_batch(selector: str, ranking: "RankingSettings") -> None:
    """Raise ValueError where a selector is to be asked in batches, and cannot be."""
    if ranking.batch and not selector.startswith("openai:"):
        raise ValueError(f"--batch needs a selector openai:MODEL: {selector} takes no batches")
    if ranking.batch and len(ranking.hosts) > 1:
        raise ValueError("--batch needs one --host: a batch is asked where it was sent")
