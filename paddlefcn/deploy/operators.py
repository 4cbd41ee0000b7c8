"""The operators of an exported program, read before any engine sees it.

A program from a stranger could hold operators that write files or run code (Paddle has both). Only those
that a network computes with are let through; deploy.yaml's checksums say nothing about who wrote the folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from paddlefcn.errors import ConfigError
from paddlefcn.files import read_bytes

_MAX_PROGRAM = 1 << 28  # bytes of a program without its parameters
_MAX_ONNX = 1 << 32  # with them


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# as Paddle 3 calls them; the names of Paddle 2 and the in-place forms are brought to these
_PADDLE = _names(
    """
    abs add add_n arange argmax argmin assign assign_value batch_norm bicubic_interp bilinear_interp
    bmm cast ceil clip combine concat conv2d conv2d_transpose cumsum data depthwise_conv2d
    depthwise_conv2d_transpose dequantize_linear divide dropout einsum elementwise_pow elu equal exp expand
    expand_as expand_v2 feed fetch flatten flatten_contiguous_range flip floor floor_divide full
    full_int_array full_like full_with_tensor fused_softmax_mask gather gather_nd gelu greater_equal
    greater_than group_norm hardsigmoid hardswish hardtanh instance_norm layer_norm leaky_relu
    less_equal less_than linear_interp log log_softmax logical_and logical_not logical_or matmul
    matmul_v2 matmul_with_flatten max max_pool2d_with_index maximum mean meshgrid min minimum mish
    mul multiply nearest_interp norm not_equal numel one_hot p p_norm pad pad2d pad3d parameter
    pixel_shuffle pixel_unshuffle pool2d pow prelu prod quantize_linear range reciprocal relu relu6
    remainder reshape roll round rsqrt scale selu set_value_with_tensor shadow_output shape shape64
    sigmoid sign silu slice softmax softplus softsign split split_with_num sqrt square squeeze stack
    strided_slice subtract sum swish tanh thresholded_relu tile top_k topk transpose tril triu
    unbind unpool unsqueeze unstack where
    """
)
_PADDLE_2 = {
    "arg_max": "argmax",
    "arg_min": "argmin",
    "elementwise_add": "add",
    "elementwise_div": "divide",
    "elementwise_floordiv": "floor_divide",
    "elementwise_max": "maximum",
    "elementwise_min": "minimum",
    "elementwise_mul": "multiply",
    "elementwise_sub": "subtract",
    "fill_any_like": "full_like",
    "fill_constant": "full",
    "fill_constant_batch_size_like": "full_like",
    "hard_sigmoid": "hardsigmoid",
    "hard_swish": "hardswish",
    "reduce_max": "max",
    "reduce_mean": "mean",
    "reduce_min": "min",
    "reduce_sum": "sum",
}
_ONNX = _names(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant
    ConstantOfShape Conv ConvTranspose CumSum DepthToSpace DequantizeLinear Div
    DynamicQuantizeLinear Einsum Elu Equal Exp Expand Flatten Floor Gather GatherElements GatherND
    Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization HardSigmoid
    HardSwish Identity InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax MatMul Max MaxPool MaxUnpool Mean Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow
    QuantizeLinear Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    Relu Reshape Resize Round ScatterND Selu Shape Sigmoid Sign Size Slice Softmax Softplus Softsign
    SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Upsample Where
    """
)
_OPENVINO = _names(
    """
    Abs AdaptiveAvgPool AdaptiveMaxPool Add AvgPool BatchNormInference Broadcast Ceiling Clamp
    Concat Const Constant Convert ConvertLike Convolution ConvolutionBackpropData CumSum
    DepthToSpace Divide Einsum Elu Equal Exp FakeConvert FakeQuantize Floor FloorMod Gather
    GatherElements GatherND Gelu Greater GreaterEqual GroupConvolution GroupConvolutionBackpropData
    GroupNormalization HSigmoid HSwish HardSigmoid Identity Interpolate Less LessEqual Log
    LogSoftmax LogicalAnd LogicalNot LogicalOr MVN MatMul MaxPool Maximum Minimum Mish Mod Multiply
    Negative NonZero NormalizeL2 NotEqual OneHot PRelu Pad Parameter Power Range ReLU ReduceL2
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Result Roll Round
    ScatterNDUpdate ScatterUpdate Select Selu ShapeOf Sigmoid Sign Slice SoftMax SoftPlus SoftSign
    Softmax SpaceToDepth Split Sqrt SquaredDifference Squeeze StridedSlice Subtract Swish Tanh Tile
    TopK Transpose Unsqueeze VariadicSplit
    """
)


