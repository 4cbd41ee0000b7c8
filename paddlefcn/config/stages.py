"""`stages:` in a config: one recipe a stage, each made of the shared sections and the stage's own entry.

Works on the tree that the YAML gave; imports no paddle and knows no component.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from paddlefcn.arguments import describe, nearest
from paddlefcn.errors import ConfigError
from paddlefcn.yaml_files import merge

# in the metadata of a staged run's weights: "stage 1 of 3, FCN32s", and the type of its model
STAGE_KEY, MODEL_KEY = "paddlefcn.stage", "paddlefcn.model"

KEYS = ("model", "iters", "epochs", "batch_size", "learning_rate", "schedule")


@dataclasses.dataclass(frozen=True)
class StageTree:
    """A stage's whole recipe, and under which path its sections stand in the file, for errors."""

    tree: Mapping[str, Any]
    places: Mapping[str, str]


def stage_trees(tree: Mapping[str, Any], file: str) -> list[StageTree]:
    """The recipes of `stages`, in their order; none if the config has no such section.

    An entry's `model` (a name, or keys of the model section) and `schedule` (keys of that section) are
    merged into the shared ones; `iters` or `epochs`, `batch_size` and `learning_rate` replace those of
    `train` and `schedule`. Weights to start from (`pretrained`) are the first stage's.

    Raises:
        ConfigError: with the key's path, for whatever cannot be right.
    """
    entries = tree.get("stages")
    if entries is None:
        return []
    if not isinstance(entries, list) or not entries:
        wanted = "expected a list of {model: …, iters: …, learning_rate: …}"
        raise ConfigError(f"{file}: stages: {wanted}, got {describe(entries)}")
    return [_stage(tree, entry, f"stages.{i}", file) for i, entry in enumerate(entries)]


def unused_by_stages(tree: Mapping[str, Any]) -> list[str]:
    """A line for every shared value that all stages replace, so that setting it changes nothing."""
    entries = tree.get("stages") or []
    shared = {"train": ("iters", "epochs", "batch_size"), "schedule": ("learning_rate",)}
    lines = []
    for section, keys in shared.items():
        for key in keys:
            own = {"iters", "epochs"} if key in ("iters", "epochs") else {key}
            given = (tree.get(section) or {}).get(key)
            if entries and given is not None and all(own & set(entry) for entry in entries):
                lines.append(f"{section}.{key} {given} is not used: every entry of stages has its own")
    return lines


def _stage(tree: Mapping[str, Any], entry: Any, where: str, file: str) -> StageTree:
    if not isinstance(entry, Mapping):
        raise ConfigError(
            f"{file}: {where}: expected {{model: …, iters: …, learning_rate: …}}, got {describe(entry)}"
        )
    for key in entry:
        if key not in KEYS:
            raise ConfigError(f"{file}: {where}: unknown key {key!r}{nearest(str(key), KEYS)}")
    places = {key: f"{where}.{key}" for key in ("model", "schedule") if key in entry}
    if "learning_rate" in entry and "schedule" not in entry:
        places["schedule"] = where
    sections = {key: value for key, value in tree.items() if key != "stages"}
    sections["model"] = _model(tree.get("model"), entry, where, file)
    sections["schedule"] = _schedule(tree.get("schedule"), entry, where, file)
    sections["train"] = _train(tree.get("train"), entry, where, file)
    return StageTree(sections, places)


def _model(shared: Any, entry: Mapping[str, Any], where: str, file: str) -> Any:
    own = entry.get("model", {})
    own = {"type": own} if isinstance(own, str) else own
    if not isinstance(own, Mapping):
        raise ConfigError(f"{file}: {where}.model: expected a name or keys of model, got {describe(own)}")
    if shared is not None and not isinstance(shared, Mapping):
        return shared  # the config says what is wrong with it
    # unlike a recipe on its _base_, a stage of another type keeps the section: the backbone is the same
    parts = [{key: value for key, value in part.items() if key != "type"} for part in (shared or {}, own)]
    kind = own.get("type", (shared or {}).get("type"))
    model = {**({} if kind is None else {"type": kind}), **merge(*parts)}
    if where == "stages.0":
        return model
    backbone = own.get("backbone")
    for place, part in (("model", own), ("model.backbone", backbone if isinstance(backbone, dict) else {})):
        if part.get("pretrained") is not None:
            raise ConfigError(
                f"{file}: {where}.{place}.pretrained: this stage starts from the one before; "
                "only the first can be pretrained"
            )
    model.pop("pretrained", None)
    if isinstance(model.get("backbone"), Mapping):
        model["backbone"] = {key: value for key, value in model["backbone"].items() if key != "pretrained"}
    return model


def _schedule(shared: Any, entry: Mapping[str, Any], where: str, file: str) -> Any:
    own = entry.get("schedule", {})
    if not isinstance(own, Mapping):
        raise ConfigError(f"{file}: {where}.schedule: expected keys of schedule, got {describe(own)}")
    if shared is not None and not isinstance(shared, Mapping):
        return shared  # the config says what is wrong with it
    if "learning_rate" not in entry:
        return merge(shared or {}, own)
    if "learning_rate" in own:
        raise ConfigError(
            f"{file}: {where}: learning_rate and schedule.learning_rate are both given; keep one"
        )
    return {**merge(shared or {}, own), "learning_rate": entry["learning_rate"]}


def _train(shared: Any, entry: Mapping[str, Any], where: str, file: str) -> Any:
    own = {key: entry[key] for key in ("iters", "epochs", "batch_size") if key in entry}
    for key, value in own.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 2**31:
            raise ConfigError(f"{file}: {where}.{key}: expected an integer from 1, got {describe(value)}")
    if "iters" in own and "epochs" in own:
        raise ConfigError(f"{file}: {where}: iters and epochs are both given; keep one")
    if shared is not None and not isinstance(shared, Mapping):
        return shared  # the config says what is wrong with it
    train = dict(shared or {})
    if "iters" in own or "epochs" in own:
        train = {key: value for key, value in train.items() if key not in ("iters", "epochs")}
    elif not (train.get("iters") or train.get("epochs")):
        raise ConfigError(f"{file}: {where}.iters: missing: how many iterations to train (or epochs)")
    return {**train, **own}
