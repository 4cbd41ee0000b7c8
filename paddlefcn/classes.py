"""The classes of a task: their names, their colours, and the id that stands for none of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """Class ids 0, 1, … with a name and a colour each; travels from the recipe to the export.

    Args:
        names: one a class, in the order of the ids.
        palette: a colour (red, green, blue) of 0 to 255 a class; the colours of PASCAL VOC if none are given.
        ignore_index: the id of pixels that belong to no class, neither trained on nor scored.

    Raises:
        ValueError: no class, or another number of colours than classes.
    """

    names: tuple[str, ...]
    palette: tuple[Colour, ...] = field(default=())
    ignore_index: int = 255

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("classes: expected a list of names, got none")
        palette = tuple((int(r), int(g), int(b)) for r, g, b in self.palette) or voc_palette(len(self.names))
        if not all(0 <= part <= 255 for colour in palette for part in colour):
            raise ValueError("palette: expected [red, green, blue] of 0 to 255")
        if len(palette) != len(self.names):
            raise ValueError(f"palette: {len(palette)} colours for {len(self.names)} classes")
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "palette", palette)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """What an id is called: its class, "void" for `ignore_index`, else "class 7"."""
        if index < len(self.names):
            return self.names[index]
        return "void" if index == self.ignore_index else f"class {index}"

    def to_dict(self) -> dict[str, Any]:
        """The three under the keys that recipes and deploy.yaml use."""
        return {
            "classes": list(self.names),
            "palette": [list(colour) for colour in self.palette],
            "ignore_index": self.ignore_index,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Classes:
        """What `to_dict` gave, perhaps out of a file: KeyError, TypeError or ValueError if it is not."""
        names: Sequence[Any] = values["classes"]
        if not isinstance(names, list) or not names:
            raise ValueError(f"classes: expected a list of names, got {names!r:.80}")
        palette = tuple((int(r), int(g), int(b)) for r, g, b in values["palette"])
        if len(palette) != len(names):
            raise ValueError(f"palette: {len(palette)} colours for {len(names)} classes")
        return cls(tuple(names), palette, int(values["ignore_index"]))


@functools.cache  # asked for once an image
def voc_palette(count: int) -> tuple[Colour, ...]:
    """The colours of PASCAL VOC (its development kit's colour map), for any number of classes up to 256."""

    def colour(index: int) -> Colour:
        parts = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                parts[channel] |= ((index >> channel) & 1) << (7 - bit)
            index >>= 3
        return parts[0], parts[1], parts[2]

    return tuple(colour(index % 256) for index in range(count))
