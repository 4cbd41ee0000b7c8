"""The one checker of arguments: values from YAML against a class's signature, or a section's dataclass.

Whatever is unknown, missing, of the wrong type or out of its bounds is one line that names the key's
path, what was found and what would be right. Bounds stand in the annotation, so that a new key is one
line: `batch_size: Annotated[int, Range(1, 65536)] = 8`. Imports neither paddle nor any component.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from paddlefcn.errors import ConfigError

T = TypeVar("T")
Dataclass = type  # by another name, because a component has a `type` of its own


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included, and finite."""

    low: float
    high: float = math.inf

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, in words; None for one that fits or is no number."""
        if not is_number(value):
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return f"expected a finite number, got {value}"
        if self.low <= value <= self.high:
            return None
        wanted = f"{self.low} to {self.high}" if math.isfinite(self.high) else f"{self.low} or more"
        return f"expected {wanted}, got {describe(value)}"


@dataclasses.dataclass(frozen=True)
class Pattern:
    """Text that matches a regular expression as a whole; `wanted` says it in words."""

    rule: str
    wanted: str

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, in words; None for one that fits or is no text."""
        if not isinstance(value, str) or re.fullmatch(self.rule, value):
            return None
        return f"expected {self.wanted}, got {describe(value)}"


NotEmpty = Pattern(r"(?s).+", "text")


@dataclasses.dataclass(frozen=True)
class Component:
    """A class's name in a recipe, the arguments that stand with it, and where: a table has the class."""

    type: str
    args: Mapping[str, Any]
    where: str

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the recipe."""
        return {"type": self.type, **self.args}

    def look_up(self, table: Mapping[str, Any]) -> Any:
        """The class or function of this name. ConfigError if the table has none."""
        if self.type not in table:
            raise ConfigError(f"{self.where}.type: unknown {self.type!r}{nearest(self.type, table)}")
        return table[self.type]

    def check(
        self,
        table: Mapping[str, Any],
        *,
        given: Sequence[str] = (),
        extra: Dataclass | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """`check_arguments` for the table's class; the keywords are its."""
        made, where, name = self.look_up(table), self.where, self.type
        check_arguments(made, self.args, where=where, name=name, given=given, extra=extra, names=names)

    def make(self, table: Mapping[str, Any], **given: Any) -> Any:
        """The object: the class called with its arguments and with those `given`, which YAML may not set.

        Raises:
            ConfigError: an unknown name, arguments that do not fit, or what the class itself says of them.
        """
        self.check(table, given=tuple(given))
        return construct(self.look_up(table), self.where, **{**self.args, **given})


def check_arguments(
    made: Callable[..., Any],
    values: Mapping[str, Any],
    *,
    where: str,
    name: str,
    given: Sequence[str] = (),
    extra: type | None = None,
    names: Sequence[str] = (),
) -> None:
    """Checks values against the signature of what will be called with them.

    Args:
        made: a class or function.
        where: file and key path, for the errors.
        name: what the recipe calls it, for the errors.
        given: parameters that the caller passes itself; YAML may not.
        extra: a dataclass whose fields are allowed beside the parameters.
        names: further keys that the caller handles; they only serve as suggestions.

    Raises:
        ConfigError: unknown, missing, of a wrong type, or out of bounds.
    """
    sources: list[Callable[..., Any]] = [made, *([extra] if extra else [])]
    parameters = {
        key: parameter
        for source in sources
        for key, parameter in inspect.signature(source).parameters.items()
        if key not in given and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    hints = {**_hints(made), **(_hints(extra) if extra else {})}
    for key, value in values.items():
        if key not in parameters:
            raise ConfigError(f"{where}: {name} takes no {key!r}{nearest(key, [*parameters, *names])}")
        if key in hints:
            check_value(value, hints[key], f"{where}.{key}")
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in values:
            raise ConfigError(f"{where}: {name} needs {key!r}")


def read_section(cls: type, values: Mapping[str, Any], *, where: str, apart: Sequence[str] = ()) -> Any:
    """The keys of a recipe's section as the arguments of its dataclass, checked and converted.

    Args:
        cls: the section's dataclass; its annotations hold the bounds.
        where: file and section, for the errors.
        apart: keys that the caller reads itself; they are neither checked nor returned.

    Returns:
        The arguments as a dict: numbers as the type that is annotated, paths expanded.

    Raises:
        ConfigError: unknown, missing, of a wrong type, or out of bounds.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in values:
        if key not in hints and key not in apart:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(str(key), [*hints, *apart])}")
    arguments = {}
    for field in dataclasses.fields(cls):
        if field.name in apart:
            continue
        if field.name in values:
            value = values[field.name]
            check_value(value, hints[field.name], f"{where}.{field.name}")
            arguments[field.name] = _converted(value, hints[field.name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}.{field.name}: missing; expected {type_name(hints[field.name])}")
    return arguments


def check_value(value: Any, hint: Any, where: str) -> None:
    """Checks one value against an annotation with its bounds.

    Raises:
        ConfigError: a wrong type, or out of bounds.
    """
    if not fits(value, hint):
        choices = _choices(hint)
        if choices and isinstance(value, str):
            raise ConfigError(f"{where}: {value!r} is none of {', '.join(choices)}{nearest(value, choices)}")
        raise ConfigError(f"{where}: expected {type_name(hint)}, got {describe(value)}")
    if _holds_endless(value):
        raise ConfigError(f"{where}: expected finite numbers, got {describe(value)}")
    for bound in _bounds(hint):
        problem = bound.problem(value)
        if problem:
            raise ConfigError(f"{where}: {problem}")


def _holds_endless(value: Any) -> bool:
    """Whether a YAML value is or holds infinity or NaN, which no argument is the better for."""
    if isinstance(value, (list, tuple)):
        return any(_holds_endless(item) for item in value)
    if isinstance(value, Mapping):
        return any(_holds_endless(item) for item in value.values())
    return isinstance(value, float) and not math.isfinite(value)


def construct(made: Callable[..., T], where: str, **arguments: Any) -> T:
    """Calls a class; what it says about its arguments is said with the key's path.

    Raises:
        ConfigError: the class raised a ValueError.
    """
    try:
        return made(**arguments)
    except ConfigError:
        raise
    except ValueError as error:
        if type(error) is not ValueError:
            raise  # a DataError or WeightsError already names its file
        raise ConfigError(f"{where}: {error}") from error


def accepts(made: Callable[..., Any], name: str) -> bool:
    """Whether a class or function has a parameter of this name."""
    return name in inspect.signature(made).parameters


def fits(value: Any, hint: Any) -> bool:
    """Whether a YAML value can be passed where a parameter is annotated with `hint`; bounds aside."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, typing.TypeVar):
        return True
    if origin is typing.Annotated:
        return fits(value, inner[0])
    if origin is typing.Literal:
        return any(value == item and type(value) is type(item) for item in inner)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in inner)
    if hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return is_number(value)
    if hint in (str, Path):
        return isinstance(value, str)
    return _fits_container(value, origin or hint, inner)


