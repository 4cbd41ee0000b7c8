"""Everything that comes from outside, mutated: what comes out is a value or one readable error.

    pytest tests/test_fuzz*.py                                  # a few cases of each kind
    PADDLEFCN_FUZZ_CASES=10000 pytest tests/test_fuzz*.py -s    # so many cases in all, and their counts

`fuzzing.py` says what a case may do; kinds that got through once are in test_fuzz_files.py and _texts.py.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from fuzzing import allowed, bounded_memory, fuzz, mutated  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from paddlefcn import build
from paddlefcn.config import load_config
from paddlefcn.data.checks import quick_look
from paddlefcn.data.datasets import VOC, Folder, ListFile, SegmentationDataset
from paddlefcn.data.images import read_image, read_mask
from paddlefcn.data.labels import LabelReader
from paddlefcn.deploy.deployment import load_deployment
from paddlefcn.engine.checkpoint import Checkpoints, State
from paddlefcn.weights import read_state_and_metadata, save_state
from paddlefcn.weights.foreign import read_foreign
from paddlefcn.yaml_files import apply_options

REPO = Path(__file__).resolve().parents[1]
FIXTURES = REPO / "tests" / "weights" / "fixtures"
pytestmark = pytest.mark.usefixtures("bounded_memory")


# ---- mutations -------------------------------------------------------------------------------------


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from((255, 256, 65535, 10**6, 2**31, 2**63, 10**30, -(10**30))),
    st.sampled_from((0.0, -0.5, 0.999, 1.5, 1e-300, 1e300, float("inf"), float("nan"))),
    st.sampled_from(("", "0", "1e-4", "VGG16", "FCN8s", "CrossEntropy", "skip 3", "null", "\0", "a" * 5000)),
    st.text(max_size=8),
    st.lists(st.one_of(st.none(), st.integers(-2, 300), st.floats(), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 300)), st.integers(-1, 300), max_size=3),
    st.fixed_dictionaries({"type": st.sampled_from(("VGG16", "Resize", "Poly", "Adam", "Dice", "x"))}),
)


def spots(node, path=()):
    """The path of every value in a tree."""
    found = [path] if path else []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += spots(value, (*path, key))
    return found


@st.composite
def mutated_tree(draw, trees):
    """One of the trees with values replaced, keys dropped, renamed and added."""
    tree = copy.deepcopy(draw(st.sampled_from(trees)))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(spots(tree) or [()]))
        if not path:
            break
        node = tree
        for key in path[:-1]:
            node = node[key]
        how = draw(st.sampled_from(("replace", "replace", "drop", "rename", "add")))
        if how == "replace":
            node[path[-1]] = draw(ODD)
        elif how == "drop":
            del node[path[-1]]
        elif isinstance(node, dict):
            name = draw(st.one_of(st.text(max_size=6), st.integers(0, 5), st.just(f"{path[-1]}s")))
            node[name] = node.pop(path[-1]) if how == "rename" else draw(ODD)
        else:
            node.insert(0, draw(ODD))
    return tree


def recipes() -> list[dict]:
    """Shipped recipes with their bases, and one that uses keys which those do not."""
    from conftest import TINY

    from paddlefcn.yaml_files import load_yaml

    trees = [load_yaml(path) for path in sorted((REPO / "configs").glob("*.yml"))]
    rich = yaml.safe_load(TINY)
    rich["data"] |= {
        "type": "Folder",
        "root": "x",
        "label_map": {0: 0, 255: 1},
        "palette": [[0, 0, index] for index in range(6)],
        "val_transforms": [{"type": "Resize", "short": 64}],
        "on_bad_image": "skip",
        "max_pixels": 1000,
    }
    for key in ("size", "train_images", "val_images"):
        del rich["data"][key]
    rich["train"] |= {"on_nan": "skip 2", "ema_decay": 0.9, "keep": 2, "best": "mean_dice"}
    return [*trees, rich]


RECIPES = recipes()


# ---- kinds of input --------------------------------------------------------------------------------


@fuzz
@given(tree=mutated_tree(RECIPES))
def test_configs_with_wrong_values(tree, place):
    path = place / "recipe.yml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=True), encoding="utf-8")
    allowed("config trees", lambda: build.validate(load_config(path)))


TOKENS = (
    b"&a ",
    b"*a",
    b"!!python/object/apply:os.system [ls]",
    b"<<: *a\n",
    b"{",
    b"[",
    b"? ",
    b"- ",
    b"|\n",
)
YAML_TEXTS = [yaml.safe_dump(tree).encode() for tree in RECIPES] + [
    b"a: &a [x, x]\nb: &b [*a, *a, *a]\nc: [*b, *b, *b]\n" + token for token in TOKENS
]


@fuzz
@given(content=mutated(YAML_TEXTS))
def test_configs_of_any_bytes(content, place):
    path = place / "bytes.yml"
    path.write_bytes(content)
    allowed("config bytes", lambda: build.validate(load_config(path)))


@fuzz
@given(
    options=st.lists(
        st.one_of(
            st.text(max_size=30),
            st.tuples(
                st.sampled_from(
                    ("train.iters", "loss.0.type", "data.classes.1", "model", "data.normalize.mean")
                ),
                st.one_of(ODD.map(json.dumps), st.text(max_size=12)),
            ).map("=".join),
        ),
        min_size=1,
        max_size=3,
    ),
    tree=st.sampled_from(RECIPES),
)
def test_options(options, tree):
    allowed("options", lambda: apply_options(copy.deepcopy(tree), options))


def image_files() -> list[tuple[str, bytes]]:
    """(suffix, content) of small images in every format and mode that matters."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (9, 7, 3), np.uint8)
    grey16 = Image.fromarray(rng.integers(0, 65536, (9, 7), np.uint16))
    palette = Image.fromarray(rgb[:, :, 0] % 5)
    palette.putpalette(list(range(256)) * 3)
    modes = {"rgb": Image.fromarray(rgb), "16": grey16, "palette": palette}
    modes |= {mode: Image.fromarray(rgb).convert(mode) for mode in ("L", "RGBA", "CMYK", "1")}
    found = []
    formats = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF", ".bmp": "BMP", ".webp": "WEBP", ".ppm": "PPM"}
    for suffix, name in formats.items():
        for picture in modes.values():
            stream = io.BytesIO()
            try:
                picture.save(stream, name, **({"exif": Image.Exif()} if name == "JPEG" else {}))
            except (OSError, ValueError):
                continue  # no such mode in this format
            found.append((suffix, stream.getvalue()))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        stream = io.BytesIO()
        modes["rgb"].save(stream, "TIFF", compression=compression)
        found.append((".tif", stream.getvalue()))
    for array in (rgb, rgb.astype("float32"), rgb[:, :, 0].astype("int64"), np.zeros((2, 3, 4, 5))):
        stream = io.BytesIO()
        np.save(stream, array)
        found.append((".npy", stream.getvalue()))
    return found


