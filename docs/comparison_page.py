"""Writes the tables of docs/comparison.md from the folders that `selectllm compare --out` has filled.

    python docs/comparison_page.py alpaca=FOLDER planted=FOLDER

Each folder becomes a part of the page, behind the mark: its text, under the title of its pool, and its pictures. What
stands before the mark is written by hand, since only people can say what follows from the tables.
"""

import re
import sys
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent

PAGE: Final = DOCS / "comparison.md"

MARK: Final = "<!-- Behind this line: written by docs/comparison_page.py. -->"

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
    """Write what stands behind the mark anew."""
    parts = dict(argument.split("=", 1) for argument in sys.argv[1:])
    by_hand = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    texts = [part(name, Path(folder)) for name, folder in parts.items()]
    PAGE.write_text("\n\n".join([f"{by_hand}{MARK}", *texts]).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
