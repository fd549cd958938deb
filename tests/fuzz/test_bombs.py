"""Small files that would fill the memory or the stack are refused, in a bounded process."""

import gzip
import io
import resource
import struct
import zipfile
from pathlib import Path

import pytest
from commands import SERVER
from formats import FORMATS

from hbcomp.system.errors import InputError

MEBIBYTE = 1 << 20
SECONDS = 300  # a hang is found however slow the machine
HEADER = b"id,heartbeat_signals,label\n"
LINES = {"gz-zeros": b"\0", "gz-one-line": b"1", "gz-commas": b"1,"}
TABLES = ["train.csv", "folds.csv", "submission.csv", "oof.csv", "ledger.csv"]
TOMLS, JSONS = ["config.toml", "space.toml", "run.toml"], ["recipe.json", "report.json"]
SHAPES = ["(10**18,)", "(-1,)", f"({10**18},)", f"({10**9}, {10**9})", f"({'9' * 4000},)"]


def unpacking_to(n_mebibytes, text, start=HEADER + b"1,"):
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.write(start)
        for _ in range(n_mebibytes):
            packed.write(text * (MEBIBYTE // len(text)))
    return file.getvalue()


def npy(shape, dtype="<i8", body=b""):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def with_labels(inside, compression=zipfile.ZIP_STORED):
    """Return the good predictions.npz with these bytes as one of its arrays."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(FORMATS["predictions.npz"].good)) as old,
        zipfile.ZipFile(file, "w", compression) as new,
    ):
        for name in old.namelist():
            new.writestr(name, inside if name == "labels.npy" else old.read(name))
    return file.getvalue()


def bombs(n_mebibytes):
    """Yield the format and the bytes of each bomb, which must be refused."""
    for name, text in LINES.items():
        yield name, "train.csv.gz", unpacking_to(n_mebibytes, text)
    columns = ",".join(f"c{i}" for i in range(10**5))
    yield "many-columns", "wide.csv", f"id,{columns},label\n1\n".encode()
    for kind in TABLES:
        good = FORMATS[kind].good
        yield "long-cell", kind, good + b"x" * 10**6 + b",1,2\n"
        yield "long-quote", kind, good + b'"' + b"1,0\n" * 10**5
    for kind in TOMLS:
        yield "deep-keys", kind, b"a." * 900 + b"a = 1"
        yield "deep-tables", kind, b"a = " + b"{a=" * 200 + b"1" + b"}" * 200
        yield "deep-lists", kind, b"a = " + b"[" * 50_000
        yield "long-integer", kind, b"a = 0x" + b"f" * 10**5
        yield "a-nul", kind, b'a = "\\u0000"'
    for kind in JSONS:
        yield "deep-lists", kind, b"[" * 10**6
        yield "deep-objects", kind, b'{"base_models":' * 900 + b"1" + b"}" * 900
        yield "long-integer", kind, b'{"base_models":' + b"9" * 4000 + b"}"
    for shape in SHAPES:
        yield "absurd-shape", "predictions.npz", with_labels(npy(shape))
    pickled = npy("(12,)", "|O", b"cos\nsystem\n(S'touch pickled'\ntR.")
    yield "pickled", "predictions.npz", with_labels(pickled)
    zeros = npy("(33554432,)", body=bytes(8 << 25))
    yield "packed", "predictions.npz", with_labels(zeros, zipfile.ZIP_DEFLATED)
    yield "bare-npy", "predictions.npz", npy(f"({10**12},)")


def blow(cases, max_bytes, log):
    """Write down which files are not refused within this much more memory."""
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + max_bytes, in_use + max_bytes))
    for name, kind, path in cases:
        log.write_text(f"{name} {kind}: killed or hanging")
        try:
            read = FORMATS[kind].read(path)
            log.write_text(f"{name} {kind}: read as {str(read)[:200]}")
            return
        except InputError:
            pass
        except BaseException as error:
            log.write_text(f"{name} {kind}: {type(error).__name__}: {error}"[:300])
            return
    log.write_text("all refused")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the bound is set as Linux does")
def test_bombs_are_refused_in_bounded_memory(tmp_path, is_long):
    cases = []
    for number, (name, kind, content) in enumerate(bombs(1024 if is_long else 36)):
        path = tmp_path / str(number) / FORMATS[kind].file
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        cases.append((name, kind, path))
    log = tmp_path / "log"
    child = SERVER.Process(target=blow, args=(cases, 768 * MEBIBYTE, log))
    child.start()
    child.join(SECONDS)
    child.kill()
    assert log.read_text() == "all refused"
