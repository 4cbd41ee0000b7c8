"""What runs an exported program: one call, `engine(batch) -> output`, safe from several threads."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np

from paddlefcn import runtime
from paddlefcn.errors import UserError, WeightsError

# oneDNN keeps kernels for this many image sizes; unlimited, a service fed every size would grow
_CACHED_SHAPES = 16
_MOST_THREADS = 256  # far more than any of these machines has; Paddle dies of some thousands


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
        device: "cpu", "gpu" or "gpu:N".
        onednn: whether a CPU uses oneDNN.
        threads: threads of a CPU; what OMP_NUM_THREADS says, or all cores, if not given.

    Raises:
        WeightsError: Paddle cannot load the files.
    """

    def __init__(
        self,
        model_file: Path,
        params_file: Path,
        *,
        device: str = "cpu",
        onednn: bool = True,
        threads: int | None = None,
    ) -> None:
        if threads is not None and not 1 <= threads <= _MOST_THREADS:
            raise UserError(f"threads {threads}: expected 1 to {_MOST_THREADS}")
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
                config.enable_mkldnn()
                config.set_mkldnn_cache_capacity(_CACHED_SHAPES)
                if b"_interp" in model_file.read_bytes():
                    config.delete_pass("onednn_placement_pass")
            else:
                config.disable_mkldnn()
        # the order matters: the memory optimisation of a .json program needs the new executor
        if hasattr(config, "enable_new_executor"):
            config.enable_new_executor(True)
        config.enable_memory_optim()
        try:
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


def _default_threads() -> int:
    """What the runtime chose, or the user before it: the cores this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    number = int(chosen) if re.fullmatch("[0-9]{1,9}", chosen) else 0
    return min(number or os.cpu_count() or 1, _MOST_THREADS)
