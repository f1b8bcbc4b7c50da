"""The values of Arrow columns in Python; a value that Python cannot hold is given as a text.

- Dates and times beyond the years 1 to 9999, in an unknown zone, or with nanoseconds: as Arrow writes them, in UTC.
- Dates and times beyond what Arrow writes, and durations beyond what Python counts: the number and its unit, `-5 days`.

Text that is not UTF-8 is given as bytes. An object that has a name twice is given as its pairs, as a map is.
"""

from typing import Any, Final

import pyarrow as pa

_ERRORS: Final = (ValueError, OverflowError, LookupError, pa.ArrowException)
"""What converting raises: a zone that is not known is a KeyError, or another one, by the package that looks for it."""


def python_values(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """The values of a column, each as Python has it, else as text."""
    try:
        if "time64[ns]" not in str(column.type):  # Python would drop the nanoseconds
            return list(column.to_pylist())
    except _ERRORS:
        pass
    return [_value(scalar) for scalar in column]


def with_readable_types(table: pa.Table) -> pa.Table:
    """The table without the types that Arrow cannot take rows of, or cannot read from several row groups.

    `string_view` and `binary_view` columns become strings and bytes, categories within lists and objects their values.
    """
    types = [_readable(field.type) for field in table.schema]
    for place, (field, type_) in enumerate(zip(table.schema, types, strict=True)):
        if type_ != field.type:
            table = table.set_column(place, field.with_type(type_), table.column(place).cast(type_, safe=False))
    return table


def _value(scalar: Any) -> Any:
    type_ = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_dictionary(type_) or isinstance(scalar, pa.ExtensionScalar):
        return _value(scalar.value)
    if pa.types.is_map(type_):
        return [(_value(pair[0]), _value(pair[1])) for pair in scalar.values]
    if pa.types.is_struct(type_):
        pairs = [(type_.field(place).name, _value(scalar[place])) for place in range(type_.num_fields)]
        return dict(pairs) if len(dict(pairs)) == len(pairs) else pairs
    if pa.types.is_nested(type_):
        return [_value(item) for item in scalar.values]
    if pa.types.is_time64(type_) and type_.unit == "ns" and scalar.value % 1000:
        return _time_text(scalar)
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return error.object
    except _ERRORS:
        return _time_text(scalar)


def _time_text(scalar: Any) -> str:
    type_ = scalar.type
    has_zone = pa.types.is_timestamp(type_) and type_.tz is not None
    text = str((scalar.cast(pa.timestamp(type_.unit)) if has_zone else scalar).cast(pa.string()).as_py())
    if text.startswith("<") or pa.types.is_duration(type_):  # "<value out of range: ...>"
        return f"{scalar.value} {'days' if pa.types.is_date32(type_) else getattr(type_, 'unit', 'ms')}"
    return f"{text}Z" if has_zone else text


def _readable(type_: pa.DataType, *, is_within: bool = False) -> pa.DataType:
    """The type without views, however deep within it they are, and without categories that are within another type."""
    if type_ == pa.string_view():
        return pa.string()
    if type_ == pa.binary_view():
        return pa.binary()
    if pa.types.is_dictionary(type_) and is_within:
        return _readable(type_.value_type, is_within=True)
    if "_view" not in str(type_) and "dictionary<" not in str(type_):
        return type_
    if pa.types.is_map(type_):
        return pa.map_(_readable(type_.key_type, is_within=True), _readable(type_.item_type, is_within=True))
    fields = [type_.field(place) for place in range(type_.num_fields)]
    fields = [field.with_type(_readable(field.type, is_within=True)) for field in fields]
    if pa.types.is_struct(type_):
        return pa.struct(fields)
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(fields[0], type_.list_size)
    if pa.types.is_large_list(type_) or pa.types.is_large_list_view(type_):
        return pa.large_list(fields[0])
    is_list = pa.types.is_list(type_) or pa.types.is_list_view(type_)
    return pa.list_(fields[0]) if is_list else type_
