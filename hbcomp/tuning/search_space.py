"""The search space of a study: the keys of a configuration that vary, and their ranges.

A TOML file with one entry for each dotted path, in quotes because of the dots:

    "train.lr" = { low = 1e-3, high = 2e-2, log = true }
    "train.batch_size" = { choices = [64, 128, 256] }
    "train.schedule.kind" = { choices = ["linear", "step"] }
    "train.schedule.every" = { low = 2, high = 8, when = { "train.schedule.kind" = ["step"] } }
    "net" = { choices = [{ widths = [32], strides = [4] }, { widths = [8, 16], strides = [2, 2] }] }

An entry with `when` varies only in trials whose other choices are among the listed ones. The keys
of a table, as in the last line, vary together.
"""

import copy
import graphlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import optuna
import xxhash
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import Field, field_validator, model_validator

from hbcomp.experiment.config import Config
from hbcomp.system.config import Section, Values, read_toml, validate
from hbcomp.system.errors import InputError

Params = Mapping[str, Any]  # as Optuna stores them: numbers and text, JSON for lists and tables

# The keys that say of which kind a section is: `net.name` and `train.schedule.kind`. Kinds have
# keys of their own, so a section whose kind changes starts again from the new kind's defaults.
KIND_KEYS = ("kind", "name")

FIXED = {
    "data": "trials are compared on the same rows",
    "folds": "trials are compared on the same folds",
    "compute": "it says where a net is computed, not which net",
    "report": "it has no influence on the nets",
    "decision": "a study fixes one rule for all its trials",
    "pseudo": "a study draws folds that no source has nets for",
    "refit": "a study trains nothing on everything",
}

Number = int | float
Listed = Annotated[tuple[Any, ...], Field(min_length=1)]


class Entry(Section):
    """The values that one path may take, and the conditions under which it varies."""

    when: dict[str, Listed] = Field(default={})

    @field_validator("when")
    @classmethod
    def _sorted_conditions(cls, when: dict[str, Listed]) -> dict[str, Listed]:
        return {path: tuple(sorted(values, key=as_json)) for path, values in when.items()}

    def leaves(self, path: str) -> set[str]:
        """Return the paths that this entry sets."""
        return {path}

    def decode(self, param: Any) -> Any:
        """Return the configuration's value for a parameter of Optuna's."""
        return param


class Range(Entry):
    """Numbers from `low` to `high`, both included; steps must reach the end."""

    low: Number
    high: Number
    log: bool = False
    step: Number | None

    @model_validator(mode="after")
    def _check(self) -> "Range":
        low, high, step = self.low, self.high, self.step
        if low >= high:
            raise ValueError(f"low must be less than high, but got low = {low}, high = {high}")
        if self.log and low <= 0:
            raise ValueError(f"low must be positive with log = true, but got {low}")
        if self.log and "step" in self.model_fields_set:
            raise ValueError("step and log = true exclude each other")
        # In decimal, as they were written: 0.3 is three times 0.1.
        if step is not None and (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)):
            raise ValueError(
                f"steps of {step} from low = {low} must reach high, but got high = {high}"
            )
        return self


class FloatRange(Range):
    """Real numbers from `low` to `high`."""

    low: float
    high: float
    step: float | None = Field(default=None, gt=0)

    @property
    def distribution(self) -> FloatDistribution:
        """The range as Optuna's distribution."""
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    @property
    def probes(self) -> Sequence[Any]:
        """The values that are tried before the first trial: both ends."""
        return self.low, self.high

    def suggest(self, trial: optuna.trial.BaseTrial, path: str) -> Any:
        """Return the parameter that Optuna suggests for a trial."""
        return trial.suggest_float(path, self.low, self.high, log=self.log, step=self.step)


