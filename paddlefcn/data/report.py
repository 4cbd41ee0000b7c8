"""What a full check of a data set found: counts, shares, faults with their fixes, suggestions."""

from __future__ import annotations

import collections
import dataclasses
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from paddlefcn.data.checks import Finding, inspect, left_out_bands, wrong_palettes
from paddlefcn.data.datasets import SegmentationDataset
from paddlefcn.data.labels import LabelReader, is_smoothed_binary
from paddlefcn.data.near_duplicates import find_near_duplicates
from paddlefcn.errors import DataError


@dataclasses.dataclass
class SplitReport:
    """One split: its faults, and pixels by class (void apart)."""

    name: str
    images: int
    faults: list[str]
    sizes: collections.Counter[tuple[int, int]]
    dtypes: collections.Counter[str]
    class_pixels: np.ndarray
    class_images: np.ndarray
    void_pixels: int

    def shares(self) -> np.ndarray:
        """Share of every class in the pixels that are not void, 0..1."""
        return self.class_pixels / max(1, int(self.class_pixels.sum()))


@dataclasses.dataclass
class Report:
    """A checked data set. `suggestions` are config values: classes, label_map, class_weights, normalize."""

    class_names: tuple[str, ...]
    splits: list[SplitReport]
    notes: list[str]
    suggestions: dict[str, Any]

    @property
    def faults(self) -> list[str]:
        """Every fault with the split it is in."""
        return [f"{split.name}: {line}" for split in self.splits for line in split.faults]

    @property
    def class_pixels(self) -> np.ndarray:
        """Pixels of each class over all splits: [num_classes] int64."""
        return sum((split.class_pixels for split in self.splits), np.zeros(len(self.class_names), np.int64))

    def to_dict(self) -> dict[str, Any]:
        """For --json: plain numbers, texts and lists."""
        splits = {}
        for split in self.splits:
            classes = [
                {"name": name, "pixels": int(pixels), "share": float(share), "images": int(images)}
                for name, pixels, share, images in zip(
                    self.class_names, split.class_pixels, split.shares(), split.class_images
                )
            ]
            splits[split.name] = {
                "images": split.images,
                "sizes": [{"size": list(size), "images": n} for size, n in split.sizes.most_common()],
                "dtypes": dict(split.dtypes),
                "classes": classes,
                "void_pixels": split.void_pixels,
                "faults": split.faults,
            }
        return {
            "splits": splits,
            "faults": len(self.faults),
            "notes": self.notes,
            "suggestions": self.suggestions,
        }

    def text(self, recipe: Mapping[str, Any] | None = None, *, every_fault: bool = False) -> str:
        """The report as a terminal shows it.

        Args:
            recipe: its tree, so that what is suggested can be pasted as it stands.
            every_fault: all faults instead of one of each kind.
        """
        lines: list[str] = []
        for split in self.splits:
            lines += _split_lines(split, self.class_names)
        faults = self.faults
        lines += [f"note: {line}" for line in self.notes]
        shown = faults if every_fault else group_faults(faults)
        lines += [f"fault: {line}" for line in shown]
        lines.append(f"{len(faults)} fault{'s' * (len(faults) != 1)} found")
        if self.suggestions:
            lines += suggestion_lines(self.suggestions, recipe or {})
        return "\n".join(lines)


def group_faults(faults: Sequence[str]) -> list[str]:
    """One line for each kind of fault: the first of it, and how many more there are."""
    groups: dict[str, list[str]] = {}
    for line in faults:
        groups.setdefault(_kind_of_fault(line), []).append(line)
    return [
        lines[0] + (f" (and {len(lines) - 1} more like it; --all lists them)" if len(lines) > 1 else "")
        for lines in groups.values()
    ]


def _kind_of_fault(line: str) -> str:
    """What faults of one kind have in common: neither files, nor numbers, nor the fix."""
    line = re.sub(r"^(\w+: )?(mask|image) .*?: ", r"\1\2: ", line.split("; ")[0])
    line = re.sub(r"\S*[/\\]\S*", "FILE", line)
    line = re.sub(r"\b(value|colour)s? .*?(?= (?:outside|not in|are not)\b)", r"\1", line)
    return re.sub(r"\d+", "#", line)


def suggestion_lines(suggestions: Mapping[str, Any], recipe: Mapping[str, Any]) -> list[str]:
    """Config values as a YAML block to paste into the recipe, and as words after `-o`."""
    block: dict[str, dict[str, Any]] = {}
    for key, value in suggestions.items():
        section, _, name = key.partition(".")
        if section == "loss":
            first, *others = recipe.get("loss") or [{"type": "CrossEntropy"}]
            block["loss"] = [{**first, name.removeprefix("0."): value}, *others]  # type: ignore[assignment]
        else:
            block.setdefault(section, {})[name] = value
    lines = ["for the recipe, in place of these keys:"]
    for section, keys in block.items():
        if isinstance(keys, list):
            lines += [f"  {section}:", *(f"    - {_yaml(entry)}" for entry in keys)]
        else:
            lines += [f"  {section}:", *(f"    {name}: {_yaml(value)}" for name, value in keys.items())]
    words = " ".join(shlex.quote(f"{key}={_yaml(value)}") for key, value in suggestions.items())
    return [*lines, f"or as words: -o {words}"]


