"""What annotation tools export, read as it is: one class a tool."""

from __future__ import annotations

from paddlefcn.data.annotations.coco import COCO
from paddlefcn.data.annotations.cvat import CVAT, CVATMasks
from paddlefcn.data.annotations.labelme import LabelMe
from paddlefcn.data.annotations.source import Annotations
from paddlefcn.data.annotations.supervisely import Supervisely
from paddlefcn.data.annotations.yolo import YOLOSeg

__all__ = ["COCO", "CVAT", "Annotations", "CVATMasks", "LabelMe", "Supervisely", "YOLOSeg"]
