"""Small annotated sets as each tool exports them, by writers of their own, with the masks they stand for."""

import base64
import io
import json
import zlib

import numpy as np
from PIL import Image

SIZE = (48, 64)
CLASSES = ["background", "cell", "crack"]
# drawn in this order: the second lies over the first; a hole; two parts; corners at pixel corners
SQUARE = [[8, 8], [40, 8], [40, 40], [8, 40]]
HOLE = [[16, 16], [32, 16], [32, 32], [16, 32]]
BAR = [[0, 20], [20, 20], [20, 28], [0, 28]]


def boxes(*pairs):
    """Ids of (class, [top, left, bottom, right]) drawn one after the other."""
    ids = np.zeros(SIZE, np.uint8)
    for value, (top, left, bottom, right) in pairs:
        ids[top:bottom, left:right] = value
    return ids


def save_image(path, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 90, np.uint8)).save(path)


def png(mask):
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, tree):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree))


def labelme(root, shapes=None):
    """Shapes are drawn with their outline, so a square of corners 8 and 39 covers 8 to 39."""
    square = [[x - (x == 40), y - (y == 40)] for x, y in SQUARE]
    spot = np.zeros((5, 7), bool)
    spot[1:4, 2:6] = True
    encoded = base64.b64encode(png(spot)).decode()
    if shapes is None:
        shapes = [
            {"label": "cell", "points": square, "shape_type": "polygon"},
            {"label": "crack", "points": [[0, 20], [19, 27]], "shape_type": "rectangle"},
            {"label": "cell", "points": [[50, 2], [56, 6]], "shape_type": "mask", "mask": encoded},
            {"label": "__ignore__", "points": [[60, 44], [63, 47]], "shape_type": "rectangle"},
        ]
    for name, drawn in (("a", shapes), ("b", [])):
        save_image(root / f"{name}.jpg")
        tree = {
            "version": "5.5.0",
            "flags": {},
            "shapes": drawn,
            "imagePath": f"{name}.jpg",
            "imageData": None,
        }
        write(root / f"{name}.json", {**tree, "imageHeight": SIZE[0], "imageWidth": SIZE[1]})
    expected = boxes((1, (8, 8, 40, 40)), (2, (20, 0, 28, 20)), (255, (44, 60, 48, 64)))
    expected[2:7, 50:57][spot] = 1
    return {"a": expected, "b": boxes()}


def flat(points):
    return [number for point in points for number in point]


def coco_runs(mask):
    """Uncompressed run lengths, down the columns."""
    values = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(values, prepend=0))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, values.size]).tolist()}


def coco(root, name="annotations.json", images="images"):
    crowd = boxes((1, (40, 50, 46, 60))).astype(bool)
    ring = boxes((1, (2, 44, 14, 62))).astype(bool)
    ring[5:9, 50:56] = False
    objects = [
        {
            "image_id": 7,
            "category_id": 3,
            "segmentation": [flat(SQUARE), flat([[50, 30], [60, 30], [60, 36]])],
        },
        {"image_id": 7, "category_id": 9, "segmentation": [flat(BAR)], "iscrowd": 0},
        {"image_id": 7, "category_id": 9, "segmentation": coco_runs(crowd), "iscrowd": 1},
        {"image_id": 7, "category_id": 3, "segmentation": coco_runs(ring), "iscrowd": 0},
    ]
    tree = {
        "images": [
            {"id": 7, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]},
            {"id": 8, "file_name": "sub/b.jpg", "height": SIZE[0], "width": SIZE[1]},
        ],
        "annotations": [{"id": i, **item} for i, item in enumerate(objects)],
        "categories": [{"id": 9, "name": "crack"}, {"id": 3, "name": "cell"}],
    }
    write(root / name, tree)
    for image in ("a.jpg", "sub/b.jpg"):
        save_image(root / images / image)
    expected = boxes((1, (8, 8, 40, 40)))
    for row in range(30, 36):  # the triangle's middle of pixel rule
        for column in range(50, 60):
            if (row - 30 + 0.5) < (column - 50 + 0.5) * 0.6:
                expected[row, column] = 1
    expected[20:28, 0:20] = 2
    expected[crowd] = 255
    expected[ring] = 1
    return {"a.jpg": expected, "sub/b.jpg": boxes()}


