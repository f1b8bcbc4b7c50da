"""What only some targets of an export have, as the library and the command line take it."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter


@Parameter(name="*")
@dataclass(frozen=True)
class ExportOptions:
    """Options that only some targets have."""

    prefill: Annotated[
        bool, Parameter(help="Show the pool's own answers as drafts to be corrected (label-studio, argilla).")
    ] = False
    raw: Annotated[bool, Parameter(help="Leave texts as they are that a spreadsheet would run as formulas (csv).")] = (
        False
    )
    model: Annotated[str | None, Parameter(help="The model that is to answer (openai-batch).")] = None
