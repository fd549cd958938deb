"""README and docs/ are short where they should be, and true of the tree and of the commands."""

import csv
import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest

import hbcomp
from hbcomp.__main__ import commands as declared

ROOT = Path(__file__).parents[1]
READMES = [ROOT / "README.md", ROOT / "README.zh.md"]
PAGES = [*READMES, *sorted((ROOT / "docs").glob("*.md"))]
GENERATOR = runpy.run_path(str(ROOT / "docs/make_commands.py"))
COMMANDS = GENERATOR["commands"]()
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?:\[[^\]]*\]\(|<img src=\")([^)\"\s]+)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, language):
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def anchors(text):
    """Return the anchors that GitHub gives to a page's headings."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page):
    """Yield the relative links of a page whose file, or whose heading in it, does not exist."""
    for link in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            yield link


def command_lines(page):
    """Yield the words of every hbcomp command in a page's sh blocks, the first its name."""
    for block in blocks(page, "sh"):
        for line in re.split(r"\n|&&", block.replace("\\\n", " ")):
            words = shlex.split(line, comments=True)
            if words[:1] == ["hbcomp"]:
                yield words[1:]
            elif words[1:2] == ["-m"] and words[2].startswith("hbcomp."):
                yield [words[2].removeprefix("hbcomp."), *words[3:]]


def problem_of(words):
    """Return why a command line cannot be parsed, or None."""
    name, *rest = words
    if name not in COMMANDS:
        return f"there is no command {name}"
    known = GENERATOR["parameters"](COMMANDS[name])
    options = {option: each for each in known if each.is_option for option in each.names}
    n_given, given = 0, set()
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            n_given += 1
            continue
        option, _, value = word.partition("=")
        if option not in options:
            return f"{name} has no option {option}"
        given.add(option)
        if options[option].value and not value:
            if not rest:
                return f"{name} {option} needs a value"
            rest.pop(0)
    arguments = [each for each in known if not each.is_option]
    if n_given < sum(each.is_required for each in arguments):
        return f"{name} needs {', '.join(each.names[0] for each in arguments)}"
    if n_given > len(arguments) and not any(each.is_repeated for each in arguments):
        return f"{name} takes {len(arguments)} arguments, but {n_given} are given"
    missing = [each.names[0] for each in known if each.is_option and each.is_required]
    if missing := sorted(set(missing) - given):
        return f"{name} needs {', '.join(missing)}"
    return None


def absent_paths(page):
    """Yield what a page names below hbcomp/, docs/, experiments/ or tests/ and is not there."""
    # Written by commands, or an example's name.
    made = re.compile(
        r"NAME|PLAN|RUN|SEED|~|experiments/(quickstart/report|comparisons|report\.html|mine)"
    )
    text = FENCE.sub("", page.read_text())
    for path in re.findall(r"`((?:hbcomp|docs|experiments|tests)/[\w./~*-]*)`", text):
        if not made.search(path) and not list(ROOT.glob(path)):
            yield path
    for module in re.findall(r"\bhbcomp\.((?:[a-z_]+\.)*[a-z_]+)\b", text):
        place = ROOT / "hbcomp" / module.replace(".", "/")
        is_there = place.is_dir() or place.with_suffix(".py").exists() or module in hbcomp.__all__
        if not is_there:
            yield f"hbcomp.{module}"


def test_the_readme_is_at_most_250_lines_and_1300_words():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 250
    assert len(text.split()) <= 1300


def test_pictures_are_below_250_kb():
    large = [each for each in (ROOT / "docs/images").iterdir() if each.stat().st_size >= 250_000]
    assert not large


@each_page
def test_every_relative_link_leads_somewhere(page):
    assert not list(broken_links(page))


@each_page
def test_every_command_in_a_block_can_be_parsed(page):
    assert not [problem for words in command_lines(page) if (problem := problem_of(words))]


@pytest.mark.parametrize("command", declared(), ids=lambda each: each.name)
def test_the_line_that_a_command_proposes_can_be_parsed(command):
    words = shlex.split(re.sub(r"\{[^}]*\}", "VALUE", command.then or "hbcomp report"))
    assert words[0] == "hbcomp"
    assert problem_of(words[1:]) is None


@each_page
def test_every_path_and_module_that_is_named_exists(page):
    assert not list(absent_paths(page))


def test_the_page_of_commands_is_what_its_script_makes():
    page = (ROOT / "docs/commands.md").read_text()
    assert page == GENERATOR["page"](), "run python docs/make_commands.py"


def test_the_list_of_all_commands_has_every_command():
    guide = (ROOT / "docs/guide.md").read_text()
    block = re.search(r"<!-- all commands -->\n```sh\n(.*?)```", guide, re.DOTALL)
    listed = {line.split()[1] for line in block[1].splitlines()}
    assert listed == set(COMMANDS)


def test_every_page_of_docs_is_linked_from_both_readmes():
    for readme in READMES:
        linked = {link.split("#")[0] for link in LINK.findall(readme.read_text())}
        assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= linked


def test_both_readmes_give_the_same_commands_and_numbers():
    english, chinese = READMES
    assert list(command_lines(english)) == list(command_lines(chinese))
    tables = [
        re.findall(r"\d+(?:\.\d+)? ± \d+\.\d|\b\d{3}\.\d\b", page.read_text()) for page in READMES
    ]
    assert tables[0] == tables[1]


def test_every_score_of_the_plot_is_in_the_results():
    text = (ROOT / "docs/results.md").read_text()
    with (ROOT / "docs/results.csv").open(newline="") as file:
        scores = [row["score"] for row in csv.DictReader(file)]
    assert scores
    assert not [each for each in scores if not re.search(rf"\b{re.escape(each)}\b", text)]


@pytest.mark.parametrize("readme", READMES, ids=lambda page: page.name)
def test_the_python_of_the_readme_scores_a_run(readme, tmp_path, monkeypatch, capsys):
    (code,) = blocks(readme, "python")
    folder = tmp_path / "experiments/quickstart"
    folder.mkdir(parents=True)
    # Right, wrong, and answered with zeros: costs of 0, 2 and 1, a mean of 1 per row.
    probs = [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.3, 0.3, 0.4]]
    labels = [0, 2, 2]
    rows = [
        f"{i},{label},0,{','.join(map(str, row))}"
        for i, (label, row) in enumerate(zip(labels, probs, strict=True))
    ]
    (folder / "oof.csv").write_text("\n".join(["id,label,fold,prob_0,prob_1,prob_2", *rows]))
    monkeypatch.chdir(tmp_path)
    found = {}
    exec(code, found)  # our own text
    assert np.array_equal(found["costs"], [0, 2, 1])
    assert "20000 per 20k" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("cv", None),
        ("cv resnet --set train.n_epochs=3 --name a", None),
        ("cv --set=train.n_epochs=3", None),
        ("diff a.csv b.csv c.csv", None),
        ("import-oof a --oof b --like c", None),
        ("train", "there is no command train"),
        ("cv --epochs 3", "cv has no option --epochs"),
        ("cv --name", "cv --name needs a value"),
        ("cv a b", "cv takes 1 arguments, but 2 are given"),
        ("check", "check needs FILE"),
        ("import-oof a --like b", "import-oof needs --oof"),
    ],
)
def test_a_planted_command_is_judged_as_the_program_would(line, problem):
    assert problem_of(line.split()) == problem


def test_planted_links_and_paths_that_lead_nowhere_are_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# One, two\n[a](#one-two) [b](#three) [c](other.md) [d](https://x.org) ![e](e.png)\n"
        '<img src="f.png" width="9">\n'
        "`hbcomp/cv.py` `hbcomp/nowhere.py` hbcomp.scoring.paired hbcomp.scoring.nothing\n"
    )
    assert list(broken_links(page)) == ["#three", "other.md", "e.png", "f.png"]
    assert list(absent_paths(page)) == ["hbcomp/nowhere.py", "hbcomp.scoring.nothing"]
