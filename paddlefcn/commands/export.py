"""Export a trained network (Paddle, ONNX, OpenVINO) and prove that it predicts the same."""

from __future__ import annotations

import argparse

from paddlefcn.commands.common import add_common, add_config, load
from paddlefcn.commands.network import add_weights


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config(parser)
    add_weights(parser)
    parser.add_argument("--output", required=True, metavar="DIR", help="where the export goes")
    parser.add_argument("--format", default="paddle", help="paddle (default), onnx or openvino")
    parser.add_argument(
        "--precision", default="fp32", help="fp32 (default), bf16 (not onnx) or int8, which are scored too"
    )
    parser.add_argument(
        "--outputs", default="logits", help="logits (default), or labels: class ids, decided by the program"
    )
    parser.add_argument(
        "--max-loss",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="mean IoU, of 100, that bf16 and int8 may lose (default: 0.5)",
    )
    parser.add_argument("--split", default="val", help="what they are scored on (default: val)")
    parser.add_argument("--overwrite", action="store_true", help="replace an export there")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Writes model, parameters and deploy.yaml; fails if an engine disagrees with the network."""
    config = load(args)
    from paddlefcn.deploy.export import export
    from paddlefcn.deploy.targets import Scoring, Target

    tree = export(
        config,
        args.weights,
        args.output,
        overwrite=args.overwrite,
        device=args.device,
        target=Target(args.format, args.precision, args.outputs),
        scoring=Scoring(args.split, args.max_loss),
        on_parity=lambda found: print(found, flush=True),
    )
    if "tensorrt" in tree:
        print(f"TensorRT reads it too; not tried here: {tree['tensorrt']['command']}")
    print(f"exported to {args.output}; next: paddlefcn infer --model {args.output} --input … --output …")
    return 0
