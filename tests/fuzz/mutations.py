"""Damage: seeded changes of bytes, cells and values, such as disks, editors and enemies make."""

import gzip
import io
import json
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

TEXTS = [
    *("", "0", "-1", "1.0", "1e400", "-1e400", "1e-400", "9" * 400, "0x10", "1_0", "nan", "inf"),
    *(
        "-0.0",
        "1e5",
        "99999999999999999999",
        "\u0661",
        "\uff11",
        " 1",
        "+1",
        ".5",
        "5.",
        "1e",
        "id",
        "a,b",
    ),
    *("\ufeff", "\0", "\u202etxt", "\x1b[2J", "a" + "\u0301" * 3000, "'", '"', '""', "\n", "\r"),
    *(
        "../x",
        "/etc/passwd",
        "a/../../b",
        "a\\b",
        "CON",
        "n" * 5000,
        "=cmd|'/c calc'!A0",
        "{{7*7}}",
    ),
    *("<script>", '"><img onerror=x>', "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "0.5"),
]
RAW = [
    *(text.encode() for text in TEXTS),
    *(b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n\n", b",", b'","', b"\0\0"),
]
VALUES = [
    *(None, True, 0, -1, 1, 2**31, 2**63, 2**64, 10**400, 0.5, 1e308, -1e308, 5e-324, [], {}),
    *([[]], [0.5] * 4, {"kind": "x"}, *TEXTS),
]


def damaged(content, rng):
    """Return bytes with one to four changes."""
    for _ in range(rng.choice([1, 1, 2, 4])):
        content = rng.choice(BYTE_CHANGES)(content, rng)
    return content


def _flip(content, rng):
    at = rng.randrange(len(content) or 1)
    return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def _cut(content, rng):
    return content[: rng.randrange(len(content) + 1)]


def _slice(content, rng):
    start = rng.randrange(len(content) + 1)
    return start, min(len(content), start + rng.choice([1, 4, 40, 400]))


def _drop(content, rng):
    start, end = _slice(content, rng)
    return content[:start] + content[end:]


def _double(content, rng):
    start, end = _slice(content, rng)
    return content[:end] + content[start:end] * rng.choice([1, 1, 50]) + content[end:]


def _insert(content, rng):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(RAW) + content[at:]


def _other_line_ends(content, rng):
    return content.replace(b"\n", rng.choice([b"\r\n", b"\r", b"\n\r"]), rng.choice([1, -1]))


BYTE_CHANGES = [_flip, _flip, _cut, _drop, _double, _insert, _insert, _other_line_ends]


def damaged_cells(content, rng, separator=","):
    """Return a CSV file with one cell replaced, or damaged as bytes."""
    if rng.random() < 0.5:
        return damaged(content, rng)
    lines = content.decode().split("\n")
    at = rng.randrange(len(lines))
    cells = lines[at].split(separator)
    cells[rng.randrange(len(cells))] = rng.choice(TEXTS)
    lines[at] = separator.join(cells)
    return "\n".join(lines).encode()


def damaged_zip(content, rng):
    """Return a zip file whose inside or outside is damaged."""
    if rng.random() < 0.4:
        return damaged(content, rng)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), damaged_cells(old.read(name), rng))
    return file.getvalue()


def damaged_gzip(content, rng):
    """Return a gzip file whose inside or outside is damaged."""
    if rng.random() < 0.4:
        return damaged(content, rng)
    return gzip.compress(damaged_cells(gzip.decompress(content), rng), 1)


def _replaced(value, rng):
    """Return a tree with one node replaced, added or dropped."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        what = rng.random()
        if what < 0.1:
            return {name: each for name, each in value.items() if name != key}
        if what < 0.2:
            return {**value, rng.choice(TEXTS): value[key]}
        return {**value, key: _replaced(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [*value[:at], _replaced(value[at], rng), *value[at + rng.choice([0, 1]) :]]
    return rng.choice(VALUES)


def damaged_json(content, rng):
    """Return JSON with other values, or damaged as bytes."""
    if rng.random() < 0.4:
        return damaged(content, rng)
    return json.dumps(_replaced(json.loads(content), rng)).encode()


def damaged_toml(content, rng):
    """Return TOML with other values, or damaged as bytes."""
    import tomllib

    if rng.random() < 0.4:
        return damaged(content, rng)
    values = _replaced(tomllib.loads(content.decode()), rng)
    try:
        return tomli_w.dumps(values).encode()
    except (TypeError, AttributeError):  # a null, or no table at the top
        return damaged(content, rng)


def damaged_npz(content, rng):
    """Return an npz file with other arrays, or damaged as bytes."""
    if rng.random() < 0.4:
        return damaged(content, rng)
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = dict(stored)
    name = rng.choice(list(arrays))
    array = arrays.pop(name)
    other = rng.choice(
        [
            dict,
            lambda: {name: array.reshape(-1)},
            lambda: {name: array[..., None]},
            lambda: {name: array[:1] if array.ndim else array},
            lambda: {name: array.astype("U3")},
            lambda: {name: np.full(array.shape, np.nan)},
            lambda: {name: np.full(array.shape, 2**62)},
            lambda: {name: np.full(array.shape, -1, dtype=np.int8)},
            lambda: {name: np.array("x")},
            lambda: {name: np.zeros((0, 3))},
            lambda: {name: array, "other": array},
        ]
    )()
    file = io.BytesIO()
    rng.choice([np.savez, np.savez_compressed])(file, **arrays, **other)
    content = file.getvalue()
    return content if rng.random() < 0.7 else _damaged_member(content, rng)


def _damaged_member(content, rng):
    """Return an npz whose checksums are right and whose arrays are damaged."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            inside = old.read(name)
            new.writestr(name, damaged(inside, rng) if rng.random() < 0.5 else inside)
    return file.getvalue()


def damaged_parquet(content, rng):
    """Return a parquet file with another column, or damaged as bytes."""
    if rng.random() < 0.6:
        return damaged(content, rng)
    table = pq.read_table(io.BytesIO(content))
    at = rng.randrange(table.num_columns)
    n, name = table.num_rows, table.column_names[at]
    column = rng.choice(
        [
            lambda: pa.nulls(n),
            lambda: pa.array([rng.choice(TEXTS) for _ in range(n)]),
            lambda: pa.array([rng.choice([0.0, 1.5, 1e300, float("nan"), None]) for _ in range(n)]),
            lambda: pa.array([rng.choice([0, 1, 2, 2**62, -1, None]) for _ in range(n)]),
            lambda: pa.array([[0.5] * rng.choice([0, 3, 4]) for _ in range(n)]),
            lambda: pa.array([[[0.5]]] * n),
            lambda: pa.array([{"a": 1}] * n),
            lambda: pa.array([b"\xff"] * n),
            lambda: pa.array([True] * n),
            lambda: pa.array(["0"] * n).dictionary_encode(),
        ]
    )()
    table = table.set_column(at, rng.choice([name, name, name, *TEXTS]), column)
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()
