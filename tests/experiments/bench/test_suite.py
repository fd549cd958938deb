import json
from dataclasses import asdict

import pytest
import typer
from bench import scaling, startup, suite
from bench.suite import PARTS, Part, machine, markdown, measure_all, slug
from run_bench import run_bench

from hbcomp.experiment.setup import prepare
from hbcomp.reporting.pages import Table
from hbcomp.system import command as cli

ABOUT = {"gpu": None, "n_cores": 2, "cpu": "Intel(R) Xeon(R) Processor @ 2.50GHz"}


@pytest.fixture
def parts(monkeypatch):
    """Parts that take no time, and a log of the nets they were given."""
    nets_given = []

    def measure(nets):
        nets_given.append(list(nets))
        return [{"seconds": 1.5}]

    def tables(numbers):
        return [Table("a part", ["what", "seconds"], [["all", numbers["seconds"]]])]

    monkeypatch.setattr(suite, "PARTS", {name: Part(measure, tables) for name in PARTS})
    return nets_given


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ["raed"]}, "one of train, read, thresholds, scaling, startup, but got 'raed'"),
        ({"net": ["restnet"]}, "net.name must be one of "),
        ({"only": ["read"], "save": True}, "it does not go with --only"),
    ],
)
def test_wrong_words_are_one_line_and_exit_code_2(options, message, capsys):
    with pytest.raises(typer.Exit) as stop:
        cli.guarded(run_bench)(**options)
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.exit_code == 2
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.usefixtures("parts")
def test_what_was_measured_before_an_end_was_shown(monkeypatch, capsys):
    def measure(_nets):
        yield {"seconds": 7.25}
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "PARTS", {"train": Part(measure, suite.PARTS["train"].tables)})
    with pytest.raises(typer.Exit):
        cli.guarded(run_bench)(only=["train"])
    assert "7.25" in capsys.readouterr().err


def test_an_interrupt_ends_with_130_and_writes_nothing(parts, monkeypatch, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "FOLDER", tmp_path)
    monkeypatch.setattr(suite, "write_text", interrupt)
    with pytest.raises(typer.Exit) as stop:
        cli.guarded(run_bench)(save=True)
    assert stop.value.exit_code == 130
    assert not list(tmp_path.rglob("*.*"))


def test_only_the_named_parts_run(parts):
    numbers = measure_all(["read", "startup"], ["resnet"], save=False)
    assert set(numbers) == {"machine", "read", "startup", "seconds"}
    assert parts == [["resnet"]] * 2


def test_a_saved_result_holds_all_parts_and_their_tables(parts, monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "FOLDER", tmp_path)
    numbers = measure_all([], ["resnet"], save=True)
    (result,) = tmp_path.glob("*.json")
    assert json.loads(result.read_text()) == numbers
    assert set(PARTS) <= set(numbers)
    page = result.with_suffix(".md").read_text()
    assert page.count("| all | 1.5 |") == len(PARTS)
    assert str(tmp_path) not in page + result.read_text()


def test_the_machine_is_described_without_its_name():
    import platform

    about = asdict(machine())
    assert {"cpu", "n_cores", "memory_gib", "gpu", "torch", "numpy", "date"} <= set(about)
    assert platform.node() not in json.dumps(about).split('"')


@pytest.mark.parametrize(
    ("about", "name"),
    [
        (ABOUT, "2-cores-intel-r-xeon-r-processor-2-50ghz"),
        ({**ABOUT, "gpu": "NVIDIA H100 80GB HBM3"}, "nvidia-h100-80gb-hbm3"),
    ],
)
def test_files_are_named_after_the_device(about, name):
    assert slug(about) == name


def test_numbers_stand_to_the_right_in_markdown():
    table = Table("t", ["way", "s"], [["a", "1.5"]])
    assert markdown(table).splitlines() == [
        "**t**",
        "",
        "| way | s |",
        "| --- | --: |",
        "| a | 1.5 |",
    ]


def test_scaling_finds_the_exponent_of_time_beyond_start_up(monkeypatch):
    def job(_, n_rows, n_folds):
        trained = 0 if n_rows == scaling.ROWS_TO_START else n_rows * (n_folds - 1)
        n_mib = 0 if not trained else 3 * scaling.data_mib(n_rows)
        return scaling.Job(9.0, growing_seconds=5 + 1e-4 * trained, peak_mib=100.0 + n_mib)

    monkeypatch.setattr(scaling, "run_job", job)
    numbers = scaling.measure()
    assert numbers["exponent_of_rows"] == numbers["exponent_of_trained_rows"] == 1
    assert set(numbers["memory_over_data"].values()) == {3}
    (table,) = scaling.tables(numbers)
    assert len(table.rows) == 6


def test_the_jobs_of_the_scaling_are_well_configured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = prepare("quickstart", scaling.SETTINGS, "scaling")
    assert asked.config.train.n_epochs == 1


@pytest.mark.long("seventeen fresh interpreters")
def test_start_up_is_measured_for_every_command(monkeypatch):
    import hbcomp.__main__

    monkeypatch.setattr(startup, "N_ROUNDS", 1)
    numbers = startup.measure()
    assert set(numbers["seconds"]) == {each.name for each in hbcomp.__main__.commands()}
