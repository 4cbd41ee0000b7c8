"""Polygons drawn again give the label map they came from."""

import json
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from paddlefcn.classes import Classes
from paddlefcn.data.georeference import Georeference
from paddlefcn.refine.map_units import MapTransform
from paddlefcn.refine.polygons import geojson, labelme, polygons, signed_area

CLASSES = Classes(("Background", "a", "b", "路"))


def blobs(seed, size=(23, 31)):
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 4, (6, 8))
    labels = np.kron(small, np.ones((4, 4), int))[: size[0], : size[1]]
    return np.where(rng.random(size) < 0.15, rng.integers(0, 4, size), labels).astype(np.uint8)


def inside(ring, shape):
    """Pixels whose centre lies within a ring of corners, by crossing it on the way to the right."""
    rows, cols = np.mgrid[: shape[0], : shape[1]] + 0.5
    crossings = np.zeros(shape, int)
    ring = np.asarray(ring, float)
    for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0)):
        if x0 == x1:
            crossings += (rows > min(y0, y1)) & (rows < max(y0, y1)) & (cols < x0)
    return crossings % 2 == 1


@pytest.mark.parametrize("seed", range(4))
def test_polygons_cover_exactly_the_pixels_of_their_components(seed):
    labels = blobs(seed)
    covered = np.zeros(labels.shape, int)
    for polygon in polygons(labels):
        outline, *holes = polygon.rings
        mask = inside(outline, labels.shape)
        for hole in holes:
            assert signed_area(hole) < 0
            mask &= ~inside(hole, labels.shape)
        assert (labels[mask] == polygon.label).all()
        assert mask.sum() == polygon.area == sum(signed_area(ring) for ring in polygon.rings)
        covered += mask
        assert all(len(np.unique(ring, axis=0)) == len(ring) for ring in polygon.rings)  # simple
    assert (covered == 1).all()


def test_rings_turn_at_every_corner_and_do_not_join_at_diagonals():
    labels = np.array([[1, 0, 0], [0, 1, 1], [0, 1, 1]], np.uint8)
    found = polygons(labels, leave_out=(0,))
    assert [polygon.area for polygon in found] == [1, 4]
    assert found[1].rings[0].tolist() == [[1, 1], [3, 1], [3, 3], [1, 3]]


def test_no_ring_touches_itself_holes_that_meet_at_a_corner_are_two():
    labels = np.ones((5, 5), np.uint8)
    labels[1, 1] = labels[2, 2] = 0
    (polygon,) = polygons(labels, leave_out=(0,))
    assert [signed_area(ring) for ring in polygon.rings] == [25, -1, -1]


def test_geojson_has_classes_areas_and_closed_rings_counter_clockwise():
    labels = np.zeros((6, 8), np.uint8)
    labels[1:5, 2:6] = 3
    labels[2, 3] = 0
    labels[0, 0] = 255
    tree = geojson(labels, CLASSES)
    (feature,) = tree["features"]
    assert feature["properties"] == {"class": "路", "id": 3, "area": 15}
    outline, hole = (np.array(ring) for ring in feature["geometry"]["coordinates"])
    assert (outline[0] == outline[-1]).all()
    assert signed_area(outline[:-1]) == 16
    assert signed_area(hole[:-1]) == -1
    assert "crs" not in tree


def georeference(*, keys=(), matrix=None, tie=(0, 0, 0, 500000, 4000000, 0), scale=(2, 3, 0)):
    doubles = {34264: matrix} if matrix else {33550: scale, 33922: tie}
    tags = {code: (12, len(v), struct.pack(f"<{len(v)}d", *v)) for code, v in doubles.items()}
    shorts = (1, 1, 0, len(keys), *(part for key, value in keys for part in (key, 0, 1, value)))
    tags[34735] = (3, len(shorts), struct.pack(f"<{len(shorts)}H", *shorts))
    return Georeference(tags)


def test_geojson_of_a_georeferenced_image_is_in_map_coordinates():
    labels = np.zeros((4, 5), np.uint8)
    labels[1, 2] = 1
    transform = MapTransform.from_georeference(georeference(keys=[(3072, 32632)]))
    (feature,) = (tree := geojson(labels, CLASSES, transform))["features"]
    ring = np.array(feature["geometry"]["coordinates"][0])
    assert sorted(map(tuple, ring[:-1])) == [
        (500004, 3999994),
        (500004, 3999997),
        (500006, 3999994),
        (500006, 3999997),
    ]
    assert signed_area(ring[:-1]) == 6  # counter-clockwise where y goes up
    assert feature["properties"]["area"] == 6
    assert tree["crs"]["properties"]["name"].endswith("EPSG::32632")


