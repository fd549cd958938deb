"""SignalClassifier keeps the rules of scikit-learn, takes channels too, and works in its tools."""

import inspect
import io
import json

import joblib
import numpy as np
import pytest
from commands import run_hbcomp
from notebook_rows import CLASSES, TINY, make_arrays
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

import hbcomp
from hbcomp import SignalClassifier
from hbcomp.api import classifier
from hbcomp.experiment.predictions import read_arrays
from hbcomp.experiment.stored_folds import LAYOUT

X, Y, T, TRUTH = make_arrays()
PAIRS = np.stack([X, X[:, ::-1]], axis=1)  # of two channels
# Small enough for a blink, and good enough for the blobs that scikit-learn asks to learn.
LEARNS = {**TINY, "net.widths": [8], "net.strides": [1], "net.hidden": 16, "train.n_epochs": 3}
OF_PRESET = {
    "resnet": TINY,
    "rocket": {"net.transforms": ["minirocket"], "net.n_features": 84},
    "quant": {"net.n_trees": 5},
    "lines": {"train.n_epochs": 5},
}


def tiny(preset="resnet", **options):
    return SignalClassifier(preset, overrides=OF_PRESET[preset], **options)


@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(each, check, id=check.func.__name__)
        for each, check in estimator_checks_generator(
            SignalClassifier(overrides={**LEARNS, "train.lr": 0.03})
        )
    ],
)
def test_scikit_learn_finds_nothing_wrong(monkeypatch, estimator, check):
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("the classifier takes numpy's arrays")
    # One check hands over wrong types, which these tests would refuse before the classifier does.
    monkeypatch.setattr(SignalClassifier, "__init__", inspect.unwrap(SignalClassifier.__init__))
    check(estimator)


@pytest.mark.parametrize("preset", OF_PRESET)
def test_every_kind_of_preset_fits_signals_of_channels_with_gaps(here, preset):
    signals = PAIRS.copy()
    signals[::7, 1, 10:] = np.nan
    fitted = tiny(preset).fit(signals, Y)
    probs = fitted.predict_proba(signals[:9])
    assert probs.shape == (9, 3)
    assert np.allclose(probs.sum(axis=1), 1)
    assert np.array_equal(fitted.predict(signals[:9]), CLASSES[probs.argmax(axis=1)])
    assert fitted.n_features_in_ == 2
    file = io.BytesIO()
    joblib.dump(fitted, file)
    file.seek(0)
    assert np.array_equal(joblib.load(file).predict_proba(signals[:9]), probs)
    assert not list(here.iterdir())


def test_the_net_is_that_of_training_on_everything(here):
    options = {"n_folds": 2, "overrides": TINY, "run": "mine"}
    hbcomp.cross_validate(X, Y, T, seeds=[5], **options)
    words = ["cv", "mine", "--fold", "all", "--set", f"refit.seeds={json.dumps([5])}"]
    done = run_hbcomp(words, here)
    assert done.returncode == 0, done.stderr
    stored = read_arrays(here / "experiments/mine/folds/5-all/result.npz", LAYOUT)["test_probs"]
    assert np.array_equal(tiny(random_state=5).fit(X, Y).predict_proba(T), stored)
    assert np.array_equal(hbcomp.load("mine", fold="all").predict_proba(T), stored)


def test_it_learns_and_works_in_the_tools_of_scikit_learn(here):
    pipeline = make_pipeline(FunctionTransformer(lambda rows: rows * 2), tiny())
    search = GridSearchCV(
        clone(pipeline),
        {"signalclassifier__overrides": [TINY, {**LEARNS, "train.n_epochs": 20}]},
        cv=2,
    ).fit(PAIRS, Y)
    assert search.best_params_["signalclassifier__overrides"]["train.n_epochs"] == 20
    assert search.score(np.stack([T, T[:, ::-1]], axis=1), TRUTH) > 0.9
    of_presets = GridSearchCV(SignalClassifier(overrides={}), {"preset": ["quant"]}, cv=2)
    assert of_presets.fit(X, Y).best_score_ > 0.9
    calibrated = CalibratedClassifierCV(tiny("quant"), cv=2).fit(PAIRS, Y)
    assert calibrated.predict_proba(PAIRS).shape == (60, 3)
    probs = cross_val_predict(tiny(), X, Y, cv=2, method="predict_proba")
    assert probs.shape == (60, 3)


def test_an_interrupted_fit_keeps_its_net_and_goes_on_up(monkeypatch):
    train_epochs = classifier.train_epochs

    def interrupted(*args):
        for number, epochs in enumerate(train_epochs(*args)):
            yield epochs
            if number == 1:
                raise KeyboardInterrupt

    whole = SignalClassifier(overrides={**TINY, "train.n_epochs": 6}).fit(X, Y)
    assert (whole.is_partial_, whole.n_epochs_) == (False, 6)
    monkeypatch.setattr(classifier, "train_epochs", interrupted)
    partial = SignalClassifier(overrides={**TINY, "train.n_epochs": 6})
    with pytest.raises(KeyboardInterrupt):
        partial.fit(X, Y)
    assert (partial.is_partial_, partial.n_epochs_) == (True, 2)
    assert set(partial.predict(T)) <= set(CLASSES)
    monkeypatch.setattr(classifier, "train_epochs", lambda *_: iter(()))
    with pytest.raises(NotFittedError):
        partial.fit(X, Y).predict(T)  # no epoch was trained, and the former net is gone


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda: tiny().fit(X[:, :, None, None], Y), r"X must have the shape \(n, t\) or"),
        (lambda: tiny().fit(X * 1e300, Y), "X: values must be finite in float32"),
        (lambda: tiny().fit(X, np.zeros(60)), "y must have at least 2 classes"),
        (lambda: tiny().fit(PAIRS, Y).predict(PAIRS[:, :, 1:]), "X must have 2 channels of 16"),
        (lambda: SignalClassifier("restnet").fit(X, Y), "did you mean resnet"),
        (lambda: SignalClassifier(overrides={"net.width": 1}).fit(X, Y), "unknown key width"),
        (
            lambda: SignalClassifier(overrides={"train.early_stopping.patience": 2}).fit(X, Y),
            "need held-out rows",
        ),
    ],
)
def test_wrong_input_is_a_value_error(fit, message):
    with pytest.raises(hbcomp.InputError, match=message):
        fit()


def test_a_draw_of_the_seed_comes_from_the_given_state():
    nets = [
        SignalClassifier(overrides=TINY, random_state=np.random.RandomState(seed)).fit(X, Y)
        for seed in (0, 0, 1)
    ]
    first, same, other = (each.predict_proba(T) for each in nets)
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)