class IntRange(Range):
    """Whole numbers from `low` to `high`."""

    low: int
    high: int
    step: int = Field(default=1, ge=1)

    @property
    def distribution(self) -> IntDistribution:
        """The range as Optuna's distribution."""
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    @property
    def probes(self) -> Sequence[Any]:
        """The values that are tried before the first trial: both ends and the second.

        The second, because an odd kernel fits at both ends of a range whose step is forgotten.
        """
        return self.low, self.low + self.step, self.high

    def suggest(self, trial: optuna.trial.BaseTrial, path: str) -> Any:
        """Return the parameter that Optuna suggests for a trial."""
        return trial.suggest_int(path, self.low, self.high, log=self.log, step=self.step)


class Choice(Entry):
    """Values without an order; lists are values too, and tables set several keys at once."""

    choices: Annotated[tuple[Any, ...], Field(min_length=2)]

    @field_validator("choices")
    @classmethod
    def _sorted_choices(cls, choices: tuple[Any, ...]) -> tuple[Any, ...]:
        # Sorted: another order in the file is the same space.
        params = [as_param(choice) for choice in choices]
        for position, param in enumerate(params):
            if param in params[:position]:
                raise ValueError(
                    f"choices must differ, but {as_json(choices[position])} is there twice"
                )
        return tuple(sorted(choices, key=_by_size))

    @property
    def params(self) -> list[Any]:
        """The choices as Optuna's parameters."""
        return [as_param(choice) for choice in self.choices]

    @property
    def distribution(self) -> CategoricalDistribution:
        """The choices as Optuna's distribution."""
        return CategoricalDistribution(self.params)

    @property
    def probes(self) -> Sequence[Any]:
        """The values that are tried before the first trial: every choice."""
        return self.choices

    def leaves(self, path: str) -> set[str]:
        """Return the paths that some choice sets."""
        return set().union(*(_leaves(path, choice) for choice in self.choices))

    def decode(self, param: Any) -> Any:
        """Return the choice of this parameter."""
        return self.choices[self.params.index(param)]

    def suggest(self, trial: optuna.trial.BaseTrial, path: str) -> Any:
        """Return the parameter that Optuna suggests for a trial."""
        return trial.suggest_categorical(path, self.params)


AnyEntry = FloatRange | IntRange | Choice


