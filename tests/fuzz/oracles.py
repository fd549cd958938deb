"""Slow readers that share no code with hbcomp's: what a file says, to the letter.

Each returns plain values to compare with. They need not refuse what hbcomp refuses: they are only
asked about a file that hbcomp has read.
"""

import csv
import gzip
import io
import json
import struct
import tomllib
import zipfile

import numpy as np
import pyarrow.parquet as pq


def table(content):
    """Return the header and the rows of a CSV file."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    before = csv.field_size_limit(10**9)
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header, *rows = [row for row in lines if row]
    finally:
        csv.field_size_limit(before)  # other tests rely on Python's own
    return header, rows


def float32(text):
    """Return a number in the precision of a signal."""
    return struct.unpack("f", struct.pack("f", float(text)))[0]


def beats(content):
    """Return each row's id, label and samples, of either layout."""
    header, rows = table(content)
    return [_beat(dict(zip(header, row, strict=True)), header) for row in rows]


def _beat(cell, header):
    if "heartbeat_signals" in header:
        samples = cell["heartbeat_signals"].split(",")
    else:
        samples = [cell[name] for name in header if name not in ("id", "label")]
    label = int(float(cell["label"])) if "label" in header else None
    return cell["id"], label, list(map(float32, samples))


def unlabelled_beats(content):
    """Return each row's id and samples."""
    return [(row_id, None, samples) for row_id, _, samples in beats(content)]


def parquet_beats(content):
    """Return each row's id, label and samples of a parquet file with lists."""
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    names = ("id", "label", "heartbeat_signals")
    return [
        (
            str(row["id"]),
            int(float(row["label"])),
            [float32(x) for x in (row[names[2]] if names[2] in row else _others(row))],
        )
        for row in rows
    ]


def _others(row):
    return [value for name, value in row.items() if name not in ("id", "label")]


def values(signal):
    """Return the channels of a row without what pads it, None where a value is missing."""
    rows = [[None if x is None or x != x else float32(x) for x in channel] for channel in signal]
    longest = max((at + 1 for row in rows for at, x in enumerate(row) if x is not None), default=0)
    return [row[:longest] for row in rows]


def _known(cell):
    return None if cell.strip() in ("", "?", "nan", "NaN", "NA", "null") else float(cell)


def _class(text):
    """Return a label as the name of its class: 1.0 is 1."""
    try:
        number = float(text) if text.isascii() else None
    except ValueError:
        number = None
    is_whole = number is not None and number.is_integer()
    return str(int(number)) if is_whole else text.strip()


def _lines(content, separator):
    lines = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator)
    return [row for row in lines if row]


def plain(content, separator=","):
    """Return each row's number, label and values of a file without a header."""
    rows = _lines(content, separator)
    at = 0 if separator == "\t" else len(rows[0]) - 1
    return [
        (str(row), _class(cells[at]), values([[*map(_known, cells[:at] + cells[at + 1 :])]]))
        for row, cells in enumerate(rows)
    ]


def ts(content):
    """Return each row's number, label and values of a .ts file."""
    lines = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    texts = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    start = next(at for at, text in enumerate(texts) if text.lower().startswith("@data"))
    found = []
    for row, text in enumerate(texts[start + 1 :]):
        *channels, label = text.split(":")
        signal = [[*map(_known, channel.split(","))] for channel in channels]
        longest = max(map(len, signal))
        signal = [channel + [None] * (longest - len(channel)) for channel in signal]
        found.append((str(row), _class(label), values(signal)))
    return found


def long(content):
    """Return each row's id, label and values of a table with a line for every time step."""
    header, rows = table(content)
    return _long(dict(zip(header, row, strict=True)) for row in rows)


def long_parquet(content):
    """Return each row's id, label and values of a parquet file with a line for every time step."""
    rows = pq.read_table(io.BytesIO(content)).to_pylist()
    return _long({key: "" if x is None else str(x) for key, x in row.items()} for row in rows)


def _long(cells):
    by_id = {}
    for cell in cells:
        label, steps = by_id.setdefault(cell["who"], (cell["what"], []))
        assert cell["what"] == label
        steps.append((float(cell["t"]), _known(cell["x"]), _known(cell["y"])))
    return [
        (name, _class(label), values([*zip(*sorted(steps, key=lambda s: s[0]), strict=True)][1:]))
        for name, (label, steps) in by_id.items()
    ]


def channels(content):
    """Return each row's id, label and values of a wide file with two channels."""
    header, rows = table(content)
    found = []
    for number, row in enumerate(rows):
        cell = dict(zip(header, row, strict=True))
        signal = [
            [float(cell[name]) for name in header if name[:2] == prefix] for prefix in ("x_", "y_")
        ]
        found.append((cell.get("id", str(number)), _class(cell["label"]), values(signal)))
    return found


def only_member(content):
    """Return the only file in a zip."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (name,) = archive.namelist()
        return archive.read(name)


def named_arrays(content):
    """Return each row's id, label and values of an npz."""
    found = arrays(content)
    first = {key: found.get(key) for key in ("ids", "y")}
    n_rows = len(found["X"])
    ids = first["ids"] or range(n_rows)
    return _rows_of(found["X"], ids, first["y"])


def bare_array(content, labels):
    """Return each row's number, label and values of an npy."""
    signals = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False).tolist()
    return _rows_of(signals, range(len(signals)), labels.tolist())


def _rows_of(signals, ids, labels):
    return [
        (str(row_id), _class(str(label)), values(row if isinstance(row[0], list) else [row]))
        for row, row_id, label in zip(signals, ids, labels, strict=True)
    ]


def values_by_id(content, column):
    """Return the text of a column by id."""
    header, rows = table(content)
    return {row[header.index("id")]: row[header.index(column)] for row in rows}


def numbers_by_id(content, prefix):
    """Return the numbers in the columns PREFIX_0, PREFIX_1, ... by id."""
    header, rows = table(content)
    at = [header.index(f"{prefix}_{k}") for k in range(sum(prefix in name for name in header))]
    return [(row[header.index("id")], [float(row[i]) for i in at]) for row in rows]


def json_leaves(content):
    """Return every leaf of a JSON file by its path."""
    return dict(_leaves(json.loads(content.decode())))


def toml_leaves(content):
    """Return every leaf of a TOML file by its path."""
    text = content.decode().replace("\r\n", "\n").replace("\r", "\n")
    return dict(_leaves(tomllib.loads(text)))


def _leaves(value, path=()):
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    elif isinstance(value, (list, tuple)):
        for at, each in enumerate(value):
            yield from _leaves(each, (*path, at))
    else:
        yield path, value


def arrays(content):
    """Return the arrays in an npz file as nested lists."""
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        return {
            name.removesuffix(".npy"): np.lib.format.read_array(
                io.BytesIO(members.read(name)), allow_pickle=False
            ).tolist()
            for name in members.namelist()
            if name.endswith(".npy")
        }
