import os
import pickle
import platform
import resource
import subprocess
import sys

import numpy as np
import pytest

from hbcomp.system import memory
from hbcomp.system.memory import available_bytes, fits, in_words, mapped, row_blocks


def test_what_is_available_is_positive_and_less_than_the_machine_has():
    total = memory._lines(memory.Path("/proc/meminfo"))["MemTotal:"] * 1024
    assert 0 < available_bytes() < total


@pytest.mark.parametrize(
    ("line", "folder", "files", "expected"),
    [
        ("4:memory:/job", "memory/job", ("memory.limit_in_bytes", "memory.usage_in_bytes"), 70),
        ("0::/job", "job", ("memory.max", "memory.current"), 70),
    ],
)
def test_the_limit_of_a_container_counts_less_what_it_uses(tmp_path, line, folder, files, expected):
    group = tmp_path / "groups" / folder
    group.mkdir(parents=True)
    for name, number in zip(files, (100, 40), strict=True):
        (group / name).write_text(f"{number}\n")
    (group / "memory.stat").write_text("inactive_file 10\ntotal_inactive_file 10\n")
    (tmp_path / "cgroup").write_text(f"{line}\n")
    assert [*memory._free_in_container(tmp_path / "cgroup", tmp_path / "groups")] == [expected]


def test_a_container_without_a_limit_and_a_machine_without_containers_say_nothing(tmp_path):
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cgroup").write_text("0::/\n")
    assert not [*memory._free_in_container(tmp_path / "cgroup", tmp_path)]
    assert not [*memory._free_in_container(tmp_path / "nothing", tmp_path)]


def test_a_limit_of_the_process_counts_less_what_it_uses(tmp_path, monkeypatch):
    (tmp_path / "status").write_text("VmSize:\t 3 kB\nVmData:\t 1 kB\n")
    limits = {resource.RLIMIT_AS: 10_000, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits[kind], 0))
    assert [*memory._free_below_limits(tmp_path / "status")] == [10_000 - 3 * 1024]


def test_rows_fit_if_there_is_room_for_two_copies(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert fits(400)
    assert not fits(401)


@pytest.mark.parametrize(
    ("n_bytes", "words"),
    [
        (57_600_000_000, "58 GB"),
        (3_240_000_000, "3.2 GB"),
        (410_000_000, "410 MB"),
        (9_000, "9 kB"),
    ],
)
def test_sizes_are_said_as_people_say_them(n_bytes, words):
    assert in_words(n_bytes) == words


def test_an_array_in_a_file_is_found_again_by_its_place(tmp_path):
    np.arange(24, dtype=np.float32).tofile(tmp_path / "rows")
    array = np.memmap(tmp_path / "rows", np.float32, "r", 8, (5, 4))
    view = np.ascontiguousarray(array).view()[2:]
    place = pickle.loads(pickle.dumps(mapped(view)))
    assert np.array_equal(place.open(), view)
    assert mapped(np.zeros(3)) is None
    assert mapped(view[:, 1:]) is None  # not in C order: it is no piece of the file


def test_blocks_are_all_rows_in_their_order(monkeypatch):
    monkeypatch.setattr(memory, "BLOCK_BYTES", 100)
    array = np.arange(70.0).reshape(7, 10)
    parts = [array[rows] for rows in row_blocks(array)]
    assert {len(part) for part in parts} == {1}
    assert np.array_equal(np.concatenate(parts), array)


FREED_AND_TAKEN = """
import resource
from hbcomp.system.memory import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray(8 << 20)[:] = bytes(8 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = new_pages()
keep_freed_memory()
new_pages()
print(new_pages() / given_back)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="no other allocator has this threshold"
)
def test_memory_that_dask_would_give_back_is_kept():
    trimmed = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}
    ran = subprocess.run(
        [sys.executable, "-c", FREED_AND_TAKEN], env=trimmed, capture_output=True, check=True
    )
    assert float(ran.stdout) < 0.1
