"""The one checker: what fits is taken over, what does not is one line with its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import pytest

from paddlefcn.arguments import Pattern, Range, check_arguments, describe, read_section, type_name
from paddlefcn.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class Section:
    """A section as small as one can be that has every kind of key."""

    needed: Annotated[int, Range(1, 9)]
    rate: Annotated[float, Range(0)] | None = None
    mode: Literal["fast", "exact"] | bool = "fast"
    rule: Annotated[str, Pattern("a+", "one a or more")] = "a"
    folder: Path = Path("x")
    sizes: tuple[int, ...] = ()


def test_values_come_out_as_the_types_that_are_annotated():
    values = {"needed": 3, "rate": 1, "mode": True, "folder": "~/y", "sizes": [1, 2]}
    read = Section(**read_section(Section, values, where="f: s"))
    assert (read.needed, read.rate, read.mode, read.sizes) == (3, 1.0, True, (1, 2))
    assert isinstance(read.rate, float)
    assert read.folder == Path.home() / "y"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "f: s.needed: missing; expected an integer"),
        ({"needed": 0}, "f: s.needed: expected 1 to 9, got an integer 0"),
        ({"needed": 10**400}, "f: s.needed: expected 1 to 9, got an integer of 1329 bits"),
        ({"needed": True}, "f: s.needed: expected an integer, got true/false True"),
        ({"needed": 1, "rate": -1}, "f: s.rate: expected 0 or more, got an integer -1"),
        ({"needed": 1, "rate": float("nan")}, "f: s.rate: expected finite numbers, got a number nan"),
        ({"needed": 1, "mode": "fsat"}, "f: s.mode: 'fsat' is none of fast, exact; did you mean 'fast'?"),
        (
            {"needed": 1, "mode": 1},
            "f: s.mode: expected 'fast' or 'exact' or true or false",
        ),
        ({"needed": 1, "rule": "b"}, "f: s.rule: expected one a or more, got text 'b'"),
        ({"needed": 1, "sizes": [1, "x"]}, "f: s.sizes: expected a list (an integer each), got a list"),
        ({"needed": 1, "rat": 2}, "f: s: unknown key 'rat'; did you mean 'rate'?"),
    ],
)
def test_what_does_not_fit_is_one_line_with_its_place(values, message):
    with pytest.raises(ConfigError) as caught:
        read_section(Section, values, where="f: s")
    assert message in str(caught.value)


def test_a_call_is_checked_against_the_signature_with_its_bounds():
    def made(size: Annotated[int, Range(1)], *, injected: int, name: str = "x") -> None: ...

    def check(**values):
        check_arguments(made, values, where="f: m", name="Made", given=("injected",))

    check(size=2, name="y")
    for values, message in [
        ({}, "f: m: Made needs 'size'"),
        ({"size": 1, "injected": 2}, "f: m: Made takes no 'injected'"),
        ({"size": 0}, "f: m.size: expected 1 or more, got an integer 0"),
        ({"size": 1, "nam": "y"}, "did you mean 'name'?"),
    ]:
        with pytest.raises(ConfigError) as caught:
            check(**values)
        assert message in str(caught.value)


def test_types_and_values_are_named_in_words():
    assert type_name(list[int] | None) == "a list (an integer each) or null"
    assert type_name(Annotated[float, Range(0)]) == "a number"
    assert describe("x" * 100).endswith("…")
    assert describe(None) == "nothing"
