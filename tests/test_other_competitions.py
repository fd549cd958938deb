"""Made-up competitions, from their files to the leaderboard's score, without a change of code."""

import json
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
from commands import few_trials, run_hbcomp
from sklearn.metrics import roc_auc_score

STEPS = 10
TINY = [
    word
    for each in (
        "net.widths=[4]",
        "net.strides=[2]",
        "net.hidden=8",
        "train.n_epochs=3",
        "train.batch_size=8",
        "folds.n_folds=2",
        "compute.device=cpu",
        "compute.n_threads=1",
    )
    for word in ("--set", each)
]


def call(folder, *words, code=0, draws=False):
    done = run_hbcomp([str(word) for word in words], folder, prepare=few_trials, draws=draws)
    assert done.returncode == code, done.stderr
    return done


def numbers_of(folder, *words, draws=False):
    return json.loads(call(folder, *words, draws=draws).stdout)


def refusal(folder, *words):
    (line,) = call(folder, *words, code=2).stderr.splitlines()
    return line


def signals_of(is_class, n_channels, seed):
    """Return noise whose first channel rises by the number of the class."""
    noise = np.random.default_rng(seed).normal(size=(len(is_class), n_channels, STEPS))
    noise[:, 0] += np.outer(is_class, np.linspace(0, 3, STEPS))
    return np.round(noise, 3)


def write_falls(folder):
    """Write a long table of 3 channels, persons, text labels, and a sample in another order."""
    for name, n_rows, seed in (("train", 48, 0), ("test", 12, 1), ("later", 8, 2)):
        labels = np.arange(n_rows) % 2
        signals = signals_of(labels, 3, seed)
        table = pd.DataFrame(
            [
                (f"{name} {row}", step, *signals[row, :, step])
                for row in range(n_rows)
                for step in range(STEPS)
            ],
            columns=["recording", "tick", "ax", "ay", "az"],
        )
        if name == "train":
            table["person"] = np.repeat([f"p{row // 4}" for row in range(n_rows)], STEPS)
            table["kind"] = np.repeat(np.array(["fall", "walk"])[labels], STEPS)
        table.to_csv(folder / f"{name}.csv", index=False)
    ids = [f"test {row}" for row in np.random.default_rng(3).permutation(12)]
    sample = pd.DataFrame({"Recording ID": ids, "Probability of fall": 0.5})
    sample.to_csv(folder / "sample_submission.csv", index=False)
    return ids


@pytest.fixture(scope="module")
def falls(tmp_path_factory):
    """A folder with two runs of the competition of falls and their blend."""
    folder = tmp_path_factory.mktemp("falls")
    write_falls(folder)
    files = ["--train", "train.csv", "--test", "test.csv", "--sample", "sample_submission.csv"]
    call(folder, "init", *files, "--group", "person")
    for name, more in (("one", []), ("two", ["--set", "net.hidden=4"])):
        of = ["--competition", ".", "--name", name]
        call(folder, "cv", "quickstart", *of, *TINY, *more, draws=name == "one")
    call(folder, "blend", "one", "two", "--method", "mean")
    return folder


def columns_of(path):
    return path.read_text().splitlines()[0].split(",")


def header_and_ids(path):
    header, *rows = path.read_text().splitlines()
    return header, [row.rpartition(",")[0] for row in rows]


def test_init_finds_the_id_the_positive_class_and_the_channels(falls):
    text = (falls / "competition.toml").read_text()
    for line in (
        'layout = "long"',
        'id = "recording"',
        'group = "person"',
        'kind = "probability"',
        'positive = "fall"',
        'name = "roc-auc"',
    ):
        assert line in text
    assert "ax" in text


def test_whole_groups_are_held_out(falls):
    folds = falls / "folds.csv"
    call(falls, "folds", "one", "--out", folds)
    fold_of = pd.read_csv(folds).set_index("id")["fold"]
    persons = pd.read_csv(falls / "train.csv").groupby("recording")["person"].first()
    assert len({*zip(persons, fold_of.loc[persons.index], strict=True)}) == persons.nunique()
    assert "grouped by data.group" in (falls / "experiments/one/report.html").read_text()


