"""What every section of a recipe is read with: a mapping with its place in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from paddlefcn.arguments import Component, describe, read_section
from paddlefcn.errors import ConfigError

T = TypeVar("T")


class Node:
    """A mapping of the recipe with its place. Raises ConfigError for whatever is no mapping of names."""

    def __init__(self, value: Any, file: str, path: str) -> None:
        self.file, self.path = file, path
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise self.error("", f"expected a mapping, got {describe(value)}")
        for key in value:
            if not isinstance(key, str):
                raise self.error("", f"key {key!r} is {describe(key)}; keys are names")
        self.value: Mapping[str, Any] = value

    @property
    def where(self) -> str:
        """File and key path, as errors start."""
        return f"{self.file}: {self.path}" if self.path else self.file

    def error(self, key: str, message: str) -> ConfigError:
        """An error about a key of this mapping, or about all of it (`key` empty)."""
        place = ".".join(part for part in (self.path, key) if part)
        return ConfigError(f"{self.file}: {place + ': ' if place else ''}{message}")

    def below(self, key: str) -> Node:
        """The mapping that stands under a key."""
        return Node(self.value.get(key), self.file, f"{self.path}.{key}" if self.path else key)

    def arguments(self, cls: type, apart: tuple[str, ...] = ()) -> dict[str, Any]:
        """This mapping as checked arguments of a dataclass, but for the keys `apart`."""
        return read_section(cls, self.value, where=self.where, apart=apart)

    def section(self, cls: type[T]) -> T:
        """This mapping as a dataclass; what the class itself says against it gets the place."""
        arguments = self.arguments(cls)
        try:
            return cls(**arguments)
        except ValueError as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"{self.where}: {error}") from None

    def component(self) -> Component:
        """This mapping as a class's name with its arguments."""
        kind = self.value.get("type")
        if not isinstance(kind, str):
            raise self.error("type", f"expected a class's name, got {describe(kind)}")
        args = {key: value for key, value in self.value.items() if key != "type"}
        return Component(kind, args, self.where)

    def components(self, key: str) -> tuple[Component, ...]:
        """A list of components that stands under a key; one alone needs no list."""
        items = self.value.get(key)
        if isinstance(items, Mapping):
            items = [items]
        if items is None:
            items = []
        if not isinstance(items, list):
            raise self.error(key, f"expected a list of {{type: …}}, got {describe(items)}")
        place = f"{self.path}.{key}" if self.path else key
        return tuple(Node(x, self.file, f"{place}.{i}").component() for i, x in enumerate(items))
