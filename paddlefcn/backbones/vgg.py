"""VGG (Simonyan and Zisserman, ICLR 2015): five stages of 3x3 convolutions, each then pooled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import paddle

from paddlefcn.backbones.base import Backbone, FeatureMap
from paddlefcn.layers import CeilMaxPool, ConvBNReLU, IndexedMaxPool

# what conv1_1 pads: "same" keeps the grid, "reference" is what the FCN authors did (their 100
# pixels make room for the unpadded 7x7 fc6 behind the pools, however small the image)
FIRST_PADDING = {"same": 1, "reference": 100}
WIDTH_FACTORS = (1, 2, 4, 8, 8)


class VGG(Backbone):
    """The convolutions of VGG without its classifier, pooling rounded up.

    Maps: of each stage the one before its pooling (``stage1``, stride 1, to ``stage5``, stride 16) and the
    pooled one (``pool1``, stride 2, to ``pool5``, stride 32). Any size from one pixel on.
    """

    smallest: ClassVar[dict[str, Any]] = {"arch": [1, 2, 1, 1, 2], "width": 2}

    def __init__(
        self,
        arch: Sequence[int],
        *,
        width: int = 64,
        widths: Sequence[int] | None = None,
        batch_norm: bool = True,
        in_channels: int = 3,
        padding: str = "same",
    ) -> None:
        """Give the number of convolutions a stage, ``arch``: [2,2,3,3,3] is VGG16.

        ``width``: channels of the first stage; the others have 2, 4, 8 and 8 times as many, unless
        ``widths`` gives all five. ``padding``: ``same``, or ``reference`` (conv1_1 pads 100).
        """
        super().__init__()
        widths = [width * factor for factor in WIDTH_FACTORS] if widths is None else list(widths)
        _check_stages(arch, widths)
        if padding not in FIRST_PADDING:
            raise ValueError(f"padding: got {padding!r}, expected same or reference")
        margin = FIRST_PADDING[padding] - 1
        # names, not layers: whoever replaces a layer (quantisation does) must be obeyed
        self.stages: list[tuple[str, list[str], str]] = []
        maps = []
        for stage, (count, channels) in enumerate(zip(arch, widths), start=1):
            names = [f"conv{stage}_{number}" for number in range(1, count + 1)]
            for name in names:
                pixels = FIRST_PADDING[padding] if name == "conv1_1" else 1
                block = ConvBNReLU(in_channels, channels, padding=pixels, batch_norm=batch_norm)
                setattr(self, name, block)
                in_channels = channels
            self.stages.append((f"stage{stage}", names, f"pool{stage}"))
            maps.append(FeatureMap(f"stage{stage}", channels, 2 ** (stage - 1), margin))
            maps.append(FeatureMap(f"pool{stage}", channels, 2**stage, margin))
        self.maps = tuple(maps)
        self.pool = CeilMaxPool(2, 2)
        self.indexed_pool = IndexedMaxPool()

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        wanted = self.wanted(names)
        x, found = image, {}
        for stage, layers, pool in self.stages:
            for layer in layers:
                x = getattr(self, layer)(x)
            if stage in wanted:
                found[stage] = x
            x = self.pool(x)
            if pool in wanted:
                found[pool] = x
        return [found[name] for name in wanted]

    def pooled_with_indices(
        self, image: paddle.Tensor
    ) -> tuple[paddle.Tensor, list[paddle.Tensor], list[paddle.Tensor]]:
        """pool5, the maps before each pooling, and where in them each pooled value came from.

        The five index maps are int32, ``[N,C,ceil(H/2),ceil(W/2)]`` of their own map, positions counted
        along its rows: what SegNet's unpooling puts the values back with.
        """
        x, before, indices = image, [], []
        for _, layers, _ in self.stages:
            for layer in layers:
                x = getattr(self, layer)(x)
            before.append(x)
            x, places = self.indexed_pool(x)
            indices.append(places)
        return x, before, indices


def _check_stages(arch: Sequence[int], widths: Sequence[int]) -> None:
    """Raise ValueError unless both lists hold five positive whole numbers."""
    for name, values in (("arch", arch), ("widths", widths)):
        whole = all(isinstance(value, int) and 0 < value <= 65536 for value in values)
        if len(values) != len(WIDTH_FACTORS) or not whole:
            raise ValueError(
                f"{name}: got {list(values)}, expected five positive whole numbers, one a stage "
                f"(VGG16: arch [2, 2, 3, 3, 3], widths [64, 128, 256, 512, 512])"
            )


class _NamedVGG(VGG):
    """A VGG whose number of convolutions is in its name."""

    arch: ClassVar[tuple[int, ...]]
    smallest: ClassVar[dict[str, Any]] = {"width": 2}

    def __init__(
        self,
        *,
        width: int = 64,
        widths: Sequence[int] | None = None,
        batch_norm: bool = True,
        in_channels: int = 3,
        padding: str = "same",
    ) -> None:
        """See `VGG`."""
        super().__init__(
            self.arch,
            width=width,
            widths=widths,
            batch_norm=batch_norm,
            in_channels=in_channels,
            padding=padding,
        )


class VGG11(_NamedVGG):
    """VGG with 8 convolutions (configuration A)."""

    arch = (1, 1, 2, 2, 2)


class VGG13(_NamedVGG):
    """VGG with 10 convolutions (configuration B)."""

    arch = (2, 2, 2, 2, 2)


class VGG16(_NamedVGG):
    """VGG with 13 convolutions (configuration D), the one that FCN was published on."""

    arch = (2, 2, 3, 3, 3)


class VGG19(_NamedVGG):
    """VGG with 16 convolutions (configuration E)."""

    arch = (2, 2, 4, 4, 4)
