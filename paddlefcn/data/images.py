"""Reading, resizing and normalising images: the one room that training and deployment share.

Sizes are (height, width); an image is HxWxC in RGB order and keeps the range of its file.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from paddlefcn.data.decoding import FORMATS, check_file, decode, naming_errors, source_name, stored_size
from paddlefcn.errors import DataError

MAX_PIXELS = 178_956_970  # what Pillow warns at: a quarter of a gigabyte as 24-bit RGB, and 2 GB as float32
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".dcm")


@dataclasses.dataclass(frozen=True)
class Normalize:
    """(x / scale - mean) / std for every channel; HxWxC of any dtype -> float32 CxHxW.

    `mean` and `std` are given in `order`: "BGR" reverses the three channels of an RGB image first.
    """

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str = "RGB"

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.order not in ("RGB", "BGR"):
            raise ValueError(f"order {self.order!r}: expected RGB or BGR")
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}: one each a channel")
        if self.order == "BGR" and len(self.mean) != 3:
            raise ValueError(f"order BGR needs 3 channels, mean has {len(self.mean)}")
        if not self.scale > 0 or not min(self.std) > 0:
            raise ValueError(f"scale {self.scale} and std {self.std} must be above 0")
        if not all(math.isfinite(value) for value in (self.scale, *self.mean, *self.std)):
            raise ValueError(f"scale {self.scale}, mean {self.mean} and std {self.std} must be finite")

    @property
    def channels(self) -> int:
        """How many channels an image has."""
        return len(self.mean)

    @property
    def fill(self) -> tuple[float, ...]:
        """The value that becomes 0, in the image's own range and RGB order: what padding is made of."""
        mean = self.mean[::-1] if self.order == "BGR" else self.mean
        return tuple(value * self.scale for value in mean)

    @property
    def white(self) -> float:
        """What white is in an image's own values: `scale`, but for a scale of 1 255, or 1 by its means."""
        if self.scale != 1:
            return float(self.scale)
        return 255.0 if max(self.mean) > 1 else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The four values as YAML writes them."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std), "order": self.order}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalize:
        """What `to_dict` gave; KeyError, TypeError or ValueError if it is not."""
        return cls(values["scale"], tuple(values["mean"]), tuple(values["std"]), values.get("order", "RGB"))

    def __call__(self, image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """HxWxC (RGB) -> contiguous float32 CxHxW, in `out` if given.

        Raises:
            DataError: another number of channels.
        """
        if image.ndim != 3 or image.shape[2] != self.channels:
            raise DataError(
                f"image of shape {image.shape}: expected HxWx{self.channels}, as data.normalize.mean"
            )
        if out is None:
            out = np.empty((self.channels, *image.shape[:2]), np.float32)
        order = range(self.channels) if self.order == "RGB" else range(self.channels - 1, -1, -1)
        if image.dtype == np.uint8:
            planes, tables = cv2.split(np.ascontiguousarray(image)), _byte_tables(self)
            for index, plane in enumerate(order):
                cv2.LUT(planes[plane], tables[index], dst=out[index])
            return out
        for index, plane in enumerate(order):
            self._channel(index, image[:, :, plane], out[index])
        return out

    def _channel(self, index: int, plane: np.ndarray, out: np.ndarray) -> None:
        factor = np.float32(1.0 / (self.scale * self.std[index]))
        shift = np.float32(self.mean[index] / self.std[index])
        # dtype: numpy 1 would compute uint8 times a float32 scalar in float16
        np.multiply(plane, factor, out=out, dtype=np.float32, casting="unsafe")
        out -= shift

    def undo(self, normalized: np.ndarray) -> np.ndarray:
        """What a network was given, CxHxW, as the image it came from: float32 HxWxC in RGB order."""
        mean, std = (np.array(values, np.float32)[:, None, None] for values in (self.mean, self.std))
        image = ((normalized * std + mean) * np.float32(self.scale)).transpose(1, 2, 0)
        return image[:, :, ::-1] if self.order == "BGR" else image


@functools.lru_cache(maxsize=16)
def _byte_tables(normalize: Normalize) -> np.ndarray:
    """float32 [C, 256]: what becomes of every byte. Looking it up takes less time than computing it."""
    tables = np.empty((normalize.channels, 256), np.float32)
    for index in range(normalize.channels):
        normalize._channel(index, np.arange(256, dtype=np.uint8), tables[index])
    return tables


@dataclasses.dataclass(frozen=True)
class Resize:
    """Resizes to `size` [h, w], a `short` or `long` side, by a `scale`, or up to a `multiple_of` pixels.

    Exactly one is given. Images: bilinear, averaged over areas when shrinking; labels: nearest. As a
    transform it takes (image HxWxC, label HxW or None) and draws nothing from `rng`.
    """

    size: Sequence[int] | None = None
    short: int | None = None
    long: int | None = None
    scale: float | None = None
    multiple_of: int | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in dataclasses.asdict(self).items() if value is not None]
        if len(given) != 1:
            names = "size, short, long, scale, multiple_of"
            raise ValueError(f"Resize takes exactly one of {names}; got {', '.join(given) or 'none'}")
        if self.size is not None:
            object.__setattr__(self, "size", check_size("Resize size", self.size))
        elif self.scale is not None:
            check_number("Resize scale", self.scale, 1e-4, 1e4)
        else:
            name = given[0]
            check_number(f"Resize {name}", getattr(self, name), 1, 65536, integer=True)

    def to_dict(self) -> dict[str, Any]:
        """The arguments, for YAML; `Resize(**d)` is equal again."""
        given = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        return {name: list(value) if name == "size" else value for name, value in given.items()}

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) that an image of this size becomes; at least 1x1."""
        if self.size is not None:
            return int(self.size[0]), int(self.size[1])
        if self.multiple_of is not None:
            step = self.multiple_of
            return math.ceil(height / step) * step, math.ceil(width / step) * step
        if self.short is not None:
            factor = self.short / min(height, width)
        elif self.long is not None:
            factor = self.long / max(height, width)
        else:
            factor = float(self.scale or 1)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def __call__(
        self, image: np.ndarray, label: np.ndarray | None = None, rng: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        height, width = self.output_size(*image.shape[:2])
        return resize_image(image, height, width), resize_label(label, height, width)


def check_size(what: str, size: Any) -> tuple[int, int]:
    """A [height, width] of positive integers, or one integer for both, as a tuple; else ValueError."""
    pair = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(pair) != 2 or any(type(n) is not int or not 1 <= n <= 65536 for n in pair):
        raise ValueError(f"{what}: expected [height, width] of 1 to 65536 pixels, got {size!r}")
    return pair[0], pair[1]


def check_number(what: str, value: Any, low: float, high: float, *, integer: bool = False) -> None:
    """ValueError unless `value` is a number (an integer) of low..high."""
    kinds = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        kind = "an integer" if integer else "a number"
        raise ValueError(f"{what}: expected {kind} of {low:g} to {high:g}, got {value!r}")


def resize_image(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, or averaged over areas when both sides shrink; HxWxC of uint8, uint16 or float32."""
    if image.shape[:2] == (height, width):
        return image
    if height * width > MAX_PIXELS:
        raise DataError(
            f"resizing {image.shape[0]}x{image.shape[1]} would make {height}x{width} pixels: too many"
        )
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    # cv2's area averaging takes at most 4 channels
    mode = cv2.INTER_AREA if shrinks and image.shape[2] <= 4 else cv2.INTER_LINEAR
    out = cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=mode)
    return out.reshape(height, width, image.shape[2])


