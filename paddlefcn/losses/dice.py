"""Soft Dice and Tversky: what prediction and truth have in common."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F

from paddlefcn.losses.base import PerImage, check_classes, mean_over_classes, one_hot


class Dice(PerImage):
    """One minus the Dice coefficient 2 sum(p g) / (sum p + sum g) of the probabilities p and the truth g.

    The mean over the classes (Milletari et al., V-Net, 2016, without its squares); or, `generalised`, one
    quotient in which each class counts by 1 / (its pixels) ** 2 (Sudre et al., DLMIA 2017), so that small
    classes weigh as much as large ones.

    Args:
        ignore_index: label that is not scored.
        generalised: the second form.
        smooth: added above and below, above 0.
        classes: "present", those of the image's label, or "all": of an absent class any probability is
            a loss. The generalised form gives absent classes the weight of the rarest present one.
        per_image: False makes one image of the batch, see `PerImage`.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        generalised: bool = False,
        smooth: float = 1.0,
        classes: str = "present",
        per_image: bool = True,
    ) -> None:
        super().__init__(ignore_index, per_image)
        self.smooth, self.classes = check_smooth(smooth), check_classes(classes)
        self.generalised = generalised

    def image_loss(self, logits: paddle.Tensor, label: paddle.Tensor, scored: paddle.Tensor) -> paddle.Tensor:
        hit, predicted, true = overlap(logits, label, scored)
        if not self.generalised:
            dice = (2 * hit + self.smooth) / (predicted + true + self.smooth)
            return 1 - mean_over_classes(dice, true > 0, self.classes)
        weights = self._weights(true)
        both = (weights * hit).sum()
        return 1 - (2 * both + self.smooth) / ((weights * (predicted + true)).sum() + self.smooth)

    def _weights(self, true: paddle.Tensor) -> paddle.Tensor:
        """1 / pixels ** 2 of each class, relative to the rarest: 1e-12 would vanish beside `smooth`."""
        present = true > 0
        rarest = paddle.where(present, true, true.sum()).min()
        weights = (rarest / paddle.where(present, true, rarest)) ** 2
        return weights if self.classes == "all" else weights * present.astype(weights.dtype)


def overlap(
    logits: paddle.Tensor, label: paddle.Tensor, scored: paddle.Tensor
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """For each class [C]: sum of p * g, of p and of g over the scored pixels, of logits [C, P]."""
    classes = int(logits.shape[0])
    truth = one_hot(label, scored, classes).astype(logits.dtype)
    prob = F.softmax(logits, axis=0) * scored.astype(logits.dtype)
    return (prob * truth).sum(axis=1), prob.sum(axis=1), truth.sum(axis=1)


def check_smooth(value: float) -> float:
    """ValueError unless above 0: without it a class that is neither there nor predicted is 0 / 0."""
    if value <= 0:
        raise ValueError(f"smooth {value}: expected a number above 0")
    return value
