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
