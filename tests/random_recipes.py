"""Recipes drawn at random from the options of training, on the smallest networks: for `kill_runs.py --drawn`.

What needs a GPU (`train.precision`), files (data sets of images) or a compiler (`runtime.cpu_accelerator`)
is not drawn.
"""

from __future__ import annotations

import copy
import functools
import random
from pathlib import Path
from typing import Any

import yaml

Tree = dict[str, Any]


def draw_recipe(rng: random.Random, teacher: tuple[Path, Path] | None = None) -> Tree:
    """A whole recipe but for `train.save_dir`; some steps of it are without a finite loss (`on_nan: skip`).

    `teacher`: the recipe and the weights that a drawn `distillation` names.
    """
    tree = copy.deepcopy(_tiny())
    tree["data"] |= {
        "train_images": rng.choice([5, 8]),
        "val_images": 2,
        "num_workers": rng.choice([0, 0, 1]),
    }
    stages = rng.random() < 0.2
    tree["model"] = {"type": "FCN8s", **tree["model"]} if stages else _model(rng)
    outputs = 1
    if rng.random() < 0.4 and tree["model"]["type"] in ("FCN8s", "FCN16s"):
        tree["model"]["deep_supervision"] = True
        outputs = 3 if tree["model"]["type"] == "FCN8s" and not stages else 1
    tree["loss"] = [_loss(rng, outputs) for _ in range(rng.choice([1, 1, 2]))]
    tree["optimizer"] = _optimizer(rng)
    tree["train"] = _train(rng)
    tree["schedule"] = _schedule(rng)
    tree["data"]["train_transforms"] = _transforms(rng)
    if rng.random() < 0.2:
        tree["data"]["cache"] = rng.choice(["memory", "disk"])
    if stages:
        tree["stages"] = _stages(rng, tree)
    elif teacher is not None and rng.random() < 0.2:
        config, weights = map(str, teacher)
        tree["distillation"] = {"config": config, "weights": weights, "weight": rng.choice([0.5, 1.0])}
    return tree


@functools.cache
def _tiny() -> Tree:
    from conftest import TINY

    return yaml.safe_load(TINY)


def _model(rng: random.Random) -> Tree:
    from paddlefcn.models import MODELS

    name = rng.choice([*sorted(MODELS), *["FCN8s"] * 4, *["FCN16s"] * 2])
    tree: Tree = {"type": name, **copy.deepcopy(dict(MODELS[name].smallest))}
    if name.startswith("FCN") and "fc_channels" in tree and name != "FCNAlexNet":
        tree |= {"fc6_kernel": rng.choice([1, 3]), "dropout": rng.choice([0.0, 0.5])}
        tree["upsample"] = rng.choice(["bilinear", "transposed"])
    return tree


def _loss(rng: random.Random, outputs: int) -> Tree:
    loss: Tree = {
        **rng.choice(
            [
                {"type": "CrossEntropy"},
                {"type": "CrossEntropy", "label_smoothing": 0.1},
                {"type": "CrossEntropy", "class_weights": {"from": "data", "rule": "inverse"}},
                {"type": "OHEM", "threshold": 0.6},
                {"type": "Focal", "gamma": 1.5},
                {"type": "BoundaryCrossEntropy", "width": 1},
                {"type": "Dice"},
                {"type": "Tversky", "alpha": 0.4},
                {"type": "Lovasz"},
            ]
        )
    }
    if outputs > 1:
        loss["weights"] = [1.0, 0.4, 0.2]
    return loss


def _optimizer(rng: random.Random) -> Tree:
    from paddlefcn.optim import OPTIMIZERS

    optimizer: Tree = {"type": rng.choice(sorted(OPTIMIZERS)), "weight_decay": rng.choice([0.0, 1e-3])}
    if optimizer["type"] == "Momentum":
        optimizer["nesterov"] = rng.random() < 0.5
    for key, value in (("clip_norm", 0.5), ("head_lr_factor", 10.0), ("bias_lr_factor", 2.0)):
        if rng.random() < 0.4:
            optimizer[key] = value
    if rng.random() < 0.3:
        optimizer |= {"decay_bias": True, "decay_norm": True}
    return optimizer


def _schedule(rng: random.Random) -> Tree:
    schedule: Tree = {
        **rng.choice(
            [
                {"type": "Constant"},
                {"type": "Poly", "power": 0.9},
                {"type": "Step", "size": 3, "gamma": 0.5},
                {"type": "Step", "milestones": [2, 5]},
                {"type": "Cosine", "period": 3, "factor": 2.0},
                {"type": "Cosine"},
                {"type": "OneCycle"},
                {"type": "ReduceOnPlateau", "patience": 0, "factor": 0.5},
            ]
        ),
        "learning_rate": rng.choice([0.003, 0.01]),
    }
    if schedule["type"] != "OneCycle" and rng.random() < 0.4:
        schedule |= {"warmup_iters": 3, "warmup_ratio": 0.1}
    return schedule


