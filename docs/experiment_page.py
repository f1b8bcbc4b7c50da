"""Writes the tables of docs/experiment.md from the folder that benchmarks/experiment.py has filled.

    python docs/experiment_page.py FOLDER

What stands before the mark is written by hand, since only people can say what follows from the tables.
"""

import re
import sys
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent

PAGE: Final = DOCS / "experiment.md"

MARK: Final = "<!-- Behind this line: written by docs/experiment_page.py. -->"

PICTURE: Final = "experiment-differences.svg"


def main() -> None:
    """Write what stands behind the mark anew, and the picture."""
    folder = Path(sys.argv[1])
    (DOCS / "images" / PICTURE).write_bytes((folder / "differences.svg").read_bytes())
    text = (folder / "experiment.md").read_text(encoding="utf-8").replace("(differences.svg)", f"(images/{PICTURE})")
    body = re.sub("^# Experiment$", "## What was run", text, count=1, flags=re.MULTILINE)
    by_hand = PAGE.read_text(encoding="utf-8").split(MARK)[0]
    PAGE.write_text(f"{by_hand}{MARK}\n\n{body}", encoding="utf-8")


if __name__ == "__main__":
    main()