def check_operators(program: Path) -> frozenset[str]:
    """The operators of a program; refuses one that no network needs.

    Args:
        program: a `.json` or `.pdmodel` of Paddle, an `.onnx`, or an `.xml` of OpenVINO.

    Raises:
        ConfigError: names the operator; or the file is none of these.
    """
    readers: Mapping[str, tuple[Callable[[Path], Iterator[str]], frozenset[str]]] = {
        ".json": (_paddle_json, _PADDLE),
        ".pdmodel": (_paddle_protobuf, _PADDLE),
        ".onnx": (_onnx, _ONNX),
        ".xml": (_openvino, _OPENVINO),
    }
    if program.suffix not in readers:
        raise ConfigError(f"{program}: a program ends in {', '.join(readers)}")
    read, allowed = readers[program.suffix]
    found = set()
    try:
        for name in read(program):
            if name not in allowed:
                raise ConfigError(
                    f"{program} holds the operator {name!r:.80}, which no network needs; it is not run"
                )
            found.add(name)
    except ConfigError:
        raise
    # whatever a damaged or forged file leads to
    except (ValueError, IndexError, KeyError, TypeError, RecursionError, ElementTree.ParseError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{program}: is no program that export writes ({reason})") from error
    return frozenset(found)


def _paddle_json(path: Path) -> Iterator[str]:
    """Every entry of every list called `ops`, however deep: `1.` stands for Paddle's own operators."""
    tree = json.loads(read_bytes(path, _MAX_PROGRAM))
    if not isinstance(tree, dict) or "program" not in tree:
        raise ValueError("no `program`")
    pending: list[Any] = [tree]
    found = 0
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            for operator in node.get("ops", ()):
                found += 1
                yield _plain(str(operator["#"]))
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
    if not found:
        raise ValueError("no operators")


def _plain(name: str) -> str:
    """`1.relu`, `pd_op.relu` or `relu_` -> `relu`; other dialects keep their prefix, and are refused."""
    own = re.fullmatch(r"(?:0|1|builtin|pd_op)\.(\w+)|(p)", name)
    if own is None:
        return name
    short = own.group(1) or own.group(2)
    return short[:-1] if short.endswith("_") and short[:-1] in _PADDLE else short


def _paddle_protobuf(path: Path) -> Iterator[str]:
    """framework.proto: ProgramDesc.blocks = 1, BlockDesc.ops = 4, OpDesc.type = 3."""
    content = memoryview(read_bytes(path, _MAX_PROGRAM))
    for number, block in protobuf_fields(content):
        if number == 1:
            for kind, operator in protobuf_fields(block):
                if kind == 4:
                    for key, value in protobuf_fields(operator):
                        if key == 3:
                            yield _paddle_3_name(bytes(value).decode("utf-8"))


def _paddle_3_name(name: str) -> str:
    """`elementwise_add` -> `add`, `reshape2` -> `reshape`, `bilinear_interp_v2` -> `bilinear_interp`."""
    shorter = re.sub(r"(_v2|2)$", "", name)
    if name in _PADDLE or name in _PADDLE_2:
        return _PADDLE_2.get(name, name)
    return shorter if shorter in _PADDLE else name


def _onnx(path: Path) -> Iterator[str]:
    """onnx.proto: ModelProto.graph = 7, functions = 25; see `_onnx_graph`."""
    for number, part in protobuf_fields(memoryview(read_bytes(path, _MAX_ONNX))):
        if number == 25:
            yield "function"
        if number == 7:
            yield from _onnx_graph(part)


def _onnx_graph(graph: memoryview) -> Iterator[str]:
    """GraphProto.node = 1, initializer = 5; parameters in other files are refused."""
    for number, part in protobuf_fields(graph):
        if number == 1:
            yield from _onnx_node(part)
        elif number == 5 and any(key == 13 for key, _ in protobuf_fields(part)):
            yield "external_data"


def _onnx_node(node: memoryview) -> Iterator[str]:
    """NodeProto.op_type = 4, attribute = 5, domain = 7.

    Of an attribute: t = 5, g = 6, tensors = 10, graphs = 11.
    """
    for number, part in protobuf_fields(node):
        if number == 4:
            yield bytes(part).decode("utf-8")
        elif number == 7 and bytes(part) not in (b"", b"ai.onnx"):
            yield f"{bytes(part).decode('utf-8')}::"
        elif number == 5:
            for key, value in protobuf_fields(part):
                if key in (6, 11):
                    yield from _onnx_graph(value)
                elif key in (5, 10) and any(tag == 13 for tag, _ in protobuf_fields(value)):
                    yield "external_data"


def _openvino(path: Path) -> Iterator[str]:
    content = read_bytes(path, _MAX_PROGRAM)
    if b"<!" in content:  # a document type could name other files, or grow without end
        raise ValueError("holds a declaration")
    for layer in ElementTree.fromstring(content).iter("layer"):
        yield str(layer.get("type")) if str(layer.get("version")).startswith("opset") else "extension"


def protobuf_fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of a protobuf message's fields that have a length; numbers are passed over."""
    place, end = 0, len(message)
    while place < end:
        key, place = varint(message, place)
        kind = key & 7
        if kind == 0:
            _, place = varint(message, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            length, place = varint(message, place)
            if place + length > end:
                raise ValueError("truncated")
            yield key >> 3, message[place : place + length]
            place += length
        else:
            raise ValueError(f"field of kind {kind}")


def varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of protobuf at a place, and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, place
    raise ValueError("a number of more than 10 bytes")
