"""The page of all experiments: ranked per data set, beside the leaderboard, usable and inert."""

import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import chromium, needs_chromium
from commands import run_hbcomp
from finished_experiments import N, write_experiment, write_files
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.analysis import ranking_page
from hbcomp.analysis.ranking_page import (
    COLUMNS,
    Row,
    against_best,
    rank,
    read_rows,
    write_leaderboard,
)
from hbcomp.experiment import ROOT
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.report import Report
from hbcomp.reporting.pages import Table, write_page
from hbcomp.scoring.metrics import MetricConfig
from hbcomp.scoring.paired import RowScores, paired_difference
from hbcomp.submissions import ledger
from hbcomp.submissions.ledger import Entry, write_ledger
from hbcomp.system.command import console

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
MACRO_F1 = MetricConfig(name="macro-f1")
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture
def here(tmp_path, undrawn):
    write_files(tmp_path)
    return tmp_path


def write(here):
    """Write the page of the experiments and submissions below `here`, and return its numbers."""
    return write_leaderboard(here / ROOT, here / "submissions", console)


def page_of(here):
    return (here / ROOT / "report.html").read_text()


def cells(html):
    """Return the text of every table row of a page."""

    class Rows(HTMLParser):
        rows = ()
        is_open = False

        def handle_starttag(self, tag, attrs):
            if tag == "tr":
                self.rows = (*self.rows, [])
            if tag in ("td", "th"):
                self.rows[-1].append("")
                self.is_open = True

        def handle_endtag(self, tag):
            self.is_open = self.is_open and tag not in ("td", "th")

        def handle_data(self, data):
            if self.is_open:
                self.rows[-1][-1] += data

    parser = Rows()
    parser.feed(html)
    return parser.rows


def line_of(here, name):
    """Return an experiment's cells by column."""
    rows = [row for row in cells(page_of(here)) if row]
    place = next(place for place, row in enumerate(rows) if row[0] == name)
    heads = next(row for row in rows[place::-1] if row[0] == "experiment")
    return dict(zip(heads, rows[place], strict=True))


def a_row(name, fingerprint, score, metric="abs-sum"):
    return Row(name, a_report(fingerprint, score, metric=metric), "", None)


def a_report(fingerprint, score, n_train=10, metric="abs-sum"):
    return Report(
        metric={"config": {"name": metric}, "classes": ("0", "1")},
        data={"train": "t.csv", "n_train": n_train, "fingerprint_train": fingerprint},
        rules=(),
        chosen={"name": "half", "rule": {"kind": "half"}},
        score=score,
        standard_error=1.0,
        accuracy=1.0,
        by_class=(),
        confusion=(),
        shift=None,
        transferability=(),
    )


def an_entry(
    folder, name, source, expected, leaderboard=None, content=None, metric="abs-sum", better="lower"
):
    """Return an entry whose file is in the folder, with another content if one is given."""
    folder.mkdir(exist_ok=True)
    of_entry = f"id,label_0\n{name},1\n".encode()
    (folder / name).write_bytes(content or of_entry)
    return Entry(
        sha256=hashlib.sha256(of_entry).hexdigest(),
        file=name,
        written=NOW,
        source=source,
        n_rows=20_000,
        metric=metric,
        better=better,
        expected=expected,
        low=expected - 14.0,
        high=expected + 14.0,
        leaderboard=leaderboard,
        received=None if leaderboard is None else NOW,
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"), st.floats(0, 1000), st.sampled_from(["abs-sum", "accuracy"])
        ),
        max_size=12,
    )
)
def test_ranking_keeps_everything_and_never_mixes_data_or_metrics(drawn):
    found = [a_row(str(n), *each) for n, each in enumerate(drawn)]
    groups = rank(found)
    assert sorted(each.name for group in groups for each in group) == sorted(
        each.name for each in found
    )
    assert len(groups) == len({(fingerprint, metric) for fingerprint, _, metric in drawn})
    for group in groups:
        assert len({each.report.data.fingerprint_train for each in group}) == 1
        assert len({each.report.metric_in_words for each in group}) == 1
        scores = [each.report.score for each in group]
        assert scores == sorted(scores, reverse=group[0].report.better == "higher")


