"""Training on a processor, faster: Paddle's convolutions replaced by those of the oneDNN in its own wheel.

Paddle trains on a processor with im2col and matrix products, one image at a time, and keeps oneDNN for
inference. `accelerate(model)` runs a network's layers on kernels of ours that call it for training too;
parameters, checkpoints and exports do not change. The kernels are compiled once for this machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from paddlefcn.accelerator.building import AcceleratorError, built

if TYPE_CHECKING:
    from paddle import nn

    from paddlefcn.accelerator.kernels import Kernels

__all__ = ["AcceleratorError", "accelerate", "accelerator_for", "computes_bfloat", "restore"]


def accelerate(model: nn.Layer, *, bf16: bool = False) -> int:
    """Runs ``model`` on the kernels, in place; returns how many layers they cover. `restore` undoes it.

    Images and maps stay float32 [N, C, H, W]. As with every PyLayer of Paddle, a graph has one backward pass
    (no retain_graph).

    Args:
        bf16: convolutions in bfloat16 with float32 weights, sums and BatchNorm.

    Raises:
        AcceleratorError: what is missing on this machine to build or to use them.
    """
    from paddlefcn.accelerator.patching import put_under

    kernels = _loaded(lambda line: None)
    if bf16 and not kernels.says("fcn_bfloat_is_fast"):
        raise AcceleratorError("accelerator: this processor has no bfloat16 arithmetic (AVX512_BF16 or AMX)")
    return put_under(model, kernels, bf16=bf16)


def computes_bfloat() -> bool:
    """Whether the accelerator is there and this processor has bfloat16 arithmetic."""
    try:
        return _loaded(lambda line: None).says("fcn_bfloat_is_fast")
    except AcceleratorError:
        return False


def restore(model: nn.Layer) -> None:
    """Undoes `accelerate`."""
    from paddlefcn.accelerator.patching import take_out

    take_out(model)


def accelerator_for(
    setting: bool | str, device: str, say: Callable[[str], None] = lambda line: None
) -> tuple[bool, list[str]]:
    """Whether a run uses it by `runtime.cpu_accelerator` (True, False, "auto"), and lines for its log.

    Builds it where it is wanted and has not been built; `say` tells of that at once.

    Raises:
        AcceleratorError: it is asked for and cannot be had.
    """
    if setting is False:
        return False, []
    if device != "cpu":
        if setting is True:
            raise AcceleratorError(
                f"runtime.cpu_accelerator: true, but the device is {device}; set --device cpu, or auto"
            )
        return False, []
    try:
        _loaded(say)
    except AcceleratorError as error:
        if setting is True:
            raise
        return False, [f"{error}; going on without it"]
    return True, [
        "convolutions run on the accelerator (runtime.cpu_accelerator=false: on Paddle's operators)"
    ]


def _loaded(say: Callable[[str], None]) -> Kernels:
    file = built(say)
    from paddlefcn.accelerator.kernels import Kernels

    try:
        return Kernels(file)
    except OSError as error:
        raise AcceleratorError(
            f"accelerator: {error}; run paddlefcn build-accelerator, or set PADDLEFCN_CACHE to another place"
        ) from error
