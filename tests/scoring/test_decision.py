import numpy as np
import pytest
from pydantic import ValidationError

from hbcomp.experiment.report import Chosen
from hbcomp.scoring.decision import ArgMax, Clip, ClipPerClass, Half, Raw
from hbcomp.system.errors import InputError

PROBS = np.array([[0.05, 0.5, 0.45, 0.0], [0.92, 0.04, 0.03, 0.01], [0.6, 0.4, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("rule", "answers"),
    [
        (Raw(), PROBS),
        (Half(), [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]),
        (ArgMax(), [[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]),
        (Clip(lo=0.1, hi=0.9), [[0, 0.5, 0.45, 0], [1, 0, 0, 0], [0.6, 0.4, 0, 0]]),
        (Clip(lo=0.5, hi=0.5), [[0, 0.5, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]),
        (Clip(lo=1.5, hi=1.5), np.zeros((3, 4))),
        (
            ClipPerClass(lo=(0.1, 0.5, 0.1, 0.0), hi=(0.9, 0.5, 0.4, 1.0)),
            [[0, 0.5, 1, 0], [1, 0, 0, 0.01], [0.6, 0, 0, 0]],
        ),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_rules_answer_as_the_table_says(rule, answers):
    assert rule.apply(PROBS).tolist() == np.asarray(answers, dtype=float).tolist()


@pytest.mark.parametrize(
    "rule", [Raw(), Half(), ArgMax(), Clip(lo=0.1, hi=0.9), ClipPerClass(lo=(0.1,), hi=(0.2,))]
)
def test_a_rule_survives_json(rule):
    assert Chosen.model_validate_json(Chosen(name="", rule=rule).model_dump_json()).rule == rule


def test_crossed_thresholds_are_refused():
    with pytest.raises(ValidationError, match=r"lo <= hi must hold, but got \(lo=0.6, hi=0.4\)"):
        Clip(lo=0.6, hi=0.4)
    with pytest.raises(ValidationError, match=r"lo <= hi must hold"):
        ClipPerClass(lo=(0.1, 0.6), hi=(0.2, 0.4))


def test_uneven_thresholds_per_class_are_refused():
    with pytest.raises(ValidationError, match="lo and hi must be as many, but got 2 and 1"):
        ClipPerClass(lo=(0.1, 0.2), hi=(0.3,))


def test_a_rule_for_another_number_of_classes_is_refused():
    with pytest.raises(InputError, match="a rule for 2 classes cannot answer for 4 classes"):
        ClipPerClass(lo=(0.1, 0.2), hi=(0.3, 0.4)).apply(PROBS)


def test_half_is_the_best_answer_to_calibrated_probabilities():
    # Expected cost of answering a when the truth is 1 with probability q: (1-q) a + q (1-a),
    # linear in a, so an end of [0, 1] is best, and which one depends on q > 0.5 alone.
    q = np.linspace(0, 1, 101)
    cost_of = {a: (1 - q) * a + q * (1 - a) for a in (0.0, 0.3, 1.0)}
    half = np.where(q > 0.5, cost_of[1.0], cost_of[0.0])
    assert (half <= np.minimum(np.minimum(cost_of[0.0], cost_of[0.3]), cost_of[1.0]) + 1e-12).all()
