"""Latency of one image on every runtime and precision, interleaved in one run.

    python benchmarks/inference.py --json inference.json
    python benchmarks/inference.py --torch-python env-torch/bin/python --json inference.json

fcn8s_vgg16: FCN-8s on VGG16 with BatchNorm, 21 classes, random weights, 375x500. With `--all` the family
too. Every runtime is a process of its own; they run one image each in turn, several rounds, and the median
counts. int8 takes its scales from generated images and skips the gate. `label_agreement` is the share of
pixels with the class that Paddle's own kernels give in fp32. PyTorch runs fcn8s_vgg16 with the same weights
where `--torch-python` has it. Runtimes that are not installed are left out and named.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
# runtime -> format of the export, precisions, module
RUNTIMES = {
    "paddle-native": ("paddle", ("fp32",), "paddle"),
    "paddle-onednn": ("paddle", ("fp32", "bf16", "int8"), "paddle"),
    "onnxruntime": ("onnx", ("fp32", "int8"), "onnxruntime"),
    "openvino": ("openvino", ("fp32", "bf16", "int8"), "openvino"),
}
ENGINES = {"paddle-native": "native", "paddle-onednn": "onednn"}
# network -> model, its arguments, backbone, its arguments
NETWORKS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "fcn8s_vgg16": ("FCN8s", {}, "VGG16", {}),
    "fcn8s_vgg16_w16": ("FCN8s", {"fc_channels": 256}, "VGG16", {"width": 16}),
    "unet": ("UNet", {}, "VGG16", {}),
    "deeplabv3plus_resnet50": ("DeepLabV3Plus", {}, "ResNet50", {}),
    "pspnet_resnet50": ("PSPNet", {}, "ResNet50", {}),
}


def main() -> int:
    args = _arguments()
    if args.serve:
        return _serve(*args.serve)
    names = list(NETWORKS) if args.all else [args.network]
    rows, missing = [], _missing(args)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows += _measure(name, Path(folder), args)
    for runtime in missing:
        print(f"not installed, left out: {runtime}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="fcn8s_vgg16", choices=NETWORKS)
    parser.add_argument("--all", action="store_true", help="every network")
    parser.add_argument("--size", nargs=2, type=int, default=(375, 500), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=5, help="after one that warms up (default 5)")
    parser.add_argument("--torch-python", metavar="FILE", help="a Python that has torch")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def _missing(args: argparse.Namespace) -> list[str]:
    absent = [name for name, (_, _, module) in RUNTIMES.items() if importlib.util.find_spec(module) is None]
    return absent if args.torch_python else [*absent, "pytorch (--torch-python)"]


def _measure(network: str, folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one network: all its runtimes are loaded, and run one image each in turn."""
    _export(network, folder / network, tuple(args.size), _missing(args))
    chosen = [(r, p) for r, (_, kinds, _) in RUNTIMES.items() for p in kinds if r not in _missing(args)]
    if args.torch_python and network == "fcn8s_vgg16":
        chosen.append(("pytorch", "fp32"))
    workers = [_Worker(runtime, precision, folder / network, args) for runtime, precision in chosen]
    try:
        for number in range(args.rounds + 1):
            for worker in workers:
                worker.measure(keep=number > 0)
        results = [worker.close() for worker in workers]
    finally:
        for worker in workers:
            worker.process.kill()
    rows = []
    print(f"{network}, {args.size[0]}x{args.size[1]}, load {os.getloadavg()[0]:.1f}")
    for worker, (peak, agreement) in zip(workers, results):
        latency = statistics.median(worker.milliseconds)
        rows.append(
            {
                "network": network,
                "runtime": worker.runtime,
                "precision": worker.precision,
                "height": args.size[0],
                "width": args.size[1],
                "latency_ms": latency,
                "throughput": 1000 / latency,
                "peak_mb": None if peak != peak else peak,
                "label_agreement": agreement,
            }
        )
        times = f"{latency:9.1f} ms (lowest {min(worker.milliseconds):.1f})"
        print(f"{worker.runtime:14}{worker.precision:6}{times}{peak:8.0f} MB{agreement:9.4%}", flush=True)
    return rows


