"""Lovász-softmax: a convex surrogate of the IoU itself."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F

from paddlefcn.losses.base import PerImage, check_classes, one_hot


class Lovasz(PerImage):
    """The Lovász extension of one minus IoU, of the softmax errors (Berman et al., CVPR 2018, section 3).

    The mean over the classes. It sharpens a network that knows the classes already: beside
    `CrossEntropy`, or after it.

    Args:
        ignore_index: label that is not scored.
        classes: "present", those of the image's label (the paper's choice), or "all".
        per_image: False makes one image of the batch, see `PerImage`.
    """

    def __init__(self, ignore_index: int = 255, classes: str = "present", per_image: bool = True) -> None:
        super().__init__(ignore_index, per_image)
        self.classes = check_classes(classes)

    def image_loss(self, logits: paddle.Tensor, label: paddle.Tensor, scored: paddle.Tensor) -> paddle.Tensor:
        pixels = paddle.nonzero(scored).flatten()
        label, logits = paddle.gather(label, pixels), paddle.gather(logits, pixels, axis=1)
        truth = one_hot(label, paddle.ones_like(label).astype("bool"), int(logits.shape[0]))
        prob, truth = F.softmax(logits, axis=0), truth.astype(logits.dtype)
        if self.classes == "present":
            present = paddle.unique(label)
            prob, truth = paddle.gather(prob, present), paddle.gather(truth, present)
        errors = (truth - prob).abs()  # [classes, pixels]
        order = paddle.argsort(errors.detach(), axis=1, descending=True)
        errors = paddle.take_along_axis(errors, order, 1)
        return (errors * _slopes(paddle.take_along_axis(truth, order, 1))).sum(axis=1).mean()


def _slopes(truth: paddle.Tensor) -> paddle.Tensor:
    """What each error, from the greatest on, adds to one minus IoU: truth 0/1 [classes, pixels] (Alg. 1)."""
    count = truth.sum(axis=1, keepdim=True)
    left = count - truth.cumsum(axis=1)
    jaccard = 1 - left / (count + (1 - truth).cumsum(axis=1))
    return paddle.concat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], axis=1)
