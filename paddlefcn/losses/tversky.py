"""Tversky loss: Dice with a price of its own for each kind of mistake."""

from __future__ import annotations

import paddle

from paddlefcn.losses.base import PerImage, check_classes, mean_over_classes
from paddlefcn.losses.dice import check_smooth, overlap


class Tversky(PerImage):
    """One minus TP / (TP + alpha FP + beta FN), the mean over the classes (Salehi et al., MLMI 2017).

    A `beta` above `alpha` asks for recall, the other way round for precision; 0.5 and 0.5 are Dice.

    Args:
        ignore_index: label that is not scored.
        alpha: price of what is predicted and not there, 0 or more.
        beta: price of what is there and not predicted, 0 or more, one of the two above 0.
        smooth: added above and below, above 0.
        classes: "present", those of the image's label, or "all".
        per_image: False makes one image of the batch, see `PerImage`.
    """

    def __init__(
        self,
        ignore_index: int = 255,
        alpha: float = 0.3,
        beta: float = 0.7,
        smooth: float = 1.0,
        classes: str = "present",
        per_image: bool = True,
    ) -> None:
        super().__init__(ignore_index, per_image)
        if alpha < 0 or beta < 0 or alpha + beta == 0:
            raise ValueError(f"alpha {alpha}, beta {beta}: expected 0 or more, one of them above 0")
        self.alpha, self.beta = alpha, beta
        self.smooth, self.classes = check_smooth(smooth), check_classes(classes)

    def image_loss(self, logits: paddle.Tensor, label: paddle.Tensor, scored: paddle.Tensor) -> paddle.Tensor:
        hit, predicted, true = overlap(logits, label, scored)
        wrong = self.alpha * (predicted - hit) + self.beta * (true - hit)
        return 1 - mean_over_classes(
            (hit + self.smooth) / (hit + wrong + self.smooth), true > 0, self.classes
        )
