"""What runs an exported program: one call, `engine(batch) -> output`, safe from several threads."""

from __future__ import annotations

import importlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn import runtime
from paddlefcn.deploy.operators import check_operators
from paddlefcn.deploy.parameters import check_parameters
from paddlefcn.errors import ConfigError, DataError, UserError, WeightsError

# oneDNN keeps kernels for this many image sizes; unlimited, a service fed every size would grow
_CACHED_SHAPES = 16
# of all that oneDNN could compute in int8: its concatenation and scaling fail where scales differ
_IN_INT8 = {"conv2d", "fused_conv2d", "depthwise_conv2d", "pool2d"}
# the gate's smallest; OpenVINO fails, or crashes, on maps that get smaller than a pooling window
_SMALLEST_SIDE = 17
_MOST_THREADS = 256  # far more than any of these machines has; Paddle dies of some thousands
Engine = Callable[[np.ndarray], np.ndarray]


def create_engine(
    name: str,
    files: dict[str, Path],
    *,
    precision: str = "fp32",
    device: str = "cpu",
    threads: int | None = None,
) -> Engine:
    """The engine of this name over an export's files.

    Args:
        name: "onednn", "native", "onnxruntime" or "openvino".
        files: "model", and "params" where they stand apart.
        precision: of the export.
        device: "cpu", "gpu" or "gpu:N"; a GPU for Paddle alone.
        threads: of a CPU; what OMP_NUM_THREADS says, or all cores, if not given.

    Raises:
        UserError: threads out of range.
        ConfigError: the engine is not installed or cannot use the device, the program holds an operator that
            no network needs, or the files are not of one export.
        WeightsError: it cannot load the files.
    """
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise UserError(f"threads {threads}: expected 1 to {_MOST_THREADS}")
    operators = check_operators(files["model"])
    if name in ("onednn", "native"):
        check_parameters(files["model"], files["params"])
        return PaddleEngine(
            files["model"],
            files["params"],
            precision=precision,
            device=device,
            onednn=name == "onednn",
            interpolates=any(operator.endswith("_interp") for operator in operators),
            threads=threads,
        )
    if device != "cpu":
        raise ConfigError(f"{name} runs on a CPU here, not on {device}; export with --format paddle")
    if name == "onnxruntime":
        return OnnxEngine(files["model"], threads=threads)
    return OpenVinoEngine(files["model"], precision=precision, threads=threads)


class PaddleEngine:
    """A Paddle Inference predictor.

    One call runs at a time: Paddle's input and output handles belong to the predictor, so that two
    threads would read each other's results. One run uses all its threads anyway.

    oneDNN cannot run interpolation in exported programs: Paddle 3.3.1 crashes (Paddle issues
    77340, 79749), 3.2.2 computes align_corners wrongly. An export that holds interpolation is
    therefore run with fused convolutions on oneDNN and the rest native; ours holds none unless the
    network has `align_corners: true`.

    Args:
        model_file: the program; its parameters are in `params_file`.
        precision: "fp32"; "bf16" and "int8" need oneDNN.
        device: "cpu", "gpu" or "gpu:N".
        onednn: whether a CPU uses oneDNN.
        interpolates: whether the program holds interpolation.
        threads: threads of a CPU.

    Raises:
        WeightsError: Paddle cannot load the files.
    """

    def __init__(
        self,
        model_file: Path,
        params_file: Path,
        *,
        precision: str = "fp32",
        device: str = "cpu",
        onednn: bool = True,
        interpolates: bool = False,
        threads: int | None = None,
    ) -> None:
        runtime.prepare()
        from paddle import inference

        config = inference.Config(str(model_file), str(params_file))
        config.disable_glog_info()
        kind, _, index = device.partition(":")
        if kind == "gpu":
            config.enable_use_gpu(256, int(index or 0))
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(threads or _default_threads())
            if onednn:
                _use_onednn(config, precision, interpolates=interpolates)
            else:
                config.disable_mkldnn()
        # the order matters: the memory optimisation of a .json program needs the new executor, which in
        # turn cannot read the older format of int8
        if hasattr(config, "enable_new_executor") and model_file.suffix == ".json":
            config.enable_new_executor(True)
        config.enable_memory_optim()
        try:
            with runtime.quiet_descriptors():
                self._predictor: Any = inference.create_predictor(config)
        except (RuntimeError, ValueError, OSError, NotImplementedError) as error:
            reason = (" ".join(str(error).split()) or type(error).__name__)[:300]
            raise WeightsError(
                f"{model_file}, {params_file.name}: Paddle cannot load them ({reason})"
            ) from error
        self._lock = threading.Lock()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """[N, C, h, w] float32 -> the program's output as it comes."""
        with self._lock:
            feed = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
            feed.reshape(list(batch.shape))
            feed.copy_from_cpu(np.ascontiguousarray(batch, np.float32))
            self._predictor.run()
            output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])
            return output.copy_to_cpu()


