"""The manifest of a folder: the sha256 of its files, in a form that shows its own damage."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from hbcomp.system.config import read_json
from hbcomp.system.errors import InputError
from hbcomp.system.files import write_text

NAME: Final = "manifest.json"


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """Write the hashes of these files, named relative to the folder, atomically."""
    write_text(folder / NAME, manifest_text({name: sha256_of(folder / name) for name in names}))


def manifest_text(hash_of: Mapping[str, str]) -> str:
    """Return the text of a manifest with these hashes; it ends with a hash of its own."""
    files = dict(sorted(hash_of.items()))
    own = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    return json.dumps({"files": files, "sha256": own}, indent=1) + "\n"


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the hash of each file named in a folder's manifest.

    One that is not, byte for byte, what `write_manifest` writes is an InputError, as is a name
    that leaves the folder.
    """
    path = folder / NAME
    hash_of = read_json(path, "manifest", "has the run finished?").get("files")
    if not isinstance(hash_of, dict) or not all(isinstance(each, str) for each in hash_of.values()):
        raise InputError(f"{path}: a manifest must have the sha256 of each file")
    if manifest_text(hash_of).encode() != path.read_bytes():
        raise InputError(f"{path}: damaged: its own hash differs")
    for name in map(PurePosixPath, hash_of):
        if name.is_absolute() or ".." in name.parts:
            raise InputError(f"{path}: a file must be in the folder, but there is {str(name)!r}")
    return hash_of


def damage(path: Path, sha256: str) -> str | None:
    """Return what has happened to a file since its hash was taken; None where nothing has."""
    if not path.is_file():
        return "missing"
    return None if sha256_of(path) == sha256 else "damaged: its sha256 is not the manifest's"


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content, read in blocks: weights need not fit the memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
