"""Where a model's answers come from: the model itself, or files of what it has answered."""

from dataclasses import dataclass
from typing import Final

from selectllm.paths import redact_url

PROVIDERS: Final = ("ollama:", "openai:", "embedded:", "scripted:")


@dataclass(frozen=True)
class Source:
    """A model by its name in results: a `selector` to be asked, or `files` of answers, each of one seed or more."""

    name: str
    selector: str | None = None
    files: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The source in one line."""
        places = self.selector or ", ".join(redact_url(file).rpartition("/")[2] for file in self.files)
        return f"{self.name}: {places}"


def parse_source(text: str) -> Source:
    """What NAME=SELECTOR or NAME=FILE means; raises ValueError where it is neither."""
    name, equals, place = (part.strip() for part in text.partition("="))
    if not (equals and name and place):
        raise ValueError(f"--model cannot be {text!r}: write NAME=SELECTOR or NAME=FILE")
    if place == "embedded" or place.startswith(PROVIDERS):
        return Source(name, selector=place)
    return Source(name, files=(place,))
