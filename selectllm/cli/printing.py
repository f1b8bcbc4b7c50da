"""What all commands print in the same way."""

import json as json_module
import sys
from shutil import get_terminal_size
from typing import Annotated

from cyclopts import Group, Parameter

Json = Annotated[
    bool,
    Parameter(group=Group("Output", sort_key=8), help="Print the result as JSON on stdout, and nothing else there."),
]


def print_json(value: object) -> None:
    """Print a value as JSON that people can read; characters that could move a terminal are written as escapes."""
    text = json_module.dumps(value, indent=1, ensure_ascii=False)
    print("".join(char if char.isprintable() or char == "\n" else json_module.dumps(char)[1:-1] for char in text))


def output_width() -> int:
    """The columns of the terminal, at least 80; 120 where the output goes elsewhere."""
    return max(get_terminal_size().columns, 80) if sys.stdout.isatty() else 120