@pytest.mark.parametrize("name", ["one", "two", "blend"])
def test_every_submission_has_the_header_and_the_order_of_the_sample(falls, name):
    path = falls / f"submissions/{name}.csv"
    assert header_and_ids(path) == header_and_ids(falls / "sample_submission.csv")
    assert numbers_of(falls, "check", path)["accepted"]
    assert numbers_of(falls, "check", path, "--competition", ".")["accepted"]
    again = falls / "submissions/again.csv"
    for data in ([], ["--data", "test.csv"]):
        call(falls, "predict", name, "--out", again, *data)
        assert again.read_bytes() == path.read_bytes()
        again.unlink()


def test_new_rows_are_answered_in_their_own_order(falls):
    for name in ("one", "blend"):
        written = numbers_of(falls, "predict", name, "--data", "later.csv")["submission"]
        header, ids = header_and_ids(falls / written)
        assert header == "Recording ID,Probability of fall"
        assert ids == [f"later {row}" for row in range(8)]
        for of in ([], ["--competition", ".", "--test", "later.csv"]):
            assert numbers_of(falls, "check", written, *of)["accepted"]


def test_pages_and_tables_name_the_classes(falls):
    for words in (["eda", "--competition", "."], ["mistakes", "blend"], ["compare", "one", "two"]):
        numbers = numbers_of(falls, *words, draws=True)
        assert "fall" in (falls / numbers["page"]).read_text(), words
    assert "higher is better" in (falls / "experiments/one/report.html").read_text()


def tuned(folder):
    """Return the numbers of a short search."""
    (folder / "space.toml").write_text('"train.lr" = { low = 5e-3, high = 1e-1, log = true }\n')
    of = ["--competition", ".", "--space", "space.toml", "--trials", 2, "--best", 1]
    return numbers_of(folder, "tune", "quickstart", *of, *TINY)


def test_hyperparameters_are_searched(falls):
    assert tuned(falls)["metric"] == "roc-auc (higher is better)"


def slow_machine():
    """Let everything take days; give it to a command as `prepare`."""
    few_trials()
    sizes = import_module("hbcomp.crossval.size")
    sizes.MANY_OPERATIONS, sizes.best_rate = 0, lambda _: 1.0


@pytest.mark.parametrize(
    "words",
    [
        ["cv", "one", "--fold", "all"],
        ["cv", "one", "--name", "slow"],
        ["tune", "one", "--name", "slow", "--space", "slow.toml", "--trials", "1", "--best", "0"],
    ],
)
def test_what_takes_days_is_told_before_anything_is_trained(falls, words):
    (falls / "slow.toml").write_text('"train.lr" = { low = 5e-3, high = 1e-1, log = true }\n')
    done = run_hbcomp(words, falls, prepare=slow_machine)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stderr.split())
    assert said.count(" days at best on cpu: 2 times 3 epochs of 24 rows of net resnet") == 1
    assert said.index("days at best") < said.index("on cpu in fp32")


def test_a_file_is_sent_scored_and_kept_in_the_ledger(falls):
    submission = "submissions/blend.csv"
    assert numbers_of(falls, "submit", submission)["n_rows"] == 12
    assert "is at most 1, but got 98.74; is it in percent? Then it is 0.9874" in refusal(
        falls, "lb", submission, 98.74
    )
    assert "must be in [0, 1.0000]" in refusal(falls, "lb", submission, 166.5)
    assert numbers_of(falls, "lb", submission, 0.91)["metric"] == "roc-auc"
    said = call(falls, "ledger").stderr
    assert "roc-auc (higher)" in said
    call(falls, "report")


def test_everything_is_computed_again(falls):
    call(falls, "verify", "one", "two", "blend")


def test_wrong_files_are_one_line(falls):
    path = falls / "submissions/one.csv"
    header, *rows = path.read_text().splitlines()
    wrong = falls / "wrong.csv"
    for lines, message in (
        (["recording,Probability of fall", *rows], "the header must be Recording ID,Probability"),
        ([header, *sorted(rows)], "order"),
        ([header, *rows[1:]], "11 rows"),
        ([header, f"{rows[0].partition(',')[0]},walk", *rows[1:]], "must be a finite number"),
    ):
        wrong.write_text("\n".join([*lines, ""]))
        assert message in refusal(falls, "check", wrong, "--competition", ".")


