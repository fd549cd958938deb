"""The names that `import hbcomp` gives: few, loaded when asked for, and documented."""

import subprocess
import sys
from importlib import import_module

import pytest

import hbcomp

NAMES = [name for name in hbcomp.__all__ if not name.startswith("__")]


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_there_are_at_most_twelve_names_and_dir_lists_them():
    assert len(NAMES) <= 12
    assert set(NAMES) <= set(dir(hbcomp))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_and_says_what_it_is(name):
    assert getattr(hbcomp, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hbcomp' has no attribute 'crossvalidate'"):
        _ = hbcomp.crossvalidate


def test_the_import_loads_the_standard_library_only():
    code = (
        "import sys; before = {*sys.modules}; import hbcomp;"
        "roots = {name.split('.')[0] for name in {*sys.modules} - before};"
        "print(sorted(roots - {*sys.stdlib_module_names}))"
    )
    assert python(code) == "['hbcomp']"


def test_a_command_of_the_same_name_does_not_hide_the_function():
    import_module("hbcomp.blend")
    assert hbcomp.blend is import_module("hbcomp.api.blend").blend
