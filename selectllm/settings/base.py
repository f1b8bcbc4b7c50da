"""What all settings have in common: they cannot be changed, and are options, a form and a schema."""

from typing import Any

from cyclopts import Parameter
from pydantic import BaseModel, ConfigDict


def flag(name: str) -> Parameter:
    """The name of a field on the command line, where it is not the field's own name."""
    return Parameter(name=f"--{name}")


def prefect_form_schema(schema: dict[str, Any]) -> None:
    """Make what may be left open a plain field: a form sends none that is empty, and Prefect takes null for it, too."""
    for field in schema.get("properties", {}).values():
        if "description" in field:
            field["description"] = " ".join(field["description"].split())  # on one line, as a form shows it
        match field:
            case {"anyOf": [schema_of_value, {"type": "null"}]}:
                del field["anyOf"], field["default"]
                field.update(schema_of_value)
            case {"$ref": _}:
                field.pop("default", None)  # the group's fields have their own; this one would send null for open ones


class Settings(BaseModel):
    """A part of a run's settings: cannot be changed, and knows no field but its own."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,  # the text under a field is its description: in `--help`, and in the UI's form
        json_schema_extra=prefect_form_schema,
    )