@pytest.mark.parametrize("id_column", ["recording", "Recording ID"])
def test_truth_is_read_under_the_names_of_the_data_or_of_the_submission(falls, id_column):
    kinds = np.array(["fall", "walk"])[np.arange(12) % 2]
    table = pd.DataFrame({id_column: [f"test {row}" for row in range(12)], "kind": kinds})
    table.to_csv(falls / "truth.csv", index=False)
    of = ["--truth", "truth.csv", "--competition", "."]
    found = numbers_of(falls, "score", "submissions/one.csv", *of)
    probs = pd.read_csv(falls / "submissions/one.csv").set_index("Recording ID").iloc[:, 0]
    is_fall = table.set_index(id_column)["kind"][probs.index] == "fall"
    assert found["score"] == pytest.approx(roc_auc_score(is_fall, probs))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[metric]", "[metric]\nmane = 1", "unknown key metric.mane (there are: name, "),
        ('layout = "long"', 'layout = "logn"', "data.layout: Input should be 'list', 'wide'"),
        ('"recording"', '"recordings"', "recordings"),
        ('"sample_submission.csv"', '"train.csv"', "has one column of answers, but the sample"),
        ('"sample_submission.csv"', '"lost.csv"', "lost.csv: No such file"),
        ('"sample_submission.csv"', '"other.csv"', "no row for id test 0 of the test file"),
        (
            '"fall",',
            '"sit",',
            "one of sit, walk, but 'fall' is not: 24 ids: train 0, train 2",
        ),
        (
            'name = "roc-auc"\npositive = "fall"',
            'name = "lost.py:score"\ngreater_is_better = true\nanswers = "probabilities"',
            "lost.py: No such file or directory",
        ),
        (
            'name = "roc-auc"\npositive = "fall"',
            'name = "metric.py:scor"\ngreater_is_better = true\nanswers = "probabilities"',
            "metric.py: there is no function 'scor'",
        ),
        (
            'name = "roc-auc"\npositive = "fall"',
            'name = "metric.py:fails"\ngreater_is_better = true\nanswers = "probabilities"',
            "metric.py: fails failed on 48 rows: KeyError: 'walks'",
        ),
    ],
)
def test_a_wrong_competition_is_one_line_before_anything_is_trained(
    falls, tmp_path, old, new, message
):
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        (tmp_path / name).symlink_to(falls / name)
    other = (falls / "sample_submission.csv").read_text().replace("test 0,", "test 99,")
    (tmp_path / "other.csv").write_text(other)
    (tmp_path / "metric.py").write_text(
        "def score(): ...\ndef fails(solution, submission, row_id_column_name):\n"
        "    return solution['walks'].mean()\n"
    )
    text = (falls / "competition.toml").read_text()
    assert old in text
    (tmp_path / "competition.toml").write_text(text.replace(old, new))
    done = call(tmp_path, "cv", "quickstart", "--competition", ".", "--name", "x", *TINY, code=2)
    error = [line for line in done.stderr.splitlines() if not line.startswith("warning")][-1]
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "experiments").exists()


def test_a_typo_names_the_competition_that_was_meant(falls):
    line = refusal(falls, "eda", "--competition", "heartbaet")
    assert "did you mean heartbeat?" in line


def test_files_with_other_columns_are_sent_to_init(falls):
    for words in (["eda", "train.csv"], ["groups", "--train", "train.csv"]):
        line = refusal(falls, *words)
        assert "`hbcomp init` writes the competition.toml of files with other columns" in line


def test_outside_probabilities_become_a_submission_of_the_same_form(falls):
    place = falls / "experiments/one"
    files = ["--oof", place / "oof.csv", "--test", place / "test.csv"]
    for name, of in (("outside", ["--like", "one"]), ("alone", ["--competition", "."])):
        call(falls, "import-oof", name, *of, *files)
        path = falls / f"submissions/{name}.csv"
        assert header_and_ids(path) == header_and_ids(falls / "sample_submission.csv")
    header = (place / "oof.csv").read_text().splitlines()[0]
    assert header == "id,label,fold,prob_fall,prob_walk"
    (falls / "numbers.csv").write_text(
        (place / "oof.csv").read_text().replace("prob_fall,prob_walk", "prob_0,prob_1")
    )
    line = refusal(falls, "import-oof", "x", "--like", "one", "--oof", "numbers.csv")
    assert "must have the columns id, prob_fall, prob_walk" in line


