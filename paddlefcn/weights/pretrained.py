"""`pretrained:` in a config: a path, a URL or a name, downloaded once and put into the network."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from paddlefcn.bars import byte_bar
from paddlefcn.errors import RunError, UserError, WeightsError
from paddlefcn.files import cache_folder
from paddlefcn.weights.fitting import ImportReport, load_foreign
from paddlefcn.weights.foreign import MODEL_KEY, read_foreign
from paddlefcn.weights.loading import check_normalize
from paddlefcn.weights.networks import check_made_for, vgg_name
from paddlefcn.weights.state import resolve_weights

MAX_BYTES = 4 * 2**30  # of a download; the largest published file here has 0.55 GB
MAX_SECONDS = 6 * 3600.0
_PADDLE = "https://paddle-hapi.bj.bcebos.com/models/"
_TORCHVISION = "https://download.pytorch.org/models/"
_BERKELEY = "http://dl.caffe.berkeleyvision.org/"


@dataclass(frozen=True)
class Published:
    """A file at its official address; `checksum` is `md5:HEX` or `sha256:HEX`, a prefix will do.

    Empty where none has been published.
    """

    url: str
    checksum: str = ""


# paddle.vision.models.vgg gives the MD5s; torchvision puts the first 8 digits of the SHA-256 into
# its file names; the FCN authors published none
PUBLISHED = {
    "imagenet": {
        "vgg16": Published(f"{_PADDLE}vgg16.pdparams", "md5:89bbffc0f87d260be9b8cdc169c991c4"),
        "vgg19": Published(f"{_PADDLE}vgg19.pdparams", "md5:23b18bb13d8894f60f54e642be79a0dd"),
    },
    "torchvision": {
        name.split("-")[0]: Published(f"{_TORCHVISION}{name}.pth", f"sha256:{name[-8:]}")
        for name in (
            "vgg11-8a719046",
            "vgg13-19584684",
            "vgg16-397923af",
            "vgg19-dcbb9e9d",
            "vgg11_bn-6002323d",
            "vgg13_bn-abd245e5",
            "vgg16_bn-6c64b313",
            "vgg19_bn-c79401a0",
        )
    },
    "berkeley": {
        "FCN32s": Published(f"{_BERKELEY}fcn32s-heavy-pascal.caffemodel"),
        "FCN16s": Published(f"{_BERKELEY}fcn16s-heavy-pascal.caffemodel"),
        "FCN8s": Published(f"{_BERKELEY}fcn8s-heavy-pascal.caffemodel"),
        "FCN8sAtOnce": Published(f"{_BERKELEY}fcn8s-atonce-pascal.caffemodel"),
        "FCNAlexNet": Published(f"{_BERKELEY}fcn-alexnet-pascal.caffemodel"),
    },
}
# Paddle publishes two of the eight; torchvision's, trained on equal images, stand in for the rest
PUBLISHED["imagenet"] = {**PUBLISHED["torchvision"], **PUBLISHED["imagenet"]}


def load_pretrained(
    layer: Any,
    source: str | Path,
    *,
    what: str,
    normalize: Any = None,
    section: Mapping[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> ImportReport:
    """Put published or foreign weights into a backbone or a model.

    `source` is a file of any format `import-weights` reads, a checkpoint's or run's folder, an
    http(s) URL (`#sha256=HEX` or `#md5=HEX` behind it is checked), or a name: `imagenet`,
    `torchvision` (by the backbone), `berkeley` (by the model). If the weights say how their images
    were normalised, `normalize` must agree; if they say for which network they were made, the `model`
    `section` of the recipe must fit. `say` (stderr if None) is told what did not simply load.
    Raises WeightsError.
    """
    path = fetch(layer, str(source), what=what)
    foreign = read_foreign(path)
    if normalize is not None:
        check_normalize(foreign.metadata, normalize, what=f"{what}.pretrained {source}")
    notes = _made_for(foreign.metadata, section, f"{what}.pretrained {source}")
    report = load_foreign(layer, foreign, what=f"{what}.pretrained {source}")
    text = "\n".join([report.table(all_rows=False), *notes])
    if say is None:
        print(text, file=sys.stderr, flush=True)
    else:
        say(text)
    return report


def _made_for(metadata: Mapping[str, str], section: Mapping[str, Any] | None, what: str) -> list[str]:
    """Notes on arguments that the weights were made with and the recipe lacks; see `check_made_for`."""
    try:
        made = json.loads(metadata.get(MODEL_KEY, ""))
    except ValueError:
        return []  # the weights of a run hold the name of their model there
    if section is None or not isinstance(made, dict) or not isinstance(made.get("backbone"), dict):
        return []
    return check_made_for(made, section, what=what)


def fetch(layer: Any, source: str, *, what: str) -> Path:
    """The local file of a path, URL or name; downloads into the cache what is not there yet."""
    if source in PUBLISHED and layer is not None:
        return download_once(_published(layer, source, what))
    if re.match(r"https?://", source):
        address, _, fragment = source.partition("#")
        found = re.fullmatch(r"(sha256|md5)=([0-9a-fA-F]{8,64})", fragment)
        if fragment and not found:
            raise WeightsError(f"{address}: #{fragment[:40]} is neither #sha256=HEX nor #md5=HEX")
        return download_once(Published(address, f"{found[1]}:{found[2].lower()}" if found else ""))
    if layer is not None and not Path(source).exists() and re.fullmatch(r"[\w-]+", source):
        names = ", ".join(sorted(PUBLISHED))
        raise WeightsError(f"{what}.pretrained: {source!r} is no file and none of {names}")
    return resolve_weights(source)


def _published(layer: Any, name: str, what: str) -> Published:
    table = PUBLISHED[name]
    if name == "berkeley":
        wanted = type(layer).__name__.removeprefix("Published")
        reason = f"the FCN authors published {', '.join(table)}, not {wanted}"
    else:
        wanted = _architecture(layer)
        reason = f"{name} weights exist for {', '.join(sorted(table))}; this backbone is {wanted}"
    if wanted not in table:
        raise WeightsError(f"{what}.pretrained: {reason}")
    return table[wanted]


def _architecture(layer: Any) -> str:
    """vgg16, vgg16_bn, … of a backbone, or of a model's; other widths are said."""
    shapes = {name.replace("backbone.", "", 1): tensor.shape for name, tensor in layer.state_dict().items()}
    stages = [re.match(r"conv(\d)_\d+\.conv\.weight$", name) for name in shapes]
    counts = [0] * 5
    for match in stages:
        if match and 1 <= int(match[1]) <= 5:
            counts[int(match[1]) - 1] += 1
    found = vgg_name(counts).lower()
    if shapes.get("conv1_1.conv.weight", [64])[0] != 64:
        return f"{found} of another width"
    return found + ("_bn" if "conv1_1.bn.weight" in shapes else "")


