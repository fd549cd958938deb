"""Configuration: TOML files and `--set key=value` become frozen, strict models.

The models are defined beside what they configure.
"""

import copy
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast, get_args

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from hbcomp.system.errors import (
    InputError,
    closest,
    did_you_mean,
    similar_names,
    there_are,
    unreadable,
)

Values = dict[str, Any]
MAX_DEPTH: Final = 50  # assumed: hbcomp's own nest six deep
SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Section(BaseModel):
    """A frozen part of a configuration that refuses unknown keys and wrong types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def unique(name: str) -> AfterValidator:
    """Return a validator that refuses a tuple in which a value occurs twice."""

    def check(values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must be unique, but got {list(values)}")
        return values

    return AfterValidator(check)


def written_as(pattern: str, words: str) -> AfterValidator:
    """Return a validator that refuses text unlike the regular expression, and names its `words`."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(f"must be {words}, but got {text!r}")
        return text

    return AfterValidator(check)


def read_toml(path: Path) -> Values:
    """Return the tables of a TOML file; a missing or malformed one is an InputError."""
    try:
        return cast(Values, _bounded(tomllib.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: a TOML file must be UTF-8 text, but {error}") from error
    except (ValueError, RecursionError) as error:  # also too many digits, too deep a nesting
        raise InputError(f"{path}: not valid TOML: {error}") from error


def to_toml(model: BaseModel) -> str:
    """Return the model as TOML text; keys that are None are left out, as TOML has no null."""
    return tomli_w.dumps(model.model_dump(mode="json", exclude_none=True))


def read_json(path: Path, what: str, hint: str) -> Values:
    """Return the JSON object in a file of the kind `what`; anything else is an InputError.

    If the file is missing, `hint` says how it is made.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = _bounded(json.loads(text, parse_constant=_refuse, parse_float=_finite))
    except FileNotFoundError:
        similar = did_you_mean(similar_names(path.parent))
        raise InputError(f"{path}: no such file{similar}; {hint}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a {what}: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a {what} must be a JSON object")
    return values


def _bounded(values: Any) -> Any:
    """Return parsed values that are safe to walk and print; others are a ValueError."""
    layer = [values]  # layer by layer, because a recursion could be too deep
    for _ in range(MAX_DEPTH):
        if any(isinstance(each, int) and each.bit_length() > 64 for each in layer):
            raise ValueError("integers must fit 64 bits, but there is a larger one")
        if any(isinstance(each, str) and "\0" in each for each in layer):
            raise ValueError("text must not have NUL characters, but there is one")
        if any(isinstance(each, str) and SURROGATE.search(each) for each in layer):
            raise ValueError("text must be Unicode, but there is half a character")
        layer = [child for each in layer for child in _children(each)]
    if layer:
        raise ValueError(f"values must be nested at most {MAX_DEPTH} deep")
    return values


def _children(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return value if isinstance(value, list) else ()


def _refuse(constant: str) -> None:
    raise ValueError(f"numbers must be finite, but there is {constant}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # such as 1e400
        _refuse(text)
    return number


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> Values:
    """Return a copy of `values` with each `dotted.key=value` set.

    The right side is read as a TOML value; a bare word is a string. `validate` checks keys and
    values.
    """
    changed: Values = copy.deepcopy(dict(values))
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
    try:
        return cast(Values, _bounded(changed))
    except ValueError as error:
        raise InputError(f"options: {error}") from error


def as_assignments(values: Mapping[str, Any]) -> list[str]:
    """Return `key=value` for each value that is not None, as `override` reads it."""
    return [f"{key}={_as_toml(value)}" for key, value in values.items() if value is not None]


def _as_toml(value: Any) -> str:
    """Return text, a path or a list of texts as TOML, which escapes them as JSON does, and DEL."""
    return json.dumps(value, default=str, ensure_ascii=False).replace("\x7f", r"\u007f")


def _parse_value(text: str) -> Any:
    try:
        values = _bounded(tomllib.loads(f"value = {text}"))
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text  # a line break would start another key


def validate(
    model: type[Model],
    values: Mapping[str, Any],
    source: object,
    whole: type[BaseModel] | None = None,
) -> Model:
    """Return `values` as a `model`, or raise one InputError that names every wrong key of `source`.

    If `model` is a section, unknown keys are also compared with the keys of the `whole` model.
    """
    try:
        # From JSON, strict mode takes arrays for tuples and text for paths, which TOML does not
        # have, and still refuses "3" for 3.
        return model.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        problems = [_describe(model, whole or model, detail) for detail in error.errors()]
        raise InputError.of(source, problems) from error


def _describe(model: type[BaseModel], whole: type[BaseModel], detail: ErrorDetails) -> str:
    path, siblings = _locate(model, detail["loc"])
    key = ".".join(path)
    context = detail.get("ctx", {})
    if detail["type"] == "extra_forbidden":
        similar = [".".join([*path[:-1], name]) for name in closest(path[-1], siblings)]
        hint = did_you_mean(similar or _elsewhere(whole, path[-1]))
        return f"unknown key {key}{hint or there_are(siblings)}"
    if detail["type"] == "union_tag_invalid":
        tag, known = context["tag"], context["expected_tags"]
        hint = did_you_mean(closest(tag, _quoted(known)))
        key = f"{key}.{_quoted(context['discriminator'])[0]}"
        return f"{key} must be one of {known}, but got {tag!r}{hint}"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error" or detail["type"] == "missing":
        return f"{key}: {message}" if key else message
    hint = ""
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        hint = did_you_mean(closest(detail["input"], _quoted(context["expected"])))
    return f"{key}: {message}, but got {detail['input']!r}{hint}"


def _quoted(text: str) -> list[str]:
    return re.findall("'([^']*)'", text)


def _elsewhere(model: type[BaseModel], name: str) -> list[str]:
    """Return the dotted keys anywhere in the model whose last part is most like `name`."""
    keys = list(dict.fromkeys(_keys(model)))
    found = {*closest(name, [key.rpartition(".")[2] for key in keys])}
    return [key for key in keys if key.rpartition(".")[2] in found]


def _keys(model: type[BaseModel]) -> Iterable[str]:
    for name, field in model.model_fields.items():
        section, kinds = _sections(field.annotation)
        if isinstance(field.default, BaseModel) and section:
            section = type(field.default)  # the kind that a section is unless another is named
        sections = [*kinds.values(), *([section] if section else [])]
        yield from (f"{name}.{key}" for each in sections for key in _keys(each))
        if not sections:
            yield name


def _locate(
    model: type[BaseModel] | None, location: tuple[int | str, ...]
) -> tuple[list[str], list[str]]:
    """Return the keys that a user types for a `location`, and all keys of its section.

    Where a section is one of several kinds, pydantic puts the kind into the location.
    """
    path: list[str] = []
    kinds: dict[str, type[BaseModel]] = {}
    siblings: list[str] = []
    for part in location:
        if part in kinds:
            model, kinds = kinds[str(part)], {}
            continue
        siblings = list(model.model_fields) if model else []
        field = model.model_fields.get(str(part)) if model else None
        model, kinds = _sections(field.annotation if field else None)
        path.append(str(part))
    return path, siblings


def _sections(annotation: Any) -> tuple[type[BaseModel] | None, dict[str, type[BaseModel]]]:
    """Return the section of a key, or its possible sections by their kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, {}
    members = [member for member in get_args(annotation) if isinstance(member, type)]
    sections = [member for member in members if issubclass(member, BaseModel)]
    fields = [(member, member.model_fields.get("kind")) for member in sections]
    return None, {str(kind.default): member for member, kind in fields if kind}