# --- accuracy, labels, a wide table -------------------------------------------------------------

CLASSES = ["A", "B", "C"]


def write_letters(folder):
    """Write a wide table with classes of letters, and a sample in another order."""
    for name, n_rows, seed in (("train", 48, 0), ("test", 12, 1), ("later", 8, 2)):
        labels = np.arange(n_rows) % 3
        table = pd.DataFrame(
            signals_of(labels, 1, seed)[:, 0], columns=[f"t{step}" for step in range(STEPS)]
        )
        table.insert(0, "Id", [f"{name}{row}" for row in range(n_rows)])
        table["age"] = 30
        if name == "train":
            table["target"] = np.array(CLASSES)[labels]
        else:
            truth = pd.DataFrame({"Id": table["Id"], "target": np.array(CLASSES)[labels]})
            truth.to_csv(folder / f"truth-{name}.csv", index=False)
        table.to_csv(folder / f"{name}.csv", index=False)
    ids = [f"test{row}" for row in np.random.default_rng(3).permutation(12)]
    pd.DataFrame({"Id": ids, "target": "A"}).to_csv(folder / "sample.csv", index=False)


@pytest.fixture(scope="module")
def letters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letters")
    write_letters(folder)
    files = ["--train", "train.csv", "--test", "test.csv", "--sample", "sample.csv"]
    call(folder, "init", *files)
    for name, more in (("one", []), ("two", ["--set", "net.hidden=4"])):
        of = ["--competition", ".", "--name", name]
        call(folder, "cv", "quickstart", *of, *TINY, *more)
    call(folder, "blend", "one", "two")
    return folder


def test_init_finds_the_columns_of_a_wide_table(letters):
    text = (letters / "competition.toml").read_text()
    for line in (
        'layout = "wide"',
        'id = "Id"',
        'label = "target"',
        'kind = "label"',
        'name = "accuracy"',
    ):
        assert line in text
    assert "age" in text


def test_labels_are_submitted_as_they_came(letters):
    for name in ("one", "blend"):
        path = letters / f"submissions/{name}.csv"
        assert header_and_ids(path) == header_and_ids(letters / "sample.csv")
        assert {*pd.read_csv(path)["target"]} <= {*CLASSES}
        assert numbers_of(letters, "check", path)["accepted"]


def test_the_score_of_labels_is_that_of_a_loop_over_the_rows(letters):
    submission = "submissions/one.csv"
    of = ["--truth", "truth-test.csv", "--competition", "."]
    done = call(letters, "score", submission, *of)
    answers = pd.read_csv(letters / submission).set_index("Id")["target"]
    truth = pd.read_csv(letters / "truth-test.csv").set_index("Id")["target"]
    assert json.loads(done.stdout)["score"] == np.mean(
        [answers[i] == truth[i] for i in truth.index]
    )
    assert "\n  A " in done.stderr.replace(" │", "  ") or " A " in done.stderr


def test_a_file_made_by_hand_is_sent_and_scored_in_the_form_of_its_competition(letters):
    path = letters / "submissions/hand.csv"
    header, *rows = (letters / "submissions/one.csv").read_text().splitlines()
    path.write_text("\n".join([header, *(f"{row[:-1]}B" for row in rows), ""]))
    of = ["--by-hand", "--competition", "."]
    assert numbers_of(letters, "submit", path, *of, "--per-day", 9)["n_rows"] == 12
    assert "is it in percent?" in refusal(letters, "lb", path, 50, "--competition", ".")
    call(letters, "lb", path, 0.5, "--competition", ".")
    path.write_text(path.read_text().replace(",B\n", ",D\n", 1))
    line = refusal(letters, "submit", path, *of)
    assert "target must be one of A, B, C, but is 'D'" in line


