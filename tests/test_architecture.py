"""The law of the house: rooms on floors, imports point downwards, and light commands stay light."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import hbcomp
from hbcomp.__main__ import commands as declared

PACKAGE = Path(hbcomp.__file__).parent

# The rooms, top down: imports point downwards, or sideways on a floor. A file directly in hbcomp/
# is a command, which stands above all of them.
FLOORS = (
    {"api"},
    {"analysis", "tracking", "verification"},
    {"blending", "tuning"},
    {"crossval", "serving"},
    {"experiment"},
    {"submissions"},
    {"competitions", "training", "reporting"},
    {"data", "nets", "features", "scoring"},
    {"system"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(reversed(FLOORS)) for room in rooms}
COMMAND_FLOOR = len(FLOORS)
IS_NO_COMMAND = {"__init__", "__main__"}

FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    """Return the folder in hbcomp/ that a file lies in, or None for a command."""
    return path.relative_to(PACKAGE).parts[0] if path.parent != PACKAGE else None


@cache  # the tests ask for each file again and again
def nodes_of(path):
    """Return the syntax tree of a file as a list."""
    return [*ast.walk(ast.parse(path.read_text()))]


def imported(path):
    """Yield every module that a file imports, wherever in the file."""
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path):
    """Return the rooms and commands of hbcomp that a file imports."""
    parts = [name.split(".") for name in imported(path) if name.startswith("hbcomp.")]
    is_there = {*FLOOR_OF, *commands()}
    return {names[1] for names in parts} & is_there


def commands():
    return {path.stem for path in PACKAGE.glob("*.py")} - IS_NO_COMMAND


def test_a_file_on_the_top_floor_is_a_command_and_nothing_else_is():
    assert commands() == {each.name for each in declared()}


def test_every_folder_is_a_room_on_a_floor():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_never_point_upwards(path):
    if path.stem in IS_NO_COMMAND:
        return
    own = FLOOR_OF.get(room_of(path), COMMAND_FLOOR)
    above = {
        name
        for name in rooms_imported(path) - {path.stem}
        if FLOOR_OF.get(name, COMMAND_FLOOR) > own or name in commands()
    }
    assert not above


def test_scoring_imports_neither_torch_nor_pandas():
    for path in FILES:
        if room_of(path) == "scoring":
            roots = {module.split(".")[0] for module in imported(path)}
            assert not roots & {"torch", "pandas", "sklearn"}, path
            assert rooms_imported(path) <= {"scoring", "system"}, path


def test_nets_import_no_other_room_but_system():
    for path in FILES:
        if room_of(path) == "nets":
            assert rooms_imported(path) <= {"nets", "system"}, path


def test_training_touches_no_files():
    for path in FILES:
        if room_of(path) == "training":
            assert rooms_imported(path) <= {"training", "nets", "features", "system"}, path
            assert not {"pathlib", "io", "os.path", "hbcomp.system.files"} & {*imported(path)}, path


def test_nothing_loads_pickles_or_runs_text():
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    for path in FILES:
        assert not forbidden & {module.split(".")[0] for module in imported(path)}, path
        called = {
            node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            for node in nodes_of(path)
            if isinstance(node, ast.Call)
        }
        assert not called & {"eval", "exec", "system", "popen"} - ({"eval"} & _eval_mode(path)), (
            path
        )


def _eval_mode(path):
    # net.eval() switches a net's mode; the builtin takes an argument.
    calls = [node for node in nodes_of(path) if isinstance(node, ast.Call)]
    builtin = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "eval"]
    return set() if builtin else {"eval"}


def test_help_and_light_commands_import_neither_torch_nor_sklearn_nor_pandas():
    code = (
        "import sys, hbcomp.__main__;"
        "print([name for name in ('torch', 'sklearn', 'pandas', 'optuna', 'matplotlib') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
