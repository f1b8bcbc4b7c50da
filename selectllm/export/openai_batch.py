"""A selection as requests for OpenAI's Batch API, which has a model answer the chosen instructions.

The format: https://platform.openai.com/docs/guides/batch.
"""

import logging
from typing import Final

from selectllm.export.chosen import Chosen
from selectllm.export.turns import messages_of
from selectllm.pool.json_lines import LINE_ENDS
from selectllm.text import json_text

MOST_REQUESTS: Final = 50_000
"""Requests that OpenAI takes in one file."""

log = logging.getLogger(__name__)


def batch_file(chosen: Chosen, model: str) -> bytes:
    """One request a line, in order; `custom_id` is the row's id, so answers can be joined in any order."""
    rows = len(chosen.table)
    if rows > MOST_REQUESTS:
        log.warning("OpenAI takes %d requests in one file, and this has %d: split it", MOST_REQUESTS, rows)
    lines = []
    for row in chosen.rows():
        request = {"custom_id": row["id"], "method": "POST", "url": "/v1/chat/completions"}
        body = {"model": model, "messages": messages_of(row, chosen.columns)}
        lines.append(json_text({**request, "body": body}).translate(LINE_ENDS))
    return "".join(line + "\n" for line in lines).encode()
