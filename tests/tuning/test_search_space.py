import optuna
import pytest
from presets import ROOT, presets

from hbcomp.experiment.config import Config
from hbcomp.experiment.setup import prepare, space_file
from hbcomp.system.config import read_toml, validate
from hbcomp.system.errors import InputError
from hbcomp.tuning.search_space import read_space

PRESETS = [ROOT / "experiments" / name for name in presets("space.toml")]

LR = '"train.lr" = { low = 1e-3, high = 2e-2, log = true }'
CONDITIONAL = """
"train.optimizer" = { choices = ["adam", "adamw"] }
"train.schedule.kind" = { choices = ["one-cycle", "step"], when = { "train.optimizer" = ["adam"] } }
"train.schedule.every" = { low = 2, high = 9, when = { "train.schedule.kind" = ["step"] } }
"train.schedule.gamma" = { low = 0.1, high = 0.9, when = { "train.schedule.kind" = ["step"] } }
"""
LINKED = """
"net" = { choices = [
    { widths = [32, 64, 96], strides = [2, 2, 2] },
    { widths = [8, 16], strides = [1, 2] },
] }
"net.kernel" = { low = 3, high = 7, step = 2 }
"""
KINDS = """
"train.schedule.kind" = { choices = ["one-cycle", "linear", "step"] }
"train.schedule.warmup" = { low = 0.0, high = 0.4, when = { "train.schedule.kind" = ["linear"] } }
"""


@pytest.fixture
def space_of(tmp_path):
    def read(text):
        path = tmp_path / "space.toml"
        path.write_text(text)
        return read_space(path)

    return read


