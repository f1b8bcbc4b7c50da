"""The JSON schemas of files of settings, for editors: `python -m selectllm.cli.schema` writes them anew."""

import json
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from selectllm.cli.config import SCHEMA_KEY
from selectllm.settings import RunSettings

SCHEMA: Final = Path(__file__).resolve().with_name("run.schema.json")
COMPARISON_SCHEMA: Final = SCHEMA.with_name("comparison.schema.json")


def run_schema() -> dict[str, Any]:
    """The schema of a file for `--config`: any part of the settings, since options may give the rest."""
    about = {"title": "Settings of a run of SelectLLM", "description": "A file for `selectllm select --config`."}
    return _schema(RunSettings) | about


def comparison_schema() -> dict[str, Any]:
    """The schema of a file for `compare --config`."""
    from selectllm.comparison.settings import ComparisonSettings

    about = {
        "title": "Settings of a comparison by SelectLLM",
        "description": "A file for `selectllm compare --config`.",
    }
    return _schema(ComparisonSettings) | about


def _schema(settings: type[BaseModel]) -> dict[str, Any]:
    schema = settings.model_json_schema()
    for name, group in ((settings.__name__, schema), *schema["$defs"].items()):
        group.pop("required", None)
        for field, info in _model(settings, name).model_fields.items():
            group["properties"][field] = _with_null(group["properties"][field], info)
    schema["properties"][SCHEMA_KEY] = {"type": "string", "description": "Where the schema is, for editors."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _model(settings: type[BaseModel], name: str) -> type[BaseModel]:
    """A group of the settings by its name in the schema."""
    groups = [info.annotation for info in settings.model_fields.values()]
    models = {model.__name__: model for model in (settings, *groups) if isinstance(model, type)}
    model = models[name]
    assert issubclass(model, BaseModel)
    return model


def _with_null(field: dict[str, Any], info: FieldInfo) -> dict[str, Any]:
    """A field that may also be null: a group that is empty, or a setting that is left open."""
    is_group = "$ref" in field
    if not is_group and NoneType not in get_args(info.annotation):
        return field
    about: dict[str, Any] = {name: field.pop(name) for name in ("title", "description") if name in field}
    return about | {"anyOf": [field, {"type": "null"}]}


def schema_texts() -> dict[Path, str]:
    """The schemas as their files hold them."""
    schemas = {SCHEMA: run_schema(), COMPARISON_SCHEMA: comparison_schema()}
    return {file: json.dumps(schema, indent=1, ensure_ascii=False) + "\n" for file, schema in schemas.items()}


if __name__ == "__main__":
    for file, text in schema_texts().items():
        file.write_text(text, encoding="utf-8")
