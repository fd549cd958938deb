"""Every format that hbcomp reads: a good file, how to damage it, our reader, a slow one."""

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import mutations
import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from hbcomp.blending.probs_files import read_probs
from hbcomp.competitions.competition import load_competition
from hbcomp.competitions.load import read_rows
from hbcomp.data.dataset import DataConfig, Dataset
from hbcomp.data.reader import read_dataset
from hbcomp.data.splits import read_folds
from hbcomp.data.tables import read_values
from hbcomp.experiment import manifest
from hbcomp.experiment.config import Config
from hbcomp.experiment.folder import RunFolder
from hbcomp.experiment.manifest import manifest_text, read_manifest
from hbcomp.experiment.predictions import Predictions
from hbcomp.experiment.recipe import read_recipe
from hbcomp.experiment.report import read_report
from hbcomp.experiment.resume import read_run
from hbcomp.experiment.stored_folds import load_fold
from hbcomp.submissions.files import read_submission
from hbcomp.submissions.ledger import COLUMNS, Entry, read_ledger
from hbcomp.system.config import read_toml, validate
from hbcomp.tuning.search_space import read_space

N, K = 12, 3
IDS = [str(row) for row in range(N)]
LABELS = np.arange(N) % K
PROBS = np.full((N, K), 0.1) + 0.7 * np.eye(K)[LABELS]
SIGNALS = np.random.default_rng(0).uniform(0, 1, (N, 4)).astype(np.float32)
BEATS = Dataset(np.array(IDS), SIGNALS, LABELS, source="beats")

HEARTBEAT = load_competition().file.data


@dataclass(frozen=True)
class Format:
    """A kind of file: `file` is its place in an empty folder.

    `read` and `oracle` return equal values for a file that is as it should be. `slow` may look at
    what was read, to compare only what the reader promises to keep.
    """

    file: str
    good: bytes
    damage: Callable[..., bytes]
    read: Callable[[Path], Any]
    slow: Callable[[bytes], Any]
    agrees: Callable[[Any, Any], bool] = lambda read, slow: read == slow


def kept(read, slow):
    """Whether every leaf that the slow reader found was read."""
    return slow.keys() <= read.keys() and shared(read, slow)


def shared(read, slow):
    """Whether the leaves that both found are the same; a date and its text are."""
    both = slow.keys() & read.keys()
    return all(slow[path] == read[path] or str(slow[path]) == read[path] for path in both)


