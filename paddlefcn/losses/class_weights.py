"""Class weights from how often the classes occur."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from paddlefcn.arguments import check_value, describe, nearest
from paddlefcn.errors import ConfigError

_KEYS = ("from", "rule", "beta")
RULES = ("inverse", "log", "median", "effective")


@dataclasses.dataclass(frozen=True)
class ClassCounts:
    """How often each class occurs in a split.

    Attributes:
        pixels: labelled pixels of each class.
        together: labelled pixels, of any class, in the images that hold the class.
    """

    pixels: tuple[int, ...]
    together: tuple[int, ...]


def class_weights(
    counts: ClassCounts,
    rule: Literal["inverse", "log", "median", "effective"],
    beta: float | None = None,
) -> list[float]:
    """One factor a class; 0 for a class that does not occur.

    Args:
        counts: of the training split.
        rule: with n_c of n pixels and C classes that occur,
            "inverse": n / (C n_c), so that every class weighs the same in all;
            "log": 1 / ln(1.02 + n_c / n) (ENet, Paszke et al. 2016, section 5.2);
            "median": the median of the frequencies over each, n_c over the pixels of the images that hold
            c being a class's frequency (Eigen and Fergus, ICCV 2015, section 6.3.2);
            "effective": (1 - beta) / (1 - beta ** n_c), scaled to a mean of 1 (Cui et al., CVPR 2019).
        beta: of "effective"; (n - 1) / n when not given. 0 weighs all alike, towards 1 it is "inverse".

    Raises:
        ValueError: an unknown rule, a beta outside 0..1, or no labelled pixel at all.
    """
    pixels, together = np.array(counts.pixels, np.float64), np.array(counts.together, np.float64)
    found = pixels > 0
    n, n_c = pixels.sum(), pixels[found]
    if not n:
        raise ValueError("no pixel of the training split is labelled; no class weights follow from it")
    if beta is not None and not 0 <= beta < 1:
        raise ValueError(f"beta {beta}: expected 0 or more and less than 1")
    if rule == "inverse":
        some = n / (found.sum() * n_c)
    elif rule == "log":
        some = 1 / np.log(1.02 + n_c / n)
    elif rule == "median":
        frequency = n_c / together[found]
        some = np.median(frequency) / frequency
    elif rule == "effective":
        beta = (n - 1) / n if beta is None else beta
        # expm1 and log: 1 - beta ** n_c cancels out where beta is almost 1
        some = 1 / -np.expm1(n_c * np.log(beta)) if beta else np.ones_like(n_c)
        some = some / some.mean()
    else:
        raise ValueError(f"rule {rule!r}: expected one of {', '.join(RULES)}")
    weights = np.zeros_like(pixels)
    weights[found] = some
    return [float(weight) for weight in weights]


def check_rule(wanted: Mapping[str, Any], where: str) -> None:
    """ConfigError, with the key's path, unless `wanted` says how to make class weights from data."""
    for key in wanted:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}{nearest(str(key), _KEYS)}")
    if wanted.get("from") != "data":
        raise ConfigError(f"{where}.from: expected data, got {describe(wanted.get('from'))}")
    if wanted.get("rule") not in RULES:
        expected = f"expected one of {', '.join(RULES)}"
        raise ConfigError(f"{where}.rule: {expected}, got {describe(wanted.get('rule'))}")
    check_value(wanted.get("beta"), float | None, f"{where}.beta")
    beta = wanted.get("beta")
    if beta is not None and (wanted["rule"] != "effective" or not 0 <= beta < 1):
        raise ConfigError(f"{where}.beta: 0 or more and less than 1, of rule effective alone; got {beta}")


def weights_by_rule(wanted: Mapping[str, Any], counts: ClassCounts, where: str) -> list[float]:
    """`class_weights` by a rule of a recipe, as `check_rule` lets it pass.

    Raises:
        ConfigError: nothing is labelled.
    """
    try:
        return class_weights(counts, wanted["rule"], wanted.get("beta"))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error