def _use_onednn(config: Any, precision: str, *, interpolates: bool) -> None:
    config.enable_mkldnn()
    config.set_mkldnn_cache_capacity(_CACHED_SHAPES)
    if precision == "bf16":
        config.enable_mkldnn_bfloat16()
    elif precision == "int8":
        config.enable_mkldnn_int8(_IN_INT8)
    if interpolates:
        config.delete_pass("onednn_placement_pass")


class OnnxEngine:
    """An ONNX Runtime session on the CPU; runs from several threads at once.

    Raises:
        ConfigError: onnxruntime is not installed.
        WeightsError: it cannot load the file.
    """

    def __init__(self, model_file: Path, *, threads: int | None = None) -> None:
        onnxruntime = _module("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or _default_threads()
        options.log_severity_level = 3  # its warnings are about the converter's leftovers
        try:
            self._session = onnxruntime.InferenceSession(
                str(model_file), options, providers=["CPUExecutionProvider"]
            )
        # its exceptions have no common base
        except Exception as error:
            raise WeightsError(f"{model_file}: ONNX Runtime cannot load it ({_short(error)})") from error
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """[N, C, h, w] float32 -> the program's output as it comes."""
        try:
            return self._session.run(None, {self._input: np.ascontiguousarray(batch, np.float32)})[0]
        except Exception as error:
            raise RuntimeError(f"ONNX Runtime: {_short(error)}") from error


class OpenVinoEngine:
    """A model compiled by OpenVINO for the CPU; one call runs at a time.

    OpenVINO's int8 passes cannot work on sizes that are not known: an int8 model is compiled for each size
    of image, of which the last 16 are kept.

    Raises:
        ConfigError: openvino is not installed.
        WeightsError: it cannot load the file.
    """

    def __init__(self, model_file: Path, *, precision: str = "fp32", threads: int | None = None) -> None:
        openvino = _module("openvino", "openvino")
        self._file, self._by_size = model_file, precision == "int8"
        self._options = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads or _default_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._compiled: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = threading.Lock()
        try:
            self._core = openvino.Core()
            self._core.read_model(str(model_file))
            if not self._by_size:
                self._compiled[()] = self._compile(())
        except RuntimeError as error:
            raise WeightsError(f"{model_file}: OpenVINO cannot load it ({_short(error)})") from error

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """[N, C, h, w] float32 -> the program's output as it comes; DataError below 17 pixels a side."""
        height, width = batch.shape[2:]
        if min(height, width) < _SMALLEST_SIDE:
            raise DataError(f"is {width}x{height} pixels; OpenVINO takes {_SMALLEST_SIDE} a side and more")
        with self._lock:
            size = batch.shape if self._by_size else ()
            request = self._compiled.get(size) or self._compile(size)
            self._compiled[size] = request
            self._compiled.move_to_end(size)
            while len(self._compiled) > _CACHED_SHAPES:
                self._compiled.popitem(last=False)
            try:
                result = request.infer({0: np.ascontiguousarray(batch, np.float32)})
            except RuntimeError as error:
                raise RuntimeError(f"OpenVINO: {_short(error)}") from error
            return np.array(next(iter(result.values())))

    def _compile(self, size: tuple[int, ...]) -> Any:
        model = self._core.read_model(str(self._file))
        if size:
            model.reshape(list(size))
        return self._core.compile_model(model, "CPU", self._options).create_infer_request()


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"this export runs with {name}, which is not installed; pip install 'paddlefcn[{extra}]'"
        ) from error


def _short(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def _default_threads() -> int:
    """What the runtime chose, or the user before it: the cores this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    number = int(chosen) if re.fullmatch("[0-9]{1,9}", chosen) else 0
    return min(number or os.cpu_count() or 1, _MOST_THREADS)
