"""What a command has asked and paid for, in one line for people."""

from collections.abc import Mapping
from typing import Any


def paid_line(record: Mapping[str, Any]) -> str:
    """How often a run has asked, the tokens that it paid for, and their cost where prices are given."""
    cost = "" if record["cost"] is None else f", {record['cost']:.4f} by the prices given"
    tokens = f"{record['paid_prompt_tokens']:,} tokens read, {record['paid_output_tokens']:,} written"
    return f"asked {record['asked']:,} times: {tokens}{cost}"
