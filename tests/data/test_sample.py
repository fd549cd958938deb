import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hbcomp.competitions.load import load_data, load_sample
from hbcomp.data.dataset import DataConfig
from hbcomp.data.duplicates import find_duplicates
from hbcomp.data.sample import BUNDLED
from hbcomp.data.synthetic import make_rows, write_competition_csv
from hbcomp.data.tables import read_truth
from hbcomp.system.errors import InputError


def test_the_sample_has_the_competitions_shape_and_class_proportions() -> None:
    train, test = load_sample()
    assert train.flat.shape == (4000, 205)
    assert test.flat.shape == (1000, 205)
    assert train.class_counts.tolist() == [2576, 144, 569, 711]
    assert np.bincount(read_truth(None, load_sample()[1].ids, 4)).tolist() == [644, 36, 142, 178]


def test_no_signal_and_no_id_of_the_sample_is_in_both_parts() -> None:
    found = find_duplicates(*load_sample())
    assert (found.n_repeated, found.n_in_train, found.n_shared_ids) == (0, 0, 0)


def test_the_samples_test_part_has_no_labels() -> None:
    assert load_sample()[1].labels is None


def test_the_sample_fits_into_3_megabytes_and_names_its_licence() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) < 3e6
    text = (BUNDLED / "ATTRIBUTION.md").read_text()
    assert "MIT-BIH Arrhythmia Database" in text
    assert "ODC-By 1.0" in text


def test_without_files_the_sample_is_loaded() -> None:
    train, test = load_data(DataConfig())
    assert test is not None
    assert (train.n_rows, test.n_rows) == (4000, 1000)


