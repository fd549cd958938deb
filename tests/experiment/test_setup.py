import pytest

from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import find_run
from hbcomp.experiment.resume import RunRecord, write_run
from hbcomp.experiment.setup import prepare, space_file
from hbcomp.experiment.setup import write_config as write_own_config
from hbcomp.nets.reference import ReferenceConfig
from hbcomp.nets.registry import NETS
from hbcomp.system.config import read_toml, validate
from hbcomp.system.errors import InputError
from hbcomp.training.optim import StepDecay


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_config(name, text):
    from pathlib import Path

    path = Path("experiments") / name / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["quickstart", "reference", "resnet"])
def test_a_preset_needs_no_file_here_and_is_stated_when_it_runs(name):
    request = prepare(name, [], None)
    assert not request.run.path.exists()
    write_own_config(request, force=False)
    assert (
        validate(Config, read_toml(request.run.config_file), request.run.config_file)
        == request.config
    )
    assert prepare(name, [], None).config_text is None


def test_a_config_names_its_net_and_its_schedule():
    path = write_config(
        "ref",
        '[net]\nname = "reference"\n[train]\nlr = 1e-4\n'
        '[train.schedule]\nkind = "step"\nevery = 100\ngamma = 0.5\n',
    )
    config = validate(Config, read_toml(path), path)
    assert config.net == ReferenceConfig()
    assert config.train.schedule == StepDecay(every=100, gamma=0.5)


def test_an_unknown_experiment_lists_the_known_ones():
    write_config("mine", "")
    with pytest.raises(
        InputError,
        match=r"nosuch/config.toml: no such experiment \(there are: .*mine, .*quickstart, ref",
    ):
        prepare("nosuch", [], None)


def test_an_experiment_that_is_like_a_known_one_is_request_for():
    write_config("mine", "")
    with pytest.raises(InputError, match=r"no such experiment, did you mean resnet\?; start one"):
        prepare("resent", [], None)
    with pytest.raises(InputError, match=r"no such experiment, did you mean mine\?; start one"):
        prepare("Mine", [], None)


def test_what_cannot_be_trained_is_named_for_what_it_is(here):
    folder = here / "experiments" / "best"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text("{}")
    with pytest.raises(InputError, match="experiments/best holds a blend experiment, which has no"):
        prepare("best", [], None)
    with pytest.raises(InputError, match="best-cpu is a plan; `hbcomp compete best-cpu` trains"):
        prepare("best-cpu", [], None)


def test_a_mistake_is_said_of_the_file_or_of_the_words_that_hold_it():
    path = write_config("base", "")
    with pytest.raises(InputError, match=r"^options: train\.lr: .*, but got 'fast'$"):
        prepare("base", ["train.n_epochs=3", "train.lr=fast"], None)
    path.write_text("[train]\nlr = 'fast'\n")
    with pytest.raises(InputError, match=r"^experiments/base/config\.toml: train\.lr"):
        prepare("base", ["train.n_epochs=3"], None)
    assert prepare("base", ["train.lr=0.5"], None).config.train.lr == 0.5


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("compute.cluster=host:8786", "must be an address such as tcp://host:8786 or local:4, but"),
        ("compute.cluster=local:0", "must be an address such as tcp://host:8786 or local:4, but"),
        ("compute.device=gpu", "must be auto, cpu, mps, cuda or cuda:0, but got 'gpu'"),
    ],
)
def test_text_of_the_wrong_form_is_refused_in_words(assignment, message):
    write_config("base", "")
    key = assignment.partition("=")[0]
    with pytest.raises(InputError, match=rf"^options: {key}: {message}"):
        prepare("base", [assignment], None)


@pytest.mark.parametrize(
    ("assignments", "n_epochs", "min_steps"),
    [
        ([], 7, 500),
        (["train.lr=0.5"], 7, 500),
        (["train.n_epochs=3"], 3, 0),
        (["train.min_steps=90"], 7, 90),
        (["train.min_steps=90", "train.n_epochs=3"], 3, 90),
    ],
)
def test_who_sets_the_epochs_gets_them_and_no_steps_of_the_preset(assignments, n_epochs, min_steps):
    write_config("base", "[train]\nn_epochs = 7\nmin_steps = 500\n")
    train = prepare("base", assignments, None).config.train
    assert (train.n_epochs, train.min_steps) == (n_epochs, min_steps)


def named(base, assignments, name, *, force=False):
    request = prepare(base, assignments, name)
    write_own_config(request, force=force)
    return request.config


def test_preparing_writes_nothing(here):
    prepare("quickstart", ["train.lr=0.5"], "new")
    assert list(here.iterdir()) == []


def test_a_new_name_gets_the_changed_configuration_as_its_own():
    write_config("base", "[train]\nn_epochs = 7\n")
    config = named("base", ["train.lr=0.5", "net.dropout=0.1"], "new")
    assert (config.train.n_epochs, config.train.lr) == (7, 0.5)
    assert prepare("new", [], None).config == config


