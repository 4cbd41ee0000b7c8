"""Latency of one image on every runtime and precision, interleaved in one run.

    python benchmarks/inference.py --json inference.json
    python benchmarks/inference.py --torch-python env-torch/bin/python --json inference.json
    python benchmarks/inference.py --labels --only paddle-onednn openvino

fcn8s_vgg16: FCN-8s on VGG16 with BatchNorm, 21 classes, random weights, 375x500. With `--all` the family
too. Every runtime is a process of its own; they run one image each in turn, several rounds, and the median
counts. int8 takes its scales from generated images and skips the gate. `label_agreement` is the share of
pixels with the class that Paddle's own kernels give in fp32. PyTorch runs fcn8s_vgg16 eagerly with the same
weights, where this Python has it, or the one of `--torch-python`. With `--labels` the time ends when the
label map is there: rows have `outputs` too, "logits" where it is decided outside the program and "labels"
inside. Runtimes that are not installed are left out and named, and so is what cannot be converted or run.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]


class Runtime(NamedTuple):
    """The format of its exports, its precisions, and the modules it needs."""

    format: str
    precisions: tuple[str, ...]
    modules: tuple[str, ...]


RUNTIMES = {
    "paddle-native": Runtime("paddle", ("fp32",), ("paddle",)),
    "paddle-onednn": Runtime("paddle", ("fp32", "bf16", "int8"), ("paddle",)),
    "onnxruntime": Runtime("onnx", ("fp32", "int8"), ("paddle2onnx", "onnxruntime")),
    "openvino": Runtime("openvino", ("fp32", "bf16", "int8"), ("paddle2onnx", "onnxruntime", "openvino")),
    "pytorch": Runtime("", ("fp32", "bf16"), ("torch",)),
}
ENGINES = {"paddle-native": "native", "paddle-onednn": "onednn"}
# threads of OpenMP spin for 0.2 s after their work, on the cores of whoever comes next
PAUSE = 0.4
# network -> model, its arguments, backbone, its arguments
NETWORKS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "fcn8s_vgg16": ("FCN8s", {}, "VGG16", {}),
    "fcn8s_vgg16_w16": ("FCN8s", {"fc_channels": 256}, "VGG16", {"width": 16}),
    "unet": ("UNet", {}, "VGG16", {}),
    "deeplabv3plus_resnet50": ("DeepLabV3Plus", {}, "ResNet50", {}),
    "pspnet_resnet50": ("PSPNet", {}, "ResNet50", {}),
}
TORCH_NETWORKS = ("fcn8s_vgg16", "fcn8s_vgg16_w16")  # the FCN that is written out below


class Engine(NamedTuple):
    """One line of the table."""

    runtime: str
    precision: str
    outputs: str

    @property
    def place(self) -> str:
        """The folder of its export."""
        return f"{RUNTIMES[self.runtime].format}_{self.precision}_{self.outputs}"

    def __str__(self) -> str:
        return " ".join(self)


def main() -> int:
    args = _arguments()
    if args.serve:
        return _serve(Engine(*args.serve[:3]), Path(args.serve[3]), args.labels)
    names = list(NETWORKS) if args.all else [args.network]
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows += _measure(name, Path(folder), args, failed)
    for runtime in args.only or RUNTIMES:
        if not _installed(runtime, args):
            more = " (--torch-python)" if runtime == "pytorch" else ""
            print(f"not installed, left out: {runtime}{more}")
    for line in failed:
        print(f"left out: {line}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="fcn8s_vgg16", choices=NETWORKS)
    parser.add_argument("--all", action="store_true", help="every network")
    parser.add_argument("--only", nargs="+", choices=RUNTIMES, metavar="RUNTIME", help="these runtimes alone")
    parser.add_argument("--size", nargs=2, type=int, default=(375, 500), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=9, help="after one that warms up (default 9)")
    parser.add_argument("--labels", action="store_true", help="until the label map is there")
    parser.add_argument("--torch-python", metavar="FILE", help="a Python that has torch")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--serve", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def _installed(runtime: str, args: argparse.Namespace) -> bool:
    if runtime == "pytorch" and args.torch_python:
        return True
    return all(importlib.util.find_spec(module) is not None for module in RUNTIMES[runtime].modules)


def _engines(network: str, args: argparse.Namespace) -> Iterator[Engine]:
    for runtime in args.only or RUNTIMES:
        if not _installed(runtime, args) or (runtime == "pytorch" and network not in TORCH_NETWORKS):
            continue
        inside = args.labels and runtime != "pytorch"
        for precision in RUNTIMES[runtime].precisions:
            for outputs in ("logits", "labels") if inside else ("logits",):
                yield Engine(runtime, precision, outputs)


def _measure(network: str, folder: Path, args: argparse.Namespace, failed: list[str]) -> list[dict[str, Any]]:
    """The rows of one network: all its engines are loaded, and run one image each in turn."""
    engines = list(_engines(network, args))
    broken = _export(network, folder / network, tuple(args.size), engines)
    workers = [_Worker(engine, folder / network, args) for engine in engines if engine.place not in broken]
    try:
        for number in range(args.rounds + 1):
            for worker in workers:
                worker.measure(keep=number > 0)
        for worker in workers:
            worker.close()
    finally:
        for worker in workers:
            worker.process.kill()
    failed += [f"{network}, {place}: {reason}" for place, reason in broken.items()]
    failed += [f"{network}, {worker.engine}: its process ended" for worker in workers if worker.failed]
    print(f"{network}, {args.size[0]}x{args.size[1]}, load {os.getloadavg()[0]:.1f}")
    return [_row(network, worker, args) for worker in workers if not worker.failed]


def _row(network: str, worker: _Worker, args: argparse.Namespace) -> dict[str, Any]:
    engine, latency = worker.engine, statistics.median(worker.milliseconds)
    times = f"{latency:9.1f} ms (lowest {min(worker.milliseconds):.1f})"
    name = f"{engine.runtime:14}{engine.precision:6}{engine.outputs + ' ' if args.labels else ''}"
    print(f"{name}{times}{worker.peak_mb or float('nan'):8.0f} MB{worker.agreement:9.4%}", flush=True)
    return {
        "network": network,
        "runtime": engine.runtime,
        "precision": engine.precision,
        **({"outputs": engine.outputs} if args.labels else {}),
        "height": args.size[0],
        "width": args.size[1],
        "latency_ms": latency,
        "throughput": 1000 / latency,
        "peak_mb": worker.peak_mb,
        "label_agreement": worker.agreement,
    }


class _Worker:
    """A process with one engine, which runs the image whenever it reads a line."""

    def __init__(self, engine: Engine, folder: Path, args: argparse.Namespace) -> None:
        self.engine = engine
        self.milliseconds: list[float] = []
        self.peak_mb: float | None = None
        self.agreement = 0.0
        self.failed = False
        python = args.torch_python if engine.runtime == "pytorch" and args.torch_python else sys.executable
        command = [python, __file__, *(["--labels"] if args.labels else []), "--serve", *engine, str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, *, keep: bool) -> None:
        """One run; nothing of an engine that has ended."""
        answer = self._ask("run")
        if keep and answer:
            self.milliseconds.append(float(answer))
        time.sleep(PAUSE)

    def close(self) -> None:
        """Asks for peak memory in MB, and the share of pixels that agree."""
        answer = self._ask("end")
        if answer:
            peak, agreement = (float(word) for word in answer.split())
            self.peak_mb, self.agreement = peak if peak == peak else None, agreement
            self.process.wait()

    def _ask(self, word: str) -> str | None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
            for line in self.process.stdout:
                if line.startswith("answer "):
                    return line.removeprefix("answer ")
        except BrokenPipeError:
            pass
        self.failed = True
        return None


def _export(network: str, folder: Path, size: tuple[int, int], engines: list[Engine]) -> dict[str, str]:
    """Every program of the network, its image, its labels, and its weights for PyTorch.

    Returns what could not be written, with the reason.
    """
    sys.path.insert(0, str(REPOSITORY))
    from paddlefcn import runtime

    runtime.prepare()
    import numpy as np
    import paddle

    from paddlefcn.deploy.programs import write_program
    from paddlefcn.deploy.targets import Target
    from paddlefcn.errors import UserError

    broken: dict[str, str] = {}
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(6, 3, size[0] // 16 + 1, size[1] // 16 + 1)).astype("float32")
    images = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, : size[0], : size[1]]
    net = _network(network, images[:1])
    for engine in {engine.place: engine for engine in engines if engine.runtime != "pytorch"}.values():
        place = folder / engine.place
        place.mkdir(parents=True)
        target = Target(RUNTIMES[engine.runtime].format, engine.precision, engine.outputs)
        try:
            write_program(net, target, place / "model", 3, [image[None] for image in images[1:]])
        except (UserError, RuntimeError, ValueError, NotImplementedError) as error:
            broken[engine.place] = " ".join(str(error).split())[:300]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "image.npy", images[:1])
    with paddle.no_grad():
        np.save(folder / "labels.npy", net(paddle.to_tensor(images[:1]))[0].numpy().argmax(1).astype("uint8"))
    if any(engine.runtime == "pytorch" for engine in engines):
        np.savez(folder / "state.npz", **{name: value.numpy() for name, value in net.state_dict().items()})
    return broken


def _network(name: str, image: Any) -> Any:
    """In eval mode, with random weights, that finds several classes in the image."""
    import paddle

    from paddlefcn.backbones import BACKBONES
    from paddlefcn.models import MODELS, resolve

    model, arguments, backbone, its = NETWORKS[name]
    paddle.seed(0)
    model, arguments, its = resolve(model, arguments, backbone, its)
    net = MODELS[model](BACKBONES[backbone](in_channels=3, **its), num_classes=21, **arguments)
    for parameter in net.parameters():
        if float(parameter.abs().max()) == 0 and len(parameter.shape) > 1:  # scores may start from zero
            parameter.set_value(paddle.randn(parameter.shape) * 0.05)
    net.eval()
    for parameter in net.parameters():  # the last layer's biases: all classes are brought to one level
        if list(parameter.shape) == [21]:
            with paddle.no_grad():
                level = net(paddle.to_tensor(image))[0].mean([0, 2, 3])
            parameter.set_value(parameter - level)
    return net


def _serve(engine: Engine, folder: Path, to_labels: bool) -> int:
    """In a worker: answers each line with the milliseconds of one run, the last with memory and agreement."""
    import numpy as np

    if engine.runtime == "pytorch":
        run, decide = _torch_network(folder, engine.precision), _decided
    else:
        run, decide = _engine(engine, folder)
    image, wanted = np.load(folder / "image.npy"), np.load(folder / "labels.npy")
    labels = wanted
    for line in sys.stdin:
        if line.strip() == "end":
            break
        began = time.perf_counter()
        output = run(image)
        if to_labels:
            output = decide(output)
        print(f"answer {1000 * (time.perf_counter() - began)}", flush=True)
        labels = output.argmax(1) if output.ndim == 4 else output
    print(f"answer {_peak_mb()} {float((labels == wanted).mean())}", flush=True)
    return 0


def _decided(logits: Any) -> Any:
    return logits.argmax(1)


def _engine(engine: Engine, folder: Path) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What runs the image, and what makes a label map of its output, as `Predictor` does."""
    sys.path.insert(0, str(REPOSITORY))
    import numpy as np

    from paddlefcn.deploy.engines import create_engine
    from paddlefcn.label_maps import label_map

    place = folder / engine.place
    program = next(file for file in place.iterdir() if file.suffix in (".json", ".pdmodel", ".onnx", ".xml"))
    files = {"model": program}
    for file in place.iterdir():
        if file.suffix in (".pdiparams", ".bin"):
            files["params"] = file

    def decide(output: Any) -> Any:
        return output if output.ndim == 3 else np.stack([label_map(one) for one in output])

    name = ENGINES.get(engine.runtime, engine.runtime)
    return create_engine(name, files, precision=engine.precision), decide


def _torch_network(folder: Path, precision: str) -> Callable[[Any], Any]:
    """The same network as PyTorch would run it, eagerly."""
    import numpy as np
    import torch
    import torch.nn.functional as F

    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    state = {name: torch.from_numpy(value).to(kind) for name, value in np.load(folder / "state.npz").items()}

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
        x = first = torch.from_numpy(image).to(kind)
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
        return upsampled(eight, 8, first).float().numpy()

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