def test_transforms_of_tags_points_matrices_and_what_is_none():
    point = MapTransform.from_georeference(georeference(keys=[(1025, 2), (2048, 4326)]))
    assert (point.c, point.f, point.epsg) == (499999, 4000001.5, 4326)
    matrix = (0, 2, 0, 10, 3, 0, 0, 20, 0, 0, 1, 0, 0, 0, 0, 1)
    turned = MapTransform.from_georeference(georeference(matrix=matrix, keys=[(3072, 32767)]))
    assert turned(np.array([[1.0, 4.0]])).tolist() == [[18, 23]]
    assert (turned.pixel_area, turned.epsg) == (6, None)
    assert MapTransform.from_georeference(None) is None
    assert MapTransform.from_georeference(georeference(tie=(0,) * 12)) is None
    assert MapTransform.from_georeference(georeference(scale=(0, 0, 0))) is None


def painted(tree, classes):
    """As labelme draws shapes, one over the other."""
    size = (tree["imageWidth"], tree["imageHeight"])
    ids = {**{name: index for index, name in enumerate(classes.names)}, "_background_": 0, "__ignore__": 255}
    result = Image.new("L", size, 0)
    for shape in tree["shapes"]:
        points = [tuple(point) for point in shape["points"]]
        assert len(points) >= 3
        ImageDraw.Draw(result).polygon(points, outline=ids[shape["label"]], fill=ids[shape["label"]])
    return np.asarray(result)


@pytest.mark.parametrize("seed", range(4))
def test_labelme_shapes_drawn_one_over_the_other_give_the_label_map_again(seed):
    labels = blobs(seed)
    labels[3:5, 7:9] = 255
    tree = labelme(labels, CLASSES, "a.jpg")
    assert (painted(tree, CLASSES) == labels).all()
    assert tree["imagePath"] == "a.jpg"
    assert (tree["imageHeight"], tree["imageWidth"]) == labels.shape


def test_simplified_outlines_have_fewer_points_and_stay_near():
    labels = np.zeros((80, 80), np.uint8)
    cv2.circle(labels, (40, 40), 30, 1, -1)
    exact, rough = geojson(labels, CLASSES), geojson(labels, CLASSES, simplify=1.5)
    count = [len(tree["features"][0]["geometry"]["coordinates"][0]) for tree in (exact, rough)]
    assert count[1] < count[0] / 3
    area = signed_area(np.array(rough["features"][0]["geometry"]["coordinates"][0][:-1]))
    assert area == pytest.approx(labels.sum(), rel=0.05)
    assert len(labelme(labels, CLASSES, "x", simplify=1.5)["shapes"][0]["points"]) < 40
    labels[0, 0] = 2
    assert len(geojson(labels, CLASSES, simplify=3.0)["features"]) == 1  # a pixel vanishes


def test_maps_of_one_class_and_of_no_pixel():
    assert geojson(np.zeros((3, 3), np.uint8), CLASSES)["features"] == []
    assert geojson(np.zeros((0, 3), np.uint8), CLASSES)["features"] == []
    assert labelme(np.zeros((0, 3), np.uint8), CLASSES, "x")["shapes"] == []
    (shape,) = labelme(np.ones((1, 1), np.uint8), CLASSES, "x")["shapes"]
    assert shape["points"] == [[0, 0]] * 3


@pytest.mark.parametrize("seed", range(2))
def test_the_data_set_of_labelme_files_reads_the_label_map_again(seed, tmp_path):
    from paddlefcn.data import DATASETS, LabelReader

    labels = blobs(seed)
    for folder in ("train", "val"):
        (tmp_path / folder).mkdir()
    Image.fromarray(np.zeros((*labels.shape, 3), np.uint8)).save(tmp_path / "train" / "a.png")
    tree = labelme(labels, CLASSES, "a.png")
    (tmp_path / "train" / "a.json").write_text(json.dumps(tree), encoding="utf-8")
    names = [name if index else "_background_" for index, name in enumerate(CLASSES.names)]
    source = DATASETS["LabelMe"](tmp_path, "train", train="train", val="val", classes=names)
    assert (source.read_raw(0, 3, LabelReader(4))[1] == labels).all()
