"""Scenes larger than memory: read by windows, in training at random places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from paddlefcn.data.datasets.base import Sample
from paddlefcn.data.datasets.lists import ListFile
from paddlefcn.data.images import check_size, mask_values, match_channels
from paddlefcn.data.labels import LabelReader
from paddlefcn.data.scenes import open_scene
from paddlefcn.errors import DataError


class Scenes(ListFile):
    """List files of scenes and their masks, `IMAGE LABEL` in each line, that are read by windows.

    A scene gives as many samples as windows are needed to cover it: in training each is drawn anew at a
    random place of its scene, otherwise they lie side by side, so that every pixel is scored once. TIFF
    (best in tiles) and .npy files are read window by window and may be of any size; the images' own
    `max_pixels` does not count for them. A window is cut where a scene is smaller.

    Args:
        window: [height, width] in pixels.
        train, val, test, separator: as in `ListFile`.

    Raises:
        DataError: a list or a scene that cannot be read, or a mask of another size than its scene.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        window: Sequence[int] = (512, 512),
        train: str | Sequence[str] = "train.txt",
        val: str | Sequence[str] = "val.txt",
        test: str | Sequence[str] | None = None,
        separator: str | None = None,
    ) -> None:
        self.window = check_size("window", window)
        super().__init__(root, split, train=train, val=val, test=test, separator=separator)
        pairs, self.samples = self.samples, []
        self._places: list[tuple[int, int]] = []
        self._sizes: dict[Path, tuple[int, int]] = {}
        for pair in pairs:
            assert pair.image is not None
            height, width = self._size(pair)
            for top in range(0, height, self.window[0]):
                for left in range(0, width, self.window[1]):
                    self.samples.append(Sample(f"{pair.name}@{top},{left}", pair.image, pair.label))
                    self._places.append((top, left))

    def _size(self, pair: Sample) -> tuple[int, int]:
        assert pair.image is not None
        assert pair.label is not None
        with open_scene(pair.image) as scene, open_scene(pair.label, mask=True) as mask:
            if (scene.height, scene.width) != (mask.height, mask.width):
                raise DataError(
                    f"mask {pair.label}: is {mask.height}x{mask.width}, its image {pair.image} is "
                    f"{scene.height}x{scene.width} (height x width); make them one size, or correct the pair"
                )
            self._sizes[pair.image] = scene.height, scene.width
        return self._sizes[pair.image]

    def read_image(self, index: int, channels: int, max_pixels: int) -> np.ndarray:
        return self._image(index, self._places[index], channels, max_pixels)

    def read_mask(self, index: int, labels: LabelReader) -> np.ndarray:
        return self._mask(index, self._places[index], labels)

    def read_drawn(
        self, index: int, channels: int, labels: LabelReader, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A window at a random place of the sample's scene: the image HxWxC and what stands in the mask."""
        size = self._scene_size(index)
        top, left = (int(rng.integers(0, max(0, n - w) + 1)) for n, w in zip(size, self.window))
        return (
            self._image(index, (top, left), channels, labels.max_pixels),
            self._mask(index, (top, left), labels),
        )

    def _scene_size(self, index: int) -> tuple[int, int]:
        path = self.samples[index].image
        assert path is not None
        return self._sizes[path]

    def _extent(self, index: int, place: tuple[int, int]) -> tuple[int, int]:
        """Height and width of a window; the scene's border cuts it."""
        height, width = (
            min(w, n - start) for w, n, start in zip(self.window, self._scene_size(index), place)
        )
        return height, width

    def _image(self, index: int, place: tuple[int, int], channels: int, max_pixels: int) -> np.ndarray:
        path = self.samples[index].image
        assert path is not None
        with open_scene(path, max_pixels=max_pixels) as scene:
            window = scene.read_window(*place, *self._extent(index, place))
        return match_channels(window, channels, path)

    def _mask(self, index: int, place: tuple[int, int], labels: LabelReader) -> np.ndarray:
        path = self.samples[index].label
        assert path is not None
        colors = labels.colors is not None
        with open_scene(path, mask=True, colors=colors, max_pixels=labels.max_pixels) as scene:
            return mask_values(scene.read_window(*place, *self._extent(index, place)), path, colors=colors)