def _csv(header, rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def _beats(path, *, labelled):
    data = read_dataset(path, HEARTBEAT, labelled=labelled)
    labels = data.labels.tolist() if labelled else [None] * data.n_rows
    return list(zip(data.ids.tolist(), labels, data.flat.tolist(), strict=True))


def _foreign(path, *, layout):
    """Return each row's id, label and values of a file in a layout, None where there is no value.

    Unequal lengths and gaps are taken, so that damage must be told from them.
    """
    toml = {"title": "x", "data": {"pad": "end", "missing": "mask", **layout}}
    (path.parent / "competition.toml").write_text(tomli_w.dumps(toml))
    if path.suffix == ".npy":
        np.save(path.parent / "y.npy", LABELS)
    rows = read_rows(path, DataConfig(competition=str(path.parent)), labelled=True)
    labels = [rows.classes[label] for label in rows.labels]
    return list(zip(rows.ids.tolist(), labels, map(oracles.values, rows.signals), strict=True))


def _of(name, good, damage, layout, slow):
    """Return the format of a file in a foreign layout."""
    return Format(name, good, damage, partial(_foreign, layout=layout), slow)


def _dump(model):
    return dict(oracles._leaves(model.model_dump(mode="json", exclude_none=True)))


def _submission(path):
    submission = read_submission(path)
    return list(zip(submission.ids.tolist(), submission.answers.tolist(), strict=True))


def _imported(path):
    return dict(
        zip(
            IDS, read_probs(path, BEATS, BEATS.classes, normalise=False).probs.tolist(), strict=True
        )
    )


def _predictions(path):
    read = Predictions.load(path)
    assert read.oof_probs.shape[0] == len(read.train_ids) == len(read.labels)
    return {f.name: np.asarray(getattr(read, f.name)).tolist() for f in fields(read)}


def _fold(path):
    (path.parent / "history.csv").touch()
    manifest.write_manifest(path.parent, [path.name, "history.csv"])
    read = load_fold(RunFolder(path.parents[2]), None, 0, 1)
    assert len(read.valid_idx) == len(read.valid_probs)
    return {"valid_idx": read.valid_idx.tolist(), "valid_probs": read.valid_probs.tolist()}


def _ledger(path):
    return [(entry.sha256, entry.file, entry.source) for entry in read_ledger(path.parent)]


def _ledger_slow(content):
    header, rows = oracles.table(content)
    at = [header.index(name) for name in ("sha256", "file", "source")]
    return [tuple(row[i] for i in at) for row in rows]


def _npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _zip(name, content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def _parquet():
    file = io.BytesIO()
    lists = pa.array(SIGNALS.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": IDS, "heartbeat_signals": lists, "label": LABELS}), file)
    return file.getvalue()


def _run(path):
    return dict(oracles._leaves(read_run(RunFolder(path.parent)).model_dump(exclude_unset=True)))


LISTED = _csv(
    ["id", "heartbeat_signals", "label"],
    [
        [i, ",".join(map(str, s)), float(y)]
        for i, s, y in zip(IDS, SIGNALS.tolist(), LABELS, strict=True)
    ],
)
WIDE = _csv(
    ["id", "s0", "s1", "s2", "s3", "label"],
    [[i, *s, y] for i, s, y in zip(IDS, SIGNALS.tolist(), LABELS.tolist(), strict=True)],
)
TEST = _csv(
    ["id", "heartbeat_signals"],
    [[i, ",".join(map(str, s))] for i, s in zip(IDS, SIGNALS.tolist(), strict=True)],
)
PLAIN = _csv([*map(str, SIGNALS[0].tolist()), "walk"], []) + b"".join(
    _csv([*map(str, row), name], [])
    for row, name in zip(SIGNALS[1:].tolist(), [*"bc", "walk"] * 4, strict=False)
)
TSV = b"".join(
    "\t".join([str(label), *map(str, row[: 4 - label])] + ["NaN"] * label).encode() + b"\n"
    for label, row in zip(LABELS.tolist(), SIGNALS.tolist(), strict=True)
)
TS = b"@problemName x\n@classLabel true 0 1 2\n@data\n" + b"\n".join(
    f"{','.join(map(str, row[:3]))}:{','.join(map(str, row[: 4 - label]))},?:{label}".encode()
    for label, row in zip(LABELS.tolist(), SIGNALS.tolist(), strict=True)
)
LONG = _csv(
    ["who", "t", "x", "y", "what"],
    [
        [f"r{row}", step, SIGNALS[row, step], -SIGNALS[row, step], "abc"[LABELS[row]]]
        for row in range(N)
        for step in range(4 - LABELS[row])
    ],
)


def _long_parquet():
    file = io.BytesIO()
    header, rows = oracles.table(LONG)
    who, t, x, y, what = map(list, zip(*rows, strict=True))
    columns = [who, [*map(int, t)], [*map(float, x)], [*map(float, y)], what]
    pq.write_table(pa.table(dict(zip(header, columns, strict=True))), file)
    return file.getvalue()


CHANNELS = _csv(
    ["id", "x_0", "y_0", "x_1", "y_1", "label"],
    [[i, *s, "abc"[y]] for i, s, y in zip(IDS, SIGNALS.tolist(), LABELS.tolist(), strict=True)],
)
ENTRY = {
    **dict.fromkeys(Entry.model_fields, ""),
    "sha256": "a" * 64,
    "file": "a.csv",
    "written": "2026-01-01T00:00:00Z",
    "source": "a",
    "n_rows": "20",
    "metric": "abs-sum",
    "better": "lower",
    "out_of_fold": "210.5",
    "standard_error": "3.5",
    "n_scored": "60",
    "expected": "200.5",
    "low": "190",
    "high": "211",
    "sent": "2026-01-02T00:00:00Z",
    "leaderboard": "0.2",
    "received": "2026-01-02T00:00:00Z",
}
OTHER = {**ENTRY, "sha256": "b" * 64, "file": "b.csv", "leaderboard": "0.1", "n_rows": "10"}
RUN = {
    "hbcomp": "0.1.0",
    "torch": "2.13",
    "identity": {"net.widths": [8, 16], "train.lr": 0.004, "folds of seed 0": "ab", "x": "none"},
}
SHOWN = Path(__file__).parents[2] / "experiments"
train = partial(_beats, labelled=True)

FORMATS = {
    "train.csv": Format("a.csv", LISTED, mutations.damaged_cells, train, oracles.beats),
    "wide.csv": Format("a.csv", WIDE, mutations.damaged_cells, train, oracles.beats),
    "train.csv.gz": Format(
        "a.csv.gz", gzip.compress(LISTED, mtime=0), mutations.damaged_gzip, train, oracles.beats
    ),
    "test.csv": Format(
        "a.csv",
        TEST,
        mutations.damaged_cells,
        partial(_beats, labelled=False),
        oracles.unlabelled_beats,
    ),
    "train.parquet": Format(
        "a.parquet", _parquet(), mutations.damaged_parquet, train, oracles.parquet_beats
    ),
    "plain.csv": _of(
        "a.csv", PLAIN, mutations.damaged_cells, {"layout": "plain", "label": "last"}, oracles.plain
    ),
    "plain.tsv": _of(
        "a.tsv",
        TSV,
        partial(mutations.damaged_cells, separator="\t"),
        {"layout": "plain", "label": "first"},
        partial(oracles.plain, separator="\t"),
    ),
    "plain.csv.gz": _of(
        "a.csv.gz",
        gzip.compress(PLAIN, mtime=0),
        mutations.damaged_gzip,
        {"layout": "plain", "label": "last"},
        lambda content: oracles.plain(gzip.decompress(content)),
    ),
    "x.ts": _of("a.ts", TS, mutations.damaged_cells, {"layout": "ts"}, oracles.ts),
    "x.ts.zip": _of(
        "a.ts.zip",
        _zip("a.ts", TS),
        mutations.damaged_zip,
        {"layout": "ts"},
        lambda content: oracles.ts(oracles.only_member(content)),
    ),
    "long.csv": _of(
        "a.csv",
        LONG,
        mutations.damaged_cells,
        {"layout": "long", "id": "who", "label": "what", "order": "t", "channels": ["x", "y"]},
        oracles.long,
    ),
    "long.parquet": _of(
        "a.parquet",
        _long_parquet(),
        mutations.damaged_parquet,
        {"layout": "long", "id": "who", "label": "what", "order": "t", "channels": ["x", "y"]},
        oracles.long_parquet,
    ),
    "channels.csv": _of(
        "a.csv",
        CHANNELS,
        mutations.damaged_cells,
        {"layout": "wide", "channels": ["x_{step}", "y_{step}"]},
        oracles.channels,
    ),
    "channels.csv.zip": _of(
        "a.csv.zip",
        _zip("a.csv", CHANNELS),
        mutations.damaged_zip,
        {"layout": "wide", "channels": ["x_{step}", "y_{step}"]},
        lambda content: oracles.channels(oracles.only_member(content)),
    ),
    "x.npz": _of(
        "a.npz",
        _npz(X=SIGNALS.reshape(N, 2, 2), y=np.array([*"abc"])[LABELS], ids=np.array(IDS)),
        mutations.damaged_npz,
        {"layout": "array"},
        oracles.named_arrays,
    ),
    "x.npy": _of(
        "a.npy",
        _npy(SIGNALS.reshape(N, 2, 2)),
        mutations.damaged,
        {"layout": "array", "train_labels": "y.npy"},
        partial(oracles.bare_array, labels=LABELS),
    ),
    "config.toml": Format(
        "a.toml",
        (SHOWN / "quickstart" / "config.toml").read_bytes(),
        mutations.damaged_toml,
        lambda path: _dump(validate(Config, read_toml(path), path)),
        oracles.toml_leaves,
        kept,
    ),
    "space.toml": Format(
        "a.toml",
        (SHOWN / "quickstart" / "space.toml").read_bytes(),
        mutations.damaged_toml,
        lambda path: set(read_space(path).entries),
        lambda content: {path[0] for path in oracles.toml_leaves(content)},
    ),
    "run.toml": Format(
        "run.toml",
        tomli_w.dumps(RUN).encode(),
        mutations.damaged_toml,
        _run,
        oracles.toml_leaves,
        kept,
    ),
    "folds.csv": Format(
        "a.csv",
        _csv(["id", "fold"], [[i, row // K % 4] for row, i in enumerate(IDS)]),
        mutations.damaged_cells,
        lambda path: dict(zip(IDS, map(int, read_folds(path, BEATS, 0).fold_of_row), strict=True)),
        lambda content: {i: int(v) for i, v in oracles.values_by_id(content, "fold").items()},
    ),
    "groups.csv": Format(
        "a.csv",
        _csv(["id", "group"], [[i, f"g{row // 2}"] for row, i in enumerate(IDS)]),
        mutations.damaged_cells,
        lambda path: dict(zip(IDS, read_values(path, "group", BEATS.ids), strict=True)),
        lambda content: oracles.values_by_id(content, "group"),
    ),
    "submission.csv": Format(
        "a.csv",
        _csv(
            ["id", "label_0", "label_1", "label_2"],
            [[i, *p] for i, p in zip(IDS, PROBS, strict=True)],
        ),
        mutations.damaged_cells,
        _submission,
        lambda content: oracles.numbers_by_id(content, "label"),
    ),
    "oof.csv": Format(
        "a.csv",
        _csv(
            ["id", "label", "fold", "prob_0", "prob_1", "prob_2"],
            [
                [i, y, row // K % 4, *p]
                for row, (i, y, p) in enumerate(zip(IDS, LABELS, PROBS, strict=True))
            ],
        ),
        mutations.damaged_cells,
        _imported,
        lambda content: dict(oracles.numbers_by_id(content, "prob")),
    ),
    "recipe.json": Format(
        "a.json",
        (SHOWN / "results/blend" / "recipe.json").read_bytes(),
        mutations.damaged_json,
        lambda path: _dump(read_recipe(path)),
        oracles.json_leaves,
        kept,
    ),
    "report.json": Format(
        "a.json",
        (SHOWN / "results/blend" / "report.json").read_bytes(),
        mutations.damaged_json,
        lambda path: _dump(read_report(path)),
        oracles.json_leaves,
        shared,
    ),
    "manifest.json": Format(
        "manifest.json",
        manifest_text({"config.toml": "0" * 64, "oof.csv": "1" * 64}).encode(),
        mutations.damaged_json,
        lambda path: read_manifest(path.parent),
        lambda content: json.loads(content)["files"],
    ),
    "predictions.npz": Format(
        "a.npz",
        _npz(
            train_ids=np.array(IDS),
            labels=LABELS,
            fold_of_row=np.arange(N) % 4,
            oof_probs=PROBS,
            test_ids=np.array(IDS[:5]),
            test_probs=PROBS[:5],
            train_fingerprint=np.array("ab"),
            test_fingerprint=np.array("cd"),
            test_probs_of_fold=np.stack([PROBS[:5], PROBS[5:10]]).astype(np.float32),
        ),
        mutations.damaged_npz,
        _predictions,
        oracles.arrays,
        lambda read, slow: all(read[name] == slow.get(name) for name in read),
    ),
    "result.npz": Format(
        "folds/0-1/result.npz",
        _npz(
            identity=np.array("ab"),
            valid_idx=np.arange(4),
            valid_probs=PROBS[:4].astype(np.float32),
            test_probs=PROBS[:5].astype(np.float32),
        ),
        mutations.damaged_npz,
        _fold,
        oracles.arrays,
        lambda read, slow: all(read[name] == slow[name] for name in read),
    ),
    "ledger.csv": Format(
        "ledger.csv",
        _csv(COLUMNS, [[row[name] for name in COLUMNS] for row in (ENTRY, OTHER)]),
        mutations.damaged_cells,
        _ledger,
        _ledger_slow,
    ),
}
