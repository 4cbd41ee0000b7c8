"""Predict images: class-id PNG, overlay with a legend, class shares."""

from __future__ import annotations

import argparse

from paddlefcn.commands.common import add_common, add_config, load, start
from paddlefcn.commands.network import add_inference, add_weights, inference, load_network
from paddlefcn.commands.outputs import (
    Classes,
    add_outputs,
    find_inputs,
    keep_sources,
    predict_all,
)
from paddlefcn.files import open_output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_weights(parser)
    add_outputs(parser)
    add_inference(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Writes NAME.png, NAME_overlay.png and shares.json; 1 if an input could not be read."""
    config = load(args)
    data = config.data
    keep_sources(args.output, [args.input, args.weights, args.config])
    inputs = find_inputs(args.input, args.output, figure=args.figure)
    start(args)
    import numpy as np
    import paddle

    from paddlefcn.build import build_resize, validate
    from paddlefcn.data.images import read_image
    from paddlefcn.data.loader import Prepare
    from paddlefcn.engine.evaluate import predict_label_map

    validate(config)
    prepare = Prepare(data.normalize, build_resize(config))
    way = inference(args, config)
    model = load_network(args, config)
    output = open_output(args.output, args.overwrite)

    def predict(image: np.ndarray) -> np.ndarray:
        tensor = paddle.to_tensor(prepare(image)[None])
        return predict_label_map(model, tensor, way, image.shape[:2])

    return predict_all(
        inputs,
        output,
        read=lambda file: read_image(file, data.normalize.channels, data.max_pixels),
        predict=predict,
        classes=Classes(data.classes, data.palette, data.ignore_index),
        figure=args.figure,
    )
