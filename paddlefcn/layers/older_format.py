"""Operators that Paddle 3's own functions cannot write in the program format before it, which int8 takes."""

from __future__ import annotations

from typing import Any

import paddle
import paddle.nn.functional as F


def writes_older_format() -> bool:
    """Whether a program of the older format is being written."""
    if paddle.in_dynamic_mode() or not hasattr(paddle, "pir_utils"):
        return False
    return not paddle.framework.in_dynamic_or_pir_mode()


def append_operator(
    kind: str, inputs: dict[str, paddle.Tensor], attributes: dict[str, Any], dtype: Any
) -> paddle.Tensor:
    """Appends an operator by its name in that format; its only output, `Out`, has this dtype."""
    from paddle.base.layer_helper import LayerHelper

    helper = LayerHelper(kind)
    result = helper.create_variable_for_type_inference(dtype)
    listed = {name: [tensor] for name, tensor in inputs.items()}
    helper.append_op(type=kind, inputs=listed, outputs={"Out": [result]}, attrs=attributes)
    return result


def product(x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """`paddle.matmul` in every format."""
    if not writes_older_format():
        return paddle.matmul(x, y)
    return append_operator("matmul_v2", {"X": x, "Y": y}, {"trans_x": False, "trans_y": False}, x.dtype)


def sigmoid(x: paddle.Tensor) -> paddle.Tensor:
    """`paddle.nn.functional.sigmoid` in every format."""
    if not writes_older_format():
        return F.sigmoid(x)
    return append_operator("sigmoid", {"X": x}, {}, x.dtype)


def scaled(x: paddle.Tensor, factor: float) -> paddle.Tensor:
    """A map times a constant.

    As a product in programs of the older format: oneDNN's int8 merges a `scale` with the pooling before it,
    and fails where that has a second reader.
    """
    if factor == 1:
        return x
    if not writes_older_format():
        return x * factor
    inputs = {"X": x, "Y": paddle.full([1], factor, x.dtype)}
    return append_operator("elementwise_mul", inputs, {"axis": -1}, x.dtype)
