"""The JSON schema of a file of settings, for editors: `python -m selectllm.cli.schema` writes it anew."""

import json
from pathlib import Path
from types import NoneType
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from selectllm.settings import RunSettings

SCHEMA: Final = Path(__file__).resolve().with_name("run.schema.json")


def run_schema() -> dict[str, Any]:
    """The schema of a file for `--config`: any part of the settings, since options may give the rest."""
    schema = RunSettings.model_json_schema()
    for name, group in (("RunSettings", schema), *schema["$defs"].items()):
        group.pop("required", None)
        for field, info in _model(name).model_fields.items():
            group["properties"][field] = _with_null(group["properties"][field], info)
    about = {"title": "Settings of a run of SelectLLM", "description": "A file for `selectllm select --config`."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **about}


def _model(name: str) -> type[BaseModel]:
    """A group of the settings by its name in the schema."""
    groups = [info.annotation for info in RunSettings.model_fields.values()]
    models = {model.__name__: model for model in (RunSettings, *groups) if isinstance(model, type)}
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


def schema_text() -> str:
    """The schema as its file holds it."""
    return json.dumps(run_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
