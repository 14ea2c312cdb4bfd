"""The list that comes with the package knows MIG-Bench's images in the layout of every source, and no others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from migician.benchmarks.contamination.leakage import Leaks, name_list, names_in

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def listed() -> Leaks:
    return Leaks.listed()


@pytest.fixture(scope="module")
def files(shared: Path) -> list[Path]:
    return [shared / "data" / "mig_bench" / name for name in ("MIG_data.json", "revised_MIG_bench.json")]


@pytest.fixture(scope="module")
def names(files: list[Path]) -> set[str]:
    return {name.removeprefix("./") for file in files for name in names_in(file)[1]}


# Names of MIG-Bench, each with the paths that its image has in the sources' native layouts (below their roots).
KNOWN = {
    "region/objects365_v2_00900003_1.jpg": [
        "images/v2/patch16/objects365_v2_00900003.jpg",
        "train/patch16/objects365_v2_00900003.jpg",
        "val/patch16/OBJECTS365_V2_00900003.JPG",
        "Region_Locating/Objects365-crops/patch16/objects365_v2_00900003-10-20-300-400.jpg",
    ],
    "common/Boat/objects365_v1_00373987.jpg": [
        "train/objects365_v1_00373987.jpg",
        "images/v1/patch7/objects365_v1_00373987.jpg",
        "train/obj365_train_000000373987.jpg",  # as v1 was first released
        "images/obj365_val_000000373987.jpg",
    ],
    "group_grounding/sa_6136360.jpg": [
        "sa_000012/sa_6136360.jpg",
        "images/sa_000012/sa_6136360.jpg",
        "sa_6136360.jpg",
    ],
    "group_grounding/sa_4815.jpg": ["sa_000000/sa_4815.jpg"],
    "object_tracking/GOT-10k_Val_000001/00000001.jpg": [
        "val/GOT-10k_Val_000001/00000001.jpg",
        "val/GOT-10k_Val_000001/00000077.jpg",
        "GOT-10k_Val_000001/00000003.jpg",
        "Object_Tracking/GOT-10k/GOT-10k_Val_000001/00000001_ref.jpg",
        "Object_Tracking/GOT-10k/GOT-10k_Val_000001_00000001.jpg",
        "frames/got10k_val_000001-00000077.png",
        "frames/val-GOT-10k_Val_000001/00000003.jpg",
    ],
    "static_diff/392687_1_source.png": [
        "dev/images/392687/392687-input.png",
        "dev/images/392687/392687-input2.png",  # of the parquet files, where a turn does not start from the last one
        "dev/images/392687/392687-output1.png",
        "dev/images/392687/392687-output3.png",
        "dev/images/392687/392687-mask1.png",
        "train2017/000000392687.jpg",
        "images/val2017/000000392687.jpg",
        "images/train2014/COCO_train2014_000000392687.jpg",
        "Region_Locating/COCO-crops/train2017/000000392687-10-20-300-400.jpg",
        "images/train2017_000000392687.jpg",
        "COCO_val2017_000000392687_16.jpg",
        "train2017/392687.jpg",
        "coco/unlabeled2017/000000392687.jpg",
    ],
    "static_diff/34_1_source.png": ["dev/images/34/34-input.png", "train2017/000000000034.jpg"],
    "common/bear/2318253.jpg": [
        "VG_100K/2318253.jpg",
        "vg/VG_100K_2/2318253.jpg",
        "gqa/images/2318253.jpg",
        "gqa/2318253.jpg",
        "GQA/allImages/images/2318253.jpg",
        "visual_genome/VG_100K_images/2318253.jpg",
        "VisualGenome/images2/2318253.JPG",
        "vg/images/2318253.jpg",
        "images/VG_100K_2_2318253.jpg",
        "images/gqa_2318253.jpg",
        "Region_Locating/GQA-crops/2318253-10-20-300-400.jpg",
    ],
    "refer_grounding/case005_150273_raw.jpg": [
        "VG_100K/150273.jpg",
        "gqa/images/150273.jpg",
        "other/case005_150273_raw.png",
    ],
    "multi_view/195949.png": ["MIG-Bench/images/multi_view/195949.jpg"],
    "reasoning/case001_2.png": ["copy/reasoning/case001_2.jpg"],
}

# By source, paths that are near to what is known: another number, folder, split or scheme.
OTHERS = {
    "objects365": [
        "images/v1/patch16/objects365_v1_00900003.jpg",
        "images/v2/patch16/objects365_v2_00900004.jpg",
        "images/v2/patch16/objects365_v2_009000030.jpg",
        "train/objects365_v2_00373987.jpg",
        "train/obj365_train_000000373988.jpg",
        "train/obj365_train_000001373987.jpg",
    ],
    "sa1b": ["sa_000012/sa_61363600.jpg", "sa_000012/sa_613636.jpg", "sa_6136360/sa_6136361.jpg", "usa_6136360.jpg"],
    "got10k": [
        "train/GOT-10k_Train_000001/00000001.jpg",
        "val/GOT-10k_Val_000002/00000001.jpg",
        "GOT-10k_Train_000001_00000001.jpg",
        "GOT-10k_Val_000002_00000001.jpg",
        "GOT-10k_Val_0000010_00000001.jpg",
        "val/000001/00000001.jpg",
    ],
    "coco": [
        "train2017/000000392688.jpg",
        "000000003926.jpg",
        "20240000392687.jpg",
        "100000392687.jpg",
        "train2017/392688.jpg",
        "train2017/1392687.jpg",
        "images/392687.jpg",
    ],
    "visual_genome": [
        "gqa/images/2318254.jpg",
        "gqa/images/12318253.jpg",
        "gqa/a/b/c/2318253.jpg",
        "images/2318253.jpg",
        "bear/2318253.jpg",
        "vga_2318253.jpg",
        "vg/23182530.jpg",
        "gqa/images/n2318253.jpg",
    ],
    "magicbrush": ["train/images/392688/392688-input.png", "train/images/1392687/1392687-output1.png", "392687.png"],
    "imagenet": [
        "ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_10040.JPEG",
        "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000236.JPEG",
        "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00392687.JPEG",
    ],
    "lasot": ["car/car-1/img/00000001.jpg", "airplane/airplane-1/img/00000001.jpg", "bus/bus-10/img/00000010.jpg"],
    "trackingnet": ["TRAIN_0/frames/Nf1aqv5Fg5o_0/0.jpg", "TRAIN_0/frames/Nf1aqv5Fg5o_0/34.jpg"],
    "mot17": ["train/MOT17-02-FRCNN/img1/000001.jpg", "train/MOT17-13-SDP/img1/000034.jpg"],
    "clevr_change": [f"data/{kind}_000034.png" for kind in ("images/CLEVR_default", "sc_images/CLEVR_semantic")],
    "img_diff": ["filtered_new_edit_data/2_2311_0_0.jpg", "inpaint/2_17718_img0_0_2_1.jpg"],
    "spot_the_diff": ["data/resized_images/34.png", "data/resized_images/34_2.png"],
}


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in KNOWN.items() for path in paths])
def test_known_in_native_layouts(listed: Leaks, name: str, path: str) -> None:
    full = f"./MIG-Bench/images/{name}"
    assert listed.of(full) and listed.of(path) and listed.of(f"/data/source/{path}")
    assert Leaks.named([full]).of(path) == full


@pytest.mark.parametrize("path", [path for paths in OTHERS.values() for path in paths])
def test_near_misses(listed: Leaks, path: str) -> None:
    assert listed.of(path) is None and listed.of(f"/data/source/{path}") is None


def test_names_in_other_layouts(listed: Leaks, shared: Path) -> None:
    table = shared / "cases" / "text" / "leak_names.tsv"
    if not table.is_file():
        pytest.skip(f"{table} is not here")
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert [(leaks, path) for leaks, path in rows if bool(listed.of(path)) != (leaks == "1")] == []
    assert rows


def test_every_name_of_the_real_files_is_known(listed: Leaks, names: set[str]) -> None:
    assert len(names) == 5887
    assert [name for name in names if not listed.of(name)] == []
    assert {f"MIG-Bench/images/{name}" for name in KNOWN} <= names


def numbers(names: set[str], pattern: str) -> set[int]:
    return {int(match[1]) for name in names for match in [re.search(pattern, name)] if match}


@pytest.mark.parametrize(
    ("pattern", "path", "end", "count"),
    [
        (r"/objects365_v1_0*(\d+)", "images/v1/patch1/objects365_v1_{:08d}.jpg", 800_000, 385),
        (r"/objects365_v2_0*(\d+)", "images/v2/patch1/objects365_v2_{:08d}.jpg", 2_400_000, 760),
        (r"static_diff/(\d+)_", "train2017/{:012d}.jpg", 600_000, 266),
        (r"static_diff/(\d+)_", "dev/images/{0}/{0}-input.png", 600_000, 266),
        (r"(?:common/[^/]+/|case\d{3}_)(\d{6,7})(?:_raw)?\.", "gqa/images/{}.jpg", 2_500_000, 106),
        (r"static_diff/(\d+)_", "val2014/{}.jpg", 600_000, 266),
        (r"/objects365_v1_0*(\d+)", "train/obj365_train_{:012d}.jpg", 800_000, 385),
        (r"object_tracking/GOT-10k_Val_0*(\d+)", "GOT-10k_Val_{:06d}_00000001.jpg", 181, 110),
        (r"object_tracking/GOT-10k_Val_0*(\d+)", "val/GOT-10k_Val_{:06d}/00000001.jpg", 181, 110),
        (r"/sa_(\d+)", "sa_000001/sa_{}.jpg", 100_000, 6),
    ],
)
def test_of_all_numbers_of_a_source_exactly_those_of_the_benchmark_are_known(
    listed: Leaks, names: set[str], pattern: str, path: str, end: int, count: int
) -> None:
    expected = {number for number in numbers(names, pattern) if number < end}
    others = range(0, end, max(1, end // 40_000))
    asked = sorted(expected | {one + step for one in expected for step in (-1, 1)} | set(others))
    assert {number for number in asked if listed.of(path.format(number))} == expected
    assert len(expected) == count


def test_the_list_is_what_its_script_makes_of_the_real_files(files: list[Path], tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "mig_bench_images.py"
    subprocess.run([sys.executable, script, *files, "--out", tmp_path / "list.json"], check=True, capture_output=True)
    made = (tmp_path / "list.json").read_bytes()
    assert made == (REPOSITORY / "migician" / "benchmarks" / "contamination" / "mig_bench_images.json").read_bytes()


def test_the_list_is_sound() -> None:
    keys = [name_list().digests[at : at + 8] for at in range(0, len(name_list().digests), 8)]
    assert keys == sorted(set(keys)) and {len(key) for key in keys} == {8}
    assert {len(file.sha256) for file in name_list().files.values()} == {64}
    assert b"objects365" not in msgspec.json.encode(name_list())