def _train(rng: random.Random) -> Tree:
    train: Tree = {
        "batch_size": 2,
        "accumulate": rng.choice([1, 1, 2, 3]),
        "eval_iters": rng.choice([2, 3, 4]),
        "save_iters": rng.choice([1, 2, 3]),
        "log_iters": rng.choice([1, 2]),
        "previews": rng.choice([0, 1]),
        "keep": rng.choice([1, 2, 9]),
        "seed": rng.randrange(100),
        "best": rng.choice(["mean_iou", "pixel_accuracy", "mean_dice"]),
    }
    if rng.random() < 0.15:
        train["epochs"] = 3
    else:
        train["iters"] = rng.choice([7, 8, 9])
    average = rng.choice(["none", "ema", "ema", "swa"])
    if average == "ema":
        train["ema_decay"] = rng.choice([0.2, 0.9])
    elif average == "swa":
        train |= {"swa_start": 3, "swa_every": rng.choice([1, 2]), "swa_batches": 2}
    options: Tree = {
        "on_nan": "skip 50",
        "early_stop": 1,
        "sizes": [{"until": 3, "scale": 0.5}],
        "freeze": ["backbone"],
        "freeze_batch_norm": True,
        "recompute": True,
        "eval_sliding": [24],
    }
    for key, value in options.items():
        if rng.random() < (0.4 if key == "on_nan" else 0.2):
            train[key] = value
    return train


def _transforms(rng: random.Random) -> list[Tree]:
    names = ["RandomFlip", "RandomRotate90", "ColorJitter", "RandomBlur", "CutOut", "CutMix", "ClassMix"]
    chosen: list[Tree] = [{"type": name} for name in rng.sample(names, rng.randrange(3))]
    if rng.random() < 0.3:
        chosen.append({"type": "CopyPaste", "classes": [1]})
    return [{"type": "RandomScale", "range": [0.8, 1.5]}, {"type": "RandomCrop", "size": [32, 32]}, *chosen]


def _stages(rng: random.Random, tree: Tree) -> list[Tree]:
    """Two or three networks, one after the other, in the place of the whole run's length."""
    for key in ("iters", "epochs"):
        tree["train"].pop(key, None)
    tree["model"].pop("deep_supervision", None)
    names = rng.choice([["FCN32s", "FCN8s"], ["FCN32s", "FCN16s", "FCN8s"], ["FCN16s", "FCN8s"]])
    return [{"model": name, "iters": rng.choice([3, 4]), "learning_rate": 0.01} for name in names]


def everything(average: str, teacher: tuple[Path, Path]) -> Tree:
    """A recipe with all options of training on at once; of the two averages "ema" or "swa"."""
    from conftest import TINY

    tree: Tree = yaml.safe_load(TINY)
    transforms = [{"type": "RandomWarp", "size": [32, 32], "degrees": 10}, {"type": "CutMix"}]
    transforms += [{"type": "CopyPaste", "classes": [1]}, {"type": "ColorJitter"}]
    tree["data"] |= {"train_images": 6, "val_images": 3, "num_workers": 1, "cache": "disk"}
    tree["data"]["train_transforms"] = transforms
    tree["model"]["deep_supervision"] = True
    weighted = {"class_weights": {"from": "data", "rule": "inverse"}, "weights": [1.0, 0.4, 0.2]}
    tree["loss"] = [
        {"type": "CrossEntropy", "label_smoothing": 0.1, **weighted},
        {"type": "Dice", "weights": [0.5, 0, 0]},
    ]
    tree["optimizer"] |= {"clip_norm": 0.5, "head_lr_factor": 10.0}
    tree["schedule"] = {"type": "ReduceOnPlateau", "patience": 1, "factor": 0.5, "learning_rate": 0.01}
    tree["schedule"]["warmup_iters"] = 3
    tree["train"] |= {"iters": 12, "eval_iters": 2, "save_iters": 3, "keep": 2, "accumulate": 2}
    tree["train"] |= {"early_stop": 3, "on_nan": "skip 50", "recompute": True}
    tree["train"] |= {"sizes": [{"until": 5, "scale": 0.5}], "freeze": ["backbone.conv1_1"]}
    averages = {"ema": {"ema_decay": 0.2}, "swa": {"swa_start": 4, "swa_every": 1, "swa_batches": 2}}
    tree["train"] |= averages[average]
    config, weights = map(str, teacher)
    tree["distillation"] = {"config": config, "weights": weights, "weight": 0.5, "features": 1.0}
    return tree


def describe(tree: Tree) -> str:
    """What was drawn, in a few words."""
    train, optimizer = tree["train"], tree["optimizer"]
    kinds = [entry["model"] for entry in tree.get("stages", ())] or [tree["model"]["type"]]
    words = ["+".join(kinds), "+".join(entry["type"] for entry in tree["loss"])]
    words += [optimizer["type"], tree["schedule"]["type"]]
    words += [key for key in ("clip_norm", "head_lr_factor") if key in optimizer]
    words += [key for key in ("deep_supervision",) if tree["model"].get(key)]
    keys = (
        "ema_decay",
        "swa_start",
        "on_nan",
        "early_stop",
        "sizes",
        "freeze",
        "freeze_batch_norm",
        "recompute",
    )
    words += [key for key in (*keys, "eval_sliding", "epochs") if key in train]
    words += [f"accumulate {train['accumulate']}"] if train["accumulate"] > 1 else []
    words += [f"{tree['data']['num_workers']} workers", *(["distillation"] if "distillation" in tree else [])]
    words += [f"cache {tree['data']['cache']}"] if "cache" in tree["data"] else []
    words += [item["type"] for item in tree["data"]["train_transforms"][2:]]
    return ", ".join(words)
