"""Every source's native format in its smallest sound form: for the tests of what readers make of damage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (100, 50)
_GREY = (90, 90, 90)
_WHITE = (255, 255, 255)

Damage = tuple[str, str, str, str]
"""A file, what stands in it, what shall stand there instead, and what the reader must say or count."""


@dataclass(frozen=True)
class Native:
    """One source, or one of its forms: a root that its reader takes whole."""

    source: str
    files: Mapping[str, str]
    """Those that hold boxes or flags, and lists; each must be noticed when it is damaged."""
    images: Mapping[str, Image.Image]
    zero: Damage
    """Makes a box that has no area."""
    count: Damage
    """Makes too few numbers of a box, or too few rows of a sequence."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Further files, which hold names alone."""
    split: str = "train"
    root: str = ""
    """The file that is the source's root, over this folder of images; empty where the folder is the root."""

    def write(self, root: Path) -> None:
        """Lay it out below `root`."""
        for name, text in {**self.files, **self.names}.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text.encode())
        for name, image in self.images.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)


def blank(size: tuple[int, int] = SIZE) -> Image.Image:
    """A plain picture."""
    return Image.new("RGB", size, _GREY)


def patched(box: tuple[int, int, int, int], colour: tuple[int, int, int], size: tuple[int, int] = SIZE) -> Image.Image:
    """A plain picture with a rectangle of one colour."""
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = colour
    return Image.fromarray(pixels)


def _frames(folder: str, names: list[str]) -> dict[str, Image.Image]:
    return {f"{folder}/{name}.jpg": blank() for name in names}


def _instances(names: list[str]) -> str:
    listed = [{"id": at, "file_name": name, "width": 100, "height": 50} for at, name in enumerate(names, start=1)]
    boxes = [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10.5, 5.25, 30, 20], "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": [20, 15, 30, 21.75], "iscrowd": 0},
    ]
    return json.dumps({"images": listed, "annotations": boxes, "categories": [{"id": 3, "name": "dog"}]})


def _xml(name: str, wnid: str, box: tuple[int, int, int, int]) -> str:
    ends = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return (
        f"<annotation><filename>{name}</filename><size><width>100</width><height>50</height></size>"
        f"<object><name>{wnid}</name><bndbox>{ends}</bndbox></object></annotation>"
    )


def _lines(*rows: str, end: str = "\n") -> str:
    return "".join(row + end for row in rows)


_TENCH = "n01440764"
_TRAIN = f"ILSVRC/Annotations/CLS-LOC/train/{_TENCH}/{_TENCH}_1"
_CAR = (112, 56, 152, 96)
_ROWS = ("10.0000,5.0000,30.0000,20.0000", "11,5,30,20", "12.5,5,30,20", "13,5,30,20", "14.0000,5.5000,30.0000,20.2500")
_GOT = "train/GOT-10k_Train_000001"
_FAN = "electricfan/electricfan-3"
_FRCNN = "train/MOT17-02-FRCNN"
_VIDEO = "TRAIN_0/anno/-3TIfnTSM6c_2.txt"

