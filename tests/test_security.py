"""Nothing that hbcomp reads can run as code."""

import ast
from pathlib import Path

import pytest

from hbcomp.config import override, read_json, read_toml
from hbcomp.errors import InputError

ROOT = Path(__file__).parents[1]
MODULES = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load"}
CALLS |= {"joblib.load", "yaml.load"}


def dangers(source: str) -> list[str]:
    """Return what in Python source could run data as code, each with its line."""
    return [
        f"line {node.lineno}: {danger}"
        for node in ast.walk(ast.parse(source))
        if (danger := _danger(node))
    ]


def _danger(node):
    if isinstance(node, ast.Import):
        return ", ".join(a.name for a in node.names if a.name.split(".")[0] in MODULES)
    if isinstance(node, ast.ImportFrom):
        full = {f"{node.module}.{alias.name}" for alias in node.names}
        is_module = (node.module or "").split(".")[0] in MODULES
        return ", ".join(sorted(full)) if is_module or full & CALLS else ""
    if not isinstance(node, ast.Call):
        return ""
    name = ast.unparse(node.func)
    options = {option.arg: ast.unparse(option.value) for option in node.keywords}
    if name in {"np.load", "numpy.load"} and options.get("allow_pickle") != "False":
        return f"{name} without allow_pickle=False"
    if options.get("shell", "False") != "False":
        return f"{name} with shell"
    return name if name in CALLS else ""


@pytest.mark.parametrize("folder", ["hbcomp", "experiments"])
def test_no_code_could_run_what_it_reads(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = {str(file): dangers(file.read_text(encoding="utf-8")) for file in files}
    assert {file: wrong for file, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    "planted",
    [
        *(f"import {module}" for module in sorted(MODULES)),
        *(f"{call}(data)" for call in sorted(CALLS)),
        "from pickle import loads",
        "from os import system",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "subprocess.run(words, shell=True)",
    ],
)
def test_the_scan_finds_what_is_planted(planted):
    assert dangers(f"def f(data):\n    {planted}\n")


@pytest.mark.parametrize(
    "content", ["a = " + "[" * 50_000, "a = " + "{a=" * 9_000, "a = " + "9" * 5_000]
)
def test_toml_too_deep_or_too_long_is_refused(tmp_path, content):
    path = tmp_path / "a.toml"
    path.write_text(content)
    with pytest.raises(InputError, match="not valid TOML"):
        read_toml(path)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a": 1e400}', '{"a": ' + "9" * 5_000 + "}"])
def test_json_too_deep_too_long_or_infinite_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match="not a report"):
        read_json(path, "report", "")


@pytest.mark.parametrize("text", ["[" * 50_000, "9" * 5_000, "1\nb = 2"])
def test_what_is_no_toml_value_is_a_string(text):
    assert override({}, [f"a={text}"]) == {"a": text}