def check(
    datasets: Mapping[str, SegmentationDataset | DataError],
    class_names: Sequence[str],
    *,
    num_workers: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Reads every pair of every split and reports all that is wrong.

    Args:
        datasets: split -> data set, or the error that kept it from being built (a missing or empty list).
        class_names: the classes that the config names.
        progress: called with (split, pairs done, pairs in all).
    """
    splits: list[SplitReport] = []
    notes: list[str] = []
    everything: list[Finding] = []
    trained: list[Finding] = []  # of the first split: what weights and normalisation are suggested from
    contents: dict[str, tuple[str, str, Any]] = {}
    reader: SegmentationDataset | None = None
    seen: list[tuple[str, SegmentationDataset, list[Finding]]] = []  # the splits before
    for name, dataset in datasets.items():
        if isinstance(dataset, DataError):
            splits.append(_summary(name, 0, [], [str(dataset)], len(class_names)))
            continue
        reader = dataset
        findings = inspect(dataset, num_workers, _bound(progress, name))
        faults = _faults(dataset, findings)
        notes += [f"{name}: {line}" for line in left_out_bands(dataset)]
        _find_copies(name, dataset, findings, contents, faults, notes)
        splits.append(_summary(name, len(dataset), findings, faults, len(class_names)))
        _find_disguised(name, dataset, findings, seen, faults)
        seen.append((name, dataset, findings))
        everything += findings
        trained = trained or findings
    report = Report(tuple(class_names), splits, notes, {})
    if reader is not None:
        report.suggestions = suggest(everything, trained, class_names, reader)
        report.notes += [
            f"class {class_names[int(i)]!r} has no pixel in any split: it cannot be learned or scored"
            for i in np.flatnonzero(report.class_pixels == 0)
        ]
    return report


def _bound(progress: Callable[[str, int, int], None] | None, name: str) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


def _faults(dataset: SegmentationDataset, findings: Sequence[Finding]) -> list[str]:
    palettes = wrong_palettes(dataset.samples, findings)
    faults = list(getattr(dataset.source, "remarks", ()))
    for finding in findings:
        faults += finding.faults
        if finding.index in palettes:
            faults.append(palettes[finding.index])
    return list(dict.fromkeys(faults))  # a line that stands twice in a list brings its faults twice


def _find_copies(
    split: str,
    dataset: SegmentationDataset,
    findings: Sequence[Finding],
    contents: dict[str, tuple[str, str, Any]],
    faults: list[str],
    notes: list[str],
) -> None:
    """Equal pictures: in two splits a fault, in one a note."""
    for finding in findings:
        if not finding.content:
            continue
        sample = dataset.samples[finding.index]
        first = contents.setdefault(finding.content, (split, sample.name, sample.image))
        if first[0] != split:
            faults.append(
                f"{sample.image or sample.name}: is the same picture as {first[2] or first[1]} of "
                f"{first[0]}: the score would be flattered; remove one of them"
            )
        elif first[2] != sample.image:
            notes.append(f"{split}: {sample.image} is the same picture as {first[2]}")


def _find_disguised(
    split: str,
    dataset: SegmentationDataset,
    findings: Sequence[Finding],
    seen: Sequence[tuple[str, SegmentationDataset, Sequence[Finding]]],
    faults: list[str],
) -> None:
    """Pictures of an earlier split that stand here mirrored, encoded anew or cropped: faults."""
    ours = [finding for finding in findings if finding.small is not None]
    for other, other_set, other_findings in seen:
        theirs = [finding for finding in other_findings if finding.small is not None]
        if not ours or not theirs:
            continue
        copies = [np.stack([f.small for f in part if f.small is not None]) for part in (theirs, ours)]
        for found in find_near_duplicates(*copies):
            first, second = theirs[found.first], ours[found.second]
            if first.content == second.content:
                continue  # equal pictures are said already
            old, new = other_set.samples[first.index], dataset.samples[second.index]
            faults.append(
                f"{new.image or new.name}: is nearly the same picture as {old.image or old.name} of {other} "
                f"({found.words()}): the score would be flattered; remove one of them"
            )


def _summary(
    name: str, images: int, findings: Sequence[Finding], faults: list[str], num_classes: int
) -> SplitReport:
    pixels = np.zeros(num_classes, np.int64)
    present = np.zeros(num_classes, np.int64)
    for finding in findings:
        if finding.class_pixels is not None:
            pixels += finding.class_pixels
            present += finding.class_pixels > 0
    return SplitReport(
        name=name,
        images=images,
        faults=faults,
        sizes=collections.Counter(finding.size for finding in findings if finding.size),
        dtypes=collections.Counter(finding.dtype for finding in findings if finding.dtype),
        class_pixels=pixels,
        class_images=present,
        void_pixels=sum(finding.void_pixels for finding in findings),
    )


def suggest(
    findings: Sequence[Finding],
    trained: Sequence[Finding],
    class_names: Sequence[str],
    dataset: SegmentationDataset,
) -> dict[str, Any]:
    """Config values that fit: class weights and normalisation of `trained`, label_map and classes of all.

    label_map, color_table and classes are only suggested where the masks do not fit the config.
    Class weights are those of ENet (Paszke et al. 2016, section 5.2): 1 / ln(1.02 + share).
    """
    made: dict[str, Any] = {}
    labels = dataset.label_reader
    colors = {color for finding in findings for color in finding.colors}
    if colors and labels.colors is None and any(len(set(color)) > 1 for color in colors):
        if len(colors) <= 256:
            made.update(_instead_of_label_map(labels))
            made["data.color_table"] = [list(color) for color in sorted(colors)]
            made["data.classes"] = _names(class_names, len(colors))
    else:
        made.update(_suggest_ids(findings, class_names, dataset))
    pixels = sum((f.class_pixels for f in trained if f.class_pixels is not None), np.zeros(len(class_names)))
    if pixels.sum():
        weights = 1 / np.log(1.02 + pixels / pixels.sum())
        weights[pixels == 0] = 0  # nothing to weigh
        made["loss.0.class_weights"] = [round(float(weight), 3) for weight in weights]
    made.update(_suggest_normalize(trained))
    return made


def _suggest_ids(
    findings: Sequence[Finding], class_names: Sequence[str], dataset: SegmentationDataset
) -> dict[str, Any]:
    labels = dataset.label_reader
    values = sorted({value for finding in findings for value in finding.values})
    if not values or len(values) > 256 or labels.threshold is not None:
        return {}
    if labels.num_classes == 2 and is_smoothed_binary(_sum_of_values(findings)):
        return {**_instead_of_label_map(labels), "data.threshold": 128}
    binary = values == [0, 255] and labels.num_classes == 2 and not labels.label_map
    known = set(labels.label_map or range(labels.num_classes)) | {labels.ignore_index}
    if set(values) <= known and not binary:
        return {}
    inside = values if binary else [value for value in values if value != labels.ignore_index]
    made: dict[str, Any] = {}
    if inside != list(range(len(inside))):
        made["data.label_map"] = {value: index for index, value in enumerate(inside)}
    if len(inside) != len(class_names):
        made["data.classes"] = _names(class_names, len(inside))
    return made


def _instead_of_label_map(labels: LabelReader) -> dict[str, Any]:
    """A threshold or a table of colours stands alone: a recipe's label_map has to go."""
    return {} if labels.label_map is None else {"data.label_map": None}


def _sum_of_values(findings: Sequence[Finding]) -> dict[int, int]:
    total: collections.Counter[int] = collections.Counter()
    for finding in findings:
        total.update(finding.values)
    return dict(total)


def _names(class_names: Sequence[str], count: int) -> list[str]:
    return [class_names[i] if i < len(class_names) else f"class_{i}" for i in range(count)]


def _suggest_normalize(findings: Sequence[Finding]) -> dict[str, Any]:
    """Mean and standard deviation of the images themselves, for training from scratch."""
    read = [f for f in findings if f.channel_sums is not None and f.size is not None]
    if not read or len({f.channel_sums.shape for f in read if f.channel_sums is not None}) != 1:
        return {}
    scale = {"uint8": 255.0, "uint16": 65535.0}.get(read[0].dtype, 1.0)
    count = sum(f.size[0] * f.size[1] for f in read if f.size)
    total = sum((f.channel_sums for f in read if f.channel_sums is not None), np.zeros(1))
    mean = total[0] / count / scale
    std = np.sqrt(np.maximum(total[1] / count / scale**2 - mean**2, 1e-12))
    return {
        "data.normalize": {
            "scale": scale,
            "mean": [float(f"{value:.4g}") for value in mean],
            "std": [float(f"{value:.4g}") for value in std],
            "order": "RGB",
        }
    }


def _split_lines(split: SplitReport, class_names: Sequence[str]) -> list[str]:
    lines = [f"{split.name}: {split.images} pairs"]
    if split.sizes:
        common = ", ".join(f"{h}x{w} ({n})" for (h, w), n in split.sizes.most_common(4))
        more = f" and {len(split.sizes) - 4} more" if len(split.sizes) > 4 else ""
        lines.append(f"  sizes (height x width): {common}{more}; {', '.join(split.dtypes)}")
    total = int(split.class_pixels.sum())
    if total:
        width = max(len(name) for name in class_names)
        lines.append(f"  {'class':{width}}  {'pixels':>13}  share of labelled  images")
        for name, pixels, share, images in zip(
            class_names, split.class_pixels, split.shares(), split.class_images
        ):
            lines.append(f"  {name:{width}}  {pixels:13,d}  {share:17.2%}  {images:6d}")
        void = split.void_pixels / (total + split.void_pixels)
        lines.append(f"  {'void':{width}}  {split.void_pixels:13,d}  {void:9.2%} of all")
    return lines


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    if isinstance(value, str):
        # as YAML reads it back: a name such as "yes" or "1" needs quotes
        return str(yaml.safe_dump(value, allow_unicode=True, width=1 << 20)).split("\n")[0]
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
