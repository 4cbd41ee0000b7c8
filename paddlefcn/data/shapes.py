"""A generated data set: overlapping shapes on textured grounds. No download; a seed gives one set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from paddlefcn.data.datasets import Sample
from paddlefcn.data.images import check_number, check_size, match_channels
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError

VOID = 255
_SPLITS = ("train", "val", "test")
# mean colour of a class, red green blue; the last two classes share one: only their texture tells them apart
_COLORS = {
    "disk": (200, 70, 60),
    "square": (60, 95, 195),
    "triangle": (75, 170, 80),
    "striped": (185, 160, 70),
    "checked": (185, 160, 70),
}


class Shapes:
    """Generated pairs: disks, squares and triangles, and blobs that are striped or checked.

    Striped and checked blobs have the same outline and mean colour. Shapes overlap, one in five is small,
    and a void border of two pixels (id 255) runs along every outline. Nothing is read from disk: `root`
    is not used. Image i of a split depends on (seed, split, i) alone.

    Args:
        size: [height, width].
        train_images, val_images: how many there are ("test" has as many as "val").
        seed: the data set's number.
    """

    CLASSES = ("background", *_COLORS)
    remarks: tuple[str, ...] = ()

    def __init__(
        self,
        root: Path | None = None,
        split: str = "train",
        *,
        size: Sequence[int] = (128, 128),
        train_images: int = 400,
        val_images: int = 100,
        seed: int = 0,
    ) -> None:
        for name, count in (("train_images", train_images), ("val_images", val_images)):
            check_number(name, count, 1, 10**7, integer=True)
        check_number("seed", seed, 0, 2**63, integer=True)
        if split not in _SPLITS:
            raise DataError(f"no split {split!r}; Shapes has {', '.join(_SPLITS)}")
        self.size = check_size("size", size)
        self.seed, self.split = seed, _SPLITS.index(split)
        count = train_images if split == "train" else val_images
        self.samples = [Sample(f"{split}_{index:05d}", None, None) for index in range(count)]

    def read_raw(self, index: int, channels: int, labels: LabelReader) -> tuple[np.ndarray, np.ndarray]:
        """The image HxWxchannels uint8 and its ids HxW uint8 (255 is void)."""
        if not 0 <= index < len(self.samples):
            raise IndexError(index)
        rng = np.random.default_rng([self.seed, self.split, index])
        image, mask = draw(self.size, rng)
        return match_channels(image, channels, self.samples[index].name), mask


def draw(size: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One picture: image HxWx3 uint8 and ids HxW uint8."""
    image = _ground(size, rng)
    mask = np.zeros(size, np.uint8)
    unit = min(size) / 128.0
    count = int(rng.integers(5, 9))
    for position in range(count):
        kind = int(rng.integers(1, len(Shapes.CLASSES)))
        # the small ones come last, so that nothing hides them
        small = position >= count - int(count >= 6) - 1 and rng.random() < 0.7
        radius = unit * (rng.uniform(6, 9) if small else rng.uniform(15, 30))
        center = rng.uniform((0, 0), size)
        inside, border = _outline(kind, size, center, radius, rng)
        paint = _paint(kind, size, unit, rng)
        image[inside] = paint[inside]
        mask[inside] = kind
        mask[border] = VOID
    noise = rng.normal(0, 8, (*size, 1)) + rng.normal(0, 4, (*size, 3))
    light = _smooth(size, rng, 3)[:, :, None] * 0.2 + 0.9
    return np.clip(image * light + noise, 0, 255).astype(np.uint8), mask


def _smooth(size: tuple[int, int], rng: np.random.Generator, cells: int) -> np.ndarray:
    """Slowly varying values of 0 to 1, HxW float32."""
    grid = rng.random((cells + 1, cells + 1), dtype=np.float32)
    return np.clip(cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)


def _ground(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A textured ground of low saturation: two greyish colours, clouded at two scales."""
    clouds = 0.6 * _smooth(size, rng, 4) + 0.4 * _smooth(size, rng, int(rng.integers(10, 30)))
    first, second = (rng.uniform(60, 190) + rng.uniform(-18, 18, 3) for _ in range(2))
    return (first + clouds[:, :, None] * (second - first)).astype(np.float32)


def _outline(
    kind: int, size: tuple[int, int], center: np.ndarray, radius: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Where the shape is, and where its void border is: two boolean maps HxW."""
    angle = rng.uniform(0, 2 * np.pi)
    stretch = rng.uniform(0.75, 1.0)
    corners = {"square": 4, "triangle": 3}.get(Shapes.CLASSES[kind], 40)
    grow = {4: 1.15, 3: 1.35}.get(corners, 1.0)  # about equal areas
    turn = angle + np.arange(corners) * (2 * np.pi / corners)
    wobble = np.ones(corners)
    if Shapes.CLASSES[kind] in ("striped", "checked"):
        wobble += 0.12 * np.sin(3 * turn + rng.uniform(0, 6)) + 0.08 * np.sin(2 * turn + rng.uniform(0, 6))
    ring = np.stack([np.cos(turn), np.sin(turn) * stretch], 1) * (radius * grow * wobble)[:, None]
    cosine, sine = np.cos(angle), np.sin(angle)
    points = ring @ np.array([[cosine, sine], [-sine, cosine]]) + center[::-1]
    points = np.rint(points * 16).astype(np.int32)  # 4 bits of a pixel's fraction
    inside = np.zeros(size, np.uint8)
    cv2.fillPoly(inside, [points], 1, shift=4)
    border = np.zeros(size, np.uint8)
    cv2.polylines(border, [points], True, 1, thickness=2, shift=4)
    return inside.astype(bool), border.astype(bool)


def _paint(kind: int, size: tuple[int, int], unit: float, rng: np.random.Generator) -> np.ndarray:
    """The shape's surface, HxWx3 float32; only the pattern of a striped and a checked one differs."""
    name = Shapes.CLASSES[kind]
    color = np.array(_COLORS[name], np.float32) + rng.uniform(-28, 28, 3).astype(np.float32)
    rows, columns = np.indices(size, dtype=np.float32)
    if name not in ("striped", "checked"):
        return color + 22 * (_smooth(size, rng, 16)[:, :, None] - 0.5)
    angle = rng.uniform(0, np.pi)
    step = 2 * np.pi / (unit * rng.uniform(5.5, 8.0))
    along = (rows * np.cos(angle) + columns * np.sin(angle)) * step
    if name == "striped":
        pattern = np.sign(np.sin(along))
    else:
        across = (columns * np.cos(angle) - rows * np.sin(angle)) * step
        pattern = np.sign(np.sin(along) * np.sin(across))
    return color + (45 * pattern[:, :, None]).astype(np.float32)
