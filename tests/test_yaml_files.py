"""YAML that is odd on purpose ends as one line, soon."""

from __future__ import annotations

import os
import time

import pytest

from paddlefcn.errors import ConfigError
from paddlefcn.yaml_files import apply_options, load_yaml, parse_yaml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: !!bool maybe", "neither true nor false"),
        ("a: !!int x", "no integer"),
        ("a: !!int ''", "no integer"),
        ("a: !!int 1:30", "no integer"),
        ("a: !!float x", "no number"),
        ("a: !!float ''", "no number"),
        ("a: !!timestamp x", "tag"),
        ("a: !!binary =", "tag"),
        ("a: !!set {x}", "tag"),
        ("a: !!omap [x]", "tag"),
        ("a: !!pairs [x]", "tag"),
        ("a: !!python/object/apply:os.system [ls]", "tag"),
        ("a: !!map x", "tagged as a mapping"),
        ("a: !!seq x", "expected a sequence node"),
        ("a: !!str [x]", "expected a scalar node"),
        ("a: !!int {x: y}", "expected a scalar node"),
        ("a: !!null [x]", "expected a scalar node"),
        ("<<: 5", "mapping"),
        ("<<: [5]", "mapping"),
        ("a: " + "9" * 500, "500 digits"),
        ("a: 0x" + "f" * 500, "502 digits"),
        ("a: !!float " + "9" * 500, "no number"),
        ("? [a]\n: b", "cannot be a key"),
    ],
)
def test_odd_yaml_is_one_line(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_yaml(text, "x.yml")
    assert str(caught.value).startswith("x.yml")
    assert len(str(caught.value)) < 500


def test_numbers_of_base_60_and_dates_are_text():
    assert parse_yaml("[1:30, 2020-01-01, 1:30.5, =]", "x") == ["1:30", "2020-01-01", "1:30.5", "="]
    assert parse_yaml("[0x10, 010, 0b11, 1_000, -7, +7, 1e-4, .5, !!int 3]", "x") == [
        *(16, 8, 3, 1000, -7, 7, 1e-4, 0.5, 3)
    ]


def test_a_long_number_of_base_60_takes_no_time():
    start = time.monotonic()
    assert parse_yaml("a: " + "1:" * 400_000 + "1", "x")["a"].startswith("1:1")
    assert time.monotonic() - start < 20  # it took hours


@pytest.mark.parametrize("option", ["a.²=1", "a.9999999999999999999=1", "a.-=1", "a.1-=1"])
def test_an_index_that_is_no_number_is_one_line(option):
    with pytest.raises(ConfigError, match="is a list of 1"):
        apply_options({"a": [1]}, [option])


@pytest.mark.skipif(os.name == "nt", reason="no pipes as files")
def test_pipes_and_devices_are_no_recipes(tmp_path):
    os.mkfifo(tmp_path / "pipe.yml")
    for name in (tmp_path / "pipe.yml", "/dev/zero"):
        with pytest.raises(ConfigError, match="pipe or device"):
            load_yaml(tmp_path / name)
