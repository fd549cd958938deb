"""Configuration: TOML files and `--set key=value` into frozen, strict models.

The models themselves live beside what they configure; this module knows none of them.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from hbcomp.errors import InputError

Values = dict[str, Any]


class Section(BaseModel):
    """A frozen part of a configuration that refuses unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> Values:
    """Return the tables of a TOML file; a missing or malformed one is an InputError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a TOML file must be UTF-8 text, but {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error


def to_toml(model: BaseModel) -> str:
    """Return the model as TOML text; keys that are None are left out, as TOML has no null."""
    return tomli_w.dumps(model.model_dump(mode="json", exclude_none=True))


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> Values:
    """Return a copy of `values` with each `dotted.key=value` put in its place.

    The right side is read as a TOML value; a bare word is a string. Whether the key exists and
    the value fits is for the model to say.
    """
    changed: Values = json.loads(json.dumps(values))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise InputError(f"--set must look like section.key=value, but got {assignment!r}")
        table = changed
        for name in names[:-1]:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise InputError(f"--set {assignment}: {name!r} is a value, not a section")
        table[names[-1]] = _parse_value(text.strip())
    return changed


def _parse_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def validate(model: type[Model], values: Mapping[str, Any], source: object) -> Model:
    """Return `values` as a `model`, or raise one InputError naming every wrong key of `source`."""
    try:
        # Through JSON, because strict mode then takes arrays for tuples and text for paths,
        # which is all that TOML can say, and still refuses "3" for 3.
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        problems = [_describe(model, detail) for detail in error.errors()]
        raise InputError.of(source, problems) from error


def _describe(model: type[BaseModel], detail: ErrorDetails) -> str:
    path = [str(part) for part in detail["loc"]]
    key = ".".join(path)
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(path[-1], _sibling_names(model, path), n=1)
        hint = f", did you mean {'.'.join([*path[:-1], close[0]])}?" if close else ""
        return f"unknown key {key}{hint}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error" or detail["type"] == "missing":
        return f"{key}: {message}" if key else message
    return f"{key}: {message}, but got {detail['input']!r}"


def _sibling_names(model: type[BaseModel], path: list[str]) -> list[str]:
    for name in path[:-1]:
        field = model.model_fields.get(name)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
