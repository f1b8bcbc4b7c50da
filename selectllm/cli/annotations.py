"""`selectllm annotations`: what came back from annotators, and a training file of it."""

from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from selectllm.cli.artifacts import DEFAULT_STORE, Location
from selectllm.cli.explain import Run
from selectllm.cli.printing import Json, print_either
from selectllm.errors import UsageError
from selectllm.export.names import Several, Training


@Parameter(name="*")
@dataclass(frozen=True)
class TrainingOptions:
    """A file to train on, of the answered rows."""

    to: Annotated[Training | None, Parameter(help="Also write the answered rows to train on, in this layout.")] = None
    out: Annotated[str | None, Parameter(help="The new file, of JSON lines, that `--to` writes.")] = None
    several: Annotated[
        Several,
        Parameter(
            help="Which answers to write of a row that several annotators answered: the earliest, the longest, "
            "each different one, or the earliest where all agree and none otherwise."
        ),
    ] = "first"


NO_TRAINING: Final = TrainingOptions()


def annotations(
    files: Annotated[
        tuple[str, ...],
        Parameter(help="Files that came back: JSON, JSON lines, CSV or any other format of a pool."),
    ],
    /,
    *,
    training: TrainingOptions = NO_TRAINING,
    answer_column: Annotated[
        str | None, Parameter(help="Column of a table that holds the answers. Recognised when not given.")
    ] = None,
    run: Run = None,
    store: Location = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Read annotations, and say which chosen rows are answered, skipped, missing or in dispute.

    Files can be exports of Label Studio (JSON, JSON-MIN, CSV), records of Argilla (`records.to_json`), the output of a
    batch of OpenAI's, or any table with the rows' ids and a column `answer` (or `output`, `response`, `completion`).
    They are joined with the run's selection by id. The same files can be given to `select --exclude`.

    Example: `selectllm annotations project-1.json --to messages --out train.jsonl`
    """
    from selectllm.cli.format_annotations import format_annotations
    from selectllm.export.annotations import compare_annotations
    from selectllm.export.training import write_training
    from selectllm.store import Store

    layout, path = training.to, training.out
    if (layout is None) != (path is None):
        raise UsageError("--to and --out go together: the layout of the training file, and its path")
    annotated = compare_annotations(Store(store), files, run, answer_column)
    record, text = annotated.record(), format_annotations(annotated)
    if layout is not None and path is not None:
        record["training"] = {"file": path, "rows": write_training(annotated, layout, path, training.several)}
        text += f"\nWrote {record['training']['rows']:,} rows to train on ({layout}): {path}"
    print_either(record, text, json=json)