IMAGE_FILES = image_files()


@st.composite
def mutated_image(draw):
    suffix, content = draw(st.sampled_from(IMAGE_FILES))
    return draw(st.sampled_from((suffix, suffix, suffix, ".png", ".npy"))), draw(mutated([content]))


@fuzz
@given(case=mutated_image(), channels=st.sampled_from((1, 3, 3, 4)))
def test_images(case, channels, place):
    path = place / f"image{case[0]}"
    path.write_bytes(case[1])

    def read():
        image = read_image(path, channels, max_pixels=10**6)
        assert image.ndim == 3
        assert image.shape[2] == channels
        assert image.shape[0] * image.shape[1] <= 10**6
        assert image.dtype in (np.uint8, np.uint16, np.float32)

    allowed("images", read)


LABEL_READERS = [
    LabelReader(5),
    LabelReader(2, label_map={0: 0, 255: 1}),
    LabelReader(300, ignore_index=65535),
    LabelReader(3, color_table=[[0, 0, 0], [1, 2, 3], [255, 255, 255]]),
]


@fuzz
@given(case=mutated_image(), reader=st.sampled_from(LABEL_READERS))
def test_masks(case, reader, place):
    path = place / f"mask{case[0]}"
    path.write_bytes(case[1])
    reader.max_pixels = 10**6

    def read():
        label = reader.read(path)
        assert label.ndim == 2
        assert ((label < reader.num_classes) | (label == reader.ignore_index)).all()
        read_mask(path, 10**6)

    allowed("masks", read)


def weight_files() -> list[tuple[str, bytes]]:
    """(name, content) of small weight files of every format."""
    import pickle
    import tempfile

    names = (
        "torchvision_vgg11_bn.pth",
        "timm_vgg11_bn.safetensors",
        "caffe_fcn8s.caffemodel",
        "pytorch_fcn8s.pth",
    )
    found = [(name, (FIXTURES / name).read_bytes()) for name in names]
    state = {f"backbone.conv1_1.conv.{kind}": np.ones((2, 3), "float32") for kind in ("weight", "bias")}
    for protocol in (2, 4):
        found.append(("model.pdparams", pickle.dumps(state, protocol=protocol)))
    stream = io.BytesIO()
    np.savez(stream, **state)
    found.append(("model.npz", stream.getvalue()))
    with tempfile.TemporaryDirectory() as folder:
        save_state(state, Path(folder) / "model.safetensors", {"paddlefcn.normalize": "{}"})
        found.append(("model.safetensors", (Path(folder) / "model.safetensors").read_bytes()))
    return found


