import json

import numpy as np
import pytest

from hbcomp.experiment.recipe import BlendRecipe, read_recipe, write_recipe
from hbcomp.scoring.calibration import NoCalibration, Temperature
from hbcomp.scoring.combinations import Arithmetic, Median, RankMean
from hbcomp.scoring.decision import Clip, Half, Raw
from hbcomp.scoring.metrics import MetricConfig, MetricSpec
from hbcomp.system.errors import InputError

AUC = MetricSpec(config=MetricConfig(name="roc-auc", positive="b"), classes=("a", "b", "c"))
STACK = np.random.default_rng(0).dirichlet(np.ones(3), (2, 7))


def recipe(**changes):
    parts = {
        "base_models": ("a", "b"),
        "method": "mean",
        "combination": Arithmetic(weights=(0.25, 0.75)),
        "calibration": Temperature(temperature=2.0),
        "rule_name": "half",
        "rule": Half(),
        "fingerprints": ("1", "2"),
        "metric": MetricSpec(config=MetricConfig(scale_rows=20_000), classes=("0", "1", "2")),
    }
    return BlendRecipe(**parts | changes)


def test_answers_are_the_rule_of_the_calibration_of_the_combination():
    made = recipe(rule=Clip(lo=0.3, hi=0.4))
    mean = 0.25 * STACK[0] + 0.75 * STACK[1]
    softened = np.sqrt(mean) / np.sqrt(mean).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made.probs(STACK), softened)
    expected = np.where(softened < 0.3, 0, np.where(softened > 0.4, 1, softened))
    np.testing.assert_allclose(made.answers(STACK), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"combination": Median(), "calibration": NoCalibration(), "rule": Clip(lo=0.1, hi=0.9)},
        {"combination": RankMean(weights=(0.25, 0.75)), "rule": Raw(), "metric": AUC},
    ],
)
def test_a_recipe_survives_the_disk(tmp_path, changes):
    write_recipe(tmp_path / "recipe.json", recipe(**changes))
    assert read_recipe(tmp_path / "recipe.json") == recipe(**changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r | {"code": "import os"}, "unknown key code"),
        (lambda r: r | {"base_models": ["a", "a"]}, "base_models: base_models must be unique"),
        (lambda r: r | {"base_models": ["a"]}, "1 base models cannot have 2 weights"),
        (lambda r: r | {"base_models": []}, "base_models: "),
        (
            lambda r: r | {"fingerprints": ["1"]},
            "each base model must have one of the fingerprints",
        ),
        (lambda r: r | {"rule": {"kind": "eval"}}, "rule"),
        (
            lambda r: r | {"combination": {"kind": "arithmetic", "weights": [0.5, 0.6]}},
            "sum to 1",
        ),
        (
            lambda r: r | {"calibration": {"kind": "temperature", "temperature": -1.0}},
            "calibration.temperature",
        ),
        (lambda r: {key: r[key] for key in r if key != "metric"}, "metric"),
        (lambda r: [r], "a recipe must be a JSON object"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_file_and_key(tmp_path, change, message):
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(change(json.loads(recipe().model_dump_json()))))
    with pytest.raises(InputError) as error:
        read_recipe(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a recipe"), ('{"a": NaN}', "numbers must be finite, but there is NaN")],
)
def test_a_file_that_is_no_json_is_refused(tmp_path, text, message):
    path = tmp_path / "recipe.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_recipe(path)
    with pytest.raises(InputError, match="no such file; is it a blend"):
        read_recipe(tmp_path / "other.json")
