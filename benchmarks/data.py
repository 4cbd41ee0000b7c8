"""How many images a second the data pipeline gives, whole batches included, beside PaddleSeg's own.

    python benchmarks/data.py --json data.json
    python benchmarks/data.py --paddleseg-python env-paddleseg/bin/python --json data.json

VOC images below $PADDLEFCN_DATA (or --root), decoded from their files: scale 0.5 to 2, 480x480 crop, flip,
colours, normalised, batches of 8. Every pipeline is a process of its own; they run in turn, a few seconds
each, several rounds, and the median counts. With 0 workers a process is bound to one core, and the images
per second of processor time are told too, which other work on the machine disturbs less.
PaddleSeg runs where `--paddleseg-python` has it installed: with the transforms of its own VOC recipe (each
change of brightness, contrast, saturation and hue happens to half of the images; ours to all, without hue),
and with our colours (brightness, contrast and saturation by up to 0.3 of every image, no hue).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
BATCH, SIZE = 8, (480, 480)
_PADDLESEG = ("PaddleSeg", "PaddleSeg, our colours")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> int:
    args = _arguments()
    if args.serve:
        _serve(args.serve, args.workers[0], args.root)
        return 0
    names = ["paddlefcn", "paddlefcn, one by one", *(_PADDLESEG if args.paddleseg_python else [])]
    pipelines = [_Pipeline(name, workers, args) for workers in args.workers for name in names]
    try:
        for number in range(args.rounds + 1):
            for pipeline in pipelines:
                pipeline.measure(args.seconds if number else 1.0, keep=number > 0)  # the first warms up
        rows = [pipeline.row() for pipeline in pipelines]
    finally:
        for pipeline in pipelines:
            pipeline.close()
    print(f"{'pipeline':26}{'workers':>8}{'images/s':>10}{'per cpu s':>11}{'peak MB':>9}")
    for row in rows:
        cpu = "" if row["images_per_cpu_s"] is None else f"{row['images_per_cpu_s']:.0f}"
        numbers = f"{row['workers']:8}{row['images_per_s']:10.0f}{cpu:>11}{row['peak_mb']:9.0f}"
        print(f"{row['pipeline']:26}{numbers}")
    steps = _steps(args.root)
    print("one image, ms: " + ", ".join(f"{name} {value:.2f}" for name, value in steps.items()))
    if args.json:
        report = {"rows": rows, "steps_ms": steps, "rounds": args.rounds, "seconds": args.seconds}
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    root = Path(os.environ.get("PADDLEFCN_DATA", "data")) / "VOCdevkit" / "VOC2012"
    parser.add_argument("--root", type=Path, default=root, help="the folder with JPEGImages (%(default)s)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0], help="numbers of workers (0)")
    parser.add_argument("--seconds", type=float, default=4.0, help="a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (%(default)s)")
    parser.add_argument("--paddleseg-python", metavar="FILE", help="an interpreter that has paddleseg")
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


class _Pipeline:
    """A process that loads for as long as it is told, and its figures."""

    def __init__(self, name: str, workers: int, args: argparse.Namespace) -> None:
        self.name, self.workers = name, workers
        python = args.paddleseg_python if name in _PADDLESEG else sys.executable
        command = [python, __file__, "--serve", name, "--workers", str(workers), "--root", str(args.root)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
        )
        self._turns: list[dict[str, float]] = []

    def measure(self, seconds: float, keep: bool) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        while line and not line.startswith("{"):  # what libraries print at their start
            line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: its process ended with code {self._process.wait()}")
        if keep:
            self._turns.append(json.loads(line))

    def row(self) -> dict[str, Any]:
        speeds = [turn["images"] / turn["seconds"] for turn in self._turns]
        cpu = [turn["images"] / turn["cpu_seconds"] for turn in self._turns]
        return {
            "pipeline": self.name,
            "workers": self.workers,
            "images_per_s": statistics.median(speeds),
            "images_per_s_range": [min(speeds), max(speeds)],
            "images_per_cpu_s": None if self.workers else statistics.median(cpu),
            "peak_mb": max(turn["peak_mb"] for turn in self._turns),
        }

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


def _environment() -> dict[str, str]:
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


# ---- in the pipeline's own process ----------------------------------------------------------------


def _serve(name: str, workers: int, root: Path) -> None:
    if workers == 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import cv2

    cv2.setNumThreads(0)
    if name in _PADDLESEG:
        batches = _paddleseg(root, workers, equal_colors=name != "PaddleSeg")
    else:
        batches = _ours(root, workers, fused=name == "paddlefcn")
    for line in sys.stdin:
        seconds, images = float(line), 0
        for _ in range(2 * workers + 3):  # what was prepared during the turns of others does not count
            next(batches)
        start, start_cpu = time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            images += len(next(batches))
        spent = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - start_cpu}
        print(json.dumps({"images": images, **spent, "peak_mb": _peak_mb()}), flush=True)
    os._exit(0)  # nothing to save, and a loader's processes end with their parent


def _peak_mb() -> float:
    """Of this process and those it started, added up."""
    total = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue  # it has ended meanwhile
        if os.getpid() in (int(fields["Pid"]), int(fields["PPid"])) and "VmHWM" in fields:
            total += int(fields["VmHWM"].split()[0]) / 1024
    return total


def _ours(root: Path, workers: int, fused: bool) -> Iterator[Any]:
    dataset, transforms, normalize = _our_parts(root, fused)
    from paddlefcn.data.loader import TrainLoader

    loader = TrainLoader(dataset, transforms, normalize, batch_size=BATCH, num_workers=workers)
    return (batch.image for batch in loader.batches())


def _our_parts(root: Path, fused: bool) -> tuple[Any, list[Any], Any]:
    from paddlefcn.data.datasets import VOC, SegmentationDataset
    from paddlefcn.data.images import Normalize
    from paddlefcn.data.labels import LabelReader
    from paddlefcn.data.transforms import ColorJitter, RandomCrop, RandomFlip, RandomScale, RandomWarp

    fill = [255 * mean for mean in MEAN]
    one_by_one = [RandomScale([0.5, 2.0]), RandomCrop(SIZE, fill=fill), RandomFlip()]
    geometry = [RandomWarp(SIZE, scale=[0.5, 2.0], fill=fill)] if fused else one_by_one
    dataset = SegmentationDataset(VOC(root, "train"), LabelReader(21), 3)
    return dataset, [*geometry, ColorJitter(0.3, 0.3, 0.3)], Normalize(255, MEAN, STD)


def _paddleseg(root: Path, workers: int, equal_colors: bool) -> Iterator[Any]:
    import tempfile

    import paddle
    from paddleseg import transforms
    from paddleseg.datasets import Dataset

    names = (root / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"JPEGImages/{name}.jpg SegmentationClass/{name}.png\n" for name in names))
        file.flush()
        colors: dict[str, Any] = {"hue_prob": 0} if equal_colors else {}
        for kind in ("brightness", "contrast", "saturation"):
            colors |= {f"{kind}_range": 0.3, f"{kind}_prob": 1} if equal_colors else {f"{kind}_range": 0.4}
        steps = [
            transforms.ResizeStepScaling(0.5, 2.0, 0.25),
            transforms.RandomPaddingCrop(crop_size=SIZE[::-1]),
            transforms.RandomHorizontalFlip(),
            transforms.RandomDistort(**colors),
            transforms.Normalize(mean=list(MEAN), std=list(STD)),
        ]
        dataset = Dataset(
            mode="train", dataset_root=str(root), transforms=steps, num_classes=21, train_path=file.name
        )
    paddle.set_device("cpu")
    sampler = paddle.io.BatchSampler(dataset, shuffle=True, batch_size=BATCH, drop_last=True)
    loader = paddle.io.DataLoader(dataset, batch_sampler=sampler, num_workers=workers, return_list=True)
    return (batch["img"] for _ in itertools.count() for batch in loader)


def _steps(root: Path, count: int = 64) -> dict[str, float]:
    """Milliseconds of processor time of each step of our pipeline for one image."""
    import numpy as np

    dataset, transforms, normalize = _our_parts(root, True)
    spent = dict.fromkeys(["decode", "labels", *(type(t).__name__ for t in transforms), "normalize"], 0.0)

    def timed(step: str, work: Any, *arguments: Any) -> Any:
        start = time.process_time()
        result = work(*arguments)
        spent[step] += time.process_time() - start
        return result

    for index in range(count):
        rng = np.random.default_rng(index)
        image, mask = timed("decode", dataset.read_raw, index)
        label = timed("labels", dataset.label_reader, mask, "mask")
        for transform in transforms:
            image, label = timed(type(transform).__name__, transform, image, label, rng)
        timed("normalize", normalize, image)
    return {step: 1000 * seconds / count for step, seconds in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
