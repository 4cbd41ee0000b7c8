"""What every data set shares: a sample, the protocol of its source, and pairs that are read and checked.

A data set is `Name(root, split, *, its own arguments)` with `.samples` and `.read_raw(i, …)`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from paddlefcn.data.images import read_image
from paddlefcn.data.labels import LabelReader
from paddlefcn.errors import DataError, RunError, UserError


@dataclasses.dataclass(frozen=True)
class Sample:
    """A pair. `name` is unique in its data set; `image` and `label` are None where they are generated."""

    name: str
    image: Path | None
    label: Path | None


class Source(Protocol):
    """What a data set class provides."""

    samples: list[Sample]

    def read_raw(self, index: int, channels: int, labels: LabelReader) -> tuple[np.ndarray, np.ndarray]:
        """The image HxWxC and what stands in the mask, HxW or HxWx3. Raises DataError."""
        ...


class FilePairs:
    """A source whose images and masks are files. A class may read either of the two in its own way."""

    samples: list[Sample]
    # list entries and files that have no partner or stand twice: checks report them, training need not
    remarks: list[str]

    def read_image(self, index: int, channels: int, max_pixels: int) -> np.ndarray:
        """The image HxWxC. Raises DataError."""
        sample = self.samples[index]
        if sample.image is None:
            raise DataError(f"mask {sample.label}: has no image; add it, or remove the mask")
        return read_image(sample.image, channels, max_pixels)

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        """What stands in the mask, HxW or HxWx3. Raises DataError."""
        sample = self.samples[index]
        if sample.label is None:
            raise DataError(f"image {sample.image}: has no mask; add it, or remove the image")
        return labels.read_raw(sample.label)

    def read_raw(self, index: int, channels: int, labels: LabelReader) -> tuple[np.ndarray, np.ndarray]:
        """Both, as `Source.read_raw`."""
        return self.read_image(index, channels, labels.max_pixels), self.read_mask(index, labels)


class SegmentationDataset:
    """The pairs of a source, read and checked: image HxWxC and class ids HxW, of one size.

    Raises:
        DataError: from `read`, naming the file, what was found and the fix.
    """

    def __init__(
        self, source: Source, labels: LabelReader, channels: int = 3, max_pixels: int | None = None
    ) -> None:
        self.source = source
        self.label_reader = labels
        self.channels = channels
        if max_pixels is not None:
            self.label_reader.max_pixels = max_pixels

    @property
    def samples(self) -> list[Sample]:
        """The pairs of the split, in its order."""
        return self.source.samples

    @property
    def draws(self) -> bool:
        """Whether reading draws from a generator: every read differs, and none is worth keeping."""
        return hasattr(self.source, "read_drawn")

    def __len__(self) -> int:
        return len(self.source.samples)

    def read_raw(self, index: int, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The image HxWxC and the mask as it stands in its file, HxW or HxWx3."""
        with self._naming_bugs(index):
            if rng is not None and self.draws:
                return self.source.read_drawn(index, self.channels, self.label_reader, rng)  # type: ignore[attr-defined]
            return self.source.read_raw(index, self.channels, self.label_reader)

    def read_image(self, index: int) -> np.ndarray:
        """The image of a pair alone, HxWxC."""
        with self._naming_bugs(index):
            if hasattr(self.source, "read_image"):
                return self.source.read_image(index, self.channels, self.label_reader.max_pixels)
            return self.source.read_raw(index, self.channels, self.label_reader)[0]

    def read_mask(self, index: int) -> np.ndarray:
        """The mask of a pair alone as it stands in its file, HxW or HxWx3."""
        with self._naming_bugs(index):
            if hasattr(self.source, "read_mask"):
                return self.source.read_mask(index, self.label_reader)
            return self.source.read_raw(index, self.channels, self.label_reader)[1]

    def read(self, index: int, rng: np.random.Generator | None = None) -> tuple[np.ndarray, np.ndarray]:
        """The image HxWxC (uint8, uint16 or float32, RGB) and its class ids HxW (uint8 or int32).

        A data set of windows takes a random one of the sample's scene if it is given a generator.
        """
        image, mask = self.read_raw(index, rng)
        sample = self.samples[index]
        check_sizes(sample, image, mask)
        return image, self.label_reader(mask, sample.label or sample.name)

    @contextlib.contextmanager
    def _naming_bugs(self, index: int) -> Iterator[None]:
        """A data set's own bug: says which pair it happened to."""
        try:
            yield
        except (UserError, RunError, MemoryError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:500]
            name = self.samples[index].name
            raise RunError(f"reading {name} failed: {type(error).__name__}: {reason}") from error


def check_sizes(sample: Sample, image: np.ndarray, mask: np.ndarray) -> None:
    """DataError unless image and mask have one height and width."""
    if image.shape[:2] == mask.shape[:2]:
        return
    (h, w), (mh, mw) = image.shape[:2], mask.shape[:2]
    turned = " (the image's EXIF orientation turns it: turn the mask too)" if (h, w) == (mw, mh) else ""
    raise DataError(
        f"mask {sample.label or sample.name}: is {mh}x{mw}, its image {sample.image or ''} is {h}x{w} "
        f"(height x width){turned}; make them one size (masks by nearest neighbour), or correct the pair"
    )
