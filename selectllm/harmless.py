"""Makes texts that others wrote fit for a terminal."""

import unicodedata


def harmless(text: str) -> str:
    """The text with every character that could move, hide, colour or turn what a terminal shows replaced by a mark.

    Those are Unicode's categories C: control characters (escape sequences begin with one), bidirectional and zero-width
    marks, surrogates, and what is not assigned.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(one)[0] == "C" else one for one in text)