class _Worker:
    """A process with one engine, which runs the image whenever it reads a line."""

    def __init__(self, runtime: str, precision: str, folder: Path, args: argparse.Namespace) -> None:
        self.runtime, self.precision = runtime, precision
        self.milliseconds: list[float] = []
        python = args.torch_python if runtime == "pytorch" else sys.executable
        size = "x".join(str(side) for side in args.size)
        command = [python, __file__, "--serve", runtime, precision, str(folder), size]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, *, keep: bool) -> None:
        answer = self._ask("run")
        if keep:
            self.milliseconds.append(float(answer))

    def close(self) -> tuple[float, float]:
        """Peak memory in MB, and the share of pixels that agree."""
        peak, agreement = self._ask("end").split()
        self.process.wait()
        return float(peak), float(agreement)

    def _ask(self, word: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer "):
                return line.removeprefix("answer ")
        raise SystemExit(f"{self.runtime} {self.precision} ended; run it alone to see why")


def _export(network: str, folder: Path, size: tuple[int, int], missing: list[str]) -> None:
    """Every program of the network, its image, its labels, and its weights for PyTorch."""
    sys.path.insert(0, str(REPOSITORY))
    from paddlefcn import runtime

    runtime.prepare()
    import numpy as np
    import paddle

    from paddlefcn.backbones import BACKBONES
    from paddlefcn.deploy.programs import write_program
    from paddlefcn.deploy.targets import Target
    from paddlefcn.models import MODELS, resolve

    model, arguments, backbone, its = NETWORKS[network]
    paddle.seed(0)
    model, arguments, its = resolve(model, arguments, backbone, its)
    net = MODELS[model](BACKBONES[backbone](in_channels=3, **its), num_classes=21, **arguments)
    for parameter in net.parameters():
        if float(parameter.abs().max()) == 0 and len(parameter.shape) > 1:  # scores may start from zero
            parameter.set_value(paddle.randn(parameter.shape) * 0.05)
    net.eval()
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(6, 3, size[0] // 16 + 1, size[1] // 16 + 1)).astype("float32")
    images = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, : size[0], : size[1]]
    for format, precisions, _ in {entry[0]: entry for entry in RUNTIMES.values()}.values():
        if format in missing or (format == "onnx" and "onnxruntime" in missing):
            continue
        for precision in precisions:
            place = folder / f"{format}_{precision}"
            place.mkdir(parents=True)
            target = Target(format, precision)
            write_program(net, target, place / "model", 3, [image[None] for image in images[1:]])
    np.save(folder / "image.npy", images[:1])
    with paddle.no_grad():
        np.save(folder / "labels.npy", net(paddle.to_tensor(images[:1]))[0].numpy().argmax(1).astype("uint8"))
    if network == "fcn8s_vgg16":
        np.savez(folder / "state.npz", **{name: value.numpy() for name, value in net.state_dict().items()})


def _serve(runtime: str, precision: str, folder: str, size: str) -> int:
    """In a worker: answers each line with the milliseconds of one run, the last with memory and agreement."""
    import numpy as np

    run = _torch_network(Path(folder)) if runtime == "pytorch" else _engine(runtime, precision, Path(folder))
    image, wanted = np.load(f"{folder}/image.npy"), np.load(f"{folder}/labels.npy")
    labels = wanted
    for line in sys.stdin:
        if line.strip() == "end":
            break
        began = time.perf_counter()
        logits = run(image)
        print(f"answer {1000 * (time.perf_counter() - began)}", flush=True)
        labels = logits.argmax(1)
    print(f"answer {_peak_mb()} {float((labels == wanted).mean())}", flush=True)
    return 0


def _engine(runtime: str, precision: str, folder: Path) -> Callable[[Any], Any]:
    sys.path.insert(0, str(REPOSITORY))
    from paddlefcn.deploy.engines import create_engine

    place = folder / f"{RUNTIMES[runtime][0]}_{precision}"
    program = next(file for file in place.iterdir() if file.suffix in (".json", ".pdmodel", ".onnx", ".xml"))
    files = {"model": program}
    for file in place.iterdir():
        if file.suffix in (".pdiparams", ".bin"):
            files["params"] = file
    return create_engine(ENGINES.get(runtime, runtime), files, precision=precision)


def _torch_network(folder: Path) -> Callable[[Any], Any]:
    """The same network as PyTorch would run it, eagerly."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    state = {name: torch.from_numpy(value) for name, value in np.load(folder / "state.npz").items()}

    def block(x: Any, name: str) -> Any:
        weight = state[f"{name}.conv.weight"]
        x = F.conv2d(x, weight, padding=weight.shape[2] // 2)
        names = ("_mean", "_variance", "weight", "bias")
        return F.relu(F.batch_norm(x, *(state[f"{name}.bn.{key}"] for key in names), False, 0, 1e-5))

    def score(x: Any, name: str) -> Any:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def upsampled(x: Any, factor: int, like: Any) -> Any:
        large = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
        return large[:, :, : like.shape[2], : like.shape[3]]

    @torch.no_grad()
    def run(image: Any) -> Any:
        x = first = torch.from_numpy(image)
        pools = []
        for stage, count in enumerate((2, 2, 3, 3, 3), start=1):
            for layer in range(1, count + 1):
                x = block(x, f"backbone.conv{stage}_{layer}")
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
            pools.append(x)
        coarse = score(block(block(x, "fc6"), "fc7"), "score_fr")
        pool4, pool3 = score(pools[3], "score_pool4"), score(pools[2], "score_pool3")
        sixteen = upsampled(coarse, 2, pool4) + pool4
        eight = upsampled(sixteen, 2, pool3) + pool3
        return upsampled(eight, 8, first).numpy()

    return run


def _peak_mb() -> float:
    """Of this process alone: what getrusage tells begins with its parent's."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