NATIVES: dict[str, Native] = {
    "coco": Native(
        "coco",
        {"annotations/instances_train2017.json": _instances(["a.jpg", "b.jpg"])},
        _frames("train2017", ["a", "b"]),
        ("annotations/instances_train2017.json", "30, 20]", "30, 0]", "box without area in the image"),
        ("annotations/instances_train2017.json", "30, 20]", "30]", "annotations[0].bbox"),
    ),
    "objects365": Native(
        "objects365",
        {"zhiyuan_objv2_train.json": _instances(["images/v2/patch1/a.jpg", "images/v1/patch0/b.jpg"])},
        {"train/patch1/a.jpg": blank(), "train/patch0/b.jpg": blank()},
        ("zhiyuan_objv2_train.json", "30, 20]", "0, 20]", "box without area in the image"),
        ("zhiyuan_objv2_train.json", "30, 20]", "30, 20, 1]", "annotations[0].bbox"),
    ),
    "imagenet": Native(
        "imagenet",
        {
            f"{_TRAIN}.xml": _xml(f"{_TENCH}_1", _TENCH, (10, 5, 39, 24)),
            f"{_TRAIN}0.xml": _xml(f"{_TENCH}_10", _TENCH, (20, 15, 49, 34)),
        },
        {f"ILSVRC/Data/CLS-LOC/train/{_TENCH}/{_TENCH}_{number}.JPEG": blank() for number in (1, 10)},
        (f"{_TRAIN}.xml", "<xmax>39</xmax>", "<xmax>9</xmax>", "box without area in the image"),
        (f"{_TRAIN}.xml", "<ymax>24</ymax>", "", "an object has no ymax"),
        {"LOC_synset_mapping.txt": f"{_TENCH} tench, Tinca tinca\n"},
    ),
    "imagenet by the solution file": Native(
        "imagenet",
        {
            "LOC_val_solution.csv": "ImageId,PredictionString\n"
            f"ILSVRC2012_val_00000001,{_TENCH} 10 5 39 24 \nILSVRC2012_val_00000002,{_TENCH} 20 15 49 34 \n",
            "ILSVRC/ImageSets/CLS-LOC/val.txt": "ILSVRC2012_val_00000001 1\nILSVRC2012_val_00000002 2\n",
        },
        {f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_0000000{number}.JPEG": blank() for number in (1, 2)},
        ("LOC_val_solution.csv", " 10 5 39 24", " 10 5 39 4", "box without area in the image"),
        ("LOC_val_solution.csv", " 10 5 39 24", " 10 5 39", "line 2 is not"),
        {"LOC_synset_mapping.txt": f"{_TENCH} tench, Tinca tinca\n"},
        "val",
    ),
    "clevr_change": Native(
        "clevr_change",
        {
            "data/splits.json": json.dumps({"train": [1, 10], "val": [], "test": []}),
            "data/change_captions_with_bbox.json": json.dumps(
                {
                    "1": {"bbox_before": [48, 32, 96, 64], "bbox_after": [52, 30, 96, 64]},
                    "10": {"bbox_before": [100, 32, 96, 64], "bbox_after": []},
                }
            ),
        },
        {
            f"data/{folder}_{number:06d}.png": blank((480, 320))
            for folder in ("images/CLEVR_default", "sc_images/CLEVR_semantic")
            for number in (1, 10)
        },
        ("data/change_captions_with_bbox.json", "[52, 30, 96, 64]", "[52, 30, 0, 64]", "box without area in the image"),
        ("data/change_captions_with_bbox.json", "[52, 30, 96, 64]", "[52, 30, 96]", "box that is not x, y, w, h"),
        {"data/change_captions.json": json.dumps({"CLEVR_default_000001.png": ["the ball turned red"]})},
    ),
    "img_diff": Native(
        "img_diff",
        {
            "img_diff_object_replacement.json": json.dumps(
                [{"path": "./filtered_new_edit_data/2_2311_0", "bbox": "[0.40, 0.25, 0.60, 0.50]"}]
            ),
            "img_diff_object_removal.json": json.dumps([{"path": "./inpaint/2_1", "bbox": [0.41, 0.25, 0.62, 0.5]}]),
        },
        {
            f"{stem}_{side}.jpg": blank()
            for stem in ("filtered_new_edit_data/2_2311_0", "inpaint/2_1")
            for side in (0, 1)
        },
        ("img_diff_object_replacement.json", "0.60, 0.50]", "0.40, 0.50]", "box that is not x1, y1, x2, y2"),
        ("img_diff_object_removal.json", ", 0.5]", "]", "box that is not x1, y1, x2, y2"),
    ),
    "magicbrush": Native(
        "magicbrush",
        {
            "train/edit_sessions.json": json.dumps(
                {"1": [{"input": "in.png", "mask": "mask.png", "output": "out.png", "instruction": "light it"}]}
            )
        },
        {
            "train/images/1/in.png": blank(),
            "train/images/1/mask.png": patched((20, 10, 60, 30), _WHITE),
            "train/images/1/out.png": patched((20, 10, 60, 30), (200, 200, 200)),
        },
        # A box is the extent of a mask: it has no area where the mask names the image that is nowhere painted.
        ("train/edit_sessions.json", '"mask.png"', '"in.png"', "mask marks nothing"),
        ("train/edit_sessions.json", '"mask": "mask.png", ', "", "`mask`"),
    ),
    "spot_the_diff": Native(
        "spot_the_diff",
        {"data/annotations/train.json": json.dumps([{"img_id": "235", "sentences": ["the red car is gone"]}])},
        {
            "data/resized_images/235.png": blank((224, 224)),
            "data/resized_images/235_2.png": patched(_CAR, (200, 40, 40), (224, 224)),
            "data/resized_images/236.png": blank((224, 224)),
            "data/resized_images/236_2.png": blank((224, 224)),
        },
        # The box comes from the pixels: of a pair that does not change there is none.
        ("data/annotations/train.json", '"235"', '"236"', "nothing changes between the images"),
        ("data/annotations/train.json", '"the red car is gone"', "", "annotator wrote nothing"),
    ),
    "sa1b": Native(
        "sa1b",
        {
            "sa_000000/sa_1.json": json.dumps(
                {
                    "image": {"image_id": 1, "width": 100, "height": 50, "file_name": "sa_1.jpg"},
                    "annotations": [{"id": 1, "bbox": [10.0, 5.0, 30.0, 20.0]}, {"id": 2, "bbox": [20, 15, 30, 21]}],
                }
            )
        },
        {"sa_000000/sa_1.jpg": blank()},
        ("sa_000000/sa_1.json", "[20, 15, 30, 21]", "[20, 15, 30, -1]", "box without area in the image"),
        ("sa_000000/sa_1.json", "[20, 15, 30, 21]", "[20, 15, 30]", "annotations[1].bbox"),
    ),
    "sa1b with GranD": Native(
        "sa1b",
        {
            "GranD/sa_1.json": json.dumps(
                {
                    "sa_1.jpg": {
                        "objects": [{"bbox": [10.5, 5, 40, 25], "labels": ["dog"], "attributes": ["a wet dog"]}],
                        "floating_objects": [{"bbox": [50, 5, 80.5, 25.75], "labels": ["cat"]}],
                    }
                }
            )
        },
        {"sa_000000/sa_1.jpg": blank()},
        ("GranD/sa_1.json", "40, 25]", "10.5, 25]", "box of GranD smaller than a pixel"),
        ("GranD/sa_1.json", "40, 25]", "40]", "object of GranD without a box"),
    ),
    "got10k": Native(
        "got10k",
        {
            "train/list.txt": "GOT-10k_Train_000001\n",
            f"{_GOT}/groundtruth.txt": _lines(*_ROWS),
            f"{_GOT}/absence.label": "0\n0\n1\n0\n0\n",
            f"{_GOT}/cover.label": "8\n8\n8\n0\n3\n",
        },
        _frames(_GOT, [f"{number:08d}" for number in range(1, 6)]),
        (f"{_GOT}/groundtruth.txt", "11,5,30,20", "11,5,30,0", "box without area in the image"),
        (f"{_GOT}/groundtruth.txt", "11,5,30,20\n", "", "4 lines for 5 frames"),
        {f"{_GOT}/meta_info.ini": "[METAINFO]\nobject_class: ctenophore\n"},
    ),
    "lasot": Native(
        "lasot",
        {
            "training_set.txt": "electricfan-3\n",
            f"{_FAN}/groundtruth.txt": _lines("10,5,30,20", "11,5,30,20", "12,5,30,20", "13,5,30,20", "14,5,30,25"),
            f"{_FAN}/full_occlusion.txt": "0,0,1,0,0\n",
            f"{_FAN}/out_of_view.txt": "0,0,0,1,0\n",
        },
        _frames(f"{_FAN}/img", [f"{number:08d}" for number in range(1, 6)]),
        (f"{_FAN}/groundtruth.txt", "11,5,30,20", "11,5,0,0", "box without area in the image"),
        (f"{_FAN}/out_of_view.txt", "0,0,0,1,0", "0,0,0,1", "4 values for 5 frames"),
    ),
    "lasot as its toolkit has it": Native(
        "lasot",
        {
            "annos/electricfan-3.txt": _lines("10,5,30,20", "11,5,30,20", "12,5,30,25"),
            "annos/absent/electricfan-3.txt": "0\n1\n0\n",
        },
        _frames(f"{_FAN}/img", [f"{number:08d}" for number in range(1, 4)]),
        ("annos/electricfan-3.txt", "10,5,30,20", "10,5,-30,20", "box without area in the image"),
        ("annos/absent/electricfan-3.txt", "0\n1\n", "0\n", "2 lines for 3 frames"),
    ),
    "mot17": Native(
        "mot17",
        {
            f"{_FRCNN}/gt/gt.txt": _lines(
                "1,7,11,6,30,20,1,1,1.0", "2,7,12,6,30,20,1,1,0.86014", "1,9,51,6,30,20,1,1,1", "2,9,52,6,30,20,0,8,0.5"
            ),
            f"{_FRCNN}/seqinfo.ini": "[Sequence]\nname=MOT17-02-FRCNN\nimWidth=100\nimHeight=50\nseqLength=600\n",
        },
        _frames(f"{_FRCNN}/img1", ["000001", "000002"]),
        (f"{_FRCNN}/gt/gt.txt", "2,7,12,6,30,20", "2,7,12,6,0,20", "box without area in the image"),
        (f"{_FRCNN}/gt/gt.txt", "2,7,12,6,30,20", "2,7,12,6,30", "line 2 is not frame,id"),
    ),
    "trackingnet": Native(
        "trackingnet",
        {_VIDEO: _lines(" 10.00,5.00,30.00,20.00", " 11.00,5.00,30.00,20.00", "12.50,5.00,30.00,20.75", end="\r\n")},
        _frames("TRAIN_0/frames/-3TIfnTSM6c_2", ["0", "1", "2"]),
        (_VIDEO, "11.00,5.00,30.00", "11.00,5.00,0.00", "box without area in the image"),
        (_VIDEO, " 11.00,5.00,30.00,20.00\r\n", "", "sequence with fewer rows than frames"),
        {"trackingnet_classmap.txt": "-3TIfnTSM6c_2\tairplane\n"},
    ),
    "coco-json": Native(
        "coco-json",
        {"my.json": _instances(["a.jpg", "sub/b.jpg"])},
        {"a.jpg": blank(), "sub/b.jpg": blank()},
        ("my.json", "30, 20]", "30, 0]", "box without area in the image"),
        ("my.json", "30, 20]", "30]", "annotations[0].bbox"),
        root="my.json",
    ),
    "jsonl": Native(
        "jsonl",
        {
            "my.jsonl": _lines(
                '{"image": "a.jpg", "objects": [{"label": "dog", "box": [10.5, 5.25, 40.5, 25.25]}]}',
                '{"image": "sub/b.jpg", "objects": [{"label": "dog", "phrase": "the dog", "box": [20, 15, 50, 36]}]}',
            )
        },
        {"a.jpg": blank(), "sub/b.jpg": blank()},
        ("my.jsonl", "40.5, 25.25]", "40.5, 5.25]", "box without area in the image"),
        ("my.jsonl", "40.5, 25.25]", "40.5]", "line 1: Expected `array` of length 4"),
        root="my.jsonl",
    ),
}
