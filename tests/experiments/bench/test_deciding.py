import numpy as np
import pytest
from bench import deciding
from bench.deciding import calibrated, compare


@pytest.mark.parametrize("seed", range(3))
def test_no_study_beats_the_exact_thresholds_and_more_trials_never_hurt(seed):
    found = compare(*calibrated(300, 3, seed), (3, 6), seed)
    assert found["optuna 3 trials"]["regret"] >= found["optuna 6 trials"]["regret"] >= 0


def test_labels_follow_their_probabilities():
    probs, labels = calibrated(20_000, 4, seed=0)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0)
    shares = np.bincount(labels, minlength=4) / len(labels)
    np.testing.assert_allclose(shares, probs.mean(axis=0), atol=0.01)
    sure = probs[np.arange(len(labels)), labels]
    assert sure.mean() == pytest.approx((probs**2).sum(axis=1).mean(), abs=0.01)


def test_the_table_names_every_way(monkeypatch):
    monkeypatch.setattr(deciding, "N_ROWS", 100)
    monkeypatch.setattr(deciding, "N_TRIALS", (2, 3))
    (table,) = deciding.tables(deciding.measure())
    assert [row[0] for row in table.rows] == ["exact", "optuna 2 trials", "optuna 3 trials"]
