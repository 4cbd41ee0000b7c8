"""Kills tiny trainings at many moments, resumes them, and compares with a run that nobody killed.

    python tests/kill_runs.py                        # 30 moments, with 0, 1 and 2 workers each
    python tests/kill_runs.py --kills 4 --workers 1
    python tests/kill_runs.py --drawn 34 --kills 3   # so many recipes drawn at random, so many kills each
    python tests/kill_runs.py --everything           # all options of training on at once

A run's child process counts what it does to its folder (files opened, halves of writes, renames, fsyncs,
removals) and some steps of training; at the chosen count it sends itself SIGKILL. Some of the resumed
runs are killed again. Prints a table: moment, state found, largest difference afterwards.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO), str(REPO / "tests")]

OPTIONS = [
    *("train.iters=12", "train.eval_iters=4", "train.save_iters=3", "train.keep=2", "train.ema_decay=0.2"),
    *("data.train_images=6", "data.val_images=3", "model.backbone.width=8", "model.fc_channels=32"),
    # so that every evaluation is better than the one before, and best/ is replaced
    "loss.0.class_weights=[0.05,1,1,1,1,1]",
]
# moments that must be among the killed ones: during a checkpoint's write, between the renames, …
WANTED = (
    r"write half of \.config\.yml\.partial",
    r"rename \.config\.yml\.partial",
    r"open train\.log",
    r"open vdl/",
    r"write half of vdl/",
    r"write half of metrics\.jsonl",
    r"write half of timing\.jsonl",
    r"score an image",
    r"write half of preview/",
    r"write half of checkpoints/\.iter_6\.partial/model\.safetensors",
    r"write half of checkpoints/\.iter_9\.partial/training\.npz",
    r"write half of checkpoints/\.iter_12\.partial/\.manifest\.json",
    r"fsync checkpoints/\.iter_6\.partial/state\.json",
    r"rename checkpoints/\.iter_9\.partial to iter_9",
    r"fsync checkpoints$",
    r"rename checkpoints/\.last\.partial",
    r"unlink .*iter_3/|unlink model\.safetensors",
    r"rmdir .*iter_3",
    r"write half of \.best\.partial/model\.safetensors",
    r"rename best to \.best\.old",
    r"rename \.best\.partial to best",
    r"rmdir .*\.best\.old",
    r"optimizer step",
    r"rename \.curves\.png\.partial",
)


class Kill(NamedTuple):
    """When a run was killed, what it left, and how far the resumed one ended from one that nobody killed."""

    moment: str
    state: str
    largest: float
    faults: list[str]


class Moments:
    """Counts operations; at number `fatal` the process dies, in the middle of it where it can."""

    def __init__(self, run: Path, fatal: int | None) -> None:
        self.run, self.fatal, self.seen = run, fatal, list[str]()

    def at(self, what: str) -> bool:
        """Notes an operation that is about to happen; whether it is the fatal one."""
        self.seen.append(re.sub(r"\.\d+\.partial", ".partial", what))
        return self.fatal == len(self.seen)

    def pass_or_die(self, what: str) -> None:
        if self.at(what):
            die()

    def name(self, path: Any) -> str | None:
        """The path within the run's folder, None outside of it."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        text = os.fspath(path)
        if isinstance(text, bytes):
            return None
        with contextlib.suppress(ValueError):
            return str(Path(text).relative_to(self.run))
        return None

    def install(self) -> None:
        """Puts the counting in front of what the standard library does to files."""
        real_open = builtins.open

        def open_counted(file: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
            name = None if "r" in mode or isinstance(file, int) else self.name(file)
            if name is None or name == ".lock":
                return real_open(file, mode, *rest, **more)
            self.pass_or_die(f"open {name}")
            return CountedFile(real_open(file, mode, *rest, **more), name, self)

        builtins.open = open_counted
        for function in ("unlink", "rmdir", "mkdir", "fsync"):
            setattr(os, function, self._counted(getattr(os, function), function))
        os.remove = os.unlink
        real_replace = os.replace

        def replace(source: Any, target: Any, **more: Any) -> None:
            if self.name(source) is not None:
                self.pass_or_die(f"rename {self.name(source)} to {Path(target).name}")
            real_replace(source, target, **more)

        os.replace = replace
        self._install_steps()

    def _counted(self, real: Callable[..., Any], verb: str) -> Callable[..., Any]:
        def counted(path: Any, *rest: Any, **more: Any) -> Any:
            # rmtree removes by names relative to a folder that it holds open
            place = "" if more.get("dir_fd") is None else self.name(more["dir_fd"])
            name = self.name(path) if place == "" else place and f"{place}/{path}"
            if name is not None:
                self.pass_or_die(f"{verb} {name}")
            return real(path, *rest, **more)

        return counted

    def _install_steps(self) -> None:
        import paddle

        from paddlefcn.engine.progress import TrainingProgress
        from paddlefcn.metrics import ConfusionMatrix

        optimizers = (getattr(paddle.optimizer, name) for name in ("SGD", "Momentum", "Adam", "AdamW"))
        for owner, name, what in (
            *((optimizer, "step", "optimizer step") for optimizer in optimizers),
            (ConfusionMatrix, "update", "score an image"),
            (TrainingProgress, "waited", "wait for a batch"),
        ):
            setattr(owner, name, self._before(getattr(owner, name), what))

    def _before(self, real: Callable[..., Any], what: str) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            self.pass_or_die(what)
            return real(*arguments, **more)

        return step


class CountedFile:
    """A file whose fatal write stops half way."""

    def __init__(self, stream: Any, name: str, moments: Moments) -> None:
        self._stream, self._label, self._moments = stream, name, moments

    def write(self, content: Any) -> int:
        if self._moments.at(f"write half of {self._label}"):
            self._stream.write(content[: len(content) // 2])
            self._stream.flush()
            die()
        return self._stream.write(content)

    def __enter__(self) -> CountedFile:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def spoil_losses() -> None:
    """Where steps may be left out, some batches give no finite loss: the same ones after a resume."""
    from paddlefcn.losses import WeightedLosses

    real = WeightedLosses.__call__

    def losses(self: Any, outputs: Any, label: Any, *whole: Any) -> Any:
        value = real(self, outputs, label, *whole)
        spoilt = not value.stop_gradient and SPOILS and zlib.crc32(label.numpy().tobytes()) % 4 == 0
        return value * float("nan") if spoilt else value

    WeightedLosses.__call__ = losses


SPOILS = False  # set before the fork, by recipe


def train(arguments: list[str], run: Path, log: Path, fatal: int | None = None, after: float = 0.0) -> int:
    """The train command in a process of its own; returns its exit code, or minus the signal's number.

    The operations it came to are written to `log` with the suffix .moments (unless it was killed).
    """
    process = os.fork()
    if process == 0:
        code = 70
        try:
            descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            moments = Moments(run, fatal)
            moments.install()
            spoil_losses()
            if after:
                threading.Timer(after, die).start()
            from paddlefcn.commands import main

            code = main(["train", *arguments])
            log.with_suffix(".moments").write_text("\n".join(moments.seen))
            sys.stdout.flush()
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    return os.waitstatus_to_exitcode(status)


def found(run: Path) -> str:
    """What a killed run has left, in a few words."""
    from paddlefcn.engine.checkpoint import Checkpoints
    from paddlefcn.files import damage

    if not (run / "config.yml").exists():
        return "no config.yml"
    numbered = [path for _, path in Checkpoints(run, 1, {}).numbered()]
    facts = [path.name if damage(path) is None else f"{path.name} in ruins" for path in numbered] or [
        "no checkpoint"
    ]
    facts += [] if (run / "best").exists() else ["no best/"]
    cut = {
        path.relative_to(run).parts[: 2 if path.is_relative_to(run / "checkpoints") else 1]
        for path in run.rglob(".*")
        if path.suffix in (".partial", ".old")
    }
    facts += sorted(re.sub(r"\.\d+\.partial", ".partial", "/".join(parts)) for parts in cut)
    metrics = run / "metrics.jsonl"
    if metrics.exists():
        content = metrics.read_bytes()
        torn = "" if content.endswith(b"\n") or not content else ", the last one torn"
        facts.append(f"{len(content.splitlines())} records{torn}")
    return ", ".join(facts)


def arrays(run: Path) -> dict[str, Any]:
    """Every number that must come out the same: weights, optimizer, averages, best score."""
    import json

    import numpy as np
    from safetensors.numpy import load_file

    values: dict[str, Any] = {}
    last = (run / "checkpoints" / "last").read_text().strip()
    for place in (f"checkpoints/{last}", "best"):
        if not (run / place).exists():  # no score was ever better than none
            continue
        values |= {
            f"{place} {name}": value for name, value in load_file(run / place / "model.safetensors").items()
        }
        with np.load(run / place / "training.npz") as training:
            values |= {f"{place} {name}": training[name] for name in training.files}
        state = json.loads((run / place / "state.json").read_text())
        values |= {
            f"{place} {name}": np.asarray(value, "U64" if isinstance(value, str) else "float64")
            for name, value in state.items()
        }
    return values


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    """The VisualDL log's scalars by tag as (step, value); of clock values the steps alone."""
    from visualdl import LogReader

    (path,) = (run / "vdl").iterdir()
    reader = LogReader(file_path=str(path))
    return {
        tag: [
            (point.id, 0.0 if tag.startswith("train/") and tag != "train/learning_rate" else point.value)
            for point in reader.get_data("scalar", tag)
        ]
        for tag in reader.get_tags()["scalar"]
    }


def difference(run: Path, reference: Path) -> tuple[float, list[str]]:
    """The largest difference of any number, and what else is not as in the reference run."""
    import numpy as np

    ours, theirs = arrays(run), arrays(reference)
    faults = [] if ours.keys() == theirs.keys() else ["other tensors"]
    largest = 0.0
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        if a.dtype.kind != "U" and a.shape == b.shape and a.size:
            largest = max(largest, float(np.abs(a.astype("float64") - b.astype("float64")).max()))
        if a.shape != b.shape or a.tobytes() != b.tobytes():
            faults.append(name)
    for name in ("metrics.jsonl", "class_scores.jsonl", "checkpoints/last", "split.json"):
        if (run / name).read_bytes() != (reference / name).read_bytes():
            faults.append(name)
    recipes = [(folder / "config.yml").read_text().replace(str(folder), "") for folder in (run, reference)]
    if recipes[0] != recipes[1]:
        faults.append("config.yml")
    if scalars(run) != scalars(reference):
        faults.append("VisualDL")
    files = [
        sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (run, reference)
    ]
    if files[0] != files[1]:
        faults.append(f"files {sorted(set(files[0]) ^ set(files[1]))}")
    if len(list(run.parent.glob("run*"))) != 1:
        faults.append("a second run folder")
    return largest, faults


def choose(moments: list[str], count: int, rng: random.Random, wanted: tuple[str, ...] = WANTED) -> list[int]:
    """The numbers (from 1) of `count` operations: one of each wanted kind, the rest anywhere."""
    chosen = []
    for pattern in wanted:
        fitting = [number for number, what in enumerate(moments, 1) if re.search(pattern, what)]
        if not fitting:
            raise SystemExit(f"no operation like {pattern!r}; the runs do something else now")
        chosen.append(rng.choice(fitting))
    rng.shuffle(chosen)
    others = [number for number in range(1, len(moments) + 1) if number not in chosen]
    return (chosen + rng.sample(others, len(others)))[:count]


def kills(
    work: Path,
    recipe: Path,
    options: list[str],
    count: int,
    rng: random.Random,
    wanted: tuple[str, ...] = WANTED,
) -> Iterator[Kill]:
    """Kill after kill of a recipe, each compared with the run that nobody killed."""

    def arguments(folder: Path) -> list[str]:
        return ["-c", str(recipe), "-o", *options, f"train.save_dir={folder / 'run'}"]

    reference = work / "reference"
    reference.mkdir()
    if train(arguments(reference), reference / "run", reference / "log"):
        raise SystemExit((reference / "log").read_text())
    moments = (reference / "log.moments").read_text().split("\n")
    for number, fatal in enumerate(choose(moments, count, rng, wanted)):
        place = work / f"kill_{number}"
        place.mkdir()
        run, log = place / "run", place / "log"
        by_clock = number % 8 == 7
        after = rng.uniform(0.05, 1.5) if by_clock else 0.0
        code = train(arguments(place), run, log, None if by_clock else fatal, after)
        moment = f"after {after:.2f} s" if by_clock else f"{fatal}: {moments[fatal - 1]}"
        state = found(run) if code == -signal.SIGKILL else f"exit code {code}"
        if number % 3 == 2:  # the resumed one too
            again = rng.randrange(1, 60)
            train([*arguments(place), "--resume"], run, log, again)
            moment += f"; the resumed run at its operation {again}"
        code = train([*arguments(place), "--resume"], run, log)
        if code:
            yield Kill(moment, state, float("nan"), [f"resume ended with {code}: {log.read_text()[-300:]}"])
            continue
        try:
            yield Kill(moment, state, *difference(run, reference / "run"))
        except OSError as error:
            yield Kill(moment, state, float("nan"), [f"{error}: {log.read_text()[-300:]}"])
            continue
        shutil.rmtree(place)
    shutil.rmtree(reference)


def tiny_kills(work: Path, count: int, workers: Sequence[int], seed: int) -> Iterator[tuple[str, Kill]]:
    """Of one recipe, with so many workers each, at moments of every kind."""
    from conftest import TINY

    recipe = work / "tiny.yml"
    recipe.write_text(TINY)
    for number in workers:
        options = [*OPTIONS, f"data.num_workers={number}"]
        for kill in kills(work, recipe, options, count, random.Random(seed + number)):
            yield f"{number} workers", kill


def recipe_kills(
    work: Path, recipes: int, everything: bool, count: int, seed: int
) -> Iterator[tuple[str, Kill]]:
    """Of recipes drawn at random, or of the two that have everything on, at moments drawn at random."""
    global SPOILS
    import random_recipes
    from conftest import TINY

    config = work / "teacher.yml"
    config.write_text(TINY)
    if train(["-c", str(config), "-o", f"train.save_dir={work / 'teacher'}"], work / "teacher", work / "log"):
        raise SystemExit((work / "log").read_text())
    teacher = config, work / "teacher"
    names: Sequence[Any] = ("ema", "swa") if everything else range(seed, seed + recipes)
    for name in names:
        rng = random.Random(f"{seed} {name}" if everything else name)
        tree = (
            random_recipes.everything(name, teacher)
            if everything
            else random_recipes.draw_recipe(rng, teacher)
        )
        recipe = work / f"drawn_{name}.yml"
        recipe.write_text(yaml.safe_dump(tree))
        SPOILS = "on_nan" in tree["train"]
        for kill in kills(work, recipe, [], count, rng, ()):
            yield f"{name}: {random_recipes.describe(tree)}", kill


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30, help="moments for each number of workers, or recipe")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--drawn", type=int, default=0, help="so many recipes drawn at random instead")
    parser.add_argument("--everything", action="store_true", help="a recipe with all options on, EMA and SWA")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    from paddlefcn import runtime

    runtime.prepare()
    # imported once, before the forks; nothing is computed in this process, so it has no threads to lose
    for module in ("build", "training", "engine.records", "plots", "visualize"):
        __import__(f"paddlefcn.{module}")
    bad = total = 0
    print("| run | moment | state found | largest difference |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        if args.drawn or args.everything:
            each = recipe_kills(Path(folder), args.drawn, args.everything, args.kills, args.seed)
        else:
            each = tiny_kills(Path(folder), args.kills, args.workers, args.seed)
        for name, kill in each:
            total, bad = total + 1, bad + bool(kill.faults)
            end = f"{kill.largest:g}" + (f" DIFFERS: {'; '.join(kill.faults)}" if kill.faults else "")
            print(f"| {name} | {kill.moment} | {kill.state} | {end} |", flush=True)
    print(f"{total} kills, {bad} runs that did not end as the uninterrupted one")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