def test_the_difference_to_the_best_is_paired_on_the_same_rows(here):
    best, _ = write_experiment(here, "best", n_wrong=2)
    other, _ = write_experiment(here, "other", n_wrong=5)
    rows = [
        RowScores(
            40_000.0 * (each.oof_probs.argmax(axis=1) != each.labels), greater_is_better=False
        )
        for each in (other, best)
    ]
    (group,) = rank(read_rows(here / ROOT)[0])
    found = against_best(group, here / ROOT)
    assert found["other"] == paired_difference(*rows)
    assert found["best"].value == 0
    write(here)
    assert line_of(here, "best")["against best"] == "0"
    gap = found["other"]
    shown = f"{gap.value:+.1f} ± {gap.standard_error:.1f}"
    assert line_of(here, "other")["against best"] == shown


def test_predictions_of_other_rows_or_gone_are_not_paired(here):
    for n_wrong, name in enumerate(("a", "b", "c"), start=1):
        write_experiment(here, name, n_wrong=n_wrong)
    path = here / ROOT / "a" / "predictions.npz"
    path.unlink()
    path = here / ROOT / "b" / "predictions.npz"
    replace(Predictions.load(path), train_fingerprint="other").save(path)
    (group,) = rank(read_rows(here / ROOT)[0])
    assert list(against_best(group, here / ROOT)) == ["c"]


def test_only_the_best_are_paired(here, monkeypatch):
    monkeypatch.setattr(ranking_page, "N_PAIRED", 2)
    for n_wrong, name in enumerate(("a", "b", "c"), start=1):
        write_experiment(here, name, n_wrong=n_wrong)
    (group,) = rank(read_rows(here / ROOT)[0])
    assert list(against_best(group, here / ROOT)) == ["a", "b"]


def test_a_row_says_what_the_report_says(here):
    _, report = write_experiment(here, "a", n_wrong=3)
    (here / ROOT / "a" / "report.html").touch()
    write(here)
    line = line_of(here, "a")
    error = report["standard_error"]
    assert line["score"] == f"{3 * 2 / N * 20_000:.1f} ± {error:.1f}"
    assert "fixed rule" not in line  # it is the chosen one
    assert (line["kind"], line["net or method"], line["rule"]) == ("run", "resnet", "half")
    assert (line["seeds x folds"], line["seconds"]) == ("2 x 5", "20")
    assert (line["device"], line["leaderboard"]) == ("cpu fp32", "-")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", line["written"])
    assert '<a href="a/report.html">a</a>' in page_of(here)


def test_scores_under_the_fixed_rule_are_shown_where_another_was_chosen(here):
    write_experiment(here, "a", n_wrong=3)
    _, report = write_experiment(here, "b", n_wrong=4, rule="raw")
    write(here)
    rules = {rule["name"]: rule["cross_fitted"] for rule in report["rules"]}
    assert rules["raw"] != rules["half"]
    assert line_of(here, "b")["score"].startswith(f"{rules['raw']:.1f} ±")
    assert line_of(here, "b")["fixed rule"] == f"{rules['half']:.1f}"


def test_a_metric_has_a_table_of_its_own_in_its_unit_and_direction(here):
    write_experiment(here, "a", n_wrong=3)
    for name, n_wrong in (("b", 6), ("c", 4)):
        write_experiment(here, name, n_wrong, metric=MACRO_F1)
    groups = write(here)["groups"]
    found = [(group["metric"], group["better"], group["best"]) for group in groups]
    assert found == [("abs-sum", "lower", "a"), ("macro-f1", "higher", "c")]
    assert page_of(here).count("data-sortable>") == 2
    assert "macro-f1 (higher is better)" in page_of(here)
    assert line_of(here, "c")["against best"] == "0"
    assert re.fullmatch(r"-0\.\d{4} ± 0\.\d{4}", line_of(here, "b")["against best"])
    assert "fixed rule" not in line_of(here, "b")