def random_trials(space, n_trials, seed=0):
    """Yield the values of random trials and the trials."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    for _ in range(n_trials):
        trial = study.ask()
        yield space.suggest(trial), trial


@pytest.mark.parametrize("folder", PRESETS, ids=lambda folder: folder.name)
def test_a_preset_passes_its_check_and_lies_inside_its_own_space(folder):
    space, base = (
        read_space(folder / "space.toml"),
        validate(Config, read_toml(folder / "config.toml"), folder / "config.toml"),
    )
    space.check(base)
    params = space.base_values(base)
    assert params is not None
    assert space.apply(base, space.values_of(params)) == base


@pytest.mark.parametrize("name", presets("config.toml"))
def test_every_preset_has_a_space_of_its_own_or_of_its_net(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = prepare(name, [], None)
    space = read_space(space_file(asked, None))
    space.check(asked.config)
    # What the space leaves out is what makes the preset no trial of it.
    assert (space.base_values(asked.config) is None) == bool(space.outside(asked.config))


@pytest.mark.parametrize("folder", PRESETS, ids=lambda folder: folder.name)
def test_every_suggested_point_of_a_checked_space_is_a_valid_config_and_fits(folder):
    space, base = (
        read_space(folder / "space.toml"),
        validate(Config, read_toml(folder / "config.toml"), folder / "config.toml"),
    )
    for values, trial in random_trials(space, 200):
        space.apply(base, values)
        assert space.fits(trial.params)
        assert space.values_of(trial.params) == values
        assert space.distributions_of(trial.params) == trial.distributions


def test_a_range_of_whole_ends_gives_whole_numbers_and_others_floats(space_of):
    space = space_of('"a" = { low = 1, high = 9 }\n"b" = { low = 1, high = 9.0 }')
    for values, _ in random_trials(space, 20):
        assert [type(values[path]) for path in "ab"] == [int, float]


def test_steps_reach_exactly_the_values_that_were_written(space_of):
    space = space_of(
        '"a" = { low = 0.1, high = 0.4, step = 0.1 }\n"b" = { low = 4, high = 8, step = 2 }'
    )
    trials = [values for values, _ in random_trials(space, 60)]
    assert sorted({round(values["a"], 9) for values in trials}) == [0.1, 0.2, 0.3, 0.4]
    assert {values["b"] for values in trials} == {4, 6, 8}


def test_a_list_and_a_table_reach_optuna_as_text_and_the_config_as_they_are(space_of):
    space = space_of(
        '"net.widths" = { choices = [[8, 16], [16, 32]] }\n"x" = { choices = [{ a = 1 }, 2] }'
    )
    values, trial = next(random_trials(space, 1))
    assert values["net.widths"] in ([8, 16], [16, 32])
    assert trial.params["net.widths"] in ("[8, 16]", "[16, 32]")
    assert trial.distributions["x"].choices == (2, '{"a": 1}')


def test_conditional_entries_are_suggested_when_on_and_never_when_off(space_of):
    seen = set()
    for values, _ in random_trials(space_of(CONDITIONAL), 60):
        expected = {"train.optimizer"}
        if values["train.optimizer"] == "adam":
            expected |= {"train.schedule.kind"}
        if values.get("train.schedule.kind") == "step":
            expected |= {"train.schedule.every", "train.schedule.gamma"}
        assert values.keys() == expected
        seen.add(len(values))
    assert seen == {1, 2, 4}


def test_another_kind_starts_its_section_from_its_own_defaults(space_of):
    space, base = space_of(KINDS), Config()
    changed = space.apply(base, {"train.schedule.warmup": 0.4, "train.schedule.kind": "linear"})
    assert changed.train.schedule.model_dump() == {"kind": "linear", "warmup": 0.4}
    assert space.apply(base, {"train.schedule.kind": "step"}).train.schedule.every == 100
    assert space.apply(base, {"train.schedule.kind": "one-cycle"}) == base


def test_nets_can_be_chosen_with_keys_of_their_own(space_of):
    space = space_of(
        '"net.name" = { choices = ["reference", "resnet"] }\n'
        '"net.hidden" = { low = 4, high = 8, when = { "net.name" = ["resnet"] } }'
    )
    space.check(Config())
    nets = [space.apply(Config(), values).net for values, _ in random_trials(space, 20)]
    assert {net.name for net in nets} == {"reference", "resnet"}
    assert {net.hidden for net in nets if net.name == "resnet"} <= {4, 5, 6, 7, 8}


def test_kinds_that_depend_on_each_other_are_still_checked_in_finite_time(space_of):
    space = space_of(
        '"net.name" = { choices = ["reference", "resnet"], when = { "net.hidden" = [8] } }\n'
        '"net.hidden" = { choices = [4, 8] }\n"net.kind" = { choices = [1, 2] }'
    )
    with pytest.raises(InputError, match=r"net\.kind = 1: .*unknown key"):
        space.check(Config())


def test_a_table_changes_its_keys_together_and_leaves_the_others(space_of):
    base = Config.model_validate_json('{"net": {"hidden": 7}}')
    net = space_of(LINKED).apply(base, {"net": {"widths": [8, 16], "strides": [1, 2]}}).net
    assert (net.widths, net.strides, net.hidden) == ((8, 16), (1, 2), 7)


def test_applying_a_table_leaves_the_space_as_it_was(space_of):
    space = space_of(
        '"new" = { choices = [{ deep = { x = 1 } }, { deep = { x = 2 } }] }\n'
        '"new.deep.y" = { low = 1, high = 2 }'
    )
    before = space.fingerprint
    for values, _ in random_trials(space, 3):
        with pytest.raises(InputError, match="unknown key new"):
            space.apply(Config(), values)
    assert space.fingerprint == before


@pytest.mark.parametrize(
    ("text", "change", "is_inside"),
    [
        (LR, {}, True),
        (LR, {"lr": 0.1}, False),
        (LR, {"lr": 2e-2}, True),
        ('"train.n_epochs" = { low = 4, high = 12, step = 2 }', {"n_epochs": 5}, False),
        ('"train.batch_size" = { choices = [64, 128] }', {"batch_size": 128}, True),
        ('"train.batch_size" = { choices = [64, 128] }', {}, False),
        ('"train.betas" = { choices = [[0.9, 0.99], [0.9, 0.999]] }', {}, True),
        (LINKED, {}, True),
        (CONDITIONAL, {}, True),
        (CONDITIONAL, {"optimizer": "adam", "schedule": {"kind": "linear"}}, False),
        (CONDITIONAL, {"optimizer": "adam", "schedule": {"kind": "step"}}, False),
        (CONDITIONAL, {"optimizer": "adam", "schedule": {"kind": "step", "every": 9}}, True),
        ('"train.schedule.every" = { low = 2, high = 9 }', {}, False),
    ],
)
def test_base_values_round_trip_or_are_none_outside(space_of, text, change, is_inside):
    base = Config().model_copy(
        update={"train": Config().train.model_validate(change, strict=False)}
    )
    space = space_of(text)
    params = space.base_values(base)
    assert (params is not None) == is_inside
    if params is not None:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
        study.enqueue_trial(params)
        assert space.apply(base, space.suggest(study.ask())) == base
        assert study.trials[0].params == params


@pytest.mark.parametrize(
    ("params", "fits"),
    [
        ({"train.optimizer": "adamw"}, True),
        ({}, False),
        ({"train.optimizer": "sgd"}, False),
        ({"train.optimizer": "adamw", "train.lr": 1.0}, False),
        ({"train.optimizer": "adam"}, False),
        ({"train.optimizer": "adam", "train.schedule.kind": "one-cycle"}, True),
        (
            {
                "train.optimizer": "adam",
                "train.schedule.kind": "step",
                "train.schedule.every": 10,
                "train.schedule.gamma": 0.5,
            },
            False,
        ),
        (
            {
                "train.optimizer": "adam",
                "train.schedule.kind": "step",
                "train.schedule.every": 9,
                "train.schedule.gamma": 0.5,
            },
            True,
        ),
    ],
)
def test_parameters_fit_if_they_are_exactly_those_that_vary_and_lie_inside(space_of, params, fits):
    assert space_of(CONDITIONAL).fits(params) == fits


def test_fingerprint_and_suggestions_do_not_depend_on_any_order_in_the_file(space_of):
    one = space_of(
        '"a" = { choices = [1, 2, [3]], when = { "b" = ["x", "y"] } }\n'
        '"b" = { choices = ["x", "y", "z"] }\n"c" = { low = 1, high = 3, step = 1 }'
    )
    other = space_of(
        '"c" = { high = 3, low = 1 }\n"b" = { choices = ["z", "x", "y"] }\n'
        '"a" = { when = { "b" = ["y", "x"] }, choices = [[3], 2, 1] }'
    )
    assert one.fingerprint == other.fingerprint
    drawn = [[values for values, _ in random_trials(space, 20)] for space in (one, other)]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "text",
    [
        '"a" = { low = 1, high = 3 }',
        '"b" = { low = 1, high = 2 }',
        '"a" = { low = 1.0, high = 2.0 }',
        '"a" = { low = 1, high = 2, log = true }',
        '"a" = { choices = [1, 2] }',
        '"a" = { low = 1, high = 2, when = { "b" = [1] } }\n"b" = { choices = [1, 2] }',
    ],
)
def test_any_change_of_content_changes_the_fingerprint(space_of, text):
    assert space_of(text).fingerprint != space_of('"a" = { low = 1, high = 2 }').fingerprint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a search space needs at least one entry"),
        ("train.lr = { low = 1, high = 2 }", 'train: must be a table with .*{"lr": .* in quotes'),
        ('"a" = 3', "a: must be a table with low and high, or with choices, but got 3"),
        ('"a" = { low = 1 }', "a: high: Field required"),
        ('"a" = { low = 1, hihg = 2, high = 3 }', "a: unknown key hihg, did you mean high?"),
        ('"a" = { low = 1, high = "2" }', "a: high: .* number, but got '2'"),
        (
            '"a" = { low = 1, high = 2, choices = [1, 2] }',
            "a: unknown key low .*; unknown key high",
        ),
        ('"a" = { low = 3, high = 3 }', "a: low must be less than high, but got low = 3, high = 3"),
        ('"a" = { low = 2.0, high = 1.0 }', "a: low must be less than high, but got low = 2.0"),
        ('"a" = { low = 0, high = 3, log = true }', "a: low must be positive with log = true"),
        ('"a" = { low = 0.0, high = 3.0, log = true }', "a: low must be positive .* but got 0.0"),
        ('"a" = { low = 1, high = 5, log = true, step = 2 }', "a: step and log = true exclude"),
        (
            '"a" = { low = 1.0, high = 2.0, step = 0.3 }',
            "a: steps of 0.3 from low = 1.0 must reach",
        ),
        ('"a" = { low = 1, high = 4, step = 2 }', "a: steps of 2 from .* but got high = 4"),
        ('"a" = { low = 1, high = 4, step = 0 }', "a: step: .* greater than or equal to 1"),
        ('"a" = { choices = [1] }', "a: choices: .* at least 2 items"),
        ('"a" = { choices = [[1], [2], [1]] }', r"a: choices: .* \[1\] is there twice"),
        (
            '"a" = { choices = [1, 2], when = { "b" = [1] } }',
            "a.when: b must be in this space with",
        ),
        (
            '"a" = { low = 1, high = 2, when = { "b" = [1] } }\n"b" = { low = 1, high = 2 }',
            "a.when: b must be in this space with choices",
        ),
        (
            '"a" = { low = 1, high = 2, when = { "b" = [1, 3] } }\n"b" = { choices = [1, 2] }',
            "a.when.b: 3 is not among its choices",
        ),
        (
            '"a" = { low = 1, high = 2, when = { "b" = [] } }\n"b" = { choices = [1, 2] }',
            "a: when.b: .* at least 1 item",
        ),
        (
            '"a" = { choices = [1, 2], when = { "b" = [1] } }\n'
            '"b" = { choices = [1, 2], when = { "a" = [1] } }',
            "when goes in a circle: a, b, a",
        ),
        (
            LINKED + '"net.strides" = { choices = [[1], [2]] }',
            "net and net.strides both set net.st",
        ),
        ('"a.b" = { choices = [1, 2] }\n"a" = { choices = [3, 4] }', "a.b and a both set a.b"),
    ],
)
def test_a_wrong_entry_is_named_with_its_file(space_of, text, message):
    with pytest.raises(InputError, match=f"space.toml: {message}"):
        space_of(text)


def test_everything_wrong_in_a_file_is_said_at_once(space_of):
    with pytest.raises(InputError, match=r"a: low must be .*; b: choices: .*; c: must be a table"):
        space_of('"a" = { low = 2, high = 1 }\n"b" = { choices = [] }\n"c" = true')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"data.train" = { choices = ["a", "b"] }', "data.train cannot be tuned: .* same rows"),
        ('"folds.n_folds" = { low = 2, high = 5 }', "folds.n_folds cannot be tuned: .* same folds"),
        ('"folds" = { choices = [1, 2] }', "folds cannot be tuned"),
        (
            '"compute.n_threads" = { low = 1, high = 2 }',
            "compute.n_threads cannot .* not which net",
        ),
        ('"report.n_scored_epochs" = { low = 1, high = 2 }', "report.* has no influence"),
        (
            '"train.early_stopping.watch" = { choices = ["inner", "scored-fold"] }',
            "train.early_stopping.watch cannot be tuned: trials are compared by the folds",
        ),
        (
            '"train.early_stopping" = { choices = [{ patience = 1, watch = "scored-fold" }, '
            "{ patience = 2 }] }",
            "train.early_stopping cannot be tuned: trials are compared by the folds",
        ),
        (
            '"decision.rule" = { choices = ["half", "raw"] }',
            "decision.rule cannot .* fixes one rule",
        ),
        (
            '"train.lrr" = { low = 1.0, high = 2.0 }',
            "train.lrr = 1.0: unknown key train.lrr, did yo",
        ),
        ('"nonsense" = { low = 1, high = 2 }', "nonsense = 1: unknown key nonsense"),
        ('"train.lr" = { low = 0.0, high = 1.0 }', "train.lr = 0.0: train.lr: .* greater than 0"),
        ('"train.lr.x" = { low = 1, high = 2 }', "train.lr.x = 1: train.lr: .* valid number"),
        (
            '"train.batch_size" = { low = 4, high = 8.0 }',
            "train.batch_size = 4.0: .* valid integer",
        ),
        (
            '"train.optimizer" = { choices = ["adam", "sgd"] }',
            'train.optimizer = "sgd": .* but got',
        ),
        (
            '"net.kernel" = { low = 3, high = 7 }',
            "net: kernel: a kernel must be odd",
        ),
        (
            '"net.widths" = { choices = [[8, 8, 8], [8, 8]] }',
            r"net.widths = \[8, 8\]: net: strides must be one for each of 2 widths",
        ),
        (
            '"train.schedule.kind" = { choices = ["step", "linear"] }\n'
            '"train.schedule.warmup" = { low = 0.1, high = 0.2 }',
            'warmup = 0.1, train.schedule.kind = "step": unknown key train.schedule.warmup',
        ),
        (
            CONDITIONAL.replace("high = 0.9", "high = 1.9"),
            'gamma = 1.9, train.optimizer = "adam", train.schedule.kind = "step": .* equal to 1',
        ),
    ],
)
def test_what_the_config_refuses_is_found_before_the_first_trial(space_of, text, message):
    with pytest.raises(InputError, match=f"space.toml: .*{message}"):
        space_of(text).check(Config())


def test_all_refused_values_are_named_at_once(space_of):
    text = (
        '"train.lr" = { low = 0.0, high = 1.0 }\n'
        '"data" = { choices = [1, 2] }\n"x" = { choices = [1, 2] }'
    )
    with pytest.raises(InputError, match=r"data cannot .*; train\.lr = 0\.0: .*; x = 1: .*; x = 2"):
        space_of(text).check(Config())


def test_a_condition_on_a_condition_is_checked_only_where_both_hold(space_of):
    space_of(CONDITIONAL).check(Config())
    points = [
        point for point, path in space_of(CONDITIONAL)._points() if path == "train.schedule.gamma"
    ]
    assert [point["train.schedule.gamma"] for point in points] == [0.1, 0.9]
    assert all(point["train.optimizer"] == "adam" for point in points)


def test_conditions_that_exclude_each_other_are_not_tried_together(space_of):
    space = space_of(
        '"k" = { choices = [1, 2, 3] }\n'
        '"a" = { choices = [1, 2], when = { "k" = [1] } }\n'
        '"b" = { choices = [1, 2], when = { "k" = [1, 2] } }\n'
        '"c" = { low = 1, high = 9, when = { "a" = [1], "b" = [2] } }'
    )
    points = [point for point, path in space._points() if path == "c"]
    assert points
    assert all((point["k"], point["a"], point["b"]) == (1, 1, 2) for point in points)
