"""How two recipes differ: the keys, and what stands there in each."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from paddlefcn.errors import ConfigError
from paddlefcn.yaml_files import load_yaml

_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class Difference:
    """A key path with the value of both recipes; `describe` shows it."""

    key: str
    one: Any
    other: Any

    def describe(self) -> str:
        """ "train.batch_size: 8, here 4"; a key that is absent is "not given"."""
        return f"{self.key}: {_in_words(self.one)}, here {_in_words(self.other)}"


def differences(
    one: Mapping[str, Any], other: Mapping[str, Any], leave_out: Collection[str] = ()
) -> list[Difference]:
    """The keys in which two trees of recipes differ, sections in the order of the first.

    Lists count as one value. `leave_out` names key paths, or sections, that do not count.
    """
    return [found for found in _compare(one, other, "") if not _under(found.key, leave_out)]


def misfits(
    own: Mapping[str, Any], given: Mapping[str, Any], free: Collection[str], *, ranks: tuple[int, int]
) -> list[Difference]:
    """The keys in which a run's recipe differs from the one that it is to go on with, and may not.

    The last stage may be longer, and a rank's batches of another size where all `ranks` together take as
    many images as before.

    Args:
        free: key paths, or sections, that may differ.
        ranks: how many there were, and how many there are.
    """
    stages, others = own.get("stages"), given.get("stages")
    if not (isinstance(stages, list) and isinstance(others, list) and len(stages) == len(others)):
        stages, others = [], []
    pairs = [(f"stages.{number}.", one, other) for number, (one, other) in enumerate(zip(stages, others))]
    left_out = (*free, "stages") if pairs else free
    found = []
    for prefix, one, other in [("", own, given), *pairs]:
        last = prefix == (pairs[-1][0] if pairs else "")
        for each in differences(one, other, free if prefix else left_out):
            if not (_is_longer(each, last) or _is_same_batch(each, ranks)):
                found.append(dataclasses.replace(each, key=prefix + each.key))
    return found


def _is_longer(found: Difference, last: bool) -> bool:
    numbers = isinstance(found.one, int) and isinstance(found.other, int)
    return last and numbers and found.key in ("train.iters", "train.epochs") and found.other > found.one


def _is_same_batch(found: Difference, ranks: tuple[int, int]) -> bool:
    if found.key != "train.batch_size" or not isinstance(found.one, int) or not isinstance(found.other, int):
        return False
    return found.one * ranks[0] == found.other * ranks[1]


def describe_own_recipe(path: Path, tree: Mapping[str, Any]) -> str | None:
    """How the recipe of the run that has the weights at `path` differs from `tree` in its network."""
    for folder in path.absolute().parents:
        file = folder / "config.yml"
        if file.is_file():
            break
    else:
        return None
    try:
        own = load_yaml(file)
    except ConfigError:  # not a recipe: it has nothing to say
        return None
    sections = ("model", "data.classes", "data.normalize", "stages")
    found = [
        each
        for each in differences(own, tree)
        if any(each.key == section or each.key.startswith(f"{section}.") for section in sections)
    ]
    if not found:
        return None
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"their own recipe {file} has {'; '.join(each.describe() for each in found[:3])}{more}"


def _compare(one: Any, other: Any, path: str) -> list[Difference]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        found = []
        for key in [*one, *(key for key in other if key not in one)]:
            place = f"{path}.{key}" if path else str(key)
            found += _compare(one.get(key, _ABSENT), other.get(key, _ABSENT), place)
        return found
    # a key that is not given and one that is null mean the same
    same = one == other or {id(one), id(other)} <= {id(_ABSENT), id(None)}
    return [] if same else [Difference(path, one, other)]


def _under(key: str, places: Collection[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _in_words(value: Any) -> str:
    if value is _ABSENT:
        return "not given"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
