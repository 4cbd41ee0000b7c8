"""Label maps in two folders, paired by name: what `score` reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paddlefcn.data.images import MAX_PIXELS, SUFFIXES, image_files, read_mask
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError

_MOST_IDS = 1024  # more values than any set of classes: a smoothed mask, a depth map

Read = Callable[[Path], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """A prediction and the truth of one image; `name` is the path of both without their suffixes."""

    name: str
    pred: Path
    label: Path


def find_pairs(
    pred: str | Path,
    labels: str | Path,
    *,
    names: Sequence[str] | None = None,
    pred_suffix: str = "",
    label_suffix: str = "",
) -> tuple[list[Pair], list[Path]]:
    """The pairs in the order of their names, and the predictions that no label asks for.

    Args:
        pred: the folder of predictions; files beside them (overlays, other names) are left out.
        labels: the folder of masks.
        names: only these; every label if not given.
        pred_suffix: what a prediction's name has more than the pair's, such as "_pred".
        label_suffix: the same of a label, such as "_mask".

    Raises:
        DataError: no such folder, two files of one name, a label without a prediction, or no pair.
    """
    found, truth = _by_name(Path(pred), pred_suffix), _by_name(Path(labels), label_suffix)
    wanted = list(truth) if names is None else list(dict.fromkeys(names))
    unknown = [name for name in wanted if name not in truth]
    if unknown:
        raise DataError(f"labels {labels}: no mask for {unknown[0]!r}{_more(unknown)}; correct the list")
    missing = [name for name in wanted if name not in found]
    if missing:
        raise DataError(
            f"predictions {pred}: none for {missing[0]!r}{_more(missing)} of {len(wanted)} labels; "
            "predict them, or list the names to score in --names"
        )
    if not wanted:
        raise DataError(
            f"labels {labels}: no mask below whose name ends in {label_suffix + SUFFIXES[0]!r} or so"
        )
    left_out = [path for name, path in found.items() if name not in set(wanted)]
    return [Pair(name, found[name], truth[name]) for name in wanted], left_out


def read_pairs(
    pairs: Iterable[Pair], read_pred: Read, read_label: Read, *, leave_out_unlabelled: bool, ignore_index: int
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(name, prediction, label) of each pair; [H, W] class ids of one size.

    Raises:
        DataError: a file cannot be read, sizes differ, or a prediction holds unlabelled pixels all the same.
    """
    for pair in pairs:
        pred, label = read_pred(pair.pred), read_label(pair.label)
        if pred.shape != label.shape:
            sizes = "{}x{}, its label {} {}x{}".format(*pred.shape, pair.label, *label.shape)
            raise DataError(
                f"prediction {pair.pred}: is {sizes} (height x width); predict at the label's size"
            )
        count = np.count_nonzero((pred == ignore_index) & (label != ignore_index))
        if count and not leave_out_unlabelled:
            raise DataError(
                f"prediction {pair.pred}: {count} scored pixels hold {ignore_index}, no class; "
                "--leave-out-unlabelled scores the others alone"
            )
        yield pair.name, pred, label


def ids_found(pairs: Iterable[Pair], ignore_index: int) -> list[int]:
    """Every id in predictions and labels but `ignore_index`, rising. DataError for more than 1024."""
    found: set[int] = set()
    for pair in pairs:
        for path in (pair.pred, pair.label):
            found |= set(np.unique(_read_ids(path)).tolist())
            if len(found) > _MOST_IDS:
                raise DataError(
                    f"{path}: with it there are {len(found)} values; expected class ids. Save masks as PNG, "
                    "resized by nearest neighbour, or give the classes with -c"
                )
    return sorted(found - {ignore_index})


def id_reader(ids: Sequence[int], ignore_index: int, void: int) -> Read:
    """Reads a mask whose values are `ids` as their positions 0, 1, …, and `ignore_index` as `void`."""
    known = np.asarray(ids)

    def read(path: Path) -> np.ndarray:
        mask = _read_ids(path)
        return np.where(mask == ignore_index, void, np.searchsorted(known, mask)).astype(np.int32)

    return read


def class_readers(reader: LabelReader, *, pred_like_labels: bool) -> tuple[Read, Read]:
    """Readers of predictions and labels by a recipe's data section.

    Predictions hold class ids as `predict` writes them, or colours where the recipe has a color_table;
    with `pred_like_labels` they go through its label_map too.
    """
    plain = LabelReader(reader.num_classes, reader.ignore_index, max_pixels=reader.max_pixels)

    def read_pred(path: Path) -> np.ndarray:
        if pred_like_labels:
            return reader.read(path)
        mask = read_mask(path, reader.max_pixels)
        coloured = mask.ndim == 3 and reader.colors is not None
        return reader(mask, path) if coloured else plain(mask, path)

    return read_pred, reader.read


def _read_ids(path: Path) -> np.ndarray:
    mask = read_mask(path, MAX_PIXELS)
    if mask.ndim == 3:
        if not (mask == mask[:, :, :1]).all():
            raise DataError(f"{path}: holds colours; give -c with a recipe whose data.color_table names them")
        mask = mask[:, :, 0]
    return mask


def _by_name(folder: Path, suffix: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in image_files(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not name.endswith(suffix):
            continue
        name = name[: len(name) - len(suffix)]
        if name in found:
            raise DataError(f"{found[name]} and {path}: one name for two files; remove or rename one")
        found[name] = path
    return found


def _more(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""
