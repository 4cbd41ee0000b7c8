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
        truth = one_hot(label, scored, int(logits.shape[0])).astype(logits.dtype)
        prob, known = F.softmax(logits, axis=0), scored.astype(logits.dtype)
        if self.classes == "present":
            present = paddle.nonzero(truth.sum(axis=1) > 0).flatten()
            prob, truth = paddle.index_select(prob, present), paddle.index_select(truth, present)
        errors = (truth - prob).abs() * known  # [classes, pixels]
        # void comes last, behind every error, where it changes no slope but its own
        order = paddle.argsort(errors.detach() - (1 - known), axis=1, descending=True)
        slopes = _slopes(paddle.take_along_axis(truth, order, 1))
        # the slopes go back to their pixels, so that no gradient has to find its way through the sorting
        slopes = paddle.take_along_axis(slopes, paddle.argsort(order, axis=1), 1)
        return (errors * slopes).sum(axis=1).mean()


def _slopes(truth: paddle.Tensor) -> paddle.Tensor:
    """What each error, from the greatest on, adds to one minus IoU: truth 0/1 [classes, pixels] (Alg. 1)."""
    count = truth.sum(axis=1, keepdim=True)
    left = count - truth.cumsum(axis=1)
    jaccard = 1 - left / (count + (1 - truth).cumsum(axis=1))
    return paddle.concat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], axis=1)
