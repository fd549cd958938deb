"""Nothing that hbcomp reads can run as code."""

import ast
import struct
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path, PurePath

import matplotlib.pyplot as plt
import pytest
from commands import run_hbcomp
from torch import nn

from hbcomp import eda
from hbcomp.data.tables import read_rows
from hbcomp.experiment import MAX_NAME, RESERVED, manifest
from hbcomp.experiment import ROOT as EXPERIMENTS
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import (
    RunFolder,
    find_run,
    locked,
)
from hbcomp.experiment.resume import read_run
from hbcomp.experiment.stored_folds import load_weights
from hbcomp.reporting import pages
from hbcomp.reporting.links import COMPARISONS
from hbcomp.submissions import ledger
from hbcomp.submissions.files import read_submission
from hbcomp.submissions.ledger import COLUMNS, read_ledger
from hbcomp.system.command import console, escape_control_chars
from hbcomp.system.config import override, read_json, read_toml, validate
from hbcomp.system.errors import InputError

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


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a": 1e400}', '{"a": ' + "9" * 5_000 + "}", '{"a": "\\ud800"}'],
)
def test_json_too_deep_too_long_infinite_or_with_half_a_character_is_refused(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match="not a report"):
        read_json(path, "report", "")


@pytest.mark.parametrize("text", ["[" * 50_000, "9" * 5_000, "1\nb = 2"])
def test_what_is_no_toml_value_is_a_string(text):
    assert override({}, [f"a={text}"]) == {"a": text}


@pytest.mark.parametrize("text", ["a = 0x" + "f" * 9_000, "a." * 900 + "a = 1", 'a = "\\u0000"'])
def test_toml_that_nobody_could_print_walk_or_open_is_refused(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="not valid TOML"):
        read_toml(path)


def test_a_setting_too_deep_is_refused():
    with pytest.raises(InputError, match="nested at most"):
        override({}, ["a." * 900 + "a=1"])


@pytest.mark.parametrize("name", ["[]", "{}", "1"])
@pytest.mark.parametrize("section", ["net", "features"])
def test_a_name_that_is_no_text_is_refused(tmp_path, section, name):
    path = tmp_path / "a.toml"
    path.write_text(f"[{section}]\nname = {name}\n")
    with pytest.raises(InputError, match=f"{section}"):
        validate(Config, read_toml(path), path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff", "must be UTF-8"),
        (b"a = " + b"[" * 50_000, "not valid TOML"),
        (b"hbcomp = 1", "identity"),
        (b"identity = 1", "identity"),
        (b'[identity]\n"folds of seed x" = "a"', "a seed must be a number"),
    ],
)
def test_a_damaged_run_toml_is_refused(tmp_path, content, message):
    (tmp_path / "run.toml").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_run(RunFolder(tmp_path))


def test_a_cell_with_a_nul_or_without_end_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,fold\n1\0,0\n")
    with pytest.raises(InputError, match="NUL"):
        read_rows(path)
    path.write_bytes(b"id,fold\n" + b"1" * 10**6 + b",0\n")
    with pytest.raises(InputError, match="line 2: not valid CSV: field larger"):
        read_rows(path)


