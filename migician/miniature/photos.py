"""Writes single pictures with their boxes as COCO, Objects365, ImageNet and SA-1B with GranD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from migician.miniature import drawing
from migician.miniature.drawing import STYLE, Drawn, Style
from migician.miniature.saving import TRAIN, each, save, write_json, write_lines, xywh
from migician.sampling import stream
from migician.tasks.naming import with_article


def write_coco(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training images as COCO instances; what is small counts as ground, the target alone is annotated."""

    def write(rng: np.random.Generator, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        image, target = drawing.still(rng, style)
        name = f"{number:012d}.jpg"
        save(image, root / "train2017" / name)
        listed = {"license": 1, "file_name": name, "height": style.size, "width": style.size, "id": number}
        return listed, _annotation(number, number, target) | {"segmentation": []}

    written = each("coco", count, seed, write)
    content = _instances([image for image, _ in written], [annotation for _, annotation in written])
    write_json(root / "annotations" / "instances_train2017.json", content)


def write_objects365(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` crowded training images, all their objects annotated, as Objects365 v2."""

    def write(rng: np.random.Generator, number: int) -> tuple[dict[str, Any], list[Drawn]]:
        image, objects = drawing.crowded(rng, style)
        patch, name = f"patch{number // 1000}", f"objects365_v2_{number:08d}.jpg"
        save(image, root / "train" / patch / name)
        listed = {
            "height": style.size,
            "id": number,
            "license": 5,
            "width": style.size,
            "file_name": f"images/v2/{patch}/{name}",
            "url": "",
        }
        return listed, objects

    written = each("objects365", count, seed, write)
    boxes = [(image["id"], drawn) for image, objects in written for drawn in objects]
    flags = {"isfake": 0, "isreflected": 0}
    annotations = [
        _annotation(position, image, drawn) | flags for position, (image, drawn) in enumerate(boxes, start=1)
    ]
    write_json(root / "zhiyuan_objv2_train.json", _instances([image for image, _ in written], annotations))


def write_imagenet(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` training images as ImageNet CLS-LOC: of two in a row, one shows an object large and alone.

    The other shows one of the same class small among clutter. The classes take turns in the seed's order.
    """
    base = root / "ILSVRC"
    classes = stream(seed, TRAIN, "imagenet").permutation(len(drawing.KINDS)).tolist()

    def write(rng: np.random.Generator, number: int) -> str:
        kind = classes[(number - 1) // 2 % len(classes)]
        draw = drawing.alone if number % 2 else drawing.hidden
        image, target = draw(rng, drawing.KINDS[kind], style)
        wnid = _wnid(kind)
        name = f"{wnid}_{number}"
        save(image, base / "Data" / "CLS-LOC" / "train" / wnid / f"{name}.JPEG")
        xml = base / "Annotations" / "CLS-LOC" / "train" / wnid / f"{name}.xml"
        write_lines(xml, [_xml(wnid, name, target, style)], end="")
        return f"{wnid}/{name}"

    names = each("imagenet", count, seed, write)
    listed = [f"{name} {number}" for number, name in enumerate(sorted(names), start=1)]
    write_lines(base / "ImageSets" / "CLS-LOC" / "train_loc.txt", listed)
    mapping = [f"{_wnid(kind)} {name}, drawn {name}" for kind, name in enumerate(drawing.KINDS)]
    write_lines(root / "LOC_synset_mapping.txt", mapping)


def write_sa1b(root: Path, count: int, seed: int, style: Style = STYLE) -> None:
    """`count` images of several different objects as SA-1B, each object described in GranD's files.

    GranD's label is the shape ("disc"), its phrase names this object alone ("a red disc").
    """
    folder = root / "sa_000000"

    def write(rng: np.random.Generator, number: int) -> None:
        image, objects = drawing.several(rng, style)
        name = f"sa_{number}"
        save(image, folder / f"{name}.jpg")
        listed = {"image_id": number, "width": style.size, "height": style.size, "file_name": f"{name}.jpg"}
        masks = [_mask(number * 100 + position, drawn, style) for position, drawn in enumerate(objects)]
        write_json(folder / f"{name}.json", {"image": listed, "annotations": masks})
        described = {
            "objects": [_described(position, drawn) for position, drawn in enumerate(objects)],
            "floating_objects": [],
            "short_captions": [],
        }
        write_json(root / "GranD" / f"{name}.json", {f"{name}.jpg": described})

    each("sa1b", count, seed, write)


_CATEGORIES = {name: number for number, name in enumerate((*drawing.KINDS, drawing.MAT), start=1)}


def _annotation(number: int, image: int, drawn: Drawn) -> dict[str, Any]:
    box = xywh(drawn.box)
    return {
        "id": number,
        "iscrowd": 0,
        "area": box[2] * box[3],
        "bbox": box,
        "image_id": image,
        "category_id": _CATEGORIES[drawn.label],
    }


def _instances(images: Sequence[Any], annotations: Sequence[Any]) -> dict[str, Any]:
    categories = [{"name": name, "id": number} for name, number in _CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _wnid(kind: int) -> str:
    return f"n{90000001 + kind}"


def _xml(wnid: str, name: str, target: Drawn, style: Style) -> str:
    x1, y1, x2, y2 = target.box
    ends = {"xmin": x1, "ymin": y1, "xmax": x2 - 1, "ymax": y2 - 1}  # the last pixel is inside
    box = "".join(f"\t\t\t<{end}>{value}</{end}>\n" for end, value in ends.items())
    return (
        f"<annotation>\n\t<folder>{escape(wnid)}</folder>\n\t<filename>{escape(name)}</filename>\n"
        f"\t<source>\n\t\t<database>miniature</database>\n\t</source>\n"
        f"\t<size>\n\t\t<width>{style.size}</width>\n\t\t<height>{style.size}</height>\n\t\t<depth>3</depth>\n\t</size>\n"
        f"\t<segmented>0</segmented>\n\t<object>\n\t\t<name>{escape(wnid)}</name>\n\t\t<pose>Unspecified</pose>\n"
        f"\t\t<truncated>0</truncated>\n\t\t<difficult>0</difficult>\n"
        f"\t\t<bndbox>\n{box}\t\t</bndbox>\n\t</object>\n</annotation>"
    )


def _mask(number: int, drawn: Drawn, style: Style) -> dict[str, Any]:
    x, y, width, height = xywh(drawn.box)
    return {
        "bbox": [float(value) for value in (x, y, width - 1, height - 1)],  # last pixel minus first
        "area": width * height,
        "segmentation": {"size": [style.size, style.size], "counts": ""},
        "predicted_iou": 1.0,
        "point_coords": [[x + width / 2, y + height / 2]],
        "crop_box": [0.0, 0.0, float(style.size), float(style.size)],
        "id": number,
        "stability_score": 1.0,
    }


def _described(number: int, drawn: Drawn) -> dict[str, Any]:
    _, shape = drawn.label.split()
    return {
        "id": number,
        "bbox": [float(value) for value in drawn.box],
        "labels": [shape],
        "attributes": [with_article(drawn.label)],
        "score": 1.0,
    }
