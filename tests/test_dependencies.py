"""What is imported is declared in pyproject.toml, and what is declared is used."""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Modules that are not named as their package is. pydantic pins pydantic-core to one version.
PACKAGE_OF = {
    "sklearn": "scikit-learn",
    "imblearn": "imbalanced-learn",
    "tomli_w": "tomli-w",
    "pydantic_core": "pydantic",
    "optuna_dashboard": "optuna-dashboard",
}
# Packages that are used without an import: where, and by which words.
USED_BY_NAME = {
    "beartype": ("tests/checked_calls.py", "from beartype import beartype"),
    "mypy": (".ci/run", "bin/mypy"),
    "ruff": (".ci/run", "bin/ruff"),
    "pandas-stubs": ("pyproject.toml", "[tool.mypy]"),  # mypy finds them by itself
    "pytest-xdist": ("pyproject.toml", "--numprocesses"),
    **{
        name: ("hbcomp/tracking/trackers.py", f'_needed("{name}"')
        for name in ("tensorboard", "mlflow", "wandb", "trackio")
    },
    "onnx": ("hbcomp/serving/onnx_graph.py", '("onnx", "onnxscript")'),  # by torch
    "onnxscript": ("hbcomp/serving/onnx_graph.py", '("onnx", "onnxscript")'),
    "optuna-dashboard": ("docs/guide.md", "optuna-dashboard sqlite"),
    "psycopg": ("docs/tuning.md", "postgresql+psycopg://"),  # SQLAlchemy imports it by the address
}


def packages(requirements):
    return {re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0].lower() for each in requirements}


@cache  # each file is asked for by several tests
def imported(source):
    return {*imports(source)}


def imports(source):
    """Yield the root of every import in a module's text, lazy and literal dynamic ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "importorskip", "__import__"):
                yield node.args[0].value.split(".")[0]


def outside_packages(source, own):
    return {
        PACKAGE_OF.get(root, root)
        for root in imported(source)
        if root not in sys.stdlib_module_names and root not in own
    }


def allowed(path, source):
    """Return the packages that a file may import; beyond the package's, those of extras it names.

    A test may also use the extras that the tests are declared to need.
    """
    declared = packages(PROJECT["dependencies"])
    if path.is_relative_to(ROOT / "tests"):
        declared |= packages(EXTRAS["test"])
    for name, requirements in EXTRAS.items():
        if re.search(rf"(hbcomp|\.)\[{name}\]|extra `{name}`", source):
            declared |= packages(requirements)
    return declared


def files():
    return [
        path for top in ("hbcomp", "experiments", "tests") for path in (ROOT / top).rglob("*.py")
    ]


@cache
def own_modules():
    """Return what lies beside a file: hbcomp, the tests' helpers, the experiments' scripts."""
    beside = [path for path in files() if not path.is_relative_to(ROOT / "hbcomp")]
    folders = {path.parent.name for path in beside if path.is_relative_to(ROOT / "experiments")}
    return {"hbcomp", *folders, *(path.stem for path in beside)}


def undeclared(path, source):
    return outside_packages(source, own_modules()) - allowed(path, source)


def unused(requirements, sources):
    used = {each for source in sources for each in outside_packages(source, set())}
    return packages(requirements) - used - set(USED_BY_NAME)


def test_every_import_is_of_a_declared_package():
    wrong = {
        str(path.relative_to(ROOT)): missing
        for path in files()
        if (missing := undeclared(path, path.read_text()))
    }
    assert not wrong


def test_every_declared_package_is_used():
    declared = [*PROJECT["dependencies"], *(each for extra in EXTRAS.values() for each in extra)]
    assert not unused(declared, [path.read_text() for path in files()])


def test_what_is_used_without_an_import_is_used_where_it_says():
    for package, (file, words) in USED_BY_NAME.items():
        assert words in (ROOT / file).read_text(), package


@pytest.mark.parametrize(
    ("folder", "source", "missing"),
    [
        ("hbcomp", "import requests", {"requests"}),
        ("hbcomp", "def f():\n    from yaml.nodes import Node", {"yaml"}),
        ("hbcomp", "import pytest", {"pytest"}),
        ("hbcomp", "importlib.import_module('lightgbm.basic')", {"lightgbm"}),
        ("tests", "pytest.importorskip('lightgbm')", {"lightgbm"}),
        ("tests", "pytest.importorskip('lightgbm', reason='the extra `outside`')", set()),
        ("experiments", '"""pip install hbcomp[outside]"""\nimport lightgbm', set()),
        ("experiments", '"""pip install hbcomp[rocket]"""\nimport lightgbm', {"lightgbm"}),
        ("tests", "import commands, hypothesis, sklearn.base, tomllib", set()),
    ],
)
def test_a_planted_import_is_judged_by_where_it_is(folder, source, missing):
    assert undeclared(ROOT / folder / "planted.py", source) == missing


def test_a_planted_dependency_that_nothing_imports_is_found():
    assert unused(["numpy>=2", "requests>=2.30", "mypy"], ["import numpy.linalg"]) == {"requests"}


def test_every_requirement_has_a_lowest_version():
    requirements = [
        *PROJECT["dependencies"],
        *(each for extra in EXTRAS.values() for each in extra),
    ]
    assert not [each for each in requirements if not re.search(r">=\d+(\.\d+)*(,|$)", each)]
