"""Putting a state into a network, and saying exactly what fitted and what did not."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paddlefcn.errors import WeightsError

NORMALIZE_KEY = "paddlefcn.normalize"
_WRAPPERS = ("module.", "_layers.", "model.", "network.", "net.")
_SHOWN = 3  # names in a one-line message; the table has them all


@dataclass(frozen=True)
class Mismatch:
    """A tensor that both sides have, in another shape or kind of number."""

    name: str
    file: str
    network: str


@dataclass(frozen=True)
class LoadReport:
    """What became of every tensor of the file and of the network."""

    what: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[Mismatch, ...] = ()

    @property
    def complete(self) -> bool:
        """Every tensor of the network was loaded and none of the file was left over."""
        return not (self.missing or self.unexpected or self.mismatched)

    def table(self) -> str:
        """One line a tensor that did not simply load, under a line of counts."""
        rows = [(item.name, "mismatched", f"file {item.file}, network {item.network}")
                for item in self.mismatched]  # fmt: skip
        rows += [(name, "missing", "not in the file; keeps its start value") for name in self.missing]
        rows += [(name, "unexpected", "not in the network; left") for name in self.unexpected]
        return "\n".join([self.summary(), *format_rows(rows)])

    def summary(self) -> str:
        """One line: the counts."""
        parts = [f"{len(self.loaded)} loaded"]
        for name in ("missing", "unexpected", "mismatched"):
            if getattr(self, name):
                parts.append(f"{len(getattr(self, name))} {name}")
        return f"{self.what}: {', '.join(parts)}"


def format_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """Text columns, each as wide as its widest entry."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)) for row in rows]
    return ["  " + line.rstrip() for line in lines]


def load_into(layer: Any, state: Mapping[str, np.ndarray], *, what: str, strict: bool = True) -> LoadReport:
    """Put arrays into a paddle layer by name; float types are cast to the layer's.

    `what` names the source in messages. With `strict`, anything missing, unexpected or mismatched
    is a WeightsError and the layer is left as it was; without, it is listed in the report. No
    match at all is an error either way.
    """
    own = layer.state_dict()
    fitting: dict[str, np.ndarray] = {}
    mismatched = []
    for name, tensor in own.items():
        if name not in state:
            continue
        shape, dtype = tuple(tensor.shape), _numpy_dtype(tensor)
        array = np.asarray(state[name])
        if tuple(array.shape) == shape and (array.dtype.kind == "f") == (dtype.kind == "f"):
            fitting[name] = np.ascontiguousarray(array, dtype=dtype).reshape(shape)
        else:
            given = _described(array.shape, array.dtype)
            mismatched.append(Mismatch(name, given, _described(shape, dtype)))
    report = LoadReport(
        what=what,
        loaded=tuple(fitting),
        missing=tuple(name for name in own if name not in state),
        unexpected=tuple(name for name in state if name not in own),
        mismatched=tuple(mismatched),
    )
    if not fitting or (strict and not report.complete):
        raise WeightsError(_complaint(report, own, state))
    # set_state_dict skips what it does not like without a word: ask it what it did
    not_set, not_known = layer.set_state_dict(fitting)
    lost = set(fitting).intersection(not_set) | set(not_known)
    if lost:
        raise WeightsError(f"{what}: paddle did not take {_some(sorted(lost))}")
    return report


def _numpy_dtype(tensor: Any) -> np.dtype:
    name = str(tensor.dtype).rsplit(".", 1)[-1].lower()
    return np.dtype("float32" if name == "bfloat16" else name)


