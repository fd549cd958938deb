import numpy as np
import pytest

from hbcomp.errors import InputError
from hbcomp.submissions import check_submission, read_submission, submission_bytes, write_submission

IDS = np.array(["100", "007", "x-1"])
ANSWERS = np.array([[1.0, 0.0], [0.1, 0.9], [1 / 3, 1e-17]])
GOOD = "id,label_0,label_1\n100,1,0\n007,0.1,0.9\nx-1,0.3333333333333333,1e-17\n"


def test_a_submission_is_the_header_and_one_row_per_id():
    assert submission_bytes(IDS, ANSWERS).decode() == GOOD


def test_a_submission_reads_back_as_the_bits_that_were_written(tmp_path):
    rng = np.random.default_rng(0)
    ids, answers = np.arange(500).astype(str), rng.random((500, 4)) ** 9
    write_submission(tmp_path / "s.csv", ids, answers)
    again = check_submission(tmp_path / "s.csv", ids, 4)
    assert np.array_equal(again.answers, answers)
    assert again.ids.tolist() == ids.tolist()


def test_writing_the_same_again_changes_nothing(tmp_path):
    path = tmp_path / "s.csv"
    assert write_submission(path, IDS, ANSWERS) is None
    assert write_submission(path, IDS, ANSWERS) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.csv"]


def test_another_file_of_the_name_is_kept_under_its_hash(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("edited by hand")
    aside = write_submission(path, IDS, ANSWERS)
    assert aside is not None
    assert aside.read_text() == "edited by hand"
    assert path.read_text() == GOOD


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_answers_that_no_leaderboard_takes_are_not_written(tmp_path, value):
    wrong = ANSWERS.copy()
    wrong[1, 1] = value
    with pytest.raises(InputError, match=r"row 2 \(id 007\): label_1 must be"):
        write_submission(tmp_path / "s.csv", IDS, wrong)
    assert list(tmp_path.iterdir()) == []


def test_spreadsheet_line_ends_and_a_missing_last_newline_are_accepted(tmp_path):
    path = tmp_path / "s.csv"
    path.write_bytes(GOOD.rstrip("\n").replace("\n", "\r\n").encode())
    assert check_submission(path, IDS).answers.shape == (3, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the header must be id,label_0,label_1, but is missing"),
        (
            GOOD.replace("label_1", "label_2"),
            "must be id,label_0,label_1, but is id,label_0,label_2",
        ),
        (GOOD.replace("id,label_0", "label_0,id"), "the header must be"),
        (
            GOOD.replace("0.9", "nan"),
            "row 2 (id 007): label_1 must be a finite number, but is 'nan'",
        ),
        (GOOD.replace("0.9", ""), "row 2 (id 007): label_1 must be a finite number, but is ''"),
        (GOOD.replace("0.9", "1_0"), "label_1 must be a finite number, but is '1_0'"),
        (GOOD.replace("0.9", "1.5"), "row 2 (id 007): label_1 must be in [0, 1], but is 1.5"),
        (GOOD.replace("0.9", "1e999"), "label_1 must be in [0, 1], but is 1e999"),
        (GOOD.replace("0.9", "-0.5"), "label_1 must be in [0, 1], but is -0.5"),
        (GOOD.replace(",0.9", ""), "row 2 (id 007): 2 cells, but the header has 3"),
        (GOOD.replace("007", "7"), "ids missing: 007; ids not in the test file: 7"),
        (GOOD.replace("007", "100"), "ids doubled: 100; ids missing: 007"),
        (GOOD.replace("x-1,0.3333333333333333,1e-17\n", ""), "2 rows, but the test file has 3"),
        ("id,label_0,label_1\n007,1,0\n100,0,1\nx-1,0,1\n", "row 1 is id 007 instead of 100"),
        (GOOD.replace("007", '"007'), "not valid CSV"),
    ],
)
def test_a_wrong_file_is_refused_with_row_and_reason(tmp_path, text, message):
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        check_submission(path, IDS)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_several_problems_are_named_at_once(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(GOOD.replace("0.9", "nan").replace("x-1", "y"))
    with pytest.raises(InputError, match=r"label_1 must be .*; ids missing: x-1; ids not in"):
        check_submission(path, IDS)


def test_another_number_of_classes_than_asked_for_is_refused(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text(GOOD)
    with pytest.raises(InputError, match="the header must be id,label_0,label_1,label_2,label_3"):
        check_submission(path, IDS, 4)


@pytest.mark.parametrize("kind", ["missing", "folder", "binary"])
def test_what_is_no_text_file_is_refused(tmp_path, kind):
    path = tmp_path / "s.csv"
    if kind == "folder":
        path.mkdir()
    if kind == "binary":
        path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"s\.csv: "):
        read_submission(path)
