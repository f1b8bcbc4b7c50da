"""Published ways to choose that are no strategy here, each with the reason and what to use instead."""

from typing import Final

_ANSWERS: Final = "and a pool has none before it is annotated"
_NO_MODEL: Final = "Without a model use facility or novelselect, with one selectllm"

REFUSED: Final = {
    "ifd": f"it compares a model's loss on each answer with and without its instruction, {_ANSWERS}. {_NO_MODEL}",
    "cherry": f"it ranks by IFD, a model's loss on each answer with and without its instruction, {_ANSWERS}. "
    f"{_NO_MODEL}",
    "superfiltering": f"it ranks by IFD, a small model's loss on each answer, {_ANSWERS}. {_NO_MODEL}",
    "less": f"it compares gradients of a model that is being tuned on answers, {_ANSWERS}. {_NO_MODEL}",
    "nuggets": f"it measures how much each row with its answer helps a model as an example, {_ANSWERS}. {_NO_MODEL}",
    "mods": f"it needs a reward model's scores of answers and a model that was tuned on them, {_ANSWERS}. {_NO_MODEL}",
    "instruction-mining": f"it predicts the loss of a model that is tuned on the answers, {_ANSWERS}. {_NO_MODEL}",
}
"""Why each of them cannot be had, as the end of a sentence, and what to use instead."""
