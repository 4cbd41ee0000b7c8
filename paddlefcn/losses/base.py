"""What every loss of the table shares: which pixels count, and what its mean divides by."""

from __future__ import annotations

from collections.abc import Sequence

import paddle
import paddle.nn.functional as F
from paddle import nn

_HALF = (paddle.float16, paddle.bfloat16)


class Loss(nn.Layer):
    """(logits [N, C, H, W], label [N, H, W] int64) -> scalar, 0 where every pixel is void.

    A loss is a mean: of its pixels (this class) or of its images (`PerImage`). What it divides by,
    `divisor`, follows from the label alone, so that a step over several batches or devices can count it
    over all of them first: the sum of `loss * divisor` over the parts, divided by the sum of the
    divisors, is the loss of the whole.

    Attributes:
        ignore_index: label that is not scored.
        reduction: "mean", or "sum" for a loss that divides by nothing.
        splits: whether the above holds; False for a loss that looks at a batch as one.
    """

    reduction = "mean"
    splits = True

    def __init__(self, ignore_index: int, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if class_weights is not None and (
            not class_weights or min(class_weights) < 0 or max(class_weights) == 0
        ):
            wanted = "one factor of 0 or more a class, not all of them 0"
            raise ValueError(f"class_weights {class_weights}: expected {wanted}")
        self.ignore_index = ignore_index
        # plain attribute, no buffer: a loss has no state that belongs in a checkpoint
        self.class_weights: paddle.Tensor | None = None
        if class_weights is not None:
            self.class_weights = paddle.to_tensor(list(class_weights), "float32")

    def divisor(self, label: paddle.Tensor) -> float:
        """What the mean over these labels [N, H, W] divides by: scored pixels, or their class weights."""
        scored = label != self.ignore_index
        if self.class_weights is None:
            return float(scored.astype("int64").sum().item())
        return float(self.pixel_weights(label).astype("float64").sum().item())

    def pixel_weights(self, label: paddle.Tensor) -> paddle.Tensor:
        """The factor of each pixel [N, H, W] float32: its class's weight (1 without them), 0 where void."""
        scored = label != self.ignore_index
        if self.class_weights is None:
            return scored.astype("float32")
        # void counts as class 0 for the look-up alone: 255 is no index into the weights
        factors = paddle.gather(self.class_weights, (label * scored.astype(label.dtype)).flatten())
        return factors.reshape(label.shape) * scored.astype("float32")


class PerImage(Loss):
    """A loss of whole images, such as Dice: the mean of `image_loss` over the images with a scored pixel.

    Args:
        ignore_index: label that is not scored.
        per_image: False makes one image of the batch. Classes that few images have are then steadier,
            but the loss of a batch is no longer the mean of its parts: accumulated batches and several
            devices give another one.
    """

    def __init__(
        self, ignore_index: int, per_image: bool = True, class_weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(ignore_index, class_weights)
        self.per_image = self.splits = per_image

    def divisor(self, label: paddle.Tensor) -> float:
        """How many images of [N, H, W] have a scored pixel; with `per_image: false` 1, or 0 for none."""
        scored = (label != self.ignore_index).flatten(1).any(axis=1).astype("int64").sum().item()
        return float(scored if self.per_image else min(1, scored))

    def forward(self, logits: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        logits = in_float32(logits)
        if not self.per_image:
            # pixels of all images side by side
            logits = logits.transpose([1, 0, 2, 3]).flatten(1).unsqueeze([0, -1])
            label = label.flatten().unsqueeze([0, -1])
        scored = label != self.ignore_index
        losses = [
            self.image_loss(logits[i].flatten(1), label[i].flatten(), scored[i].flatten())
            for i in range(label.shape[0])
            if bool(scored[i].any())
        ]
        # a batch of void alone still has a gradient (of zeros), which other devices may be waiting for
        return paddle.stack(losses).mean() if losses else (logits * 0.0).sum()

    def image_loss(self, logits: paddle.Tensor, label: paddle.Tensor, scored: paddle.Tensor) -> paddle.Tensor:
        """One image's loss: logits [C, P], label [P] and scored [P] (bool, at least one) of its P pixels."""
        raise TypeError(f"{type(self).__name__} must define image_loss")


def in_float32(logits: paddle.Tensor) -> paddle.Tensor:
    """Logits of half precision as float32, in which sums over pixels do not overflow; others as they are."""
    return logits.astype("float32") if logits.dtype in _HALF else logits


def pixel_cross_entropy(logits: paddle.Tensor, label: paddle.Tensor, ignore_index: int) -> paddle.Tensor:
    """-log softmax of the true class: logits [N, C, H, W], label [N, H, W] -> [N, H, W], 0 where void."""
    return F.cross_entropy(logits, label, ignore_index=ignore_index, reduction="none", axis=1).reshape(
        label.shape
    )


def weighted_mean(values: paddle.Tensor, weights: paddle.Tensor) -> paddle.Tensor:
    """sum(values * weights) / sum(weights), of one shape; 0 where nothing has a weight."""
    weights = weights.astype(values.dtype)
    whole = weights.sum()
    return (values * weights).sum() / paddle.where(whole > 0, whole, paddle.ones_like(whole))


def one_hot(label: paddle.Tensor, scored: paddle.Tensor, classes: int) -> paddle.Tensor:
    """Label [P] as 0/1 [classes, P] float32; a pixel that is not `scored` is of no class."""
    known = F.one_hot(label * scored.astype(label.dtype), classes)
    return (known * scored.astype(known.dtype).unsqueeze(-1)).transpose([1, 0])


def check_classes(value: str) -> str:
    """ValueError unless `classes` is one of the two ways to choose what a mean over classes runs over."""
    if value not in ("present", "all"):
        raise ValueError(f"classes {value!r}: expected 'present' (in the image's label) or 'all'")
    return value


def mean_over_classes(values: paddle.Tensor, present: paddle.Tensor, classes: str) -> paddle.Tensor:
    """The mean of [C] over every class, or over those where `present` [C] (bool, at least one)."""
    if classes == "all":
        return values.mean()
    chosen = present.astype(values.dtype)
    return (values * chosen).sum() / chosen.sum()
