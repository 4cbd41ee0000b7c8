"""The only place where a name in YAML meets a class.

`validate` checks every name and argument of a config against the classes' own signatures, before any
data or device is touched; the `build_*` functions make the objects.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from paddlefcn.arguments import accepts, check_arguments, construct, describe, is_number, nearest
from paddlefcn.backbones import BACKBONES
from paddlefcn.class_weights import check_rule
from paddlefcn.config import Component, Config
from paddlefcn.config.data_section import DATA_KEYS
from paddlefcn.data import DATASETS, TRANSFORMS
from paddlefcn.data.annotations.recognition import recognize
from paddlefcn.data.cache import CachedDataset
from paddlefcn.data.datasets import LabelReader, SegmentationDataset
from paddlefcn.data.growth import Growth, Phase
from paddlefcn.data.loader import TrainLoader
from paddlefcn.data.transforms import Compose
from paddlefcn.errors import ConfigError, DataError
from paddlefcn.losses import LOSSES, LossEntry, WeightedLosses
from paddlefcn.models import MODELS, resolve
from paddlefcn.optim import LOSS_SCALED, OPTIMIZERS, SCHEDULES, Groups, rate_warning
from paddlefcn.preprocess import Preprocess

if TYPE_CHECKING:
    from paddle import nn
    from paddle.optimizer import Optimizer

    from paddlefcn.inference import Inference

Table = Mapping[str, Any]
T = TypeVar("T")
_GIVEN_TO_SOURCES = ("root", "split", "classes", "ignore_index")
_GROUP_KEYS = ("head_lr_factor", "bias_lr_factor", "decay_bias", "decay_norm")


def validate(config: Config) -> None:
    """Checks every `type` and argument of the config, and of each of its stages.

    Raises:
        ConfigError: an unknown name, an unknown or missing argument, a wrong type; with the key's path.
    """
    for stage in config.stages:
        validate(stage)
    _check_source(config)
    build_label_reader(config)
    for transform in config.data.train_transforms:
        _make_transform(config, transform)
    for transform in config.data.val_transforms:
        if transform.type != "Resize":
            raise ConfigError(
                f"{transform.where}.type: {transform.type!r}; what a deployed model does too may stand "
                "in val_transforms: Resize"
            )
        _make_transform(config, transform)
    _growth(config, 0)
    _check_model(config)
    _check_losses(config)
    _check_arguments(OPTIMIZERS, config.optimizer, given=("model", "groups"), extra=Groups)
    _check_arguments(SCHEDULES, config.schedule, given=("total",))
    build_schedule(config, total=1)
    if config.train.eval_sliding is not None:
        build_evaluation(config)


def build_dataset(config: Config, split: str) -> SegmentationDataset:
    """The pairs of a split ("train", "val" or "test") with the reader of their masks."""
    data = config.data
    args = _checked(DATASETS, data.source, given=_GIVEN_TO_SOURCES)
    made = DATASETS[data.source.type]
    if data.download:
        made.download(data.root)
    # annotations name their regions: the source turns names into ids itself
    for key, value in (("classes", list(data.classes)), ("ignore_index", data.ignore_index)):
        if accepts(made, key):
            args[key] = value
    try:
        source = _construct(made, data.source, root=data.root, split=split, **args)
    except DataError as error:
        raise DataError(f"{error}{_place_hint(config)}") from None
    labels = build_label_reader(config)
    dataset = SegmentationDataset(source, labels, data.normalize.channels, data.max_pixels)
    # each validation image is read but once in a long while
    if data.cache is None or split != "train":
        return dataset
    return _construct(CachedDataset, data.source, dataset=dataset, kind=data.cache)


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
    made = _lookup(DATASETS, data.source)
    if accepts(made, "classes"):
        args = _checked(DATASETS, data.source, given=_GIVEN_TO_SOURCES)
        sources = [
            _construct(made, data.source, root=data.root, split=split, classes=None, **args)
            for split in splits
        ]
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
    return _construct(
        LabelReader,
        data.source,
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
    return TrainLoader(
        dataset,
        build_train_transforms(config),
        config.data.normalize,
        batch_size=config.train.batch_size,
        growth=_growth(config, start),
        seed=config.train.seed,
        num_workers=config.data.num_workers,
        on_bad_image=config.data.on_bad_image,
        rank=rank,
        world_size=world_size,
    )


def _growth(config: Config, start: int) -> Growth:
    """The sizes that the stage goes through, checked."""
    where, phases = f"{config.file}: train.sizes", []
    for number, values in enumerate(config.train.sizes):
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where}.{number}: expected {{until: …, scale: …}}, got {describe(values)}")
        check_arguments(Phase, values, where=f"{where}.{number}", name="a phase")
        phases.append(construct(Phase, f"{where}.{number}", **values))
    train = config.train
    return construct(
        Growth,
        where,
        batch_size=train.batch_size,
        phases=tuple(phases),
        accumulate=train.accumulate,
        start=start,
    )


def build_model(
    config: Config, *, pretrained: bool = True, say: Callable[[str], None] | None = None
) -> nn.Layer:
    """The network on its backbone, with the weights that `pretrained` names, if any.

    `say` is told which of their tensors did not simply load; stderr if None.
    """
    model_class, model_args, backbone, backbone_args = _model_parts(config)
    sources = {"model": model_args.pop("pretrained", None), "backbone": backbone_args.pop("pretrained", None)}
    built = _construct(
        BACKBONES[backbone.type], backbone, in_channels=config.data.normalize.channels, **backbone_args
    )
    num_classes = config.data.num_classes
    model = _construct(model_class, config.model, backbone=built, num_classes=num_classes, **model_args)
    if pretrained and any(sources.values()):
        from paddlefcn.weights import load_pretrained

        section = {
            "type": config.model.type,
            "backbone": {"type": backbone.type, **backbone_args},
            **model_args,
        }
        for what, layer in (("backbone", built), ("model", model)):
            if sources[what]:
                load_pretrained(
                    layer,
                    sources[what],
                    what=what,
                    normalize=config.data.normalize,
                    section=section,
                    say=say,
                )
    return model


def build_losses(config: Config, model: nn.Layer) -> WeightedLosses:
    """The loss entries with a weight for each output.

    Class weights that are to come from data are left out here: `with_class_weights` puts the numbers in.

    Raises:
        ConfigError: an entry has another number of weights than the model has outputs.
    """
    entries = []
    for component in config.loss:
        args = _loss_arguments(component)
        weights = args.pop("weights", list(model.output_weights))
        if len(weights) != model.num_outputs:
            raise ConfigError(
                f"{component.where}.weights: {len(weights)} weights, but {config.model.type} has "
                f"{model.num_outputs} outputs in training, the main one first"
            )
        if accepts(LOSSES[component.type], "ignore_index"):
            args.setdefault("ignore_index", config.data.ignore_index)
        entries.append(LossEntry(_construct(LOSSES[component.type], component, **args), weights))
    return WeightedLosses(entries)


def build_optimizer(config: Config, model: nn.Layer) -> Optimizer:
    """The optimizer over the model's parameter groups; its rate is set before every step."""
    args = dict(config.optimizer.args)
    groups = Groups(**{key: args.pop(key) for key in _GROUP_KEYS if key in args})
    return _construct(OPTIMIZERS[config.optimizer.type], config.optimizer, model=model, groups=groups, **args)