def test_the_same_words_again_keep_a_file_that_says_the_same():
    write_config("base", "")
    named("base", ["train.lr=0.5"], "new")
    path = find_run("new").config_file
    path.write_text("# my comment\n" + path.read_text())
    named("base", ["train.lr=0.5"], "new")
    assert path.read_text().startswith("# my comment")


def test_a_name_that_states_another_configuration_is_refused():
    write_config("base", "")
    named("base", ["train.lr=0.5"], "new")
    with pytest.raises(InputError, match="already holds another configuration"):
        named("base", ["train.lr=0.25"], "new")
    config = named("base", ["train.lr=0.25"], "new", force=True)
    assert prepare("new", [], None).config == config


def test_a_run_keeps_the_files_that_it_began_with_until_others_are_named(capsys):
    write_config("mine", "")
    run, data = find_run("mine"), {"train": "a.csv", "test": "b.csv", "competition": "mine"}
    write_run(run, RunRecord(identity={"train.lr": 0.1}, data=data))
    for name in (None, "other"):
        kept = prepare("mine", [], name).config.data.model_dump(mode="json")
        assert {key: kept[key] for key in data} == data
        assert "mine: on mine, a.csv, b.csv, as this run began" in capsys.readouterr().err
    assert prepare("mine", ["data.train=c.csv"], None).config.data.test is None
    assert str(prepare("mine", ["data.test=d.csv"], None).config.data.train) == "a.csv"
    # Files that moved are known where they are now.
    moved = data | {"train": "moved.csv"}
    write_run(run, RunRecord(identity={"train.lr": 0.1}, data=moved))
    assert str(prepare("mine", [], None).config.data.train) == "moved.csv"
    run.run_file.write_text('identity = {}\ndata = { train = "a.csv", tset = "b.csv" }\n')
    with pytest.raises(InputError, match=r"mine/run.toml: unknown key tset, did you mean test\?"):
        prepare("mine", [], None)


def test_a_new_experiment_takes_the_space_of_the_one_it_was_made_of():
    space = write_config("base", "").with_name("space.toml")
    space.write_text('"train.lr" = { low = 1e-3, high = 1e-1 }\n')
    named("base", ["train.lr=0.5"], "new")
    assert space_file(prepare("new", [], None), None) == find_run("new").path / "space.toml"
    assert (find_run("new").path / "space.toml").read_text() == space.read_text()
    # Another kind of net has other keys: the space of its preset holds for it.
    named("base", ["net.name=wide"], "other")
    assert not (find_run("other").path / "space.toml").exists()
    assert space_file(prepare("other", [], None), None).parent.name in {"wide", "spaces"}


def test_a_space_can_be_named_by_file_or_by_experiment():
    write_config("mine", "")
    request = prepare("mine", [], None)
    assert str(space_file(request, "my.toml")) == "my.toml"
    assert space_file(request, "lines") == space_file(prepare("lines", [], None), None)
    with pytest.raises(InputError, match=r"--space nosuch: no such file, .* have one: attention"):
        space_file(request, "nosuch")
    linear = prepare("mine", ["net.name=linear"], None)
    with pytest.raises(InputError, match=r"mine/space.toml: no such file, .* linear has a search"):
        space_file(linear, None)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("net.name=restnet", f"net.name must be one of {', '.join(NETS)}, but got 'restnet'"),
        ("net.widht=3", "net: unknown key widht, did you mean widths?"),
        (
            "n_epochs=3",
            "options: unknown key n_epochs, did you mean train.n_epochs or refit.n_epochs?",
        ),
        ("net.n_epochs=3", "net: unknown key n_epochs, did you mean train.n_epochs or refit.n_ep"),
        ("compute.precision=bf61", "but got 'bf61', did you mean bf16?"),
        ("net.widths=[8, 4]", "net: widths must not decrease, but got [8, 4]"),
        ("net.strides=[2]", "strides must be one for each of 3 widths, but got [2]"),
        ("net.kernel=4", "net: kernel: a kernel must be odd, to keep the length, but got 4"),
        ("train.schedule.kind=cosine", "train.schedule"),
        ("decision.rule=hlaf", "rule must be one of auto, half, argmax"),
        ("compute.device=gpu", "compute.device"),
        ("folds.seeds=[1, 1]", "seeds must be unique"),
        ("augment.scale=-1", "augment.scale: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_key_or_value_is_named(assignment, message):
    with pytest.raises(InputError) as error:
        prepare("quickstart", [assignment], None)
    assert message in str(error.value)


def test_the_identity_holds_what_trains_and_nothing_else():
    def identity(*assignments):
        return prepare("quickstart", list(assignments), None).config.identity()

    assert identity() == identity("decision.rule=raw", "folds.seeds=[5]", "data.train=x.csv")
    for assignment in ("train.lr=0.5", "net.dropout=0.5", "augment.noise=0.1"):
        assert identity() != identity(assignment)
