"""What every backbone is: a network that hands out named maps, each with its channels and stride."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import paddle
from paddle import nn


@dataclass(frozen=True)
class FeatureMap:
    """A map that a backbone hands out: ``[N, channels, ceil(H / stride), ceil(W / stride)]``.

    ``margin``: pixels around the image that the map covers besides it, on each side (0 but for networks
    published with wide padding; their maps are that much larger). ``rounds_up``: false where poolings drop a
    row or column of odd sizes.
    """

    name: str
    channels: int
    stride: int
    margin: int = 0
    rounds_up: bool = True


class Backbone(nn.Layer):
    """``backbone(image [N,in_channels,H,W]) -> list`` of its maps, finest first.

    ``backbone(image, names)`` gives those named, in that order; what nobody asks for is not kept in memory.
    A subclass sets ``maps`` in its constructor and hands them out in ``forward``; sizes round up, so that
    any image works, one pixel included.
    """

    smallest: ClassVar[Mapping[str, Any]] = {}
    """The smallest arguments of the constructor, with which the tests of every backbone run."""

    maps: tuple[FeatureMap, ...]
    auxiliary_map: str | None = None
    """The map that an auxiliary head of the literature stands on; None: the one before the last."""

    def wanted(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The names of the maps to hand out: those asked for, else all."""
        return tuple(found.name for found in self.maps) if names is None else tuple(names)

    def map(self, name: str) -> FeatureMap:
        """The map of this name; ValueError naming those there are."""
        for found in self.maps:
            if found.name == name:
                return found
        names = ", ".join(found.name for found in self.maps)
        raise ValueError(f"{type(self).__name__} has no map {name!r}; it has {names}")

    def first(self, stride: int) -> FeatureMap:
        """The first map of this stride: of VGG, the one that its pooling has just made."""
        return self._of(stride)[0]

    def deepest(self, stride: int) -> FeatureMap:
        """The last map of this stride: of VGG, the one that goes into the next pooling."""
        return self._of(stride)[-1]

    @property
    def last(self) -> FeatureMap:
        """The deepest map of all."""
        return self.maps[-1]

    @property
    def auxiliary(self) -> FeatureMap:
        """The map for an auxiliary head."""
        return self.maps[-2] if self.auxiliary_map is None else self.map(self.auxiliary_map)

    def has(self, *strides: int) -> bool:
        """Whether there are maps of all these strides."""
        return set(strides) <= {found.stride for found in self.maps}

    def _of(self, stride: int) -> list[FeatureMap]:
        fitting = [found for found in self.maps if found.stride == stride]
        if not fitting:
            raise ValueError(
                f"{type(self).__name__} has no map of stride {stride}; it has "
                + ", ".join(f"{found.name} ({found.stride})" for found in self.maps)
            )
        return fitting

    def forward(self, image: paddle.Tensor, names: Sequence[str] | None = None) -> list[paddle.Tensor]:
        """The maps named, in that order; all of them if None."""
        raise TypeError(f"{type(self).__name__} has no forward")
