"""Writes docs/comparison.md from the folders that `selectllm compare --out` has filled.

    python docs/comparison_page.py alpaca=FOLDER planted=FOLDER

Each folder becomes a part of the page: its text, under the title of its pool, and its pictures.
"""

import re
import sys
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent

INTRODUCTION: Final = (DOCS / "comparison_introduction.md").read_text(encoding="utf-8")
"""What was compared, by which commands, and what follows; written by hand, since only people can say that."""

TITLES: Final = {
    "alpaca": "3,000 rows of Alpaca",
    "planted": "500 demanding rows among 3,000 of Alpaca",
}


def part(name: str, folder: Path) -> str:
    """The text of one comparison, with its headings one level lower and its pictures in docs/images."""
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    for picture in folder.glob("*.svg"):
        own = f"comparison-{name}-{picture.name}"
        (DOCS / "images" / own).write_bytes(picture.read_bytes())
        text = text.replace(f"({picture.name})", f"(images/{own})")
    lines = text.split("\n")[1:]
    return "\n".join([f"## {TITLES[name]}", *(re.sub("^## ", "### ", line) for line in lines)])


def main() -> None:
    """Write the page."""
    parts = dict(argument.split("=", 1) for argument in sys.argv[1:])
    texts = [part(name, Path(folder)) for name, folder in parts.items()]
    (DOCS / "comparison.md").write_text(
        "\n".join([INTRODUCTION.rstrip(), "", *texts]).rstrip() + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
