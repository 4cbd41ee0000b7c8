"""Turn weights of torchvision, timm, Caffe, pytorch-fcn or Paddle into a file of this library.

Nothing from the file is run. What was loaded, reshaped, left and missing is listed; the way its
images were normalised goes with the weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddlefcn.commands.common import add_common, start
from paddlefcn.errors import OutputError, WeightsError
from paddlefcn.files import naming_errors
from paddlefcn.ownership import check_file, is_device

if TYPE_CHECKING:
    from paddlefcn.weights.entries import Network
    from paddlefcn.weights.foreign import Foreign

# paddlefcn.weights.foreign has the same: importing it here would import numpy for --help
FORMATS = ("auto", "torchvision", "timm", "paddle", "paddleseg", "smp", "caffe", "pytorch-fcn")
IMAGES = ("imagenet", "caffe", "fcn")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--input", required=True, metavar="FILE_OR_URL", help="the foreign weight file")
    parser.add_argument("--format", choices=FORMATS, default="auto", help="whose it is (default: auto)")
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a model (FCN8s) or backbone (VGG16); default: what the file holds. For the FCN authors'"
        " and pytorch-fcn's files a model means the published network (reference padding)",
    )
    parser.add_argument("--output", required=True, metavar="OUT.safetensors")
    parser.add_argument(
        "--fc-channels", type=_positive, metavar="N", help="subsample fc6 and fc7 to N channels, as DeepLab"
    )
    parser.add_argument(
        "--fc6-kernel", type=_positive, metavar="K", help="subsample fc6's kernel to KxK, as DeepLab"
    )
    parser.add_argument(
        "--images",
        choices=IMAGES,
        help="how the network's images were normalised, if not as its library does: imagenet (RGB), caffe"
        " (BGR minus VGG's mean), fcn (BGR minus the FCN authors' mean)",
    )
    parser.add_argument("--verify", metavar="IMAGE", help="run the network on it and write OUT.png")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output file")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 0."""
    output = Path(args.output)
    _check_output(output, args)
    start(args)

    from paddlefcn.weights import save_state
    from paddlefcn.weights.fitting import load_foreign, subsample_fc
    from paddlefcn.weights.foreign import OWN, read_foreign
    from paddlefcn.weights.networks import build, describe
    from paddlefcn.weights.pretrained import fetch

    path = fetch(None, args.input, what="--input")
    foreign = read_foreign(path, args.format, images=args.images)
    if foreign.format == OWN:
        raise WeightsError(f"{path}: is this library's own; give it as --weights or pretrained as it is")
    foreign.entries = subsample_fc(foreign.entries, args.fc_channels, args.fc6_kernel)
    network = describe(foreign, foreign.entries, args.model)
    if network.model is None and (args.fc_channels or args.fc6_kernel):
        raise WeightsError(
            f"--fc-channels, --fc6-kernel: {path} goes into the backbone {network.backbone['type']}, which"
            " has no fc6 and fc7; add --model FCN8s, or leave them out"
        )
    if args.verify and not foreign.segments:
        raise WeightsError(f"--verify: {path} has no score layers, so it segments nothing yet")
    layer = build(network)
    report = load_foreign(layer, foreign, what=f"{path.name} -> {network.model or network.backbone['type']}")
    print(report.table())

    came = {name for action in ("loaded", "reshaped", "folded") for name in report.names(action)}
    state = {name: tensor for name, tensor in layer.state_dict().items() if name in came}
    save_state(state, output, _metadata(foreign, network))
    print(f"{output}: {len(state)} tensors")
    if foreign.assumed:
        print(f"assumed, as the file cannot say ({foreign.format}'s defaults): {', '.join(foreign.assumed)}")
    if args.verify:
        _verify(layer, foreign, Path(args.verify), output.with_suffix(".png"))
    print(_advice(foreign, network, output))
    return 0


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0")
    return value


def _check_output(output: Path, args: argparse.Namespace) -> None:
    if output.suffix != ".safetensors":
        raise OutputError(f"--output {output}: its name must end in .safetensors")
    inputs = [args.input, *([args.verify] if args.verify else [])]
    for file in [output, *([output.with_suffix(".png")] if args.verify else [])]:
        check_file("--output", file, overwrite=args.overwrite, inputs=inputs)
        if is_device(file):
            raise OutputError(f"--output {file}: is a device; give a file")
    with naming_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)


def _metadata(foreign: Foreign, network: Network) -> dict[str, str]:
    from paddlefcn import __version__

    return {
        **foreign.metadata,
        "paddlefcn.version": __version__,
        "paddlefcn.source": f"{foreign.path.name} ({foreign.format})",
        "paddlefcn.model": json.dumps(network.config()),
        **({"paddlefcn.assumed": ", ".join(foreign.assumed)} if foreign.assumed else {}),
    }


def _verify(layer: Any, foreign: Foreign, image_file: Path, target: Path) -> None:
    """The network's class ids of an image, as a palette PNG."""
    import numpy as np
    import paddle

    from paddlefcn.classes import Classes
    from paddlefcn.data.images import read_image
    from paddlefcn.label_maps import label_map
    from paddlefcn.visualize import write_palette_png

    normalize = carried_normalize(foreign)
    image = read_image(image_file, normalize.channels)
    layer.eval()
    with paddle.no_grad():
        scores = layer(paddle.to_tensor(normalize(image)[None]))[0].numpy()[0]
    labels = label_map(scores)
    # the file knows no names; the colours are VOC's
    write_palette_png(target, labels, Classes(tuple(f"class {index}" for index in range(len(scores)))))
    ids, counts = np.unique(labels, return_counts=True)
    shares = ", ".join(f"{i} {100 * n / labels.size:.1f} %" for i, n in zip(ids.tolist(), counts.tolist()))
    print(f"{target}: {labels.shape[0]}x{labels.shape[1]}, classes {shares}")


def carried_normalize(foreign: Foreign) -> Any:
    """The Normalize that a file's weights were made for."""
    from paddlefcn.data.images import Normalize
    from paddlefcn.weights.loading import NORMALIZE_KEY

    if NORMALIZE_KEY not in foreign.metadata:
        raise WeightsError(f"{foreign.path}: does not say how its images were normalised; give --images")
    return Normalize.from_dict(json.loads(foreign.metadata[NORMALIZE_KEY]))


def _advice(foreign: Foreign, network: Network, output: Path) -> str:
    """What a config says to use the file."""
    from paddlefcn.weights.loading import NORMALIZE_KEY

    model = network.config()
    (model["backbone"] if network.model is None else model)["pretrained"] = str(output)
    lines = ["in a config:"]
    if NORMALIZE_KEY in foreign.metadata:
        normalize = json.loads(foreign.metadata[NORMALIZE_KEY])
        lines.append(f"  data: {_in_one_line({'normalize': normalize})}")
    lines.append(f"  model: {_in_one_line(model)}")
    if network.model is None and any(entry.name.startswith("fc6.") for entry in foreign.entries):
        lines.append("fc6 and fc7 of the file were left out; --model FCN8s takes them too")
    return "\n".join(lines)


def _in_one_line(value: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()
