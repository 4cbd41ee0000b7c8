"""Weights of another network into ours: what fits, what is reshaped, what is left, what is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import yaml

from paddlefcn.errors import WeightsError
from paddlefcn.weights.foreign import AT_ONCE, OWN, Entry, Foreign
from paddlefcn.weights.loading import format_rows, load_into
from paddlefcn.weights.networks import vgg_section

# score layers may be new; an auxiliary head may be left out or made anew
_HEAD = re.compile(r"(.*\.)?(score|upscore)\w*\.|auxiliary\.")
_FC = re.compile(r"fc[67]\.conv\.")
_ACTIONS = ("loaded", "reshaped", "folded", "skipped", "new", "missing")


@dataclass(frozen=True)
class Row:
    """What became of one tensor of the file (source) or of the network (target)."""

    source: str
    target: str
    action: str  # one of _ACTIONS
    note: str = ""


@dataclass(frozen=True)
class ImportReport:
    """All tensors of a file and of a network, and the metadata that the weights carry."""

    what: str
    rows: tuple[Row, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def names(self, action: str) -> tuple[str, ...]:
        """The network's names of one action; the file's names for what was skipped."""
        chosen = [row for row in self.rows if row.action == action]
        return tuple(row.source if action == "skipped" else row.target for row in chosen)

    def summary(self) -> str:
        """One line: the counts."""
        counts = [(name, len(self.names(name))) for name in _ACTIONS]
        return f"{self.what}: " + ", ".join(f"{count} {name}" for name, count in counts if count)

    def table(self, *, all_rows: bool = True) -> str:
        """One line a tensor: action, name in the file, name in the network, note; then the counts.

        Without `all_rows` those that simply loaded are left out.
        """
        order = sorted(self.rows, key=lambda row: _ACTIONS.index(row.action))
        shown = [row for row in order if all_rows or row.action != "loaded"]
        cells = [(row.action, row.source or "-", row.target or "-", row.note) for row in shown]
        return "\n".join([*format_rows(cells), self.summary()])


def subsample_fc(entries: Sequence[Entry], channels: int | None, kernel: int | None) -> list[Entry]:
    """fc6 and fc7 with fewer channels and a smaller fc6 kernel, every n-th of each kept.

    As DeepLab's authors made their VGG (Chen and others, ICLR 2015, section 3.1): kernel cells and
    channels evenly spread, values unchanged. Raises WeightsError if the file has fewer.
    """
    weights = {entry.name: entry.array for entry in entries}
    fc6 = weights.get("fc6.conv.weight")
    if channels is None and kernel is None:
        return list(entries)
    if fc6 is None:
        raise WeightsError("--fc-channels, --fc6-kernel: the file has no fc6 and fc7; leave them out")
    channels, kernel = channels or fc6.shape[0], kernel or fc6.shape[2]
    if channels > fc6.shape[0] or kernel > fc6.shape[2]:
        raise WeightsError(
            f"--fc-channels, --fc6-kernel: fc6 has {fc6.shape[0]} channels and kernel {fc6.shape[2]}:"
            f" {channels} and {kernel} cannot be taken from it"
        )
    kept = _spread(channels, fc6.shape[0])
    # the kernel's ends stay its ends, so that it looks as far; a single cell is the middle one
    cells = np.round(np.linspace(0, fc6.shape[2] - 1, kernel)).astype(int)
    cells = cells if kernel > 1 else np.array([fc6.shape[2] // 2])
    result = []
    for entry in entries:
        array = entry.array
        if entry.name.startswith(("fc6.", "fc7.")):
            array = array[kept]
        if entry.name == "fc6.conv.weight":
            array = array[:, :, cells][:, :, :, cells]
        if entry.name == "fc7.conv.weight":
            array = array[:, kept]
        if entry.name == "score_fr.weight":
            array = array[:, kept]
        note = entry.note
        if array.shape != entry.array.shape:
            note = f"{note or list(entry.array.shape)} -> {list(array.shape)}, subsampled"
        result.append(Entry(entry.source, entry.name, array, note))
    return result


def _spread(count: int, total: int) -> np.ndarray:
    return np.arange(count) * total // count


def load_foreign(layer: Any, foreign: Foreign, *, what: str) -> ImportReport:
    """Put a translated file into a backbone or a model; score layers may be new, the rest must fit.

    Of a backbone every tensor must be there in equal shape, and none left over. A model's fc6 and
    fc7 may be missing but not of another size; score layers and upsampling that are missing or
    have other classes keep their start. A bias under BatchNorm is folded into the running mean.
    Raises WeightsError, the layer as it was, otherwise.
    """
    own = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    model = any(name.startswith("backbone.") for name in own)
    whole = model and foreign.network is not None and foreign.network.model is not None
    state: dict[str, np.ndarray] = {}
    biases: dict[str, np.ndarray] = {}
    rows, faults = [], []
    for entry in _unscaled(layer, foreign):
        name = entry.name if model else entry.name[len("backbone.") :]
        part = entry.name.startswith("backbone.")
        mean = _mean_under(name)
        if not model and not part:
            rows.append(Row(entry.source, "", "skipped", "not of the backbone"))
        elif name not in own and own.get(mean) == entry.array.shape:
            biases[mean] = entry.array
            rows.append(Row(entry.source, mean, "folded", "taken off the running mean"))
        elif name not in own:
            rows.append(Row(entry.source, "", "skipped", "not in this network"))
            if part or _FC.match(name) or (whole and not _HEAD.match(name)):
                faults.append(f"{entry.source} has no place ({name})")
        elif own[name] != entry.array.shape:
            note = f"file {list(entry.array.shape)}, network {list(own[name])}"
            if _HEAD.match(name):
                rows.append(Row(entry.source, name, "new", f"{note}: other classes, made anew"))
            else:
                rows.append(Row(entry.source, name, "skipped", note))
                faults.append(f"{name}: {note}")
        else:
            state[name] = entry.array
            rows.append(Row(entry.source, name, "reshaped" if entry.note else "loaded", entry.note))
    mentioned = {row.target for row in rows}
    for name in own:
        if name not in mentioned:
            rows.append(Row("", name, "missing", "keeps its start value"))
            if not model or name.startswith("backbone.") or (whole and not _HEAD.match(name)):
                faults.append(f"{name} is missing")
    rows += [Row(source, "", "skipped", reason) for source, reason in foreign.skipped]
    if faults or not state:
        raise WeightsError(_complaint(foreign, own, faults, what))
    load_into(layer, _folded(state, biases), what=what, strict=False)
    return ImportReport(what, tuple(rows), foreign.metadata)


def _mean_under(name: str) -> str:
    """The running mean that a convolution's bias folds into; empty for any other tensor."""
    for bias in (".conv.bias", ".depthwise.bias"):
        if name.endswith(bias):
            return f"{name[: -len(bias)]}.bn._mean"
    return ""


