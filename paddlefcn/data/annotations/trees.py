"""JSON and XML that others wrote: every value is asked for by its kind, and refused in one line."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from paddlefcn.errors import DataError

_MOST_BYTES = 2 << 30


class Tree:
    """A value of a JSON file with its place in it.

    Raises:
        DataError: from every method: the file, the place, what was found and what is expected.
    """

    def __init__(self, value: Any, file: Path, place: str = "") -> None:
        self.value, self.file, self.place = value, file, place

    def error(self, message: str) -> DataError:
        """A DataError that names the file and the place in it."""
        return DataError(f"{self.file}: {self.place + ': ' if self.place else ''}{message}")

    def __contains__(self, key: str) -> bool:
        return isinstance(self.value, Mapping) and self.value.get(key) is not None

    def __getitem__(self, key: str) -> Tree:
        if not isinstance(self.value, Mapping):
            raise self.error(f"expected an object with {key!r}, got {_kind(self.value)}")
        if key not in self.value:
            raise self.error(f"{key!r} is missing")
        return Tree(self.value[key], self.file, f"{self.place}.{key}" if self.place else key)

    def items(self) -> Iterator[Tree]:
        """The entries of a list; DataError if it is none."""
        if not isinstance(self.value, list):
            raise self.error(f"expected a list, got {_kind(self.value)}")
        return (Tree(item, self.file, f"{self.place}[{i}]") for i, item in enumerate(self.value))

    def text(self) -> str:
        """The value as text; DataError if it is none."""
        if not isinstance(self.value, str) or not self.value or "\0" in self.value:
            raise self.error(f"expected text, got {_kind(self.value)}")
        return self.value

    def number(self) -> float:
        """The value as a finite number; DataError if it is none."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e15:
            raise self.error(f"expected a number, got {_kind(value)}")
        return float(value)

    def integer(self, low: int = 0, high: int = 1 << 53) -> int:
        """The value as an integer; DataError if it is none."""
        number = self.number()
        if number != math.floor(number) or not low <= number <= high:
            raise self.error(f"expected an integer of {low} to {high}, got {number:g}")
        return int(number)


def load_json(path: Path) -> Tree:
    """The tree of a JSON file. Raises DataError."""
    try:
        return Tree(json.loads(read_text(path)), path)
    except RecursionError:
        raise DataError(f"{path}: is nested too deeply") from None
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"{path}: is no JSON ({' '.join(str(error).split())[:200]})") from None


def load_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file without a document type, which could define entities. Raises DataError."""
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: has a document type, which annotation tools do not write; remove it")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no XML ({' '.join(str(error).split())[:200]})") from None


def read_text(path: Path) -> str:
    """A file's text in UTF-8. Raises DataError."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: {'is a folder' if path.is_dir() else 'no such file'}")
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: is larger than 2 GB; split it")
        return path.read_bytes().decode("utf-8-sig")
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    if type(value) in (dict, list, type(None), bool):
        return names[type(value)]
    try:
        shown = repr(value)
    except ValueError:  # an integer of thousands of digits
        shown = "a very long number"
    return shown if len(shown) <= 40 else f"{shown[:40]} …"
