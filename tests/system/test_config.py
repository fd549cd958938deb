from datetime import date
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import Field

from hbcomp.system.config import Section, as_assignments, override, read_toml, to_toml, validate
from hbcomp.system.errors import MAX_SHOWN, InputError


class Inner(Section):
    width: int = Field(default=3, ge=1)
    names: tuple[str, ...] = ()
    file: Path | None = None


class Round(Section):
    kind: Literal["round"] = "round"
    radius: float = 1.0


class Square(Section):
    kind: Literal["square"] = "square"
    side: float = 1.0


class Outer(Section):
    shape: Round | Square = Field(default=Round(), discriminator="kind")
    inner: Inner = Inner()
    rate: float = 0.5


def test_toml_survives_the_model():
    model = Outer(inner=Inner(width=5, names=("a", "b"), file=Path("x/y.csv")), rate=1e-4)
    import tomllib

    assert validate(Outer, tomllib.loads(to_toml(model)), "here") == model


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("inner.width=7", Outer(inner=Inner(width=7))),
        ("rate = 2", Outer(rate=2.0)),
        ('inner.names=["a", "b"]', Outer(inner=Inner(names=("a", "b")))),
        ("inner.file=some/where.csv", Outer(inner=Inner(file=Path("some/where.csv")))),
        ('inner.file="7"', Outer(inner=Inner(file=Path("7")))),
    ],
)
def test_set_puts_a_toml_value_or_a_bare_word_in_its_place(assignment, expected):
    assert validate(Outer, override({}, [assignment]), "here") == expected


def test_set_leaves_the_values_it_was_given_alone():
    values = {"inner": {"width": 3}}
    override(values, ["inner.width=9"])
    assert values == {"inner": {"width": 3}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"widht": 3}}, "here: unknown key inner.widht, did you mean inner.width?"),
        ({"nonsense": 1}, "here: unknown key nonsense (there are: shape, inner, rate)"),
        ({"width": 3}, "here: unknown key width, did you mean inner.width?"),
        ({"inner": {"sied": 3}}, "unknown key inner.sied, did you mean shape.side?"),
        (
            {"shape": {"kind": "sqare"}},
            "shape.kind must be one of 'round', 'square', but got 'sqare', did you mean square?",
        ),
        ({"inner": {"width": "3"}}, "inner.width: Input should be a valid integer, but got '3'"),
        ({"inner": {"width": 0}}, "inner.width: Input should be greater than or equal to 1"),
        ({"rate": True}, "rate: Input should be a valid number, but got True"),
        (
            {"shape": {"kind": "square", "sdie": 1}},
            "here: unknown key shape.sdie, did you mean shape.side?",
        ),
        ({"shape": {"kind": "round", "radius": "x"}}, "shape.radius: Input should be a valid"),
        ({"inner": 3}, "inner: Input should be an object"),
    ],
)
def test_a_wrong_value_names_its_dotted_key(values, message):
    with pytest.raises(InputError) as error:
        validate(Outer, values, "here")
    assert message in str(error.value)


def test_all_wrong_keys_are_named_at_once():
    with pytest.raises(InputError, match=r"inner\.width.*; rate"):
        validate(Outer, {"inner": {"width": 0}, "rate": "x"}, "here")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1))
@example("1#beats.csv")
@example("true")
@example('"3"')
@example("back\\slash")
@settings(max_examples=50, deadline=None)
def test_a_path_is_set_as_it_is_whatever_toml_would_read_in_it(name):
    assignments = as_assignments({"inner.file": Path(name), "inner.names": None})
    assert validate(Outer, override({}, assignments), "").inner.file == Path(name)


@pytest.mark.parametrize("assignment", ["width", "=3", "inner..width=3"])
def test_a_malformed_assignment_is_refused(assignment):
    with pytest.raises(InputError, match=r"--set must look like section.key=value, but got"):
        override({}, [assignment])


def test_a_value_is_not_a_section():
    with pytest.raises(InputError, match="'rate' is a value, not a section"):
        override({"rate": 1.0}, ["rate.x=1"])


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a = ", "not valid TOML"), (b"\xff", "must be UTF-8 text"), (None, "No such file")],
)
def test_an_unreadable_file_is_named(tmp_path, content, message):
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"config.toml: .*{message}"):
        read_toml(path)


def test_an_error_shows_the_first_problems_and_counts_the_rest():
    problems = [f"problem {number}" for number in range(MAX_SHOWN + 3)]
    error = InputError.of("file.csv", problems, n_more=10)
    assert str(error) == "file.csv: " + "; ".join(problems[:MAX_SHOWN]) + "; and 13 more"


def test_a_toml_date_is_refused_like_any_wrong_value():
    with pytest.raises(InputError, match="rate: Input should be a valid number"):
        validate(Outer, override({"rate": date(2026, 1, 1)}, []), "here")
