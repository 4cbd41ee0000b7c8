"""Going on with a run: which one, whether the recipe is its own, and with the split that it began with."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.config.compare import misfits
from paddlefcn.engine.ranks import launched
from paddlefcn.errors import ConfigError, DataError, OutputError, UserError
from paddlefcn.files import read_text, write_text
from paddlefcn.training.folder import is_begun, runs_of
from paddlefcn.yaml_files import load_yaml

if TYPE_CHECKING:
    from paddlefcn.config import Config
    from paddlefcn.data.datasets import Sample, SegmentationDataset

SPLIT_FILE = "split.json"
# what does not change where a training ends up: docs/trust.md lists it too
FREE = (
    *("train.log_iters", "train.save_iters", "train.keep", "train.previews", "train.on_nan"),
    *("data.num_workers", "data.root", "data.download", "runtime"),
)
_NAMED = 5  # keys or images that a message names


def find_run(config: Config, resume: str | Path | bool | None) -> Path | None:
    """The folder of the run that is to go on; None where a new one starts.

    Args:
        config: the recipe that is to go on.
        resume: a run's folder, or True for the newest run that this recipe made at its `save_dir`; None or
            False for a new run.

    Raises:
        OutputError: no run stands there.
        ConfigError: the run's own recipe is another one; it names the keys. Nothing was touched.
    """
    if resume is None or resume is False:
        return None
    save_dir, problem = config.train.save_dir, None
    if resume is not True:
        folder = Path(resume)
        if (folder / "config.yml").is_file():
            _check_recipe(folder, config, moved=True)
        elif not is_begun(folder):
            raise OutputError(f"--resume {folder}: no run stands there (no config.yml)")
        return folder
    for folder in runs_of(save_dir):
        try:
            # a run that stands where this recipe's runs stand may have been made elsewhere and moved
            _check_recipe(folder, config, moved=folder == save_dir)
            return folder
        except UserError as error:
            problem = problem or error  # the newest run's
    if problem is not None:
        raise problem
    if is_begun(save_dir):
        return save_dir
    print(f"no run of {save_dir} to resume; starting one", flush=True)
    return None


def _check_recipe(folder: Path, config: Config, *, moved: bool) -> None:
    """ConfigError unless the run's own recipe is this one. `moved`: it may stand at another place."""
    record = _recorded(folder)
    own = load_yaml(folder / "config.yml")
    free = (*FREE, "train.save_dir") if moved else FREE
    found = misfits(own, config.tree, free, ranks=(record.get("ranks", 1), launched()[1]))
    if found:
        shown = "; ".join(each.describe() for each in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ConfigError(
            f"{config.file}: is not the recipe of {folder}: {shown}{more}; resume with the run's own "
            f"(--resume {folder} without -c), or start a new run without --resume"
        )


def write_split(folder: Path, train_set: SegmentationDataset, val_set: SegmentationDataset) -> None:
    """Writes down what the run trains on and what it is scored on; once, when it starts."""
    if (folder / SPLIT_FILE).exists():
        return
    names = {"train": [s.name for s in train_set.samples], "val": [s.name for s in val_set.samples]}
    write_text(folder / SPLIT_FILE, json.dumps({"ranks": launched()[1], **names}, indent=0) + "\n")


def keep_split(folder: Path, train_set: SegmentationDataset, val_set: SegmentationDataset) -> list[str]:
    """Gives both sets the images that the run began with; returns lines on what was left out.

    Raises:
        DataError: an image that the run was trained or scored on is gone.
    """
    record = _recorded(folder)
    sets = {"train": train_set, "val": val_set}
    if not record:
        return [f"{folder} has no {SPLIT_FILE} (an earlier version's run): the split is the data's of today"]
    if all([s.name for s in sets[name].samples] == record[name] for name in sets):
        return []
    found: dict[str, list[Sample]] = {}
    for dataset in sets.values():
        for sample in dataset.samples:
            found.setdefault(sample.name, []).append(sample)
    wanted = Counter(record["train"]) + Counter(record["val"])
    gone = sorted(name for name, count in wanted.items() if len(found.get(name, ())) < count)
    if gone:
        raise DataError(
            f"{folder}: {len(gone)} of its images are gone from the data ({_some(gone)}); put them back, or "
            f"start a new run"
        )
    for name, dataset in sets.items():
        dataset.source.samples = [found[sample].pop(0) for sample in record[name]]
    fresh = sorted(name for name, left in found.items() if left)
    lines = [f"the split is the one that {folder} began with"]
    return [*lines, f"{len(fresh)} new images are left out: {_some(fresh)}"] if fresh else lines


def _recorded(folder: Path) -> Mapping[str, Any]:
    """What `write_split` wrote; empty if nothing did, or before the first checkpoint was."""
    try:
        record = json.loads(read_text(folder / SPLIT_FILE))
        names = [*record["train"], *record["val"]]
        if type(record["ranks"]) is int and all(isinstance(name, str) for name in names):
            return record
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise DataError(f"{folder / SPLIT_FILE}: is damaged; without it the split of the run is not known")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