def test_a_metric_of_ones_own_is_ranked_without_its_code_but_not_paired(here):
    for name in "ab":
        _, report = write_experiment(here, name)
        own = {"name": "gone.py:score", "greater_is_better": True, "answers": "labels"}
        report["metric"] |= {"config": own, "file": "/elsewhere/gone.py", "sha256": "0"}
        report["score"] += name == "b"
        (here / ROOT / name / "report.json").write_text(json.dumps(report))
    (group,) = write(here)["groups"]
    assert (group["metric"], group["better"], group["best"]) == ("gone.py:score", "higher", "b")
    assert line_of(here, "b")["against best"] == "-"
    assert "gone.py:score (higher is better)" in page_of(here)


def test_blends_and_imports_are_ranked_with_runs(here):
    write_experiment(here, "a", n_wrong=3)
    write_experiment(
        here,
        "b",
        n_wrong=2,
        kind="blend",
        method="greedy",
        base_models={"a": 0.5, "c": None},
        folds=[],
        config={},
        environment={"seconds_of_this_call": 7.2},
    )
    write_experiment(here, "c", n_wrong=4, kind="imported", folds=[], config={}, environment={})
    (group,) = write(here)["groups"]
    assert (group["best"], group["n_experiments"], group["train"]) == ("b", 3, "train.csv")
    line = line_of(here, "b")
    found = [line[name] for name in ("kind", "net or method", "seeds x folds", "seconds")]
    assert found == ["blend", "greedy of 2", "-", "7"]
    assert (line_of(here, "c")["kind"], line_of(here, "c")["device"]) == ("imported", "-")
    assert 'href="b/' not in page_of(here)  # it has no page


def test_a_gpu_is_named(here):
    compute = {"device": "cuda:0", "precision": "bf16"}
    write_experiment(here, "a", environment={"gpu": "NVIDIA H100", "compute": compute})
    write(here)
    assert line_of(here, "a")["device"] == "NVIDIA H100 bf16"


def test_other_data_has_a_table_of_its_own(here):
    write_experiment(here, "a")
    write_files(here, seed=1)
    write_experiment(here, "b")
    numbers = write(here)
    assert [group["n_experiments"] for group in numbers["groups"]] == [1, 1]
    assert page_of(here).count("data-sortable>") == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not a report"),
        ("[]", "a report must be a JSON object"),
        ('{"experiment": "old"}', "metric: Field required; rules: Field required"),
    ],
)
def test_an_odd_report_is_listed_with_its_reason(here, content, reason):
    write_experiment(here, "a")
    (here / ROOT / "odd").mkdir()
    (here / ROOT / "odd" / "report.json").write_text(content)
    numbers = write(here)
    assert (numbers["n_experiments"], numbers["n_unreadable"]) == (1, 1)
    (row,) = (row for row in cells(page_of(here)) if row and row[0] == "odd")
    assert reason in row[1]


def test_a_wrong_value_in_a_report_is_named_with_its_place(here):
    _, report = write_experiment(here, "a")
    report["rules"][1]["cross_fitted"] = None
    (here / ROOT / "a" / "report.json").write_text(json.dumps(report))
    _, unreadable = read_rows(here / ROOT)
    assert "rules.1.cross_fitted: " in unreadable["a"]


def test_the_best_submission_of_an_experiment_is_beside_it(here):
    write_experiment(here, "a")
    folder = here / "submissions"
    entries = (
        an_entry(folder, "a1.csv", "a", 300.0, 310.0),
        an_entry(folder, "a2.csv", "a", 290.0, 305.5),
        an_entry(folder, "b.csv", "b", 10.0, 20.0),
        an_entry(folder, "a3.csv", "a", 100.0),
    )
    write_ledger(folder, entries)
    write(here)
    assert line_of(here, "a")["leaderboard"] == "305.5"


