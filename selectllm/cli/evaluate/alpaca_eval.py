"""`selectllm evaluate alpaca-eval`: a model's win rate against a baseline, raw and at equal length."""

from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from selectllm.cli.printing import Json, print_either


@Parameter(name="*")
@dataclass(frozen=True)
class FitOptions:
    """What the length-controlled fit goes by, besides the annotations."""

    difficulty: Annotated[
        str | None,
        Parameter(help="Table with `index` and `difficulty` of each question. Without it, the fit goes without."),
    ] = None
    regularizer: Annotated[
        str | None,
        Parameter(
            help="Table of rows that were played for length: `std_delta_len`, `preference` (0 to 1), `difficulty`. "
            "Without it, the fit goes without."
        ),
    ] = None
    resample_seed: Annotated[int, Parameter(help="Decides the rows that the interval is drawn from.")] = 0


DEFAULT_FIT: Final = FitOptions()


def alpaca_eval(
    *,
    annotations: Annotated[
        str,
        Parameter(
            help="File of annotations: AlpacaEval's annotations.json, or a table with `preference` (0 to 1), "
            "`len_baseline` and `len_model`."
        ),
    ],
    model: Annotated[str | None, Parameter(help="The model to score, in a file about several.")] = None,
    fit: FitOptions = DEFAULT_FIT,
    json: Json = False,
) -> None:
    """Score a model against a baseline as AlpacaEval 2 does: the win rate, and the length-controlled win rate.

    The interval of the length-controlled win rate is a bootstrap over the questions, in which each draw is fitted anew.

    Example: `selectllm evaluate alpaca-eval --annotations annotations.json --difficulty instruction_difficulty.csv`
    """
    from selectllm.cli.evaluate.format_scores import format_scores
    from selectllm.evaluation.alpaca_eval.annotations import read_annotations
    from selectllm.evaluation.alpaca_eval.length_control import read_control
    from selectllm.evaluation.alpaca_eval.scores import score

    found = read_annotations(annotations, model)
    scores = score(found, read_control(found, fit.difficulty, fit.regularizer), fit.resample_seed)
    print_either(scores.record(), format_scores(scores), json=json)