def build_schedule(config: Config, total: int) -> Any:
    """The learning rate as a function of the iteration, over a run of `total`."""
    args = _checked(SCHEDULES, config.schedule, given=("total",))
    return _construct(SCHEDULES[config.schedule.type], config.schedule, total=total, **args)


def build_evaluation(config: Config) -> Inference:
    """How the evaluations inside a training run the network: whole images, or `train.eval_sliding`."""
    from paddlefcn.inference import SlidingWindow, WholeImage

    windows = config.train.eval_sliding
    if windows is None:
        return WholeImage()
    return construct(
        SlidingWindow, f"{config.file}: train.eval_sliding", **dict(zip(("size", "stride"), windows))
    )


def check_rate(config: Config, dataset: SegmentationDataset, *, trained: bool = False) -> str | None:
    """A warning if the learning rate is wrong by orders of magnitude for the loss's reduction.

    `dataset` is the training split, whose first images tell how many pixels a batch has; `trained` says
    that the network starts from one trained for the same task.
    """
    if config.optimizer.type not in LOSS_SCALED:
        return None
    pixels = _pixels_per_batch(config, dataset)
    if not pixels:
        return None
    # one sum outweighs every mean beside it, and is over all batches of a step
    summed = any(_reduction(loss) == "sum" for loss in config.loss)
    warning = rate_warning(
        build_schedule(config, total=1).learning_rate,
        reduction="sum" if summed else "mean",
        pixels=pixels * (config.train.accumulate if summed else 1),
        trained=trained or bool(config.model.args.get("pretrained")),
    )
    return warning and f"{config.schedule.where}: {warning}"