def test_named_files_are_loaded_and_the_test_file_may_be_left_out(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    write_competition_csv(train, make_rows())
    write_competition_csv(test, make_rows(n=20, seed=1))
    assert load_data(DataConfig(train=train))[1] is None
    with pytest.raises(InputError, match="an id names one row"):
        load_data(DataConfig(train=train, test=test))
    test.write_text(test.read_text().replace("\n", "\nt").removesuffix("t"))
    _, rows = load_data(DataConfig(train=train, test=test))
    assert rows is not None
    assert rows.n_rows == 20
    assert rows.labels is None


def test_rows_without_labels_have_no_known_ones() -> None:
    with pytest.raises(InputError, match="labels are needed here"):
        _ = load_sample()[1].known_labels


def test_made_up_beats_are_balanced_and_repeatable() -> None:
    beats = make_rows(n=64, t=32, k=4, seed=5)
    assert beats.class_counts.tolist() == [16, 16, 16, 16]
    assert beats.fingerprint == make_rows(n=64, t=32, k=4, seed=5).fingerprint
    assert beats.fingerprint != make_rows(n=64, t=32, k=4, seed=6).fingerprint
    assert beats.flat.min() >= 0
    assert beats.flat.max() <= 1


def test_made_up_beats_can_be_learnt_by_the_nearest_class_mean() -> None:
    train, test = make_rows(n=200), make_rows(n=200, seed=1)
    means = np.stack([train.flat[train.known_labels == label].mean(axis=0) for label in range(4)])
    nearest = np.linalg.norm(test.flat[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == test.known_labels).mean() > 0.95


def test_importing_the_data_layer_imports_no_slow_library() -> None:
    code = (
        "import sys, hbcomp.data;"
        "print([name for name in ('torch', 'pandas', 'pyarrow', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wide_files_with_other_sample_columns_are_refused(tmp_path):
    (tmp_path / "train.csv").write_text("id,s1,s2,label\n1,0,1,0\n2,1,0,1\n")
    (tmp_path / "test.csv").write_text("id,s2,s3\n3,0,1\n")
    config = DataConfig(train=tmp_path / "train.csv", test=tmp_path / "test.csv")
    with pytest.raises(InputError, match=r"number 1 is 's2' instead of 's1'"):
        load_data(config)


def test_wide_files_with_the_same_sample_columns_are_read(tmp_path):
    (tmp_path / "train.csv").write_text("s1,label,s2,id\n0,0,1,1\n1,1,0,2\n")
    (tmp_path / "test.csv").write_text("id,s1,s2\n3,0,1\n")
    _, test = load_data(DataConfig(train=tmp_path / "train.csv", test=tmp_path / "test.csv"))
    assert test.flat.tolist() == [[0.0, 1.0]]


WIDE_HEADERS = {
    "id,s0,s1,s2,age,label": "s0, s1, ..., but 'age' is not of it; name what is no time step",
    "id,s0,s1,s2,kfold,age,label": "but 'kfold', 'age' are not of it",
    "id,age,s0,s1,s2,label": "'age' is not of it",
    "id,s0,s1,s2,f_1,label": "'f_1' is not of it",
    "id,s0,s2,s1,label": "in the order of their numbers, but 's1' comes after 's2'",
    "id,s0,s1,s10,s2,label": "'s2' comes after 's10'",
    "id,a,b,label": "the other columns are not a numbered series of time steps",
}


@pytest.mark.parametrize("header", WIDE_HEADERS)
def test_columns_that_are_no_numbered_series_are_not_taken_for_time_steps(tmp_path, header):
    path = tmp_path / "train.csv"
    cells = ",".join("0" for _ in header.split(",")[1:-1])
    path.write_text(f"{header}\n1,{cells},0\n2,{cells},1\n")
    with pytest.raises(InputError) as found:
        load_data(DataConfig(train=path))
    assert WIDE_HEADERS[header] in str(found.value)


@pytest.mark.parametrize(
    "names",
    ["s0,s1,s2", "0,1,2", "s_1,s_2,s_3", "0.0,0.5,1.0", "lead1_s0,lead1_s1,lead1_s2", "t8ms,t9ms"],
)
def test_numbered_columns_are_time_steps_and_ignored_ones_are_none(tmp_path, names):
    cells = ",".join("5" for _ in names.split(","))
    for name, label in (("train.csv", ",label"), ("test.csv", "")):
        rows = [f"{name}{row},33,{cells}{f',{row}' if label else ''}" for row in range(2)]
        (tmp_path / name).write_text("\n".join([f"id,age,{names}{label}", *rows, ""]))
    text = 'title = "x"\n[data]\ntrain = "train.csv"\ntest = "test.csv"\nignore = ["age"]\n'
    (tmp_path / "competition.toml").write_text(text)
    config = DataConfig(competition=str(tmp_path))
    train, test = load_data(config)
    assert train.n_timepoints == test.n_timepoints == len(names.split(","))
    assert set(train.flat.ravel().tolist()) == {5.0}


@pytest.mark.parametrize("has_labels", [True, False])
def test_the_training_file_is_not_taken_for_the_test_file(tmp_path, has_labels):
    rows = ['1,"0,1",0', '2,"1,0",1', '3,"1,1",1']
    (tmp_path / "train.csv").write_text("\n".join(["id,heartbeat_signals,label", *rows, ""]))
    test = ["id,heartbeat_signals,label", *rows[1:]]
    if not has_labels:
        test = [row.rpartition(",")[0] for row in test]
    (tmp_path / "test.csv").write_text("\n".join([*test, ""]))
    config = DataConfig(train=tmp_path / "train.csv", test=tmp_path / "test.csv")
    with pytest.raises(InputError, match="all of its 2 rows are training rows of"):
        load_data(config)
    (tmp_path / "test.csv").write_text("\n".join([*test, '4,"0,0",0' if has_labels else '4,"0,0"']))
    assert load_data(config)[1].n_rows == 3


def test_an_index_written_by_pandas_is_not_taken_for_a_sample(tmp_path):
    (tmp_path / "train.csv").write_text(",id,a,label\n0,1,0.5,0\n1,2,0.5,1\n")
    with pytest.raises(InputError, match="a column without a name would be read as a time step"):
        load_data(DataConfig(train=tmp_path / "train.csv"))
