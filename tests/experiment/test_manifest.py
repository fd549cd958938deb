"""Manifests: what they say, and that none can be changed unseen."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbcomp.experiment.manifest import (
    NAME,
    damage,
    manifest_text,
    read_manifest,
    sha256_of,
    write_manifest,
)
from hbcomp.system.errors import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("sealed")
    (place / "sub").mkdir()
    for name in ("b.csv", "a.csv", "sub/c.png"):
        (place / name).write_text(name)
    write_manifest(place, ["b.csv", "a.csv", "sub/c.png"])
    return place


def test_a_manifest_holds_each_file_sorted_with_its_sha256(folder):
    hash_of = read_manifest(folder)
    assert list(hash_of) == ["a.csv", "b.csv", "sub/c.png"]
    assert all(damage(folder / name, sha256) is None for name, sha256 in hash_of.items())


def test_the_hash_is_that_of_hashlib_on_the_whole_content(tmp_path):
    import hashlib

    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(content).hexdigest()


@given(data=st.data())
def test_any_flipped_bit_of_a_manifest_is_found(folder, data):
    path = folder / NAME
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(changed)
    try:
        with pytest.raises(InputError, match=NAME):
            read_manifest(folder)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path, name):
    (tmp_path / NAME).write_text(manifest_text({name: "0" * 64}))
    with pytest.raises(InputError, match="a file must be in the folder"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", json.dumps({"files": []}), '{"files": {"a": 1}}'])
def test_what_is_no_manifest_is_refused(tmp_path, content):
    (tmp_path / NAME).write_text(content)
    with pytest.raises(InputError, match="manifest"):
        read_manifest(tmp_path)


def test_a_file_that_is_gone_is_missing():
    assert damage(Path("absent"), "0" * 64) == "missing"