def _reduction(loss: Component) -> Any:
    parameter = inspect.signature(LOSSES[loss.type]).parameters.get("reduction")
    return loss.args.get("reduction", parameter.default if parameter else "mean")


def _pixels_per_batch(config: Config, dataset: SegmentationDataset) -> int:
    """From the first four images, augmented as in training; 0 if none of them can be read."""
    augment, areas = Compose(build_train_transforms(config)), []
    for index in range(min(4, len(dataset))):
        try:
            image, label = dataset.read(index)
        except DataError:
            continue  # the loader says so, when it comes to it
        areas.append(augment(image, label, np.random.default_rng(index))[1].size)
    return config.train.batch_size * sum(areas) // max(1, len(areas))


# ---- names and arguments ---------------------------------------------------------------------------


def _model_parts(config: Config) -> tuple[Any, dict[str, Any], Component, dict[str, Any]]:
    """The model's class and arguments, its backbone's component and arguments, all checked."""
    model_class, args = _lookup(MODELS, config.model), dict(config.model.args)
    node = args.pop("backbone", {"type": model_class.default_backbone})
    where = f"{config.model.where}.backbone"
    if isinstance(node, str):
        node = {"type": node}
    if not isinstance(node, Mapping) or not isinstance(node.get("type"), str):
        raise ConfigError(f"{where}: expected {{type: VGG16, …}}, got {describe(node)}")
    pretrained = {"model": args.pop("pretrained", None), "backbone": node.get("pretrained")}
    own = {key: value for key, value in node.items() if key not in ("type", "pretrained")}
    try:
        name, args, own = resolve(config.model.type, args, node["type"], own)
    except ValueError as error:
        raise ConfigError(f"{config.model.where}.{error}") from error
    model, backbone = Component(name, args, config.model.where), Component(node["type"], own, where)
    _check_arguments(MODELS, model, given=("backbone", "num_classes"), names=("backbone", "pretrained"))
    _check_arguments(BACKBONES, backbone, given=("in_channels",), names=("pretrained",))
    model_args = {**args, "pretrained": pretrained["model"]}
    return MODELS[name], model_args, backbone, {**own, "pretrained": pretrained["backbone"]}


def _check_model(config: Config) -> None:
    _, model_args, backbone, backbone_args = _model_parts(config)
    for where, args in ((config.model.where, model_args), (backbone.where, backbone_args)):
        source = args["pretrained"]
        if source is not None and not isinstance(source, str):
            raise ConfigError(f"{where}.pretrained: expected a path, URL or name, got {describe(source)}")
    import paddle
    from paddle.utils import unique_name

    # parts that do not go together (SegNet off VGG, FCN8s at output_stride 8) are found by joining them;
    # no value is drawn, and no name used up
    with paddle.LazyGuard(), unique_name.guard():
        build_model(config, pretrained=False)