def _described(shape: Sequence[int], dtype: np.dtype) -> str:
    return f"{list(shape)}" if dtype.kind == "f" else f"{list(shape)} {dtype}"


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _complaint(report: LoadReport, own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """One line: what does not fit, and the likeliest reason."""
    parts = []
    if not report.loaded:
        parts.append(f"none of its {len(state)} tensors fits the network's {len(own)}")
    elif report.missing:
        parts.append(f"{len(report.missing)} tensors are missing ({_some(report.missing)})")
    if report.loaded and report.unexpected:
        parts.append(f"{len(report.unexpected)} do not belong ({_some(report.unexpected)})")
    if report.mismatched:
        shown = [f"{m.name}: file {m.file}, network {m.network}" for m in report.mismatched]
        parts.append(f"{len(shown)} differ in shape ({_some(shown)})")
    reason = _likely_reason(report, own, state)
    return f"{report.what}: {'; '.join(parts)}" + (f": {reason}" if reason else "")


def _likely_reason(report: LoadReport, own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    names = list(state)
    for prefix in _prefixes(names):
        if any(name[len(prefix) :] in own for name in names if name.startswith(prefix)):
            return f"its names start with {prefix!r}; take that off"
    if any(f"backbone.{name}" in own for name in names):
        return "it holds a backbone alone; give it as model.backbone.pretrained"
    if any(name.startswith(("features.", "classifier.", "pre_logits.")) for name in names) or (
        "conv1_1.weight" in state or "conv1.weight" in state
    ):
        return "its names are another library's; use `paddlefcn import-weights` first"
    if any(key in name for name in names for key in ("velocity_0", "moment", "beta1_pow")):
        return "it is an optimizer's state, not a network's"
    for item in report.mismatched:
        if item.name.startswith("score_") and item.name.endswith("bias"):  # one value a class
            return f"it has other classes than the config (see {item.name})"
    if report.missing and all(".bn." in name for name in report.missing):
        return "it has no BatchNorm; set model.backbone.batch_norm: false"
    if report.unexpected and all(".bn." in name for name in report.unexpected):
        return "it has BatchNorm; set model.backbone.batch_norm: true"
    if report.mismatched and report.mismatched[0].name.startswith(("fc6", "fc7")):
        return "model.fc_channels or model.fc6_kernel differs"
    if report.mismatched and report.mismatched[0].name.startswith("backbone."):
        return f"its backbone has another width than the config's (see {report.mismatched[0].name})"
    if report.missing or report.unexpected:
        return "the config describes another network than the one it was saved from"
    return ""


def _prefixes(names: Sequence[str]) -> list[str]:
    found = [wrapper for wrapper in _WRAPPERS if any(name.startswith(wrapper) for name in names)]
    first = {name.split(".", 1)[0] + "." for name in names if "." in name}
    return found + (sorted(first) if len(first) == 1 else [])


# --- what the images must look like --------------------------------------------------------------


def normalize_metadata(normalize: Mapping[str, Any]) -> dict[str, str]:
    """The metadata entry that carries a preprocessing ({scale, mean, std, order}) with weights."""
    return {NORMALIZE_KEY: json.dumps(dict(normalize), sort_keys=True)}


def check_normalize(metadata: Mapping[str, str], normalize: Any, *, what: str = "weights") -> None:
    """Raise WeightsError if weights were made for other images than the config's.

    `metadata` is what `read_metadata` gives; `normalize` is a `Normalize` or a mapping with scale,
    mean, std and order. Two ways of writing the same arithmetic (scale 255 or 1) agree. Weights
    that carry nothing are not checked.
    """
    if NORMALIZE_KEY not in metadata:
        return
    wanted = normalize if isinstance(normalize, Mapping) else normalize.to_dict()
    try:
        carried = json.loads(metadata[NORMALIZE_KEY])
        same = _same_arithmetic(carried, wanted)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise WeightsError(f"{what}: its entry {NORMALIZE_KEY} cannot be read") from error
    if not same:
        raise WeightsError(
            f"{what}: made for images normalised as {_in_words(carried)}, but data.normalize is"
            f" {_in_words(wanted)}; set data.normalize to the former"
        )


def _same_arithmetic(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def factors(normalize: Mapping[str, Any]) -> np.ndarray:
        mean = np.asarray(normalize["mean"], dtype=np.float64)
        std = np.asarray(normalize["std"], dtype=np.float64)
        scale = np.full_like(mean, float(normalize["scale"]))
        # (x / scale - mean) / std = (x - mean * scale) / (scale * std)
        return np.stack([mean * scale, scale * std])

    a, b = factors(one), factors(other)
    if a.shape != b.shape:
        return False
    same_order = a.shape[1] != 3 or one.get("order", "RGB") == other.get("order", "RGB")
    # half a grey level out of 256: published means are rounded
    near_mean = np.abs(a[0] - b[0]).max() <= 0.5
    return bool(same_order and near_mean and np.allclose(a[1], b[1], rtol=0.01))


def _in_words(normalize: Mapping[str, Any]) -> str:
    keys = ("scale", "mean", "std", "order")
    return "{" + ", ".join(f"{key}: {normalize[key]}" for key in keys if key in normalize) + "}"