def test_the_best_submission_is_the_highest_where_higher_is_better(here):
    write_experiment(here, "a", metric=MACRO_F1)
    folder = here / "submissions"
    kind = {"metric": "macro-f1", "better": "higher"}
    entries = (
        an_entry(folder, "a1.csv", "a", 0.9, 0.89, **kind),
        an_entry(folder, "a2.csv", "a", 0.9, 0.91, **kind),
        an_entry(folder, "a3.csv", "a", 300.0, 310.0),  # by another metric
    )
    write_ledger(folder, entries)
    write(here)
    line = line_of(here, "a")
    assert line["leaderboard"] == "0.9100"
    assert page_of(here).count('id="expected-against-real-') == 2


def test_the_page_shows_surprises_and_files_changed_by_hand(here):
    write_experiment(here, "a")
    folder = here / "submissions"
    entries = (
        an_entry(folder, "a.csv", "a", 200.0, 260.0),
        an_entry(folder, "b.csv", "b", 250.0, 210.0),
        an_entry(folder, "c.csv", "c", 250.0, content=b"edited"),
    )
    write_ledger(folder, entries)
    (folder / "stray.csv").write_text("made by hand")
    write(here)
    rows = cells(page_of(here))
    assert ["a.csv", "b.csv", "50.0", "50.0"] in [row[:4] for row in rows]
    (edited,) = (row for row in rows if row[0] == "c.csv")
    assert edited[-1] == "edited by hand"
    assert "stray.csv is not in the ledger" in page_of(here)
    assert 'id="expected-against-real-1"' in page_of(here)
    assert len(ledger.inversions(entries)) == 1


def test_without_submissions_there_is_no_section_of_them(here):
    write_experiment(here, "a")
    write(here)
    assert "Submissions" not in page_of(here)


def test_the_ranking_links_the_other_pages_and_they_link_back(here):
    write_experiment(here, "a", n_wrong=1)
    write_experiment(here, "b", n_wrong=2)
    for words in (["mistakes", "a"], ["compare", "a", "b"]):
        assert run_hbcomp(words, here).returncode == 0
    done = run_hbcomp(["report"], here)
    assert done.returncode == 0, done.stderr
    page = "experiments/report.html"
    assert json.loads(done.stdout.splitlines()[-1])["page"] == page
    found = re.findall(r'href="(?:comparisons|a)/[^"]*"', (here / page).read_text())
    assert found == ['href="a/mistakes.html"', 'href="comparisons/a~b.html"']
    for href in found:
        other = here / ROOT / href.removeprefix('href="').removesuffix('"')
        (back,) = re.findall(r'<a href="([^"]*)">all experiments<', other.read_text())
        assert (other.parent / back).resolve() == (here / page).resolve()


def test_a_folder_without_experiments_is_one_line(here):
    done = run_hbcomp(["report"], here)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: experiments: no finished experiment; `hbcomp cv` makes one\n"


def test_markup_in_reports_and_names_is_only_text(here):
    _, report = write_experiment(here, "a b&c", config={"net": {"name": HOSTILE}})
    (here / ROOT / "a b&c" / "report.html").touch()
    report["data"]["train"] = HOSTILE
    (here / ROOT / "a b&c" / "report.json").write_text(json.dumps(report))
    (here / ROOT / "javascript:alert(1)").mkdir()
    path = here / ROOT / "javascript:alert(1)" / "report.json"
    path.write_text(json.dumps({"kind": HOSTILE}))
    write(here)
    html = page_of(here)
    assert html.count("<script") == 1
    assert "<img src=x" not in html
    assert 'href="a%20b%26c/report.html"' in html
    assert "javascript:alert(1)/" not in re.sub(r"<td[^>]*>[^<]*</td>", "", html)
    assert line_of(here, "a b&c")["net or method"] == HOSTILE


ROWS = [["alpha", "30.0 ± 1.0", "-"], ["beta", "1,200.5 ± 2.0", "2"], ["gamma", "4.5 ± 1.0", "10"]]


@pytest.fixture
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as page:
        yield page