def _check_source(config: Config) -> None:
    _check_arguments(DATASETS, config.data.source, _GIVEN_TO_SOURCES, names=DATA_KEYS)
    if config.data.download and not hasattr(DATASETS[config.data.source.type], "download"):
        able = ", ".join(name for name, source in DATASETS.items() if hasattr(source, "download"))
        kind = config.data.source.type
        raise ConfigError(f"{config.file}: data.download: {kind} cannot be downloaded (only {able} can)")


def _make_transform(config: Config, component: Component) -> Any:
    made = _lookup(TRANSFORMS, component)
    injected: dict[str, Any] = {}
    if accepts(made, "ignore_index"):
        injected["ignore_index"] = config.data.ignore_index
    if accepts(made, "num_classes"):
        injected["num_classes"] = config.data.num_classes
    if accepts(made, "fill"):
        # what a pixel of the data set's mean looks like before normalisation, in the file's own order
        fill = [mean * config.data.normalize.scale for mean in config.data.normalize.mean]
        injected["fill"] = fill[::-1] if config.data.normalize.order == "BGR" and len(fill) == 3 else fill
    given = tuple(key for key in injected if key not in component.args)
    return _construct(made, component, **{**injected, **_checked(TRANSFORMS, component, given=given)})


def _loss_arguments(component: Component) -> dict[str, Any]:
    args = dict(component.args)
    weights = args.pop("weights", None)
    class_weights = args.get("class_weights")
    if isinstance(class_weights, Mapping) and accepts(_lookup(LOSSES, component), "class_weights"):
        check_rule(args.pop("class_weights"), f"{component.where}.class_weights")
    _check_arguments(LOSSES, Component(component.type, args, component.where), (), names=("weights",))
    if weights is None:
        return args
    numbers = isinstance(weights, list) and weights and all(is_number(weight) for weight in weights)
    if not numbers or min(weights) < 0 or not any(weights):
        raise ConfigError(
            f"{component.where}.weights: expected one factor an output, such as [1.0, 0.4], "
            f"got {describe(weights)}"
        )
    return {**args, "weights": [float(weight) for weight in weights]}


def _check_losses(config: Config) -> None:
    if not config.loss:
        raise ConfigError(f"{config.file}: loss: expected a list of {{type: …}}, such as CrossEntropy")
    given = []
    for component in config.loss:
        given.append(_loss_arguments(component).get("weights"))
        _check_class_weights(config, component)
    # the main output is what is evaluated and used, and in eval mode it is the only one there is
    if all(weights is not None and not weights[0] for weights in given):
        raise ConfigError(
            f"{config.loss[0].where}.weights: the first weight is the main output's and must be above 0, "
            f"got {describe(given[0])}"
        )


def _check_class_weights(config: Config, component: Component) -> None:
    weights = component.args.get("class_weights")
    if weights is not None and not isinstance(weights, Mapping) and len(weights) != config.data.num_classes:
        raise ConfigError(
            f"{component.where}.class_weights: {len(weights)} factors for {config.data.num_classes} classes"
        )


def _lookup(table: Table, component: Component) -> Any:
    if component.type not in table:
        raise ConfigError(
            f"{component.where}.type: unknown {component.type!r}{nearest(component.type, table)}"
        )
    return table[component.type]


def _checked(table: Table, component: Component, given: tuple[str, ...]) -> dict[str, Any]:
    _check_arguments(table, component, given)
    return dict(component.args)


def _check_arguments(
    table: Table,
    component: Component,
    given: tuple[str, ...],
    extra: type | None = None,
    names: tuple[str, ...] = (),
) -> None:
    """Arguments against the signature: unknown, missing, wrong type. `given` are passed by build."""
    check_arguments(
        _lookup(table, component),
        component.args,
        where=component.where,
        name=component.type,
        given=given,
        extra=extra,
        names=names,
    )


def _construct(made: Callable[..., T], component: Component, **arguments: Any) -> T:
    return construct(made, component.where, **arguments)
