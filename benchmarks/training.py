"""Seconds and peak memory of a training step: Paddle as it starts, tuned, accelerated, and PyTorch.

    python benchmarks/training.py --json training.json
    python benchmarks/training.py --torch-python env-torch/bin/python --json training.json

Random images, the recipe's network, loss and optimizer. Every measurement is a process of its own, engines
take turns, and that several times over; the fastest step counts (other work on the machine can only add), and
the peak is the process's. `cpu_s` is processor time over all threads, which a busy machine disturbs less
than the clock. PyTorch runs where `--torch-python` has it, on the
same networks, see torch_networks.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Network:
    """A recipe at a size, and what the same network is in `torch_networks.py`."""

    recipe: str
    options: tuple[str, ...]
    size: tuple[int, int]
    batch: int
    twin: str
    arguments: dict[str, Any]
    channels: int = 3


NETWORKS = {
    "FCN-8s VGG16-BN": Network(
        "fcn8s_voc",
        (),
        (320, 320),
        2,
        "FCN8s",
        {"arch": (2, 2, 3, 3, 3), "widths": (64, 128, 256, 512, 512), "fc": 4096, "kernel": 7, "classes": 21},
    ),
    "fcn8s_camvid": Network(
        "fcn8s_camvid",
        (),
        (240, 320),
        4,
        "FCN8s",
        {"arch": (1, 1, 2, 2, 2), "widths": (16, 32, 64, 128, 256), "fc": 512, "kernel": 3, "classes": 11},
    ),
    "U-Net": Network("unet_membrane", (), (256, 256), 2, "UNet", {"channels": 1, "classes": 2}, channels=1),
    "DeepLabV3+ ResNet50": Network(
        "deeplabv3plus_voc",
        ("model.backbone.type=ResNet50",),
        (320, 320),
        2,
        "DeepLabV3Plus",
        {"classes": 21},
    ),
}
ENGINES = (
    ("Paddle as it starts", "fp32"),
    ("tuned", "fp32"),
    ("accelerated", "fp32"),
    ("accelerated", "bf16"),
    ("PyTorch", "fp32"),
    ("PyTorch", "bf16"),
)


def main() -> int:
    args = _arguments()
    if args.measure:
        network, engine, precision = args.measure
        steps = (_torch_steps if engine == "PyTorch" else _paddle_steps)(NETWORKS[network], engine, precision)
        print(json.dumps(_measured(steps, args.steps)))
        return 0
    rows = []
    for network in args.networks:
        engines = [pair for pair in ENGINES if _wanted(network, *pair, args)]
        found: dict[tuple[str, str], list[dict[str, float]]] = {pair: [] for pair in engines}
        for number in range(args.rounds):
            for pair in engines:
                # as it starts Paddle takes minutes for what takes the others seconds
                if number == 0 or pair[0] != "Paddle as it starts":
                    found[pair].append(_in_process(network, *pair, args))
                    print(f"{network}, {', '.join(pair)}: {found[pair][-1]}", file=sys.stderr, flush=True)
        for (engine, precision), values in found.items():
            row = {key: min(value[key] for value in values) for key in ("step_s", "cpu_s", "peak_mb")}
            rows.append({"network": network, "engine": engine, "precision": precision, **row})
    print(f"{'network':20}{'engine':21}{'':6}{'step s':>8}{'cpu s':>8}{'peak MB':>9}")
    for row in rows:
        figures = f"{row['step_s']:8.3f}{row['cpu_s']:8.3f}{row['peak_mb']:9.0f}"
        print(f"{row['network']:20}{row['engine']:21}{row['precision']:6}{figures}")
    if args.json:
        report = {"rows": rows, "threads": args.threads, "rounds": args.rounds, "steps": args.steps}
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--engines", nargs="+", help="these alone", default=[name for name, _ in ENGINES])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--torch-python", metavar="FILE", help="a Python that has torch")
    parser.add_argument("--rounds", type=int, default=2, metavar="N")
    parser.add_argument(
        "--steps", type=int, default=3, metavar="N", help="measured a process, after one more"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), metavar="N")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def _wanted(network: str, engine: str, precision: str, args: argparse.Namespace) -> bool:
    if engine not in args.engines or precision not in args.precisions:
        return False
    if engine == "PyTorch":
        return bool(args.torch_python)
    return True


def _in_process(network: str, engine: str, precision: str, args: argparse.Namespace) -> dict[str, float]:
    python = args.torch_python if engine == "PyTorch" else sys.executable
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(args.threads)}
    if engine == "Paddle as it starts":
        del environment["OMP_NUM_THREADS"]
    command = [python, __file__, "--steps", str(args.steps), "--measure", network, engine, precision]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _measured(step: Callable[[], None], count: int) -> dict[str, float]:
    """The fastest of `count` steps after one to warm up."""
    times = []
    for _ in range(count + 1):
        clock, cpu = time.perf_counter(), time.process_time()
        step()
        times.append((time.perf_counter() - clock, time.process_time() - cpu))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"step_s": min(t for t, _ in times[1:]), "cpu_s": min(c for _, c in times[1:]), "peak_mb": peak}


def _batch(network: Network, classes: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    image = rng.standard_normal((network.batch, network.channels, *network.size), dtype=np.float32)
    return image, rng.integers(0, classes, (network.batch, *network.size))


def _paddle_steps(network: Network, engine: str, precision: str) -> Callable[[], None]:
    from paddlefcn import runtime

    runtime.prepare(leave_processor=engine == "Paddle as it starts")
    from paddlefcn import build
    from paddlefcn.accelerator import accelerate
    from paddlefcn.config import load_config
    from paddlefcn.data.loader import Batch
    from paddlefcn.engine.step import TrainStep

    config = load_config(network.recipe, network.options)
    runtime.seed_everything(0)
    model = build.build_model(config, pretrained=False)
    if engine == "accelerated":
        accelerate(model, bf16=precision == "bf16")
    step = TrainStep(model, build.build_losses(config, model), build.build_optimizer(config, model))
    image, label = _batch(network, config.data.num_classes)
    batch = Batch(image, label, ["random"] * network.batch)
    model.train()
    return lambda: None if step([batch], 1e-3).is_finite else sys.exit("the loss is not finite")


def _torch_steps(network: Network, engine: str, precision: str) -> Callable[[], None]:
    import torch
    import torch.nn.functional as F
    from torch_networks import NETWORKS as TWINS

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    model = TWINS[network.twin](**network.arguments)
    if network.recipe == "fcn8s_camvid":
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.02)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9, weight_decay=5e-4)
    image, label = (torch.from_numpy(array) for array in _batch(network, network.arguments["classes"]))
    model.train()

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = model(image)
        loss = F.cross_entropy(logits.float(), label, ignore_index=255)
        loss.backward()
        loss.item()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    sys.exit(main())