def cvat(root):
    def text(points):
        return ";".join(f"{x:.2f},{y:.2f}" for x, y in points)

    spot = np.array([[0, 1, 1], [1, 1, 0]])
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "annotations.xml").write_text(
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cell</name></label><label><name>crack</name></label></labels></task></meta>
<image id="0" name="a.jpg" width="{SIZE[1]}" height="{SIZE[0]}">
 <box label="crack" xtl="0.0" ytl="20.0" xbr="20.0" ybr="28.0" z_order="1"></box>
 <polygon label="cell" points="{text(SQUARE)}" z_order="0"></polygon>
 <mask label="cell" rle="1, 4, 1" left="50" top="40" width="3" height="2" z_order="2"></mask>
 <points label="cell" points="1,1"></points>
</image>
<image id="1" name="b.jpg" width="{SIZE[1]}" height="{SIZE[0]}"></image>
</annotations>""",
        encoding="utf-8",
    )
    for name in ("a.jpg", "b.jpg"):
        save_image(root / "images" / name)
    expected = boxes((1, (8, 8, 40, 40)), (2, (20, 0, 28, 20)))
    expected[40:42, 50:53][spot.astype(bool)] = 1
    return {"a.jpg": expected, "b.jpg": boxes()}


def cvat_masks(root):
    colors = {"background": (0, 0, 0), "cell": (250, 50, 83), "crack": (51, 221, 255)}
    lines = [f"{name}:{','.join(map(str, color))}::" for name, color in colors.items()]
    root.mkdir(parents=True, exist_ok=True)
    (root / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]))
    expected = boxes((1, (8, 8, 40, 40)), (2, (20, 0, 28, 20)))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for split, name, ids in (("train", "a", expected), ("val", "b", boxes())):
        save_image(root / f"JPEGImages/{name}.jpg")
        (root / "SegmentationClass").mkdir(exist_ok=True)
        table = np.array(list(colors.values()), np.uint8)
        Image.fromarray(table[ids]).save(root / f"SegmentationClass/{name}.png")
        (root / f"ImageSets/Segmentation/{split}.txt").write_text(f"{name}\n")
    return {"a": expected, "b": boxes()}


def yolo(root):
    def line(number, points):
        return " ".join([str(number), *(f"{v:.6f}" for x, y in points for v in (x / SIZE[1], y / SIZE[0]))])

    (root / "labels/train").mkdir(parents=True, exist_ok=True)
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: {0: cell, 1: crack}\n")
    (root / "labels/train/a.txt").write_text(f"{line(0, SQUARE)}\n{line(1, BAR)}\n")
    for name in ("a", "b"):
        save_image(root / f"images/train/{name}.jpg")
    expected = boxes((1, (8, 8, 40, 40)), (2, (20, 0, 28, 20)))
    return {"images/train/a.jpg": expected, "images/train/b.jpg": boxes()}


def supervisely(root):
    spot = np.zeros((4, 6), bool)
    spot[1:3, 1:5] = True
    data = base64.b64encode(zlib.compress(png(spot))).decode()
    # corners are pixels here, so an outline to 39 covers 39, and a hole from 16 to 31 leaves those out
    square, hole, bar = ([[x - (x > 8), y - (y > 8)] for x, y in ring] for ring in (SQUARE, HOLE, BAR))
    hole = [[16 if v == 15 else v for v in point] for point in hole]
    bar = [[0, 20], [19, 20], [19, 27], [0, 27]]
    objects = [
        {"classTitle": "cell", "geometryType": "polygon", "points": {"exterior": square, "interior": [hole]}},
        {
            "classTitle": "crack",
            "geometryType": "rectangle",
            "points": {"exterior": [bar[0], bar[2]], "interior": []},
        },
        {"classTitle": "cell", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [50, 40]}},
        {"classTitle": "cell", "geometryType": "point", "points": {"exterior": [[1, 1]], "interior": []}},
    ]
    write(root / "meta.json", {"classes": [{"title": "cell"}, {"title": "crack"}]})
    for name, drawn in (("a", objects), ("b", [])):
        save_image(root / f"ds/img/{name}.jpg")
        write(
            root / f"ds/ann/{name}.jpg.json",
            {"size": {"height": SIZE[0], "width": SIZE[1]}, "objects": drawn},
        )
    expected = boxes((1, (8, 8, 40, 40)), (0, (16, 16, 32, 32)), (2, (20, 0, 28, 20)))
    expected[40:44, 50:56][spot] = 1
    return {"ds/a.jpg": expected, "ds/b.jpg": boxes()}


WRITERS = {
    "LabelMe": labelme,
    "COCO": coco,
    "CVAT": cvat,
    "CVATMasks": cvat_masks,
    "YOLOSeg": yolo,
    "Supervisely": supervisely,
}
