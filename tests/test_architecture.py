"""The layers of the package: imports point downwards only, and light commands stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import hbcomp

PACKAGE = Path(hbcomp.__file__).parent

# Layer of each module or folder below hbcomp; a longer name wins over its folder.
LAYERS = {
    "errors": 0,
    "files": 0,
    "config": 0,
    "cli": 0,
    "scoring": 0,
    "nets": 0,
    "features": 0,
    "pictures": 0,
    "pages": 0,
    "progress": 0,
    "stopwatch": 0,
    "data": 1,
    "predictions": 1,
    "training": 2,
    "experiment": 3,
    "submissions": 3,
    "arrangement": 4,
    "crossval": 4,
    "inputs": 4,
    "machine": 3,
    "tuning": 4,
    "scorecard": 4,
    "run_report": 4,
    "workflow": 4,
    "refit": 4,
    "overview": 4,
    "application": 4,
    "threshold_study": 4,
    "diff": 4,
    "lb": 4,
    "ledger": 4,
    "submit": 4,
    "compare": 4,
    "compete": 4,
    "plan": 4,
    "comparing": 4,
    "mistakes": 4,
    "inspecting": 4,
    "folds": 4,
    "groups": 4,
    "import_oof": 4,
    "importing": 4,
    "outside": 4,
    "report": 4,
    "benchmarks": 4,
    "blending": 4,
    "bench": 4,
    "blend": 4,
    "cv": 4,
    "tune": 4,
    "eda": 4,
    "predict": 4,
    "score": 4,
    "verify": 4,
    "integrity": 4,
    "check": 4,
    "thresholds": 4,
    "__main__": 5,
}
TOUCH_THE_DISK = {
    "experiment",
    "predictions",
    "submissions",
    "ledger",
    "data",
    "files",
    "config",
    "pages",
}


def module_names():
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE).with_suffix("")
        if relative.name != "__init__":
            yield path, ".".join(relative.parts)


def room_of(name):
    return name.split(".")[0]


def imported(path):
    """Yield every module that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path):
    rooms = {
        room_of(name.removeprefix("hbcomp."))
        for name in imported(path)
        if name.startswith("hbcomp.")
    }
    return rooms & set(LAYERS)


def test_every_module_has_a_layer():
    assert {room_of(name) for _, name in module_names()} == set(LAYERS)


def test_imports_never_point_upwards():
    wrong = [
        f"{name} (layer {LAYERS[room_of(name)]}) imports {room} (layer {LAYERS[room]})"
        for path, name in module_names()
        for room in own_imports(path)
        if LAYERS[room] > LAYERS[room_of(name)]
    ]
    assert not wrong


def test_scoring_knows_neither_torch_nor_the_nets():
    for path, name in module_names():
        if room_of(name) == "scoring":
            roots = {module.split(".")[0] for module in imported(path)}
            assert not roots & {"torch", "pandas", "sklearn"}, name
            assert own_imports(path) <= {"scoring", "config", "errors"}, name


def test_nets_know_neither_scoring_nor_the_disk():
    for path, name in module_names():
        if room_of(name) == "nets":
            assert own_imports(path) <= {"nets", "config", "errors"}, name


def test_training_touches_no_files():
    for path, name in module_names():
        if room_of(name) == "training":
            assert not own_imports(path) & {*TOUCH_THE_DISK - {"config"}}, name
            assert not {"pathlib", "io", "os.path"} & set(imported(path)), name


def test_no_command_imports_another():
    commands = {
        *("cv", "tune", "eda", "predict", "score", "check", "thresholds", "bench"),
        *("diff", "submit", "lb", "ledger", "verify"),
        *("blend", "compare", "compete", "mistakes", "report", "folds"),
        *("groups", "import_oof"),
    }
    for path, name in module_names():
        if name != "__main__":
            assert not own_imports(path) & (commands - {name}), name


def test_nothing_loads_pickles_or_runs_text():
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}
    for path, name in module_names():
        assert not forbidden & {module.split(".")[0] for module in imported(path)}, name
        called = {
            node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
        }
        assert not called & {"eval", "exec", "system", "popen"} - ({"eval"} & _eval_mode(path)), (
            name
        )


def _eval_mode(path):
    # net.eval() switches a net's mode; the builtin takes an argument.
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
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
