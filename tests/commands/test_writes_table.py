"""The table of writes in docs/trust.md is whole: every command stands there, and has its tests."""

from __future__ import annotations

import argparse
import importlib
import re

import pytest
from test_file_outputs import NAMES as FILES
from test_foreign_files import FILLS

from paddlefcn import commands

# what writes neither a file nor a folder of the user's: the kernels go to the cache
CACHE = ("build_accelerator",)
# with tests by their own names: test_foreign_files.py and test_resume.py, test_file_outputs.py
APART = {
    "train": "test_a_run_is_overwritten_alone",
    "import_weights": "test_imported_weights_replace_neither",
}


def options_of(name):
    """A command's own arguments, and those of them that name a file to write."""
    module = importlib.import_module(f"paddlefcn.commands.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    given = {action.dest: action.option_strings for action in parser._actions}
    return given, [dest for dest in (*commands._FILES, *getattr(module, "WRITES", ())) if dest in given]


def dashed(name):
    return name.replace("_", "-")


@pytest.mark.parametrize("name", commands.NAMES)
def test_every_option_that_names_a_file_or_folder_has_its_tests_and_can_be_overwritten(name):
    given, files = options_of(name)
    for dest in files:
        assert f"{dashed(name)} --{dashed(dest)}" in FILES
    if "output" in given and "output" not in files and name not in APART:
        assert name in FILLS
    if files or "output" in given or name in APART:
        assert "overwrite" in given
    else:
        assert name in CACHE


def test_every_command_stands_in_the_table_of_docs(repo):
    for page in ("docs/trust.md", "docs/zh/trust.md"):
        text = (repo / page).read_text(encoding="utf-8")
        rows = " ".join(re.findall(r"^\| (`[a-z].*?) \|", text, re.MULTILINE))
        missing = [name for name in commands.NAMES if f"`{dashed(name)}`" not in rows]
        assert missing == [], page


def test_the_tests_that_are_named_here_are_there(repo):
    text = "".join(path.read_text() for path in (repo / "tests" / "commands").glob("test_f*.py"))
    assert [name for name in APART.values() if f"def {name}" not in text] == []