def test_the_whole_way_of_labels(letters):
    submission = "submissions/blend.csv"
    done = call(letters, "diff", "submissions/one.csv", submission, "--competition", ".")
    assert json.loads(done.stdout)["n_rows"] == 12
    for words in (["eda", "--competition", "."], ["mistakes", "blend"], ["compare", "one", "two"]):
        call(letters, *words)
    call(letters, "submit", submission)
    assert "is it in percent?" in refusal(letters, "lb", submission, 98.74)
    call(letters, "lb", submission, 0.9)
    call(letters, "ledger")
    written = numbers_of(letters, "predict", "blend", "--data", "later.csv")["submission"]
    of = ["--truth", "truth-later.csv", "--competition", "."]
    assert 0 <= numbers_of(letters, "score", written, *of)["score"] <= 1
    call(letters, "verify", "one", "two", "blend")


def test_hyperparameters_of_labels_are_searched(letters):
    assert tuned(letters)["metric"] == "accuracy (higher is better)"


# --- macro ROC AUC, a probability for each class, arrays of three channels -----------------------

GAITS = ["walk", "run", "stand still"]
COLUMNS = ["P(stand still)", "P(walk)", "P(run)"]  # of the sample: in another order


def write_gaits(folder):
    """Write archives of arrays with 3 channels, and a sample with a column for each class."""
    for name, n_rows, seed in (("train", 48, 0), ("test", 12, 1)):
        labels = np.arange(n_rows) % 3
        of_train = {"y": np.array(GAITS)[labels]} if name == "train" else {}
        ids = np.array([f"{name}-{row}" for row in range(n_rows)])
        np.savez(folder / f"{name}.npz", X=signals_of(labels, 3, seed), ids=ids, **of_train)
        pd.DataFrame({"key": ids, "label": np.array(GAITS)[labels]}).to_csv(
            folder / f"truth-{name}.csv", index=False
        )
    ids = [f"test-{row}" for row in np.random.default_rng(3).permutation(12)]
    sample = pd.DataFrame({"key": ids} | dict.fromkeys(COLUMNS, 0.33))
    sample.to_csv(folder / "sample.csv", index=False)


def test_probabilities_of_every_class_go_the_whole_way(tmp_path):
    write_gaits(tmp_path)
    files = ["--train", "train.npz", "--test", "test.npz", "--sample", "sample.csv"]
    call(tmp_path, "init", *files, "--metric", "macro-roc-auc")
    of = ["--competition", "."]
    call(tmp_path, "eda", *of)
    for name, more in (("one", []), ("two", ["--set", "net.hidden=4"])):
        call(tmp_path, "cv", "quickstart", *of, "--name", name, *TINY, *more)
    assert tuned(tmp_path)["metric"] == "macro-roc-auc (higher is better)"
    call(tmp_path, "blend", "one", "two")
    for words in (["mistakes", "blend"], ["compare", "one", "two"], ["report"]):
        call(tmp_path, *words)
    assert columns_of(tmp_path / "submissions/blend.csv") == ["key", *COLUMNS]
    blend = pd.read_csv(tmp_path / "submissions/blend.csv")
    assert [*blend["key"]] == [*pd.read_csv(tmp_path / "sample.csv")["key"]]
    score = numbers_of(
        tmp_path, "score", "submissions/blend.csv", "--truth", "truth-test.csv", *of
    )["score"]
    truth = pd.read_csv(tmp_path / "truth-test.csv").set_index("key")["label"][blend["key"]]
    aucs = [roc_auc_score(truth == name, blend[f"P({name})"]) for name in GAITS]
    assert score == pytest.approx(np.mean(aucs))
    assert score > 0.7
    call(tmp_path, "submit", "submissions/blend.csv")
    assert "is at most 1" in refusal(tmp_path, "lb", "submissions/blend.csv", 91.5)
    call(tmp_path, "lb", "submissions/blend.csv", 0.915)
    assert "macro-roc-auc (higher)" in call(tmp_path, "ledger").stderr
    again = tmp_path / "again.csv"
    call(tmp_path, "predict", "blend", "--out", again)
    assert again.read_bytes() == (tmp_path / "submissions/blend.csv").read_bytes()
    call(tmp_path, "verify", "one", "two", "blend")
