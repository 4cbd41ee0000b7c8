"""YAML as recipes need it: safe, strict about doubled keys, `1e-4` a number, `_base_` files merged.

Imports neither paddle nor any component.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from paddlefcn.arguments import describe
from paddlefcn.errors import ConfigError
from paddlefcn.files import read_text

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 40
MAX_DIGITS = 40  # of an integer; Python needs seconds for some thousands, and numpy takes 20

# YAML 1.2's numbers: PyYAML's own rule wants a dot and a signed exponent, and reads 1e-4 as a string
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
# YAML 1.1's, without 1:30 as a number of base 60
_INT = re.compile(r"^[-+]?(?:0b[01_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_CORE = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Mappings, lists, text, numbers, true, false and null; no dates, sets or other tags."""


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    line = node.start_mark.line + 1
    if not _INT.match(text):  # an explicit !!int
        raise ConfigError(f"line {line}: {text[:40]!r} is no integer")
    if len(text) > MAX_DIGITS:
        raise ConfigError(f"line {line}: an integer of {len(text)} digits; at most {MAX_DIGITS} are read")
    return loader.construct_yaml_int(node)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = loader.construct_scalar(node)
    if not (_FLOAT.match(text) or _INT.match(text)) or len(text) > 400:
        raise ConfigError(f"line {node.start_mark.line + 1}: {text[:40]!r} is no number")
    return loader.construct_yaml_float(node)


def _construct_bool(loader: _Loader, node: yaml.ScalarNode) -> bool:
    text = loader.construct_scalar(node)
    if text.lower() not in loader.bool_values:
        raise ConfigError(f"line {node.start_mark.line + 1}: {text[:40]!r} is neither true nor false")
    return loader.construct_yaml_bool(node)


def _construct_text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = loader.construct_scalar(node)
    if "\0" in text:  # no system takes it in a name
        raise ConfigError(f"line {node.start_mark.line + 1}: a text that holds a zero character")
    return text


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"line {node.start_mark.line + 1}: tagged as a mapping, and is none")
    loader.flatten_mapping(node)
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise ConfigError(f"line {line}: a list or mapping cannot be a key")
        if key in mapping:
            raise ConfigError(f"line {line}: key {key!r} stands twice; keep one")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_CORE) in ("null", "seq")
}
_Loader.add_constructor(f"{_CORE}str", _construct_text)
_Loader.add_constructor(f"{_CORE}map", _construct_mapping)
_Loader.add_constructor(f"{_CORE}int", _construct_int)
_Loader.add_constructor(f"{_CORE}float", _construct_float)
_Loader.add_constructor(f"{_CORE}bool", _construct_bool)
_REPLACED = tuple(_CORE + name for name in ("int", "float", "timestamp", "value"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag not in _REPLACED]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_CORE}int", _INT, list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_CORE}float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: not YAML, a doubled key, too large once its aliases are followed.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: {len(text)} characters; a config has at most {MAX_BYTES}")
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        _check_size(root, where)
        return None if root is None else loader.construct_document(root)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where not in str(error) else str(error)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}:{line} not valid YAML: {problem}") from None
    # PyYAML trusts explicit tags more than it should
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{where}: not usable YAML: {type(error).__name__} {str(error)[:200]}") from None


def _check_size(root: yaml.Node | None, where: str) -> None:
    """Counts the nodes with every alias followed, without following them (an alias bomb is cheap)."""
    counts: dict[int, int] = {}

    def count(node: yaml.Node, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise ConfigError(f"{where}: nested more than {MAX_DEPTH} deep, or an alias to itself")
        if id(node) not in counts:
            children: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                children = list(node.value)
            elif isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
            counts[id(node)] = 1 + sum(count(child, depth + 1) for child in children)
        return counts[id(node)]

    total = count(root, 0) if root is not None else 0
    if total > MAX_NODES:
        raise ConfigError(f"{where}: {total} values with its aliases; a config has at most {MAX_NODES}")


def load_yaml(path: Path) -> dict[str, Any]:
    """A file's mapping with its `_base_` files below it: dicts merge, lists replace, a changed `type`
    replaces its node.

    Raises:
        ConfigError: missing, unreadable, no mapping, or a circle of `_base_`.
    """
    return _load(path, ())


def _load(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    resolved = path.resolve()
    if resolved in seen:
        raise ConfigError(f"{path}: _base_ leads back to this file")
    if len(seen) > 10:
        raise ConfigError(f"{path}: more than 10 _base_ files below each other")
    try:
        text = read_text(path, MAX_BYTES)
    except OSError as error:
        raise ConfigError(f"config {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"config {path}: not a text file in UTF-8") from None
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise ConfigError(f"config {path}: expected a mapping of sections, got {describe(value)}")
    bases = value.pop("_base_", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: _base_: expected a file name or a list of them")
    merged: dict[str, Any] = {}
    for base in bases:
        merged = merge(merged, _load(path.parent / base, (*seen, resolved)))
    return merge(merged, value)


def merge(base: Any, over: Any) -> Any:
    """`over` on `base`: dicts merge, everything else replaces, and so does a dict of another `type`."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "type" in base and "type" in over and base["type"] != over["type"]:
        return over
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(base[key], value) if key in base else value
    return merged


def apply_options(tree: dict[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """`key.path=value` pairs on a config tree; values are YAML, list indices work.

    Raises:
        ConfigError: no `=`, a path through something that is no section, an index outside the list.
    """
    for option in options:
        path, equals, text = option.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"option {option!r}: expected key.path=value")
        value = parse_yaml(text, f"option {option!r}")
        tree = _set(tree, keys, value, option, "")
        if keys == ["train", "iters"]:
            tree["train"].pop("epochs", None)  # the recipe's epochs give way to the asked number
        elif keys == ["train", "epochs"]:
            tree["train"].pop("iters", None)
    return tree


def _set(node: Any, keys: list[str], value: Any, option: str, where: str) -> Any:
    if not keys:
        return merge(node, value) if isinstance(node, dict) and isinstance(value, dict) else value
    key, rest = keys[0], keys[1:]
    here = f"{where}.{key}" if where else key
    if isinstance(node, list):
        if not re.fullmatch("-?[0-9]{1,9}", key) or not -len(node) <= int(key) < len(node):
            raise ConfigError(f"option {option!r}: {where} is a list of {len(node)}; no item {key!r}")
        copy = list(node)
        copy[int(key)] = _set(node[int(key)], rest, value, option, here)
        return copy
    if node is None:
        node = {}
    if not isinstance(node, dict):
        raise ConfigError(f"option {option!r}: {where} is {describe(node)}, it has no key {key!r}")
    copied = dict(node)
    copied[key] = _set(node.get(key), rest, value, option, here)
    return copied
