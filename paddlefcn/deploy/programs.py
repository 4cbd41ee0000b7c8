"""Writes the program of a target: Paddle, ONNX or OpenVINO, in fp32, bf16 or int8."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import Tensor, nn

from paddlefcn import runtime
from paddlefcn.deploy.targets import Target
from paddlefcn.errors import ConfigError, RunError
from paddlefcn.layers import use_export_form
from paddlefcn.layers.older_format import append_operator, writes_older_format

OPSET = 13


def write_program(
    model: nn.Layer,
    target: Target,
    stem: Path,
    channels: int,
    calibration: Sequence[np.ndarray] = (),
) -> dict[str, Path]:
    """Writes `stem` with the target's endings; nothing is downloaded.

    Args:
        model: in eval mode; left as it came.
        channels: of its input.
        calibration: prepared images [1, C, h, w] whose smallest and largest values set the scales of int8.

    Returns:
        The files: "model", and "params" where they stand apart.

    Raises:
        ConfigError: a library that the target needs is not installed.
        RunError: the network cannot be converted.
    """
    if target.format == "paddle":
        if target.precision == "int8":
            return _paddle_int8(model, target, stem, channels, calibration)
        return _paddle(model, target, stem, channels)
    fp32 = _onnx(model, target, stem, channels)
    onnx_file = _quantized_onnx(fp32, calibration, target) if target.precision == "int8" else fp32
    return {"model": onnx_file} if target.format == "onnx" else _openvino(onnx_file)


class _Program(nn.Layer):
    """The network without its list: what a deployed program returns is one tensor."""

    def __init__(self, model: nn.Layer, outputs: str) -> None:
        super().__init__()
        self.model = model
        self.outputs = outputs

    def forward(self, image: Tensor) -> Tensor:
        """[N, C, H, W] -> logits [N, num_classes, H, W], or class ids [N, H, W] int32."""
        logits = self.model(image)[0]
        if self.outputs == "logits":
            return logits
        # over the last axis the values lie side by side: four times as fast
        return _argmax(paddle.transpose(logits, [0, 2, 3, 1]))


def _argmax(x: Tensor) -> Tensor:
    """[N, H, W, C] -> [N, H, W] int32."""
    if not writes_older_format():
        return paddle.argmax(x, axis=-1, dtype="int32")
    int32 = paddle.base.core.VarDesc.VarType.INT32
    attributes = {"axis": -1, "keepdims": False, "flatten": False, "dtype": int32}
    return append_operator("arg_max", {"X": x}, attributes, "int32")


def _paddle(model: nn.Layer, target: Target, stem: Path, channels: int) -> dict[str, Path]:
    """`.json` from Paddle 3 on, `.pdmodel` before, and `.pdiparams`."""
    form = "paddle" if target.format == "paddle" else "onnx"
    with _export_form(model, form):
        paddle.jit.save(_Program(model, target.outputs), str(stem), input_spec=[_spec(channels)])
    return _paddle_files(stem)


def _paddle_int8(
    model: nn.Layer, target: Target, stem: Path, channels: int, calibration: Sequence[np.ndarray]
) -> dict[str, Path]:
    """Convolutions in int8, scales by the largest absolute value.

    In the format before Paddle 3, which oneDNN's int8 passes read. What sees the image stays in fp32: images
    are negative too, and Paddle's kernel for signed inputs gives other values (a third of the pixels of a
    CamVid network changed their class; without that layer one in eighty).
    """
    from paddle.quantization import PTQ, QuantConfig
    from paddle.quantization.observers import AbsmaxObserver

    config = QuantConfig(activation=None, weight=None)
    for layer in _convolutions(model, calibration[0]):
        if layer.weight.shape[1] * layer._groups != channels:
            name = layer.full_name()
            config.add_name_config(name, activation=AbsmaxObserver(), weight=AbsmaxObserver())
    with _export_form(model, "paddle"), paddle.no_grad():
        program = _Program(model, target.outputs)
        program.eval()
        quantizer = PTQ(config)
        watched = quantizer.quantize(program, inplace=False)
        for image in calibration:
            watched(paddle.to_tensor(image))
        quantized = quantizer.convert(watched, inplace=True, remain_weight=True)
        with _old_format():
            paddle.jit.save(quantized, str(stem), input_spec=[_spec(channels)])
    return _paddle_files(stem)


def _convolutions(model: nn.Layer, image: np.ndarray) -> list[nn.Conv2D]:
    """Those that an image passes: of heads that only training has, nothing could be observed."""
    seen: list[nn.Conv2D] = []

    def note(layer: nn.Layer, inputs: Any) -> None:
        seen.append(layer)

    hooks = [x.register_forward_pre_hook(note) for x in model.sublayers() if isinstance(x, nn.Conv2D)]
    with paddle.no_grad():
        model(paddle.to_tensor(image))
    for hook in hooks:
        hook.remove()
    return seen


def _onnx(model: nn.Layer, target: Target, stem: Path, channels: int) -> Path:
    converter = needed("paddle2onnx", "onnx")
    files = _paddle(model, target, stem, channels)
    path = stem.with_name(f"{stem.name}.onnx")
    try:
        with runtime.quiet_descriptors():
            converter.export(
                str(files["model"]),
                str(files["params"]),
                str(path),
                opset_version=OPSET,
                # its optimiser would call pip
                optimize_tool=None,
                verbose=False,
            )
    # it ends the process instead of raising
    except (SystemExit, RuntimeError, ValueError, ImportError) as error:
        raise RunError(f"export: paddle2onnx cannot convert this network ({error})") from error
    finally:
        for file in files.values():
            file.unlink(missing_ok=True)
    if not path.is_file():
        raise RunError("export: paddle2onnx cannot convert this network")
    return path


def _quantized_onnx(path: Path, calibration: Sequence[np.ndarray], target: Target) -> Path:
    """Convolutions alone: quantised pooling of ONNX Runtime forgets to round sizes up, and crashes.

    ONNX Runtime fuses convolutions whose outputs are quantised too. OpenVINO needs no more than their
    inputs, and stumbles over the padding that follows a quantised output.
    """
    needed("onnxruntime", "onnx")
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._images = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image}

    options = {"OpTypesToExcludeOutputQuantization": ["Conv"]} if target.format == "openvino" else {}
    small = path.with_name(f"{path.stem}_int8.onnx")
    with runtime.quiet_descriptors():
        quantization.quantize_static(
            str(path),
            str(small),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options=options,
        )
    os.replace(small, path)
    return path


def _openvino(path: Path) -> dict[str, Path]:
    openvino = needed("openvino", "openvino")
    program = path.with_suffix(".xml")
    with runtime.quiet_descriptors():
        # compression to fp16 would change the weights
        openvino.save_model(openvino.Core().read_model(str(path)), str(program), compress_to_fp16=False)
    path.unlink()
    return {"model": program, "params": path.with_suffix(".bin")}


def needed(module: str, extra: str) -> Any:
    """The module; ConfigError that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"{module} is not installed; pip install 'paddlefcn[{extra}]'") from error


