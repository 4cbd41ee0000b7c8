"""Every model on a backbone of its kind: size, cost, speed, memory, whether it learns and exports.

    python benchmarks/models.py --json models.json
    python benchmarks/models.py --models DDRNet BackboneUNet --size 360 480 --rounds 1 --json some.json

A row holds `model, backbone, parameters, gmacs, step_s, latency_ms, peak_mb, overfit_miou, export_parity`:

    parameters, gmacs   trained values; 1e9 multiply-adds of one image
    step_s, peak_mb     a training step (`--batch` random images, AdamW, the accelerator where it can be had),
                        the fastest of all rounds, and the peak of the process that takes it
    latency_ms          one image exported for Paddle Inference with oneDNN: the median of all rounds
    overfit_miou        of eight images of 64x64 that a narrow version of the network learns by heart
    export_parity       largest difference of the export's logits (both engines, six odd sizes) from the live
                        network's, relative to the largest logit

Every measurement is a process of its own, and in each round every network has its turn. Random weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
ODD = ((1, 1), (17, 5), (37, 45), (6, 6), (33, 64), (95, 70))
RESNET = {"width": 8}


@dataclasses.dataclass(frozen=True)
class Network:
    """A model on a backbone with their arguments, and those with which it is narrow."""

    model: str
    backbone: str
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)
    its: dict[str, Any] = dataclasses.field(default_factory=dict)
    narrow: dict[str, Any] = dataclasses.field(default_factory=dict)
    narrow_its: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """For --models: the model, and its backbone behind a slash."""
        return f"{self.model}/{self.backbone}"


_PLUS = {"channels": 32, "low_level_channels": 12}
_UNET = {"widths": [8, 12, 16, 24, 32]}
NETWORKS = (
    Network("FCN8s", "VGG16", narrow={"fc_channels": 32, "fc6_kernel": 1}, narrow_its=RESNET),
    Network("FCNHead", "ResNet50", narrow_its=RESNET),
    Network("SegNet", "VGG16", narrow_its=RESNET),
    Network("UNet", "UNetEncoder", narrow_its=_UNET),
    Network("UNetPlusPlus", "UNetEncoder", narrow_its=_UNET),
    Network("BackboneUNet", "ResNet18", narrow={"channels": [32, 24, 16, 12, 8]}, narrow_its=RESNET),
    Network("BackboneUNetPlusPlus", "ResNet18", narrow={"channels": [32, 24, 16, 12, 8]}, narrow_its=RESNET),
    Network("PSPNet", "ResNet50", narrow={"channels": 32}, narrow_its=RESNET),
    Network("DeepLabV1", "DeepLabVGG16", narrow={"fc_channels": 32}, narrow_its=RESNET),
    Network("DeepLabV2", "ResNet50", its={"dilate_first": True}, narrow_its=RESNET),
    Network("DeepLabV3", "ResNet50", narrow={"channels": 32}, narrow_its=RESNET),
    Network("DeepLabV3Plus", "ResNet50", narrow=_PLUS, narrow_its=RESNET),
    Network(
        "DeepLabV3Plus",
        "MobileNetV3Large",
        narrow=_PLUS,
        narrow_its={"width_factor": 0.25},
    ),
    Network("RefineNet", "ResNet50", narrow={"channels": 16, "deep_channels": 24}, narrow_its=RESNET),
    Network("LightRefineNet", "ResNet50", narrow={"channels": 16, "deep_channels": 24}, narrow_its=RESNET),
    Network("LRASPP", "MobileNetV3Large", narrow={"channels": 16}, narrow_its={"width_factor": 0.25}),
    Network("DDRNet", "DDRNet23Slim", narrow={"pyramid_channels": 16, "channels": 16}, narrow_its=RESNET),
)


def main() -> int:
    args = _arguments()
    if args.measure:
        what, name = args.measure
        _prepare(args)
        print(json.dumps(MEASUREMENTS[what](next(n for n in NETWORKS if n.name == name), args)))
        return 0
    chosen = _chosen(args.models)
    found: dict[str, dict[str, list[Any]]] = {network.name: {} for network in chosen}
    once = [what for what in ("cost", "overfit", "parity") if what not in args.skip]
    often = [what for what in ("step", "latency") if what not in args.skip]
    for number in range(args.rounds):
        for network in chosen:
            for what in (once if number == 0 else []) + often:
                value = _in_process(what, network, args)
                found[network.name].setdefault(what, []).append(value)
                print(f"{network.name} {what}: {value}", file=sys.stderr, flush=True)
    rows = [_row(network, found[network.name]) for network in chosen]
    _print(rows, args)
    if args.json:
        report = {
            "rows": rows,
            "date": time.strftime("%Y-%m-%d"),
            "processor": _processor(),
            **{key: getattr(args, key) for key in ("size", "batch", "classes", "threads", "rounds")},
        }
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", metavar="MODEL[/BACKBONE]", help="these alone (default: all)")
    parser.add_argument("--size", nargs=2, type=int, default=(360, 480), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=2, metavar="N", help="images a step (default 2)")
    parser.add_argument("--classes", type=int, default=11, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="a round, after one more")
    parser.add_argument("--overfit-steps", type=int, default=300, metavar="N")
    parser.add_argument("--skip", nargs="+", default=[], choices=list(MEASUREMENTS), help="left out")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def _chosen(names: list[str] | None) -> list[Network]:
    if names is None:
        return list(NETWORKS)
    known = {network.model for network in NETWORKS} | {network.name for network in NETWORKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"--models {unknown[0]}: expected some of {', '.join(sorted(known))}")
    return [network for network in NETWORKS if network.model in names or network.name in names]


def _in_process(what: str, network: Network, args: argparse.Namespace) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(args.threads)}
    command = [sys.executable, __file__, "--measure", what, network.name, "--size", *map(str, args.size)]
    for key in ("batch", "classes", "runs", "overfit_steps", "threads"):
        command += [f"--{key.replace('_', '-')}", str(getattr(args, key))]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _row(network: Network, found: dict[str, list[Any]]) -> dict[str, Any]:
    """The columns of one network; null for what was skipped."""
    steps, latencies = found.get("step", []), found.get("latency", [])
    cost = found.get("cost", [{}])[0]
    return {
        "model": network.model,
        "backbone": network.backbone,
        "parameters": cost.get("parameters"),
        "gmacs": cost.get("gmacs"),
        "step_s": min(step["seconds"] for step in steps) if steps else None,
        "latency_ms": statistics.median(ms for run in latencies for ms in run) if latencies else None,
        "peak_mb": min(step["peak_mb"] for step in steps) if steps else None,
        "overfit_miou": found.get("overfit", [None])[0],
        "export_parity": found.get("parity", [None])[0],
    }


def _print(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    height, width = args.size
    print(f"{height}x{width}, steps of {args.batch} images, {args.threads} threads, {_processor()}")
    head = ("parameters", "GMACs", "step s", "latency ms", "peak MB", "overfit", "parity")
    print(f"{'model':21}{'backbone':18}" + "".join(f"{title:>12}" for title in head))
    keys = ("parameters", "gmacs", "step_s", "latency_ms", "peak_mb", "overfit_miou", "export_parity")
    forms = ("{:,}", "{:.2f}", "{:.3f}", "{:.1f}", "{:.0f}", "{:.3f}", "{:.1e}")
    for row in rows:
        cells = ["-" if row[key] is None else form.format(row[key]) for key, form in zip(keys, forms)]
        print(f"{row['model']:21}{row['backbone']:18}" + "".join(f"{cell:>12}" for cell in cells))


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


# --- one measurement, in a process of its own -------------------------------------------------------


def _prepare(args: argparse.Namespace) -> None:
    sys.path.insert(0, str(REPOSITORY))
    from paddlefcn import runtime

    runtime.prepare()
    runtime.seed_everything(0)


def _build(network: Network, classes: int, *, narrow: bool = False) -> Any:
    from paddlefcn.backbones import BACKBONES
    from paddlefcn.models import MODELS, resolve

    arguments = {**network.arguments, **(network.narrow if narrow else {})}
    its = {**network.its, **(network.narrow_its if narrow else {})}
    model, arguments, its = resolve(network.model, arguments, network.backbone, its)
    return MODELS[model](BACKBONES[network.backbone](in_channels=3, **its), num_classes=classes, **arguments)


def _woken(model: Any) -> Any:
    """In eval mode; score layers may start from zero, which would hide everything below them."""
    import paddle

    for parameter in model.parameters():
        if not parameter.stop_gradient and float(parameter.abs().max()) == 0:
            parameter.set_value(paddle.randn(parameter.shape) * 0.05)
    model.eval()
    return model


def _cost(network: Network, args: argparse.Namespace) -> dict[str, Any]:
    from paddlefcn.summary import summarize

    summary = summarize(_build(network, args.classes), tuple(args.size))
    return {"parameters": summary.parameters, "gmacs": summary.gmacs}


def _step(network: Network, args: argparse.Namespace) -> dict[str, float]:
    import resource

    import numpy as np
    import paddle
    import paddle.nn.functional as F

    from paddlefcn.accelerator import accelerate, accelerator_for

    model = _build(network, args.classes)
    if accelerator_for("auto", "cpu")[0]:
        accelerate(model)
    optimizer = paddle.optimizer.AdamW(1e-4, parameters=model.parameters())
    rng = np.random.default_rng(0)
    image = paddle.to_tensor(rng.standard_normal((args.batch, 3, *args.size), dtype=np.float32))
    label = paddle.to_tensor(rng.integers(0, args.classes, (args.batch, *args.size)))
    times = []
    for _ in range(args.runs + 1):
        began = time.perf_counter()
        losses = [F.cross_entropy(logits, label, axis=1) for logits in model(image)]
        total = sum(weight * loss for weight, loss in zip(model.output_weights, losses))
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
        times.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": min(times[1:]), "peak_mb": peak}


def _engines(network: Network, model: Any, names: tuple[str, ...], folder: str) -> dict[str, Any]:
    from paddlefcn.deploy.engines import create_engine
    from paddlefcn.deploy.programs import write_program
    from paddlefcn.deploy.targets import Target

    files = write_program(model, Target("paddle", "fp32"), Path(folder) / "model", 3)
    return {name: create_engine(name, files, precision="fp32") for name in names}


def _latency(network: Network, args: argparse.Namespace) -> list[float]:
    """Milliseconds of each run after one that warms up."""
    import tempfile

    import numpy as np

    image = np.random.default_rng(0).standard_normal((1, 3, *args.size), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        run = _engines(network, _woken(_build(network, args.classes)), ("onednn",), folder)["onednn"]
        times = []
        for _ in range(args.runs + 1):
            began = time.perf_counter()
            run(image)
            times.append(1000 * (time.perf_counter() - began))
    return times[1:]


def _parity(network: Network, args: argparse.Namespace) -> float:
    import tempfile

    import numpy as np
    import paddle

    model, rng, worst = _woken(_build(network, args.classes)), np.random.default_rng(0), 0.0
    images = [rng.standard_normal((1, 3, *size), dtype=np.float32) for size in ODD]
    with paddle.no_grad():
        expected = [model(paddle.to_tensor(image))[0].numpy() for image in images]
    with tempfile.TemporaryDirectory() as folder:
        for run in _engines(network, model, ("native", "onednn"), folder).values():
            for image, logits in zip(images, expected):
                error = np.abs(run(image) - logits).max() / np.abs(logits).max()
                worst = max(worst, float(error))
    return worst


def _overfit(network: Network, args: argparse.Namespace) -> float:
    """Mean IoU on eight images of a bright rectangle each, whose class is its colour."""
    import numpy as np
    import paddle
    import paddle.nn.functional as F

    rng = np.random.default_rng(3)
    images = rng.standard_normal((8, 3, 64, 64), dtype=np.float32) * 0.1
    labels = np.zeros((8, 64, 64), "int64")
    for index in range(8):
        top, left = rng.integers(0, 32, 2)
        window = (slice(top, top + 28), slice(left, left + 28))
        images[index, index % 2, window[0], window[1]] += 2
        labels[index][window] = 1 + index % 2
    model = _build(network, 3, narrow=True)
    for part in model.sublayers():
        if isinstance(part, paddle.nn.Dropout):
            part.p = 0.0
    rate, steps = 0.005, args.overfit_steps
    optimizer = paddle.optimizer.AdamW(rate, parameters=model.parameters(), weight_decay=0.0)
    image, label = paddle.to_tensor(images), paddle.to_tensor(labels)
    for step in range(1, steps + 1):
        losses = [F.cross_entropy(logits, label, axis=1) for logits in model(image)]
        total = sum(weight * loss for weight, loss in zip(model.output_weights, losses))
        total.backward()
        optimizer.step()
        optimizer.clear_grad()
        optimizer.set_lr(rate * (1 - step / (steps + 1)) ** 0.9)
    model.eval()
    with paddle.no_grad():
        predicted = model(image)[0].argmax(1).numpy()
    pairs = [(predicted == number, labels == number) for number in range(3)]
    return float(np.mean([(hit & there).sum() / (hit | there).sum() for hit, there in pairs]))


MEASUREMENTS = {"cost": _cost, "overfit": _overfit, "parity": _parity, "step": _step, "latency": _latency}

if __name__ == "__main__":
    sys.exit(main())
