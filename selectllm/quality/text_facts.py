"""Facts about texts that tell whether people and models can read them, for a million texts in a few seconds.

Arrow's regular expressions pick out the few texts that could be at fault; only those are looked at one by one.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from selectllm.quality.rules import Values

MIN_LETTERS: Final = 2
"""Letters or digits that a text has at least: 「翻译」, "pi" and "1+1" pass; "?", "x" and one emoji do not."""

MIN_DAMAGES: Final = 3
"""Places at which a text must be damaged before the share counts: one lost accent spoils no instruction."""

_LETTERS: Final = "(?s)" + ".*".join([r"[\p{L}\p{N}]"] * MIN_LETTERS)
_CONTROLS: Final = r"[\x00-\x08\x0e-\x1f\x7f-\x{84}\x{86}-\x{9f}]"  # not tab, line ends and page breaks
_ODD: Final = r"[^\p{L}\p{M}\p{N}\p{P}\p{S}\p{Z}\p{Cc}\p{Cf}]"

# UTF-8 read as Windows-1252 or Latin-1: a lead byte and its continuation bytes, each of which has become a character.
_HIGH: Final = "".join(bytes([byte]).decode("cp1252", "ignore") for byte in range(0x80, 0xA0))
_NEXT: Final = f"[\x80-\xbf{_HIGH}]"
_DAMAGE: Final = re.compile(f"\ufffd|[\xc2-\xdf]{_NEXT}|[\xe0-\xef]{_NEXT}{{2}}|[\xf0-\xf4]{_NEXT}{{3}}")
_DAMAGE_LIKELY: Final = "\ufffd|[\xc2-\xf4]" + _NEXT


def text_facts(texts: pa.ChunkedArray) -> dict[str, Values]:
    """The facts about each text, of which a null has none.

    `letters`: whether it has at least MIN_LETTERS letters or digits of any script. `controls`: whether it holds a
    control character that is neither a tab nor a line's or page's end. `damaged`: the share of its characters that
    stand for lost ones, U+FFFD or UTF-8 read as another encoding. `unassigned`: the share without a meaning in Unicode.
    """
    return {
        "letters": _matches(texts, _LETTERS),
        "controls": _matches(texts, _CONTROLS),
        "damaged": _shares(texts, _DAMAGE_LIKELY, _damaged),
        "unassigned": _shares(texts, _ODD, _unassigned),
    }


def _unassigned(text: str) -> int:
    return sum(unicodedata.category(character) in ("Co", "Cn") for character in text)


def _damaged(text: str) -> int:
    places = _DAMAGE.findall(text)
    return sum(map(len, places)) if len(places) >= MIN_DAMAGES else 0


def _matches(texts: pa.ChunkedArray, pattern: str) -> Values:
    matches: Values = pc.fill_null(pc.match_substring_regex(texts, pattern), False).to_numpy()
    return matches.astype(bool)


def _shares(texts: pa.ChunkedArray, likely: str, count: Callable[[str], int]) -> Values:
    shares = np.zeros(len(texts))
    for place in np.flatnonzero(_matches(texts, likely)):
        text = texts[place].as_py()
        shares[place] = count(text) / len(text)
    return shares