def test_a_submission_with_a_nul_is_refused_and_a_carriage_return_kept(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,label_0,label_1\n\0,0,1\n")
    with pytest.raises(InputError, match="NUL"):
        read_submission(path)
    path.write_bytes(b'id,label_0,label_1\n"a\r\nb",0,1\n')
    assert read_submission(path).ids.tolist() == ["a\r\nb"]


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("written", "0001-01-01T00:00:00+14:00"),
        ("n_rows", "9" * 400),
        ("expected", "1e300"),
    ],
)
def test_a_ledger_with_numbers_beyond_arithmetic_is_refused(tmp_path, name, cell):
    cells = {"sha256": "a" * 64, "file": "a", "written": "2026-01-01T00:00:00Z", "source": "a"}
    scores = {"standard_error": "1", "n_scored": "9", "out_of_fold": "1"}
    row = cells | scores | {"expected": "1", "low": "0", "high": "2", name: cell}
    lines = [",".join(COLUMNS), ",".join(row.get(column, "") for column in COLUMNS)]
    (tmp_path / "ledger.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=name):
        read_ledger(tmp_path)


@pytest.mark.parametrize(
    "content",
    [struct.pack("<Q", 2**62), struct.pack("<Q", 9) + b"{" * 9, b"\x80\x04cos\nsystem\n", b""],
)
def test_weights_that_are_none_are_refused(tmp_path, content):
    path = tmp_path / "folds" / "0-0" / "model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    manifest.write_manifest(path.parent, [path.name])
    with pytest.raises(InputError, match="not the weights"):
        load_weights(RunFolder(tmp_path), 0, 0, nn.Linear(1, 1))


OUTSIDE = ["../x", "/etc/x", "a/../../b", "..", ".", "a/b", "a\\b", "a\0b", "", "n" * 5_000, "-x"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_cannot_leave_the_experiments(name):
    with pytest.raises(InputError, match="an experiment's name must be"):
        find_run(name)


@pytest.mark.parametrize("name", [*RESERVED, "Ledger", "experiments/eda/"])
def test_a_name_that_another_command_writes_to_is_refused_wherever_one_is_given(name):
    with pytest.raises(InputError, match=r"an experiment cannot be named .*; choose another name"):
        find_run(name)


def test_every_place_that_a_command_writes_to_beside_the_experiments_is_reserved():
    pages = [eda.FOLDER, EXPERIMENTS / COMPARISONS, EXPERIMENTS / "report.html"]
    assert {path.parent for path in pages} == {EXPERIMENTS}
    assert set(RESERVED) == {*(path.name for path in pages), Path(ledger.NAME).stem}


def test_a_file_in_the_place_of_an_experiment_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    EXPERIMENTS.mkdir()
    (EXPERIMENTS / "notes.md").touch()
    with pytest.raises(InputError, match=r"experiments/notes.md is a file"):
        find_run("notes.md")


@pytest.mark.parametrize(
    "words",
    [
        ["cv", "quickstart", "--name", "ledger"],
        ["import-oof", "ledger", "--oof", "o.csv", "--like", "quickstart"],
        ["blend", "a", "b", "--name", "ledger"],
        ["compete", "ledger"],
    ],
    ids=" ".join,
)
def test_a_name_that_cannot_be_submitted_is_refused_before_anything_is_written(tmp_path, words):
    done = run_hbcomp(words, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: an experiment cannot be named ledger: ")
    assert list(tmp_path.iterdir()) == []


def test_a_name_too_long_for_its_winner_is_refused_before_the_search(tmp_path):
    name = "n" * (MAX_NAME - 1)
    folder = tmp_path / "experiments" / name
    folder.mkdir(parents=True)
    (folder / "config.toml").touch()
    (folder / "space.toml").write_text('"train.lr" = { low = 1e-3, high = 1e-2 }')
    done = run_hbcomp(["tune", name], tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: an experiment's name must be")


COMMANDS = [
    *(["cv", "NAME"], ["cv", "quickstart", "--name", "NAME"], ["tune", "NAME"]),
    *(["blend", "NAME", "a", "--name", "b"], ["blend", "a", "b", "--name", "NAME"]),
    *(["folds", "NAME", "--out", "f.csv"], ["thresholds", "NAME"], ["compare", "NAME", "a"]),
    *(["predict", "NAME", "--data", "x.csv"], ["verify", "NAME"]),
    *(["mistakes", "NAME"], ["mistakes", "a", "NAME"]),
    *(["import-oof", "NAME", "--oof", "o.csv", "--like", "a"],),
    *(["import-oof", "b", "--oof", "o.csv", "--like", "NAME"],),
    ["cv", "quickstart", "--name", "b", "--set", 'pseudo.runs=["NAME"]'],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_takes_a_name_outside_of_the_experiments(tmp_path, words):
    here = tmp_path / "here"
    here.mkdir()
    done = run_hbcomp([word.replace("NAME", "../../evil") for word in words], here)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


@pytest.mark.parametrize(
    "words",
    [
        ["eda", "NAME"],
        ["cv", "--train", "a.csv", "--test", "NAME"],
        ["predict", "a", "--data", "NAME"],
        ["predict", "a", "--base-model", "b=NAME"],
        ["import-oof", "b", "--oof", "NAME", "--like", "a"],
        ["cv", "--set", "data.train=NAME"],
    ],
    ids=" ".join,
)
def test_a_file_name_in_another_encoding_is_refused_by_its_name(tmp_path, words):
    name = "\udcc1\udcb7.csv"  # as Python reads the bytes C1 B7, a character in GBK
    done = run_hbcomp([word.replace("NAME", name) for word in words], tmp_path)
    assert done.returncode == 2
    assert "\\udcc1\\udcb7.csv: file names must be UTF-8 text" in done.stderr


def test_no_control_character_of_a_file_reaches_the_terminal(tmp_path):
    hostile = "\x1b[2J\x9b1m\u202etxt"
    (tmp_path / "a.csv").write_text(f"id,{hostile}\n", encoding="utf-8")
    done = run_hbcomp(["check", "a.csv"], tmp_path)
    assert done.returncode == 2
    assert "\\x1b[2J\\x9b1m\\u202etxt" in done.stderr
    assert not {"\x1b", "\x9b", "\u202e"} & set(done.stderr)


@pytest.mark.parametrize(
    "mark", ["\u200b", "\u00a0", "\ufeff", "\u2060", "\u00ad", "\u3000", "\ufe0f"]
)
def test_what_looks_like_another_text_is_shown_with_its_invisible_mark(mark):
    assert escape_control_chars(f"id{mark},label_0") == f"id{ascii(mark)[1:-1]},label_0"


def test_tables_show_control_characters_as_escapes(capsys):
    table = pages.Table("\x1b]0;t\x07", ["\x1b[1m"], [["a\x9b\u2066b"]])
    pages.print_table(table, type(console)(stderr=True, width=160))
    type(console)(stderr=True).print("\x1b[2J", markup=False)
    shown = capsys.readouterr().err
    assert shown == escape_control_chars(shown)
    assert "a\\x9b\\u2066b" in shown


class _Skeleton(HTMLParser):
    """The elements of a page with the names of their attributes."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, [name for name, _ in attrs if name != "class"]))


def skeleton(text):
    """Return the elements of a page that shows this text wherever a page shows any."""
    figure = plt.figure(figsize=(1, 1))
    sections = [
        pages.Text(text, title=text),
        pages.Table(text, [text], [[pages.Link(text, PurePath(text))], [text]], text, True),
        pages.Picture("a", figure, caption=text, alt=text),
    ]
    parser = _Skeleton()
    parser.feed(pages.render_page(text, text, sections))
    plt.close(figure)
    return parser.found


@pytest.mark.parametrize(
    "hostile",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "' onmouseover='alert(1)",
        "</title></style></script><b>",
        "{{7*7}}{% raw %}",
        "javascript:alert(1)",
        "<!-- ]]> &lt;b&gt;",
    ],
)
def test_no_text_adds_an_element_or_an_attribute_to_a_page(hostile):
    assert skeleton(hostile) == skeleton("plain")


def test_a_link_is_never_a_scheme():
    assert pages.Link("a", PurePath("javascript:alert(1)")).href == "javascript%3Aalert%281%29"


def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path):
    target = tmp_path / "precious"
    target.write_text("mine")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / "run.lock").symlink_to(target)
    with suppress(OSError), locked(run):  # newer releases of filelock refuse the link
        pass
    assert target.read_text() == "mine"
