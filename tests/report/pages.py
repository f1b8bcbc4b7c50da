"""Reads a page of a run as tests want it: its elements, its policy, and what is packed in it."""

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

from tests import hostile

EVIL = "</script><script>window.__pwned = true</script><img src=x onerror='window.__pwned = true'><!-- <script> {{ 7 }}"
"""Markup that runs wherever it is taken for markup."""


class Page(HTMLParser):
    """All elements of a page in order, each with its attributes and its text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}  # by id; those that run are numbered
        self.words: list[str] = []
        self._script: str | None = None
        self.feed(html)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag == "script":
            self._script = attributes.get("id") or str(len(self.scripts))
            self.scripts[self._script] = ""

    def handle_endtag(self, tag: str) -> None:
        self._script = None if tag == "script" else self._script

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.words.append(data)
        else:
            self.scripts[self._script] += data

    def unpack(self, name: str) -> Any:
        """What is packed under a name."""
        return json.loads(gzip.decompress(base64.b64decode(self.scripts[f"packed-{name}"])))

    @property
    def policy(self) -> str:
        """The page's Content-Security-Policy."""
        (found,) = (
            attributes["content"]
            for tag, attributes in self.elements
            if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
        )
        return found or ""

    @property
    def hashes(self) -> set[str]:
        """The digests of the scripts that the page means to run."""
        running = re.findall(r"<script>(.*?)</script>", self.html, re.DOTALL)
        return {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in running}


def hostile_rows() -> list[dict[str, str]]:
    """The hostile corpus, with rows, inputs, columns and values of markup that would run."""
    rows = [*hostile.rows(), *({"instruction": f"{EVIL} {n}", "input": EVIL, "attack": "markup"} for n in range(20))]
    return [
        {**row, "attack": "any", EVIL: EVIL + str(n % 3), "__proto__": f"constructor {n % 2}"}
        for n, row in enumerate(rows)
    ]