def _fits_container(value: Any, kind: Any, inner: tuple[Any, ...]) -> bool:
    if not inspect.isclass(kind):
        return True
    if issubclass(kind, Mapping):
        return isinstance(value, Mapping)
    if kind in (list, tuple) or issubclass(kind, Sequence):
        items = [part for part in inner if part is not Ellipsis]
        if not isinstance(value, list):
            return False
        if kind is tuple and len(inner) > 1 and Ellipsis not in inner:
            return len(value) == len(inner) and all(fits(x, part) for x, part in zip(value, inner))
        return not items or all(fits(item, items[0]) for item in value)
    return True


def is_number(value: Any) -> bool:
    """An integer or a float, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def type_name(hint: Any) -> str:
    """An annotation in words: "an integer", "text or null"."""
    words = {int: "an integer", float: "a number", bool: "true or false", type(None): "null"}
    words |= {str: "text", Path: "a path"}
    if hint in words:
        return words[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_name(inner[0])
    if origin is typing.Literal:
        return " or ".join(repr(item) for item in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(part) for part in inner)
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        return "a mapping"
    if inner:
        return "a list" if inner[0] is Any else f"a list ({type_name(inner[0])} each)"
    return getattr(hint, "__name__", str(hint))


def describe(value: Any) -> str:
    """A value as an error message shows it: what it is and how it looks, cut to a readable length."""
    names = {
        dict: "a mapping",
        list: "a list",
        str: "text",
        bool: "true/false",
        int: "an integer",
        float: "a number",
        type(None): "nothing",
    }
    if isinstance(value, int) and value.bit_length() > 200:  # Python refuses to print thousands of digits
        return f"an integer of {value.bit_length()} bits"
    looks = "" if value is None else f" {value!r}"
    return names.get(type(value), type(value).__name__) + (looks if len(looks) < 60 else f"{looks[:57]}…")


def nearest(name: str, names: Iterable[str], listed: Iterable[str] | None = None) -> str:
    """ "; did you mean 'x'?" for the nearest of the names, or a list: of them all, if none is `listed`."""
    known = sorted(names)
    near = difflib.get_close_matches(str(name), known, 1, 0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    shown = known if listed is None else list(listed)
    return f"; known: {', '.join(shown)}" if shown else ""


def _hints(made: Any) -> dict[str, Any]:
    source = made.__init__ if inspect.isclass(made) else made
    return typing.get_type_hints(source, include_extras=True)


def _bounds(hint: Any) -> list[Any]:
    """The bounds in an annotation, those of a union's parts included."""
    found = [bound for bound in getattr(hint, "__metadata__", ()) if hasattr(bound, "problem")]
    if typing.get_origin(hint) in (typing.Union, types.UnionType, typing.Annotated):
        for part in typing.get_args(hint):
            found += _bounds(part) if not isinstance(part, (Range, Pattern)) else []
    return found


def _choices(hint: Any) -> list[str]:
    """The words that a value may be, of a Literal or a union with one."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return [item for item in inner if isinstance(item, str)]
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return [choice for part in inner for choice in _choices(part)]
    return []


def _converted(value: Any, hint: Any) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _converted(value, inner[0])
    if origin in (typing.Union, types.UnionType):
        return _converted(value, next(part for part in inner if fits(value, part)))
    if hint is float:
        return float(value)
    if hint is Path:
        return Path(value).expanduser()
    return tuple(value) if isinstance(value, list) else value