def download_once(published: Published) -> Path:
    """The cached file of an address, downloaded if it is not there. Raises WeightsError offline."""
    address = urlsplit(published.url)
    name = Path(address.path).name
    if not name:
        raise WeightsError(f"{published.url}: names no file")
    # two addresses may end in one name
    digest = hashlib.sha256(published.url.encode()).hexdigest()[:8]
    known = published.url.startswith((_PADDLE, _TORCHVISION, _BERKELEY))
    target = cache_folder() / (name if known else f"{digest}-{name}")
    if not os.path.lexists(target):
        _download(published, target)
    _verify(target, published.checksum)
    return target


def _download(published: Published, target: Path) -> None:
    from paddlefcn.data.download import download

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with byte_bar(target.name) as progress:
            download(
                published.url,
                target,
                checksum=published.checksum or None,
                progress=progress,
                max_bytes=MAX_BYTES,
                max_seconds=MAX_SECONDS,
            )
    except (UserError, RunError, OSError) as error:
        raise WeightsError(
            f"{published.url} could not be downloaded ({' '.join(str(error).split())[:200]}); without a"
            f" connection, put the file at {target}"
        ) from error


def _verify(path: Path, checksum: str) -> None:
    if not checksum:
        return
    kind, _, wanted = checksum.partition(":")
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    if not digest.hexdigest().startswith(wanted):
        raise WeightsError(
            f"{path}: its {kind} is {digest.hexdigest()}, not {wanted}: damaged or another file;"
            " delete it and try again"
        )
