"""Makes the pictures of the README from a finished quick start: python docs/make_images.py [RUN_FOLDER].

They show the embedded data set alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import paddle
from PIL import Image

from paddlefcn.build import build_dataset, build_model
from paddlefcn.config import Config, load_config
from paddlefcn.engine.records import read_records
from paddlefcn.label_maps import label_map
from paddlefcn.plots import figure, plot_curves
from paddlefcn.visualize import colourize, gallery, legend, preview, tint
from paddlefcn.weights import load_into, read_state, resolve_weights

IMAGES = Path(__file__).resolve().parent / "images"
SHOWN = (7, 72)  # of the validation split: every class, small and hidden shapes
ENLARGED = 2


def main(run: Path) -> None:
    """Writes quickstart.png, figure.png and curves.png."""
    config = load_config(run / "config.yml")
    data = config.data
    model = build_model(config, pretrained=False)
    load_into(model, read_state(resolve_weights(run)), what=str(run))
    model.eval()
    dataset = build_dataset(config, "val")
    rows = []
    for index in SHOWN:
        image, label = dataset.read(index)
        pred = predict(config, model, image)
        picture = preview(image, label, pred, config.classes)
        rows.append((f"{dataset.samples[index].name}: image, truth, prediction", enlarge(picture)))
    ids = [*range(data.num_classes), data.ignore_index]
    names = [*data.classes, "void"]
    panel = legend([(name, index, 0.0) for name, index in zip(names, ids)], config.classes)
    panel = panel[:, :-52]  # without the column of shares
    grid = gallery(rows)
    beside = np.full((grid.shape[0], panel.shape[1] + 8, 3), 255, np.uint8)
    beside[22 : 22 + panel.shape[0], 8:] = panel
    write_small("quickstart.png", np.concatenate([grid, beside], axis=1))

    image, _ = dataset.read(SHOWN[0])
    pred = predict(config, model, image)
    shares = np.bincount(pred.ravel(), minlength=data.num_classes) / pred.size
    ranked = sorted(zip(data.classes, range(data.num_classes), shares.tolist()), key=lambda row: -row[2])
    tinted = tint(image, pred, config.classes)
    coloured = colourize(pred, config.classes)
    figure(image, coloured, tinted, ranked, config.classes, IMAGES / "figure.png")
    plot_curves(read_records(run / "metrics.jsonl"), IMAGES / "curves.png")
    for name in ("figure.png", "curves.png"):
        write_small(name, np.asarray(Image.open(IMAGES / name).convert("RGB")))


def predict(config: Config, model: paddle.nn.Layer, image: np.ndarray) -> np.ndarray:
    """Class ids [H, W] of an image [H, W, C]."""
    with paddle.no_grad():
        logits = model(paddle.to_tensor(config.data.normalize(image)[None]))[0]
    return label_map(logits[0].numpy())


def enlarge(picture: np.ndarray) -> np.ndarray:
    """Twice as large, pixels as they are."""
    return picture.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


def write_small(name: str, picture: np.ndarray, width: int = 900) -> None:
    """At most `width` pixels wide and with a palette: a README is read over slow lines too."""
    if picture.shape[1] > width:
        height = round(picture.shape[0] * width / picture.shape[1])
        picture = cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA)
    Image.fromarray(picture).quantize(256).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "output/quickstart"))