def _paddle_files(stem: Path) -> dict[str, Path]:
    # Paddle 2 adds a file of names for training on; no deployment reads it
    stem.with_name(f"{stem.name}.pdiparams.info").unlink(missing_ok=True)
    new, old = (stem.with_name(f"{stem.name}{ending}") for ending in (".json", ".pdmodel"))
    return {"model": new if new.exists() else old, "params": stem.with_name(f"{stem.name}.pdiparams")}


def _spec(channels: int) -> Any:
    return paddle.static.InputSpec([None, channels, None, None], "float32", name="image")


@contextlib.contextmanager
def _export_form(model: nn.Layer, form: str) -> Iterator[None]:
    """Layers in their export form, and no dropout: as an operation that does nothing it would part the
    convolutions on both sides of it, of which oneDNN then runs one in fp32 instead of bfloat16."""
    dropped = [
        (parent, name, layer)
        for parent in model.sublayers(include_self=True)
        for name, layer in parent.named_children()
        if isinstance(layer, (nn.Dropout, nn.Dropout2D)) and _changes_nothing(layer)
    ]
    use_export_form(model, form)
    for parent, name, _ in dropped:
        setattr(parent, name, nn.Identity())
    try:
        yield
    finally:
        for parent, name, layer in dropped:
            setattr(parent, name, layer)
        use_export_form(model, None)


def _changes_nothing(dropout: nn.Layer) -> bool:
    """In eval mode; the other mode scales there what training left as it was."""
    return not dropout.training and getattr(dropout, "mode", "upscale_in_train") == "upscale_in_train"


@contextlib.contextmanager
def _old_format() -> Iterator[None]:
    guard: Callable[[], Any] | None = getattr(getattr(paddle, "pir_utils", None), "OldIrGuard", None)
    if guard is None:  # Paddle 2 has no other
        yield
        return
    with guard():
        yield
