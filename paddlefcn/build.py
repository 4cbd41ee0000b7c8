"""The only place where a name in YAML meets a class.

`validate` checks every name and argument of a config against the classes' own signatures, before any
data or device is touched; the `build_*` functions make the objects.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from paddlefcn.arguments import Component, accepts, construct, describe
from paddlefcn.backbones import BACKBONES
from paddlefcn.config import Config
from paddlefcn.config.data_section import DATA_KEYS
from paddlefcn.data import DATASETS, TRANSFORMS
from paddlefcn.data.annotations.recognition import recognize
from paddlefcn.data.cache import CachedDataset
from paddlefcn.data.datasets import LabelReader, SegmentationDataset
from paddlefcn.data.growth import Growth
from paddlefcn.data.loader import TrainLoader
from paddlefcn.engine.freezing import freeze
from paddlefcn.errors import ConfigError, DataError
from paddlefcn.losses import WeightedLosses
from paddlefcn.losses.section import make_losses
from paddlefcn.models import MODELS, resolve
from paddlefcn.optim import OPTIMIZERS, SCHEDULES, Groups
from paddlefcn.preprocess import Preprocess

if TYPE_CHECKING:
    from paddle import nn
    from paddle.optimizer import Optimizer

    from paddlefcn.inference import Inference
    from paddlefcn.losses.class_weights import ClassCounts

_GIVEN_TO_SOURCES = ("root", "split", "classes", "ignore_index")
_GROUP_KEYS = ("head_lr_factor", "bias_lr_factor", "decay_bias", "decay_norm")


def validate(config: Config) -> None:
    """Checks every `type` and argument of the config, and of each of its stages.

    Raises:
        ConfigError: an unknown name, an unknown or missing argument, a wrong type; with the key's path.
    """
    for stage in config.stages:
        validate(stage)
    config.data.source.check(DATASETS, given=_GIVEN_TO_SOURCES, names=DATA_KEYS)
    if config.data.download and not hasattr(DATASETS[config.data.source.type], "download"):
        able = ", ".join(name for name, source in DATASETS.items() if hasattr(source, "download"))
        kind = config.data.source.type
        raise ConfigError(f"{config.file}: data.download: {kind} cannot be downloaded (only {able} can)")
    for transform in config.data.val_transforms:
        if transform.type != "Resize":
            raise ConfigError(
                f"{transform.where}.type: {transform.type!r}; what a deployed model does too may stand "
                "in val_transforms: Resize"
            )
    # what cannot be joined, or had with such arguments, is found by making it where that costs nothing
    build_label_reader(config)
    build_train_transforms(config)
    build_preprocess(config)
    _try_network(config)
    config.schedule.make(SCHEDULES, total=1)


def build_dataset(config: Config, split: str) -> SegmentationDataset:
    """The pairs of a split ("train", "val" or "test") with the reader of their masks."""
    data = config.data
    made = data.source.look_up(DATASETS)
    if data.download:
        made.download(data.root)
    labels = build_label_reader(config)
    # annotations name their regions: the source turns names into ids itself
    named = {"classes": list(data.classes), "ignore_index": data.ignore_index}
    given = {key: value for key, value in named.items() if accepts(made, key)}
    try:
        source = data.source.make(DATASETS, root=data.root, split=split, **given)
    except DataError as error:
        raise DataError(f"{error}{_place_hint(config)}") from None
    dataset = SegmentationDataset(source, labels, data.normalize.channels, data.max_pixels)
    # each validation image is read but once in a long while
    if data.cache is None or split != "train":
        return dataset
    return construct(CachedDataset, data.source.where, dataset=dataset, kind=data.cache)


def _place_hint(config: Config) -> str:
    """What may be wrong with a data set that was not found: the place, or the type."""
    data = config.data
    if not data.root.is_dir():
        given = config.tree.get("data", {}).get("root", ".")
        place = os.environ.get("PADDLEFCN_DATA")
        base = f"PADDLEFCN_DATA is {place}" if place else "PADDLEFCN_DATA is not set, so ./data counts"
        return f" (looked for data.root {given!r} as {data.root.absolute()}; {base})"
    kind = recognize(data.root)
    if kind is None or kind == data.source.type:
        return ""
    return f" ({data.root} looks like the export of an annotation tool: set data.type: {kind})"


def find_classes(config: Config, splits: Sequence[str]) -> list[str]:
    """The classes that the data themselves name, in the order of their ids.

    Annotations name them, in their tool's order; masks have numbers alone: background, class_1 and so on
    up to the highest that is not `ignore_index`.

    Raises:
        DataError: data that cannot be read.
    """
    data = config.data
    if accepts(data.source.look_up(DATASETS), "classes"):
        sources = [data.source.make(DATASETS, root=data.root, split=split, classes=None) for split in splits]
        return list(dict.fromkeys(name for source in sources for name in source.classes))
    highest = 1
    for split in splits:
        dataset = build_dataset(config, split)
        for index in range(len(dataset)):
            values = np.unique(dataset.read_mask(index))
            highest = max(highest, *(int(value) for value in values if value != data.ignore_index), 1)
    return ["background", *(f"class_{index}" for index in range(1, min(highest, 65534) + 1))]


def build_label_reader(config: Config) -> LabelReader:
    """What turns masks into class ids, as the data section says."""
    data = config.data
    return construct(
        LabelReader,
        data.source.where,
        num_classes=data.num_classes,
        ignore_index=data.ignore_index,
        label_map=data.label_map,
        color_table=data.color_table,
        threshold=data.threshold,
        max_pixels=data.max_pixels,
    )


def build_train_transforms(config: Config) -> list[Any]:
    """The augmentations of `data.train_transforms`, in their order."""
    return [_make_transform(config, item) for item in config.data.train_transforms]


def build_preprocess(config: Config) -> Preprocess:
    """The steps of `data.val_transforms` and the normalisation: what deployment does to an image too."""
    steps = tuple(_make_transform(config, item) for item in config.data.val_transforms)
    return Preprocess(steps, config.data.normalize)


def build_loader(
    config: Config, dataset: SegmentationDataset, *, start: int = 0, rank: int = 0, world_size: int = 1
) -> TrainLoader:
    """Endless augmented batches; a step of `train.accumulate` batches takes that many.

    `start`: the iterations before the stage that the loader is for, from which `train.sizes` counts. Rank
    `rank` of `world_size` gets its part of each joint batch.
    """
    train = config.train
    return TrainLoader(
        dataset,
        build_train_transforms(config),
        config.data.normalize,
        batch_size=train.batch_size,
        growth=Growth(train.batch_size, train.sizes, train.accumulate, start),
        seed=train.seed,
        num_workers=config.data.num_workers,
        on_bad_image=config.data.on_bad_image,
        rank=rank,
        world_size=world_size,
    )


def build_model(
    config: Config, *, pretrained: bool = True, say: Callable[[str], None] | None = None
) -> nn.Layer:
    """The network on its backbone, with the weights that `pretrained` names, if any.

    `say` is told which of their tensors did not simply load; stderr if None.
    """
    model, backbone, sources = _model_parts(config)
    built = backbone.make(BACKBONES, in_channels=config.data.normalize.channels)
    network = model.make(MODELS, backbone=built, num_classes=config.data.num_classes)
    if pretrained and any(sources.values()):
        from paddlefcn.weights import load_pretrained

        section = {"type": config.model.type, "backbone": backbone.to_dict(), **model.args}
        for what, layer in (("backbone", built), ("model", network)):
            source = sources[what]
            if source:
                normalize = config.data.normalize
                load_pretrained(layer, source, what=what, normalize=normalize, section=section, say=say)
    return network


def build_losses(config: Config, model: nn.Layer, counts: ClassCounts | None = None) -> WeightedLosses:
    """The loss entries with a weight for each output.

    Class weights that are to come from data follow from `counts`; without them there are none.

    Raises:
        ConfigError: an entry has another number of weights than the model has outputs.
    """
    return make_losses(config.loss, model, config.classes, counts)


def build_optimizer(config: Config, model: nn.Layer) -> Optimizer:
    """The optimizer over the model's parameter groups; its rate is set before every step.

    What `train.freeze` names is no part of it, and no gradient reaches it any more.
    """
    train = config.train
    where = f"{config.file}: train"
    construct(freeze, where, model=model, names=train.freeze, batch_norm=train.freeze_batch_norm)
    args = dict(config.optimizer.args)
    groups = Groups(**{key: args.pop(key) for key in _GROUP_KEYS if key in args})
    component = dataclasses.replace(config.optimizer, args=args)
    return component.make(OPTIMIZERS, model=model, groups=groups)


def build_schedule(config: Config, total: int) -> Any:
    """The learning rate as a function of the iteration, over a run of `total`."""
    return config.schedule.make(SCHEDULES, total=total)


def build_evaluation(config: Config) -> Inference:
    """How the evaluations inside a training run the network: whole images, or `train.eval_sliding`."""
    from paddlefcn.inference import SlidingWindow, WholeImage

    windows = config.train.eval_sliding
    if windows is None:
        return WholeImage()
    return SlidingWindow(windows[0], windows[1] if len(windows) == 2 else None)


def _model_parts(config: Config) -> tuple[Component, Component, dict[str, str | None]]:
    """The model and its backbone, both checked, and what each starts from, if anything."""
    args = dict(config.model.args)
    node = args.pop("backbone", {"type": config.model.look_up(MODELS).default_backbone})
    where = f"{config.model.where}.backbone"
    if isinstance(node, str):
        node = {"type": node}
    if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
        raise ConfigError(f"{where}: expected {{type: VGG16, …}}, got {describe(node)}")
    sources = {"model": args.pop("pretrained", None), "backbone": node.get("pretrained")}
    own = {key: value for key, value in node.items() if key not in ("type", "pretrained")}
    try:
        name, args, own = resolve(config.model.type, args, node["type"], own)
    except ValueError as error:
        raise ConfigError(f"{config.model.where}.{error}") from error
    model, backbone = Component(name, args, config.model.where), Component(node["type"], own, where)
    model.check(MODELS, given=("backbone", "num_classes"), names=("backbone", "pretrained"))
    backbone.check(BACKBONES, given=("in_channels",), names=("pretrained",))
    for part, source in ((model, sources["model"]), (backbone, sources["backbone"])):
        if source is not None and not isinstance(source, str):
            raise ConfigError(
                f"{part.where}.pretrained: expected a path, URL or name, got {describe(source)}"
            )
    return model, backbone, sources


def _try_network(config: Config) -> None:
    """Joins what a network is trained with; no value is drawn, and no name used up."""
    import paddle
    from paddle.utils import unique_name

    with paddle.LazyGuard(), unique_name.guard():
        model = build_model(config, pretrained=False)
        make_losses(config.loss, model, config.classes)
        config.optimizer.check(OPTIMIZERS, given=("model", "groups"), extra=Groups)
        build_optimizer(config, model)


def _make_transform(config: Config, component: Component) -> Any:
    made, normalize = component.look_up(TRANSFORMS), config.data.normalize
    known: dict[str, Any] = {"ignore_index": config.data.ignore_index, "num_classes": config.data.num_classes}
    known["fill"] = list(normalize.fill)  # what becomes 0, as padding does
    given = {key: known[key] for key in known if accepts(made, key) and key not in component.args}
    return component.make(TRANSFORMS, **given)