def _folded(state: Mapping[str, np.ndarray], biases: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Biases, which our convolutions under BatchNorm leave out, taken off the running means.

    Wx + b - mean is Wx - (mean - b), so evaluation is the same; training takes the batch's own mean
    away, and a bias with it. A BatchNorm that the file lacks (fc6 of a classifier) starts from mean 0.
    """
    means = {name: np.subtract(state.get(name, 0), bias, dtype="float32") for name, bias in biases.items()}
    return {**state, **means}


def _unscaled(layer: Any, foreign: Foreign) -> Iterator[Entry]:
    """At-once scores for networks that do not scale their pools: W * (s * pool) = (s * W) * pool."""
    for entry in foreign.entries:
        layer_name, _, kind = entry.name.partition(".")
        pool = layer_name.replace("score_", "")
        if foreign.fcn == "FCN8sAtOnce" and pool in AT_ONCE and kind == "weight":
            factor = AT_ONCE[pool] / getattr(layer, f"{pool}_scale", 1.0)
            if factor != 1.0:
                array = entry.array * np.float32(factor)
                entry = Entry(entry.source, entry.name, array, f"scaled by {factor:g}")
        yield entry


def _complaint(foreign: Foreign, own: Mapping[str, Any], faults: Sequence[str], what: str) -> str:
    message = f"{what}: {foreign.path} does not fit: " + "; ".join(faults[:3] or ["nothing matches"])
    if len(faults) > 3:
        message += f" and {len(faults) - 3} more"
    normed = any(".bn." in name for name in own)
    if normed != foreign.batch_norm and foreign.format != OWN:
        has, wanted = ("has", "true") if foreign.batch_norm else ("has no", "false")
        return f"{message}: the file {has} BatchNorm; set model.backbone.batch_norm: {wanted}"
    backbone = _other_backbone(foreign, own)
    if backbone:
        return f"{message}: {backbone}"
    if any(fault.startswith(("fc6", "fc7")) for fault in faults):
        return (
            f"{message}: set model.fc_channels and model.fc6_kernel to the file's, or subsample it"
            " with `paddlefcn import-weights --fc-channels N --fc6-kernel K`"
        )
    return f"{message}: it is another network, or of another width"


def _other_backbone(foreign: Foreign, own: Mapping[str, Any]) -> str:
    """What differs between the file's backbone and the network's; empty where nothing is known to."""
    if foreign.network is not None:
        wanted = foreign.network.backbone
        return f"it holds {foreign.network.model or 'a backbone'} on {_in_yaml(wanted)}"
    prefix = "" if any(name.startswith("backbone.") for name in own) else "backbone."
    shapes = {prefix + name: shape for name, shape in own.items()}
    try:
        theirs, channels = vgg_section({entry.name: entry.array.shape for entry in foreign.entries})
        ours, own_channels = vgg_section(shapes)
    except (WeightsError, KeyError):
        return ""  # not both are VGGs
    if theirs != ours:
        return (
            f"the file's backbone is {_in_yaml(theirs)}, the network's {_in_yaml(ours)}; set"
            " model.backbone to the former"
        )
    if channels != own_channels:
        return f"it is for images of {channels} channels, data.normalize has {own_channels}"
    return ""


def _in_yaml(section: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(section), default_flow_style=True, sort_keys=False, width=10_000).strip()
