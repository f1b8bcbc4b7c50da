"""The Modelfile by which Ollama makes a model of an exported one: `ollama create NAME -f Modelfile`."""

from typing import Any, Final

_START: Final = "<|im_start|>user\nquestion<|im_end|>\n<|im_start|>assistant\n"
"""What a chat template of the form ChatML makes of a question."""

_SYSTEM: Final = "<|im_start|>system\n"

CHATML: Final = '''TEMPLATE """{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
PARAMETER stop "<|im_end|>"
'''
"""The same in the language of Ollama's templates. Source: docs/template.md and docs/modelfile.md of Ollama."""


def modelfile(weights: str, tokenizer: Any) -> str:
    """The text of a Modelfile for weights beside it.

    For a chat template of another form than ChatML it names none: Ollama then takes what it knows of the weights' own.
    """
    question = [{"role": "user", "content": "question"}]
    rendered: str = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
    lines = f"FROM ./{weights}\n"
    if not rendered.endswith(_START):
        return lines
    before = rendered.removesuffix(_START).removesuffix("<|im_end|>\n")
    system = before.removeprefix(_SYSTEM) if before.startswith(_SYSTEM) else ""
    return lines + CHATML + (f'SYSTEM """{system}"""\n' if system else "")
