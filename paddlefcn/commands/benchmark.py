"""Times data, forward, backward and step on this machine, or an export, and tells the peak memory.

--compare runs the same steps in turn with the processor settings this library makes and with paddle as
it starts, each in a process of its own, and prints the ratio.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.common import add_common, add_config, add_json, load
from paddlefcn.errors import RunError, UserError
from paddlefcn.files import write_json

if TYPE_CHECKING:
    from paddlefcn.config import Config

_PHASES = ("forward", "backward", "optimizer", "step")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    parser.add_argument("--model", metavar="DIR", help="time an export instead: what its Predictor takes")
    parser.add_argument("--iters", type=int, default=5, metavar="N", help="measured steps (default 5)")
    parser.add_argument("--warmup", type=int, default=2, metavar="N", help="steps before that (default 2)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(320, 320), metavar=("H", "W"), help="network input (320 320)"
    )
    parser.add_argument(
        "--workers", type=int, nargs="*", default=[], metavar="N", help="time the data with N workers too"
    )
    parser.add_argument("--compare", action="store_true", help="against paddle as it starts, in turn")
    parser.add_argument("--as-is", action="store_true", help="leave the processor settings alone")
    add_json(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --json")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    if args.iters < 1 or args.warmup < 0 or min(args.size) < 1:
        raise UserError("--iters takes 1 or more, --warmup 0 or more, --size two positive numbers")
    if not all(0 <= workers <= 256 for workers in args.workers):
        raise UserError(f"--workers {' '.join(map(str, args.workers))}: expected 0 to 256 each")
    if args.model is not None:
        report = _export_times(args)
        if args.json:
            write_json(args.json, report)
        return 0
    config = load(args)
    report = _compared(args) if args.compare else _measured(config, args)
    if args.workers:
        report["data"] = [_data_speed(config, workers) for workers in args.workers]
        for row in report["data"]:
            print(f"data, {row['workers']} workers: {row['images_per_second']:.1f} images/s")
    if args.json:
        write_json(args.json, report)
    return 0


def _measured(config: Config, args: argparse.Namespace) -> dict[str, Any]:
    """Times of one training step on random images, by phase."""
    from paddlefcn import runtime

    runtime.prepare(leave_processor=args.as_is)
    from paddlefcn import build

    build.validate(config)
    device = runtime.select_device(args.device)
    steps = _time_steps(config, args.size, args.warmup, args.iters)
    rows = {phase: sorted(step[phase] for step in steps) for phase in _PHASES}
    batch = config.train.batch_size
    report = {
        "device": device,
        "processor": runtime.processor_details(),
        "settings": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_DEBUG_CPU_TYPE")},
        "input": [batch, config.data.normalize.channels, *args.size],
        "seconds": {
            phase: {"min": times[0], "median": times[len(times) // 2], "max": times[-1]}
            for phase, times in rows.items()
        },
        "images_per_second": batch / rows["step"][len(steps) // 2],
        "peak_memory_bytes": _peak_memory(device),
    }
    _print_table(report)
    return report


def _export_times(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds from an image in memory to its label map, by the Predictor of an export."""
    if args.config is not None or args.opts or args.compare or args.workers or args.as_is:
        raise UserError(
            "--model times an export alone; it goes without -c, -o, --compare, --workers, --as-is"
        )
    from paddlefcn import runtime
    from paddlefcn.deploy.deployment import load_deployment

    deployment = load_deployment(args.model)
    device = runtime.select_device(args.device)
    import numpy as np

    from paddlefcn.deploy.predictor import Predictor

    predictor = Predictor(deployment, device)
    shape = (*args.size, predictor.channels)
    scale = deployment.preprocess.normalize.scale
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32) * np.float32(scale)
    image = pixels.astype(np.uint8) if scale == 255 else pixels
    times = []
    for _ in range(args.warmup + args.iters):
        started = time.perf_counter()
        predictor.predict(image)
        times.append(time.perf_counter() - started)
    measured = sorted(times[args.warmup :])
    report = {
        "device": device,
        "processor": runtime.processor_details(),
        "settings": {},
        "input": [1, predictor.channels, *args.size],
        "seconds": {
            "predict": {"min": measured[0], "median": measured[len(measured) // 2], "max": measured[-1]}
        },
        "images_per_second": 1 / measured[len(measured) // 2],
        "peak_memory_bytes": _peak_memory(device),
    }
    _print_table(report)
    return report


def _time_steps(config: Config, size: tuple[int, int], warmup: int, iters: int) -> list[dict[str, float]]:
    import numpy as np

    from paddlefcn import build
    from paddlefcn.data.loader import Batch
    from paddlefcn.engine.step import TrainStep

    rng = np.random.default_rng(0)
    shape = (config.train.batch_size, config.data.normalize.channels, *size)
    image = rng.standard_normal(shape, dtype=np.float32)
    label = rng.integers(0, config.data.num_classes, (shape[0], *size))
    batch = Batch(image, label, ["random"] * shape[0])
    times: list[float] = []

    def mark(phase: str) -> None:
        _wait()  # a GPU works ahead: wait for the result before looking at the clock
        times.append(time.perf_counter())

    model = build.build_model(config, pretrained=False)
    step = TrainStep(
        model, build.build_losses(config, model), build.build_optimizer(config, model), mark=mark
    )
    model.train()
    steps = []
    for _ in range(warmup + iters):
        times[:] = [time.perf_counter()]
        step([batch], 1e-3)
        spans = [after - before for before, after in itertools.pairwise(times)]
        steps.append(dict(zip(_PHASES, [*spans, times[-1] - times[0]])))
    return steps[warmup:]


def _wait() -> None:
    import paddle

    if paddle.get_device().startswith("gpu"):
        paddle.device.cuda.synchronize()


def _peak_memory(device: str) -> int | None:
    import paddle

    if device.startswith("gpu"):
        return int(paddle.device.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _print_table(report: dict[str, Any]) -> None:
    shown = " ".join(f"{name}={value}" for name, value in report["settings"].items() if value)
    print(f"{report['device']} ({report['processor']}) {shown}; input {'x'.join(map(str, report['input']))}")
    print(f"{'seconds':12}{'min':>9}{'median':>9}{'max':>9}")
    for phase, times in report["seconds"].items():
        print(f"{phase:12}{times['min']:9.3f}{times['median']:9.3f}{times['max']:9.3f}")
    memory = report["peak_memory_bytes"]
    peak = "unknown" if memory is None else f"{memory / 2**30:.2f} GiB"
    print(f"{report['images_per_second']:.2f} images/s; peak memory {peak}", flush=True)


def _compared(args: argparse.Namespace) -> dict[str, Any]:
    """Both settings, each in processes of its own and in turn; what the user set stays in both."""
    ours, plain = [], []
    for _ in range(2):
        print("paddle as it starts:", flush=True)
        plain.append(_in_process(args, ["--as-is"]))
        print("with this library's settings:", flush=True)
        ours.append(_in_process(args, []))
    pairs = zip(plain, ours)
    ratios = [
        before["seconds"]["step"]["median"] / after["seconds"]["step"]["median"] for before, after in pairs
    ]
    print(f"step: {min(ratios):.2f} to {max(ratios):.2f} times as fast as paddle as it starts")
    return {**ours[-1], "as_paddle_starts": plain[-1], "times_as_fast": ratios}


def _in_process(args: argparse.Namespace, extra: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "figures.json"
        command = [sys.executable, "-m", "paddlefcn", "benchmark", "-c", args.config, "--json", str(target)]
        command += ["--iters", str(args.iters), "--warmup", str(args.warmup), "--size", *map(str, args.size)]
        command += ["--device", args.device] if args.device else []
        command += ["-o", *args.opts] if args.opts else []
        package = str(Path(__file__).resolve().parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run([*command, *extra], env=environment, check=False)
        if done.returncode:
            raise RunError(f"the benchmark's own process ended with exit code {done.returncode}")
        return json.loads(target.read_text(encoding="utf-8"))


def _data_speed(config: Config, workers: int) -> dict[str, Any]:
    """Images a second of reading and augmenting alone, after the workers have started."""
    import dataclasses

    from paddlefcn import build

    with_workers = dataclasses.replace(config.data, num_workers=workers)
    config = dataclasses.replace(config, data=with_workers)
    batches = build.build_loader(config, build.build_dataset(config, "train")).batches()
    for _ in range(4):
        next(batches)
    start_time, images = time.perf_counter(), 0
    while time.perf_counter() - start_time < 5 or images == 0:
        images += len(next(batches).names)
    speed = images / (time.perf_counter() - start_time)
    batches.close()  # type: ignore[attr-defined]
    return {"workers": workers, "images_per_second": speed}
