"""What a run has paid for so far, in a few words for a line of progress."""

from selectllm.llm.prices import list_prices_of, with_list_prices
from selectllm.settings import RunSettings


def spent_text(settings: RunSettings, prompt_tokens: int, output_tokens: int) -> str:
    """Tokens read and written, and their cost: `1.2M + 34k tokens, 0.31`, with `~` and `USD` by list prices.

    Without prices, the tokens alone; empty where nothing was paid for.
    """
    if not prompt_tokens and not output_tokens:
        return ""
    tokens = f"{_short(prompt_tokens)} + {_short(output_tokens)} tokens"
    cost = with_list_prices(settings).cost(prompt_tokens, output_tokens)
    if cost is None:
        return tokens
    return f"{tokens}, {money(cost)}" if list_prices_of(settings) is None else f"{tokens}, ~{money(cost)} USD"


def money(cost: float) -> str:
    """A cost with two decimals, or with four where it is less than 1."""
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.4f}"


def _short(count: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
