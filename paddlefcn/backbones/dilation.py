"""`output_stride`: strides that become dilation while a backbone is built."""

from __future__ import annotations

from dataclasses import dataclass

OUTPUT_STRIDES = (8, 16, 32)


@dataclass
class Strides:
    """How far a network under construction has reduced the image, and what it dilates by since it stopped.

    Beyond ``output_stride`` a stride of 2 is left out and doubles the dilation of what follows (Chen and
    others, "Rethinking Atrous Convolution", 2017, section 3.1). Raises ValueError for another value.
    """

    output_stride: int
    stride: int = 1
    dilation: int = 1

    def __post_init__(self) -> None:
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(f"output_stride: got {self.output_stride}, expected 8, 16 or 32")

    def take(self, stride: int) -> tuple[int, int]:
        """(the stride to build, the dilation before it) of a layer that has this stride."""
        before = self.dilation
        if self.stride * stride > self.output_stride:
            self.dilation *= stride
            return 1, before
        self.stride *= stride
        return stride, before
