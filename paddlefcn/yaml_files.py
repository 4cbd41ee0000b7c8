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

MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 40

# YAML 1.2's numbers: PyYAML's own rule wants a dot and a signed exponent, and reads 1e-4 as a string
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)


class _Loader(yaml.SafeLoader):
    pass


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
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


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct_mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:float"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: not YAML, a doubled key, too large once its aliases are followed.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{where}: {len(text)} characters; a config has at most {MAX_BYTES}")
    try:
        _check_size(yaml.compose(text, Loader=_Loader), where)
        return yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where not in str(error) else str(error)) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}:{line} not valid YAML: {problem}") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{where}: not usable YAML: {type(error).__name__} {error}") from None


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
        if path.is_file() and path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_BYTES} bytes; this is no config")
        text = path.read_text(encoding="utf-8")
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
        if not key.lstrip("-").isdigit() or not -len(node) <= int(key) < len(node):
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
