"""From what stands in a mask file to class ids, or to an error that says what to change."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from paddlefcn.data.images import MAX_PIXELS, read_mask
from paddlefcn.errors import DataError

Color = tuple  # (red, green, blue)


class LabelReader:
    """Turns masks into HxW class ids of 0..num_classes-1 and `ignore_index`, and refuses what does not fit.

    Args:
        num_classes: how many classes there are.
        ignore_index: the id of pixels that are neither trained on nor scored.
        label_map: what stands in the mask -> class id (or ignore_index); a key may be a range of values,
            "0-127". Values it does not name are errors, except ignore_index itself.
        color_table: for masks that hold colours: a list of [red, green, blue] in class order, or a
            mapping "red,green,blue" -> class id (or ignore_index).
        threshold: for two classes in grey masks, such as 0/255 with smoothed borders: values from it on
            are class 1, those below class 0; nothing is ignored.
        max_pixels: masks with more pixels are refused before they are decoded.

    Raises:
        ValueError: a map or table that cannot be right.
    """

    def __init__(
        self,
        num_classes: int,
        ignore_index: int = 255,
        label_map: Mapping[Any, int] | None = None,
        color_table: Any = None,
        threshold: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        if 0 <= ignore_index < num_classes:
            raise ValueError(f"ignore_index {ignore_index} is the id of a class (num_classes {num_classes})")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.max_pixels = max_pixels
        self.dtype = np.uint8 if num_classes <= 256 and 0 <= ignore_index <= 255 else np.int32
        self.label_map = None if label_map is None else self._check_map(label_map)
        if threshold is not None:
            if num_classes != 2:
                raise ValueError(f"threshold: makes two classes of grey masks; there are {num_classes}")
            for key, given in (("label_map", label_map), ("color_table", color_table)):
                if given is not None:
                    raise ValueError(f"threshold and {key} are both given; drop {key}, or set {key}: null")
        self.threshold = threshold
        self.colors = None if color_table is None else self._check_colors(color_table)
        if self.colors is not None and self.label_map is not None:
            raise ValueError(
                "label_map and color_table are both given; the table says it all: drop label_map"
            )
        self._tables: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        # whatever may stand in a mask stands for itself: nothing needs looking up
        self._keeps_ids = self.label_map is None and threshold is None
        self._hash = None if self.colors is None else _perfect_hash(self.colors)

    def read(self, path: str | Path) -> np.ndarray:
        """The class ids of a mask file, HxW. Raises DataError."""
        return self(self.read_raw(path), path)

    def read_raw(self, path: str | Path) -> np.ndarray:
        """What the file holds, HxW or HxWx3, colours of a palette where a color_table is given."""
        return read_mask(path, self.max_pixels, colors=self.colors is not None)

    def __call__(self, mask: np.ndarray, name: str | Path) -> np.ndarray:
        """HxW ids or HxWx3 colours -> HxW class ids (uint8 where they fit, else int32). Raises DataError."""
        if self.colors is not None:
            return self._from_colors(mask if mask.ndim == 3 else np.stack([mask] * 3, axis=2), name)
        if mask.ndim == 3:
            if not (mask == mask[:, :, :1]).all():
                raise DataError(
                    f"mask {name}: holds colours ({_color_list(mask)}), expected class ids; give "
                    f"data.color_table, the [red, green, blue] of every class in order"
                )
            mask = mask[:, :, 0]
        if mask.dtype in (np.uint8, np.uint16):
            ids, valid = self._table(1 << (8 * mask.dtype.itemsize))
            if mask.dtype == ids.dtype == np.uint8:  # cv2 looks bytes up ten times as fast
                plain = np.ascontiguousarray(mask)
                if cv2.countNonZero(cv2.LUT(plain, valid.view(np.uint8))) == mask.size:
                    return plain if self._keeps_ids else cv2.LUT(plain, ids)
            elif valid[mask].all():
                return ids[mask]
            raise self._misfit(mask, name)
        values, inverse = np.unique(mask, return_inverse=True)
        mapped = [self._map_value(int(value)) for value in values]
        if None in mapped:
            raise self._misfit(mask, name)
        return np.array(mapped, self.dtype)[inverse].reshape(mask.shape)

    def _map_value(self, value: int) -> int | None:
        """The class id that a value in the mask stands for, None if it stands for nothing."""
        if self.threshold is not None:
            return int(value >= self.threshold)
        if self.label_map is not None and value in self.label_map:
            return self.label_map[value]
        if value == self.ignore_index:
            return value
        return value if self.label_map is None and 0 <= value < self.num_classes else None

    def _table(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        if size not in self._tables:
            mapped = [self._map_value(value) for value in range(size)]
            ids = np.array([0 if value is None else value for value in mapped], self.dtype)
            self._tables[size] = ids, np.array([value is not None for value in mapped])
        return self._tables[size]

    def _misfit(self, mask: np.ndarray, name: str | Path) -> DataError:
        values, counts = np.unique(mask, return_counts=True)
        if self.num_classes == 2 and is_smoothed_binary(dict(zip(values.tolist(), counts.tolist()))):
            return DataError(f"mask {name}: {SMOOTHED}")
        wrong = [(int(v), int(n)) for v, n in zip(values, counts) if self._map_value(int(v)) is None]
        shown = ", ".join(f"{v} ({n} px)" for v, n in wrong[:6]) + (" …" if len(wrong) > 6 else "")
        if self.label_map is not None:
            fix = "add them to data.label_map"
            where = f"not in label_map {_shown_map(self.label_map)} and not ignore_index {self.ignore_index}"
        else:
            fix = suggest_label_map([int(v) for v in values], self.num_classes, self.ignore_index)
            where = f"outside 0..{self.num_classes - 1} and not ignore_index {self.ignore_index}"
        if len(wrong) > 6 and len(values) > self.num_classes + 1:
            fix += "; many values are what JPEG or smooth resizing leaves: save masks as PNG, resize nearest"
        return DataError(f"mask {name}: value{'s' * (len(wrong) > 1)} {shown} {where}; {fix}")

    def _from_colors(self, mask: np.ndarray, name: str | Path) -> np.ndarray:
        assert self._hash is not None
        modulus, codes, ids = self._hash
        if mask.dtype != np.uint8 and (mask.min(initial=0) < 0 or mask.max(initial=0) > 255):
            raise DataError(
                f"mask {name}: holds values of {mask.min()} to {mask.max()}, no colours of 0 to 255 as in "
                f"data.color_table; if they are class ids, drop data.color_table"
            )
        code = _codes(mask)
        slot = code % np.uint32(modulus)
        if not (codes[slot] == code).all():
            known = set((self.colors or {}).keys())
            strange = mask.reshape(-1, 3)[(codes[slot] != code).ravel()]
            shown = _color_list(strange[None] if len(strange) else mask)
            raise DataError(
                f"mask {name}: colours {shown} are not among the {len(known)} of data.color_table; add them "
                f"(id {self.ignore_index} ignores one), or save masks as PNG without smoothing"
            )
        return ids.astype(self.dtype)[slot]

    def _check_map(self, label_map: Mapping[Any, int]) -> dict[int, int]:
        if not isinstance(label_map, Mapping) or not label_map:
            raise ValueError(f"label_map: expected {{value in the mask: class id}}, got {label_map!r}")
        for source, target in label_map.items():
            if type(target) is not int:
                raise ValueError(f"label_map: expected integers, got {source!r}: {target!r}")
            self._check_id(f"label_map {source}", target)
        return expand_label_map(label_map)

    def _check_id(self, what: str, target: int) -> None:
        if not 0 <= target < self.num_classes and target != self.ignore_index:
            wanted = f"a class id of 0..{self.num_classes - 1} or ignore_index {self.ignore_index}"
            raise ValueError(f"{what}: expected {wanted}, got {target}")

    def _check_colors(self, table: Any) -> dict[Color, int]:
        pairs: list[tuple[Any, Any]]
        if isinstance(table, Mapping):
            pairs = list(table.items())
        elif isinstance(table, Sequence) and not isinstance(table, str):
            pairs = [(color, index) for index, color in enumerate(table)]
        else:
            raise ValueError(f"color_table: expected a list of [red, green, blue], got {table!r}")
        colors: dict[Color, int] = {}
        for text, target in pairs:
            color = _parse_color(text)
            if type(target) is not int:
                raise ValueError(f"color_table {text!r}: expected a class id, got {target!r}")
            self._check_id(f"color_table {text!r}", target)
            if color in colors:
                raise ValueError(f"color_table: colour {list(color)} stands twice")
            colors[color] = target
        if not colors:
            raise ValueError("color_table: is empty")
        return colors


SMOOTHED = (
    "holds 0 and 255 with smoothed borders between them; set data.threshold: 128 (from it on is class 1), or "
    "save masks as PNG and resize them by nearest neighbour"
)


def is_smoothed_binary(counts: Mapping[int, int]) -> bool:
    """Whether values (-> pixels) are two levels with few in between: what JPEG and smooth resizing leave.

    Nine tenths of the pixels lie within 16 of 0 or 255, both of them do, and other values stand between.
    """
    if len(counts) < 4 or min(counts) < 0 or max(counts) > 255:
        return False
    low = sum(count for value, count in counts.items() if value <= 16)
    high = sum(count for value, count in counts.items() if value >= 239)
    between = len([value for value in counts if 16 < value < 239])
    total = sum(counts.values())
    return low > 0 and high > 0 and between > 0 and low + high >= 0.9 * total


def expand_label_map(table: Mapping[Any, int]) -> dict[int, int]:
    """Every value that a label_map names -> class id; keys are integers or ranges, "0-127".

    Raises:
        ValueError: a key that is neither, or a value that stands in two of them.
    """
    found: dict[int, int] = {}
    for key, target in table.items():
        match = re.fullmatch(r"\s*([0-9]{1,5})\s*-\s*([0-9]{1,5})\s*", key) if isinstance(key, str) else None
        if match:
            low, high = int(match[1]), int(match[2])
        elif type(key) is int:
            low = high = key
        else:
            raise ValueError(f"label_map: expected an integer or a range such as 0-127, got {key!r}")
        if low > high or low < -(1 << 31) or high > 1 << 31:
            raise ValueError(f"label_map: expected a range from low to high, got {key!r}")
        for value in range(low, high + 1):
            if value in found:
                raise ValueError(f"label_map: {value} stands in two of its keys")
            found[value] = target
    return found


def _shown_map(label_map: Mapping[int, int]) -> str:
    """A label_map in an error; long ones are cut."""
    items = [f"{value}: {target}" for value, target in list(label_map.items())[:12]]
    return "{" + ", ".join(items) + (f", … {len(label_map)} in all" if len(label_map) > 12 else "") + "}"


def suggest_label_map(values: Sequence[int], num_classes: int, ignore_index: int) -> str:
    """The fix for masks that hold `values`: a label_map if it is plain which, else where to look."""
    if len(values) == num_classes:
        wanted = ", ".join(f"{value}: {index}" for index, value in enumerate(sorted(values)))
        return f"set data.label_map: {{{wanted}}} if that is the order of your classes"
    inside = [value for value in values if value != ignore_index]
    if len(inside) == num_classes:
        wanted = ", ".join(f"{value}: {index}" for index, value in enumerate(sorted(inside)))
        return f"set data.label_map: {{{wanted}}} if that is the order of your classes"
    return "set data.label_map (value in the mask: class id), or name all classes in data.classes"


def _parse_color(text: Any) -> Color:
    parts = text.split(",") if isinstance(text, str) else text
    try:
        color = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        color = ()
    if len(color) != 3 or not all(0 <= part <= 255 for part in color):
        raise ValueError(f"color_table: expected [red, green, blue] of 0..255, got {text!r}")
    return color


def _codes(mask: np.ndarray) -> np.ndarray:
    red, green, blue = (mask[:, :, i].astype(np.uint32) for i in range(3))
    return (red << 16) | (green << 8) | blue


def _perfect_hash(colors: Mapping[Color, int]) -> tuple[int, np.ndarray, np.ndarray]:
    """The smallest modulus under which no two colours collide: one small look-up instead of a search.

    Returns the modulus, the colour code in each slot (an impossible one in empty slots), and its id.
    """
    codes = np.array([(r << 16) | (g << 8) | b for r, g, b in colors], np.int64)
    modulus = len(codes)
    while len(np.unique(codes % modulus)) < len(codes):
        modulus += 1
    slots = np.full(modulus, 0xFFFFFFFF, np.uint32)
    ids = np.zeros(modulus, np.int32)
    slots[codes % modulus] = codes
    ids[codes % modulus] = list(colors.values())
    return modulus, slots, ids


def _color_list(mask: np.ndarray) -> str:
    colors, counts = np.unique(mask.reshape(-1, mask.shape[-1]), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:4]
    shown = ", ".join(f"[{', '.join(str(int(v)) for v in colors[i])}]" for i in order)
    return shown + (f" … {len(colors)} in all" if len(colors) > 4 else "")