def shown(page):
    """Return the first cells of the rows that a person sees."""
    return page.value(
        "[...document.querySelectorAll('tbody tr')].filter(row => row.offsetParent)"
        ".map(row => row.cells[0].textContent)"
    )


def head(name):
    return f"[...document.querySelectorAll('th button')].find(e => e.textContent === '{name}')"


@needs_chromium
def test_a_page_is_sorted_and_filtered_in_a_browser(tmp_path, browser):
    path = tmp_path / "page.html"
    table = Table("t", ["name", "score", "gap"], ROWS, is_sortable=True)
    write_page(path, HOSTILE, "", [table])
    url = path.as_uri()
    browser.open(url)
    assert shown(browser) == ["alpha", "beta", "gamma"]
    browser.click(head("score"))
    assert shown(browser) == ["gamma", "alpha", "beta"]
    browser.press("Enter", 13, "\r")  # the head has the focus
    assert shown(browser) == ["beta", "alpha", "gamma"]
    assert browser.value("document.querySelector('[aria-sort]').ariaSort") == "descending"
    browser.click(head("gap"))
    assert shown(browser) == ["beta", "gamma", "alpha"]  # what has no number comes last
    browser.click("document.querySelector('input')")
    browser.type("ETA")
    assert shown(browser) == ["beta"]
    assert browser.value("document.querySelector('output').textContent") == "1 of 3 rows"
    assert browser.value("location.hash") == "#sort=gap&filter=ETA"
    browser.open(f"{url}#sort=score&order=descending&filter=a+1.0")
    assert shown(browser) == ["alpha", "gamma"]
    browser.open(f"{url}#sort=nothing&filter=<b>")
    assert shown(browser) == []


@needs_chromium
def test_nothing_but_our_script_runs(tmp_path, browser):
    path = tmp_path / "page.html"
    write_page(path, "t", "", [Table("t", ["name"], [["a"]], is_sortable=True)])
    injected = "<script>document.title = 'injected'</script>"
    path.write_text(path.read_text().replace("</main>", f"</main>{injected}<p onclick='1'>"))
    browser.open(path.as_uri())
    assert browser.value("document.title") == "t"
    assert browser.value("document.querySelectorAll('th button').length") == 1  # ours ran


@needs_chromium
@pytest.mark.parametrize(("width", "n_columns"), [(390, 3), (1300, len(COLUMNS))])
def test_the_ranking_fits_the_screen_and_a_phone_shows_its_first_columns(
    here, browser, width, n_columns
):
    for n_wrong, name in enumerate(("a", "a-run-with-a-rather-long-name-of-its-own"), start=1):
        write_experiment(here, name, n_wrong=n_wrong, rule="raw")
    write(here)
    browser.open((here / ROOT / "report.html").as_uri(), width=width)
    assert browser.value("document.documentElement.scrollWidth") <= width  # without a scrollbar
    assert not browser.value(
        "[...document.querySelectorAll('.scroll')].some(e => e.scrollWidth > e.clientWidth)"
    )
    heads = "[...document.querySelector('table').tHead.rows[0].cells]"
    assert browser.value(f"{heads}.filter(e => e.offsetWidth > 0).length") == n_columns


def test_every_row_is_in_the_page_without_its_script(here):
    for n_wrong, name in enumerate("abc", start=1):
        write_experiment(here, name, n_wrong=n_wrong)
    write(here)
    html = re.sub(r"<script>.*?</script>", "", page_of(here), flags=re.DOTALL)
    assert [row[0] for row in cells(html) if row and row[0] in "abc"] == ["a", "b", "c"]
    assert "hidden>" not in html


def test_the_head_of_the_group_is_its_best(here):
    write_experiment(here, "a", n_wrong=4)
    write_experiment(here, "b", n_wrong=2)
    rows = ranking_page.complete(rank(read_rows(here / ROOT)[0])[0], here / ROOT, ())
    assert [row.name for row in rows] == ["b", "a"]
    assert np.isclose(rows[0].report.score, 2 * 2 / N * 20_000)
