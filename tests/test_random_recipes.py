"""The recipes that `kill_runs.py --drawn` draws: each is right, and together they use every option."""

from __future__ import annotations

import random

import yaml
from random_recipes import describe, draw_recipe

from paddlefcn import build
from paddlefcn.config import load_config
from paddlefcn.losses import LOSSES
from paddlefcn.models import MODELS
from paddlefcn.optim import OPTIMIZERS, SCHEDULES


def test_drawn_recipes_are_right_and_use_every_table_and_option(tmp_path):
    words: set[str] = set()
    path = tmp_path / "drawn.yml"
    for seed in range(800):
        tree = draw_recipe(random.Random(seed))
        words |= set(describe(tree).replace("+", ", ").split(", "))
        if seed < 12:
            path.write_text(yaml.safe_dump(tree))
            build.validate(load_config(path))
    options = (
        "ema_decay swa_start on_nan early_stop sizes freeze freeze_batch_norm recompute eval_sliding epochs"
    )
    wanted = {*OPTIMIZERS, *SCHEDULES, *LOSSES, *MODELS, *options.split()}
    wanted |= {"clip_norm", "head_lr_factor", "deep_supervision", "accumulate 2", "accumulate 3", "CopyPaste"}
    assert wanted - words == set()