def resize_label(label: np.ndarray | None, height: int, width: int) -> np.ndarray | None:
    """Nearest by pixel centres, as the image is resized (cv2's INTER_NEAREST is off by half a pixel)."""
    if label is None or label.shape == (height, width):
        return label
    rows = ((np.arange(height) + 0.5) * (label.shape[0] / height)).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * (label.shape[1] / width)).astype(np.intp)
    return label[rows[:, None], columns[None, :]]


def image_files(folder: str | Path) -> list[Path]:
    """Every file with a known image suffix below `folder`, sorted; hidden ones are left out."""
    base = Path(folder)
    if not base.is_dir():
        raise DataError(f"{base}: no such folder")
    found = (path for path in base.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(base).parts))


def read_image(source: str | Path | bytes, channels: int, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image as HxWxC uint8, uint16 or float32 in RGB order, its EXIF orientation applied.

    A grey file is copied to 3 channels where 3 are wanted, a colour file becomes its luminance where 1
    is wanted, and an alpha channel is dropped unless 2 (grey, alpha) or 4 channels are wanted.

    Args:
        source: a path, or the bytes of such a file.

    Raises:
        DataError: the file is missing, no image, damaged, too large, or has other channels.
    """
    return match_channels(_read(source, "image", max_pixels), channels, source_name(source))


def read_mask(
    source: str | Path | bytes, max_pixels: int = MAX_PIXELS, *, colors: bool = False
) -> np.ndarray:
    """Reads a mask: HxW ids (palette indices, grey values; 8, 16 or 32 bit) or HxWx3 colours.

    With `colors` a palette or grey mask is turned into its colours, HxWx3, too.

    Raises:
        DataError: the file is missing, no image, damaged, too large, or holds fractions.
    """
    return mask_values(_read(source, "colors" if colors else "mask", max_pixels), source, colors=colors)


def mask_values(mask: np.ndarray, source: str | Path | bytes, *, colors: bool = False) -> np.ndarray:
    """HxWxC as a mask's file or window holds it -> HxW ids or HxWx3 colours, as `read_mask`."""
    if mask.shape[2] in (2, 4):
        mask = mask[:, :, :-1]  # an alpha channel says nothing about classes
    if mask.dtype.kind == "f":
        if not np.array_equal(mask, np.rint(mask)) or np.abs(mask).max() > 2**31:
            raise DataError(f"mask {source_name(source)}: holds fractions; expected class ids as integers")
        mask = mask.astype(np.int64)
    if colors and mask.shape[2] == 1:
        mask = np.repeat(mask, 3, axis=2)
    if mask.shape[2] not in (1, 3):
        raise DataError(
            f"mask {source_name(source)}: has {mask.shape[2]} channels; expected 1 (class ids) or 3 (colours)"
        )
    return mask[:, :, 0] if mask.shape[2] == 1 else mask


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file, from its head where that is enough. Raises DataError."""
    with naming_errors(path, "image"):
        check_file(path)
        return stored_size(path)


def palette_of(path: str | Path) -> dict[int, tuple[int, ...]]:
    """Index -> (red, green, blue) of a palette PNG; empty for any other file."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            flat = image.getpalette("RGB") if image.mode == "P" else None
    # this only adds to what the reader says; unreadable files are its to report
    except Exception:
        return {}
    return {index: tuple(flat[3 * index : 3 * index + 3]) for index in range(len(flat) // 3)} if flat else {}


def match_channels(image: np.ndarray, channels: int, name: str | Path) -> np.ndarray:
    """HxWxC with the wanted number of channels, as `read_image` explains; DataError if there is no way."""
    have = image.shape[2]
    if have == channels:
        return image
    if have in (2, 4) and channels in (1, 3):
        image = image[:, :, :-1]
        have -= 1
    if have == channels:
        return image
    if have == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    if have == 3 and channels == 1:
        return _luminance(image)
    raise DataError(
        f"image {name}: has {have} channels, expected {channels}; give data.normalize.mean and std one value "
        f"for each of {have} channels, or convert the file"
    )


def _luminance(image: np.ndarray) -> np.ndarray:
    """ITU-R 601 luma in the fixed-point form of Pillow's "L", so that grey stays exactly grey."""
    if image.dtype.kind == "f":
        return (image @ np.array([0.299, 0.587, 0.114], np.float32))[:, :, None].astype(np.float32)
    red, green, blue = (image[:, :, i].astype(np.uint32) for i in range(3))
    luma = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
    return luma.astype(image.dtype)[:, :, None]


def _read(source: str | Path | bytes, kind: str, max_pixels: int) -> np.ndarray:
    """HxWxC as the file holds it; every failure is a DataError naming it. kind: image, mask, colors."""
    with naming_errors(source, "mask" if kind == "colors" else kind):
        content = source if isinstance(source, (bytes, Path)) else Path(source)
        if isinstance(content, Path):
            check_file(content)
        elif not content:
            raise DataError("is empty")
        return decode(content, kind, max_pixels)