@dataclass(frozen=True)
class Space:
    """A checked search space; `source` is the file it came from."""

    entries: Mapping[str, AnyEntry]
    source: str

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The paths, each after those that its `when` depends on, whatever their order in the file.

        A sampler draws in this order, so it must not depend on how the file is laid out.
        """
        graph = {path: sorted(self.entries[path].when) for path in sorted(self.entries)}
        return tuple(graphlib.TopologicalSorter(graph).static_order())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the entries, the same for any order of entries, keys and choices."""
        content = {
            path: [type(entry).__name__, entry.model_dump(mode="json")]
            for path, entry in self.entries.items()
        }
        return xxhash.xxh3_64_hexdigest(json.dumps(content, sort_keys=True).encode())

    def check(self, base: Config) -> None:
        """Try the ends of every range and every choice on `base`, under each of its conditions.

        What the configuration refuses is one InputError, with the path, the value and the reason.
        """
        problems = [
            f"{path} cannot be tuned: {FIXED[path.split('.')[0]]}"
            for path in self.order
            if path.split(".")[0] in FIXED
        ]
        problems += [
            f"{path} cannot be tuned: trials are compared by the folds that they hold out"
            for path in self.order
            if "train.early_stopping.watch" in self.entries[path].leaves(path)
        ]
        for point, path in self._points():
            try:
                self.apply(base, point)
            except InputError as error:
                others = "".join(
                    f", {key} = {as_json(value)}" for key, value in point.items() if key != path
                )
                problems.append(f"{path} = {as_json(point[path])}{others}: {error}")
        if problems:
            raise InputError.of(self.source, list(dict.fromkeys(problems)))

    def _points(self) -> Iterator[tuple[Values, str]]:
        """Yield every probe of every path as a point with no more than its conditions set."""
        for path in self.order:
            if path.split(".")[0] not in FIXED:
                for context in self._contexts(path):
                    for probe in self.entries[path].probes:
                        yield {**context, path: probe}, path

    def _contexts(self, path: str) -> Iterator[Values]:
        """Yield the choices of others under which a path varies.

        The kind of the section it lies in counts as one of its conditions: it decides which keys
        there are.
        """
        conditions: dict[str, Sequence[Any]] = {
            other: self.entries[other].probes
            for other in self.order
            if _is_kind_of(other, path) and not self.entries[other].when
        }
        conditions |= self.entries[path].when
        for values in itertools.product(*conditions.values()):
            chosen = dict(zip(conditions, values, strict=True))
            for outer in itertools.product(*(self._contexts(other) for other in conditions)):
                context = _joined([*outer, chosen])
                params = {other: as_param(value) for other, value in context.items()}
                if all(self._varies(other, params) for other in context):
                    yield context

    def suggest(self, trial: optuna.trial.BaseTrial) -> Values:
        """Return the suggested value of each path that varies in a trial."""
        params: Values = {}
        for path in self.order:
            if self._varies(path, params):
                params[path] = self.entries[path].suggest(trial, path)
        return self.values_of(params)

    def values_of(self, params: Params) -> Values:
        """Return the configuration's values for Optuna's parameters."""
        return {path: self.entries[path].decode(param) for path, param in params.items()}

    def apply(self, base: Config, values: Mapping[str, Any]) -> Config:
        """Return `base` with each value in its place; one that it refuses is an InputError."""
        tables = base.model_dump(mode="json")
        # Kinds first, because they empty their section, then tables before single keys.
        for path in sorted(values, key=lambda path: (not _is_kind(path), path.count("."))):
            _merge(tables, _nested(path, values[path]))
        return validate(Config, tables, "")

    def base_values(self, base: Config) -> Values | None:
        """Return the base's own values as Optuna's parameters, or None where one lies outside."""
        params = self._own_params(base)
        return params if self.fits(params) else None

    def outside(self, base: Config) -> list[str]:
        """Return the paths at which the base's own value is not one that a trial may take."""
        return [
            path for path, param in self._own_params(base).items() if not self._has({path: param})
        ]

    def _own_params(self, base: Config) -> Values:
        tables = base.model_dump(mode="json")
        params: Values = {}
        for path in self.order:
            if self._varies(path, params):
                params[path] = _own_param(tables, path, self.entries[path])
        return params

    def params_of(self, base: Config, config: Config) -> Params | None:
        """Return the parameters that turn `base` into `config`, or None where there are none."""
        params = self.base_values(config)
        if params is None or self.apply(base, self.values_of(params)) != config:
            return None
        return params

    def fits(self, params: Params) -> bool:
        """Whether these are parameters of exactly the paths that vary with them, all inside."""
        varying = {path for path in self.order if self._varies(path, params)}
        return set(params) == varying and self._has(params)

    def _has(self, params: Params) -> bool:
        try:
            optuna.trial.create_trial(
                value=0.0, params=dict(params), distributions=self.distributions_of(params)
            )
        except ValueError:
            return False
        return True

    def distributions_of(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the distributions that these parameters come from."""
        return {path: self.entries[path].distribution for path in params}

    def _varies(self, path: str, params: Params) -> bool:
        return all(
            other in params and params[other] in [as_param(value) for value in values]
            for other, values in self.entries[path].when.items()
        )


def read_space(path: Path) -> Space:
    """Return the search space in a TOML file; everything wrong with it is one InputError."""
    tables = read_toml(path)
    entries: dict[str, AnyEntry] = {}
    problems = [] if tables else ["a search space needs at least one entry"]
    for key, table in tables.items():
        try:
            entries[key] = _entry(table)
        except InputError as error:
            problems.append(f"{key}: {error}")
    # Entries that depend on one that could not be read would seem wrong, too.
    problems = problems or [*_condition_problems(entries), *_overlaps(entries)]
    if problems:
        raise InputError.of(path, problems)
    return Space(entries, str(path))


def _by_size(choice: Any) -> tuple[bool, float, str]:
    """Return a sort key: numbers come first, by size, and all other values follow by their text."""
    is_number = isinstance(choice, int | float) and not isinstance(choice, bool)
    return not is_number, float(choice) if is_number else 0.0, as_json(choice)


def as_json(value: Any) -> str:
    """Return a value as one line of JSON, the same for any order of its keys."""
    return json.dumps(value, sort_keys=True, default=str)


def as_param(value: Any) -> Any:
    """Return a choice as Optuna can store it: lists and tables as JSON text."""
    return as_json(value) if isinstance(value, list | dict) else value


def _entry(table: Any) -> AnyEntry:
    if not isinstance(table, dict) or not table.keys() & {"low", "high", "choices"}:
        raise InputError(
            f"must be a table with low and high, or with choices, but got {as_json(table)}; "
            "a path with dots is written in quotes"
        )
    if "choices" in table:
        return validate(Choice, table, "")
    is_whole = all(type(table.get(end)) is int for end in ("low", "high"))
    return validate(IntRange, table, "") if is_whole else validate(FloatRange, table, "")


def _condition_problems(entries: Mapping[str, AnyEntry]) -> Iterator[str]:
    for path, entry in entries.items():
        for other, values in entry.when.items():
            condition = entries.get(other)
            if not isinstance(condition, Choice):
                yield f"{path}.when: {other} must be in this space with choices"
                continue
            for value in values:
                if as_param(value) not in condition.params:
                    yield f"{path}.when.{other}: {as_json(value)} is not among its choices"
    try:
        graphlib.TopologicalSorter({path: entries[path].when for path in entries}).prepare()
    except graphlib.CycleError as error:
        yield f"when goes in a circle: {', '.join(error.args[1])}"


def _overlaps(entries: Mapping[str, AnyEntry]) -> Iterator[str]:
    for (path, entry), (other, another) in itertools.combinations(entries.items(), 2):
        pairs = itertools.product(entry.leaves(path), another.leaves(other))
        if shared := {max(pair, key=len) for pair in pairs if _is_inside(*sorted(pair, key=len))}:
            yield f"{path} and {other} both set {', '.join(sorted(shared))}"


def _is_inside(section: str, path: str) -> bool:
    return f"{path}.".startswith(f"{section}.")


def _is_kind(path: str) -> bool:
    return path.rpartition(".")[2] in KIND_KEYS


def _is_kind_of(other: str, path: str) -> bool:
    """Whether `other` decides which keys there are where `path` lies."""
    section = other.rpartition(".")[0]
    return _is_kind(other) and not _is_kind(path) and _is_inside(section, path)


def _joined(contexts: Sequence[Mapping[str, Any]]) -> Values:
    return {path: value for context in contexts for path, value in context.items()}


def _leaves(path: str, value: Any) -> dict[str, Any]:
    """Return the dotted paths in a table with their values; any other value is its own path's."""
    if not isinstance(value, dict):
        return {path: value}
    return _joined([_leaves(f"{path}.{key}", inner) for key, inner in value.items()])


def _nested(path: str, value: Any) -> Values:
    for key in reversed(path.split(".")):
        value = {key: value}
    nested: Values = value
    return nested


def _merge(section: Values, keys: Mapping[str, Any]) -> None:
    """Put the keys of a table, and of the tables in it, into a section."""
    if any(key in keys and keys[key] != section.get(key) for key in KIND_KEYS):
        section.clear()
    for key, value in keys.items():
        if isinstance(value, dict) and isinstance(section.get(key), dict):
            _merge(section[key], value)
        else:
            section[key] = copy.deepcopy(value)  # a later merge must not reach into the space


def _own_param(tables: Values, path: str, entry: AnyEntry) -> Any:
    """Return the value at a path of a configuration's tables as a parameter, or None."""
    held = _leaves("", tables)
    if isinstance(entry, Choice):
        fitting = (
            choice
            for choice in entry.choices
            if _leaves(f".{path}", choice).items() <= held.items()
        )
        return next(map(as_param, fitting), None)
    return held.get(f".{path}")