WEIGHT_FILES = weight_files()


@fuzz
@given(data=st.data())
def test_weights(data, place):
    name, content = data.draw(st.sampled_from(WEIGHT_FILES))
    suffix = data.draw(
        st.sampled_from((Path(name).suffix,) * 3 + (".pdparams", ".safetensors", ".caffemodel"))
    )
    path = place / f"weights{suffix}"
    path.write_bytes(data.draw(mutated([content])))
    if data.draw(st.booleans()):
        allowed("weights", lambda: read_foreign(path))
    else:
        allowed("weights", lambda: read_state_and_metadata(path))


DEPLOY = {
    "files": {
        key: {"name": name, "bytes": 0, "sha256": hashlib.sha256().hexdigest()}
        for key, name in (("model", "model.json"), ("params", "model.pdiparams"))
    },
    "preprocess": {
        "normalize": {"scale": 255.0, "mean": [0.5] * 3, "std": [0.5] * 3, "order": "RGB"},
        "resize": [{"short": 64}],
    },
    "classes": ["a", "b"],
    "palette": [[0, 0, 0], [255, 0, 0]],
    "ignore_index": 255,
    "max_pixels": 1000,
}


@fuzz
@given(data=st.data())
def test_deploy_files(data, place):
    folder = place / "export"
    folder.mkdir(exist_ok=True)
    for name in ("model.json", "model.pdiparams"):
        (folder / name).touch()
    if data.draw(st.booleans()):
        content = yaml.safe_dump(data.draw(mutated_tree([DEPLOY])), allow_unicode=True).encode()
    else:
        content = data.draw(mutated([yaml.safe_dump(DEPLOY).encode(), *YAML_TEXTS[-3:]]))
    (folder / "deploy.yaml").write_bytes(content)
    allowed("deploy.yaml", lambda: load_deployment(folder))


LISTS = [
    b"images/a.png labels/a.png\nimages/b.png labels/b.png\n",
    "images/ä b.png\tlabels/ä b.png\r\n".encode(),
    b"a,b\n" * 20,
    b"2007_000032\n2007_000039\n",
    b"\xff\xfea\0b\0",
]


@fuzz
@given(
    content=mutated(LISTS),
    separator=st.sampled_from((None, None, ",", "\t", " ", "\0")),
    label_suffix=st.sampled_from(("", "_mask", "\0")),
)
def test_list_files(content, separator, label_suffix, place):
    root = place / "set"
    (root / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
    (root / "JPEGImages").mkdir(exist_ok=True)
    for path in (root / "train.txt", root / "ImageSets" / "Segmentation" / "train.txt"):
        path.write_bytes(content)

    made = (
        lambda: ListFile(root, "train", separator=separator),
        lambda: VOC(root, "train"),
        lambda: Folder(root, "train", label_suffix=label_suffix),
    )
    for make in made:
        allowed("list files", lambda make=make: quick_look(SegmentationDataset(make(), LabelReader(2))))


@pytest.fixture(scope="module")
def quick_disk():
    """Nothing here has to outlive a power cut, and waiting for the disk would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@fuzz
@given(data=st.data())
def test_checkpoints(data, place, quick_disk):
    run = place / "run"
    shutil.rmtree(run, ignore_errors=True)
    checkpoints = Checkpoints(run, keep=2, metadata={})
    weights = {"fc6.conv.weight": np.ones((2, 3), "float32")}
    for iteration in (1, 2):
        checkpoints.save(State(iteration=iteration), weights, {"optim/x": np.ones(3, "float32")})
    names = ("manifest.json", "manifest.json", "state.json", "model.safetensors", "training.npz")
    for folder in ("iter_2", "iter_1")[: data.draw(st.integers(1, 2))]:
        path = checkpoints.folder / folder / data.draw(st.sampled_from(names))
        path.write_bytes(data.draw(mutated([path.read_bytes()])))

    def read():
        found, notes = checkpoints.newest()
        assert found.state.iteration == 2 - len(notes)
        np.testing.assert_array_equal(found.weights["fc6.conv.weight"], weights["fc6.conv.weight"])

    allowed("checkpoints", read)
