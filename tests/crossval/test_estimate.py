"""How long a cross-validation takes, told before it begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.crossval.estimate import N_FIRST, Estimate, estimate, extrapolated, part_of
from hbcomp.crossval.training_data import load_training_data
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.setup import prepare


@given(power=st.floats(1.0, 2.0), n_all=st.integers(1, 1_000_000))
def test_seconds_that_grow_by_a_power_of_the_rows_are_extrapolated_exactly(power, n_all):
    found = extrapolated(lambda n_rows: 1e-4 * n_rows**power, n_all)
    assert found == pytest.approx(1e-4 * n_all**power)


@given(n_all=st.integers(1, 1_000_000), fixed=st.floats(0.0, 10.0))
def test_what_takes_a_time_of_its_own_is_never_told_to_take_less_than_it_does(n_all, fixed):
    assert extrapolated(lambda n_rows: fixed + 1e-3 * n_rows, n_all) >= fixed + 1e-3 * n_all - 1e-9


def test_a_probe_ends_when_it_has_taken_a_second():
    seen = []

    def seconds_on(n_rows):
        seen.append(n_rows)
        return n_rows / 1_000

    extrapolated(seconds_on, 10_000_000)
    assert seen == [N_FIRST, 256, 512, 1024]


@pytest.fixture
def sample(tmp_path, monkeypatch):
    """The bundled sample, as the data of quickstart."""
    monkeypatch.chdir(tmp_path)
    request = prepare("quickstart", ["compute.device=cpu"], None)
    return load_training_data(request.config)


def test_a_part_has_every_class_in_the_training_rows_of_every_fold(sample):
    whole = sample
    part = part_of(whole, 60)
    folds = part.folds_of_seed[0]
    assert part.train.n_rows == pytest.approx(60, abs=whole.train.n_classes)
    assert part.test.n_rows == round(whole.test.n_rows * 60 / whole.train.n_rows)
    for fold in range(folds.n_folds):
        seen = part.train.known_labels[folds.train_idx(fold)]
        assert set(seen) == set(range(whole.train.n_classes))
    assert set(part.train.ids) <= set(whole.train.ids)


@pytest.mark.parametrize("preset", ["quickstart", "quant", "lines"])
def test_nets_of_steps_and_fitted_nets_are_timed_without_a_trace_on_the_disk(
    preset, sample, tmp_path
):
    whole = sample
    config = prepare(preset, ["compute.device=cpu"], None).config
    before = sorted(tmp_path.rglob("*"))
    found = estimate(config, part_of(whole, 100), find_run("none"), 2)
    assert (found.n_jobs, found.n_folds) == (2, whole.n_folds)
    assert found.seconds_of_net > 0
    assert sorted(tmp_path.rglob("*")) == before


def test_nets_that_train_at_once_take_rounds():
    found = Estimate(seconds_of_net=9.0, n_jobs=2, n_folds=5)
    assert found.seconds(5) == pytest.approx(3 * found.seconds(1))
    assert found.seconds(0) == 0
    assert Estimate(9.0, 1, 5).seconds(5) == 45
