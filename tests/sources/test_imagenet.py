"""ImageNet's reader against the real XML, the real solution file as an independent answer, and broken files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from migician.boxes import Box
from migician.errors import UserError
from migician.sources import imagenet
from migician.sources.scenes import Tally

FORM = """<annotation>
	<folder>n01440764</folder>
	<filename>{name}</filename>
	<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
	{objects}
</annotation>"""


def instance(*box: float | str, wnid: str = "n01440764") -> str:
    ends = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    return f"<object><name>{wnid}</name><bndbox>{''.join(f'<{k}>{v}</{k}>' for k, v in ends)}</bndbox></object>"


def write(root: Path, name: str, *objects: str, size: tuple[int, int] = (100, 50), split: str = "train") -> Path:
    place = f"CLS-LOC/{split}" + (f"/{name.split('_')[0]}" if split == "train" else "")
    file = root / "ILSVRC/Annotations" / place / f"{name}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(FORM.format(name=name, width=size[0], height=size[1], objects="".join(objects)))
    image = root / "ILSVRC/Data" / place / f"{name}.JPEG"
    image.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 50)).save(image)
    mapping = root / "LOC_synset_mapping.txt"
    if not mapping.exists():
        mapping.write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n")
    return file


def numbers(text: str, tag: str) -> list[int]:
    return [int(value) for value in re.findall(rf"<{tag}>(\d+)</{tag}>", text)]


def with_images(shared: Path, root: Path, *, size: tuple[int, int] | None = None) -> Path:
    """The real annotations beside blank images of the sizes they state."""
    real = shared / "data/sources/imagenet"
    for file in sorted(real.rglob("*")):
        if file.is_file():
            copy = root / file.relative_to(real)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
        if file.suffix == ".xml":
            text = file.read_text()
            image = root / "ILSVRC/Data" / file.relative_to(real / "ILSVRC/Annotations").with_suffix(".JPEG")
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", size or (numbers(text, "width")[0], numbers(text, "height")[0])).save(image)
    return root


class TestRealFiles:
    @pytest.mark.parametrize("split", ["train", "val"])
    def test_every_box_comes_back_to_half_a_permille(self, shared: Path, tmp_path: Path, split: str) -> None:
        root = with_images(shared, tmp_path)
        tally = Tally()
        scenes = {scene.id: scene for scene in imagenet.read(root, tally, split=split)}
        files = sorted((root / "ILSVRC/Annotations/CLS-LOC" / split).rglob("*.xml"))
        assert sorted(scenes) == sorted(file.stem for file in files)
        boxes = 0
        for file in files:
            text, scene = file.read_text(), scenes[file.stem]
            width, height = numbers(text, "width")[0], numbers(text, "height")[0]
            assert scene.size == (width, height)
            ends = [numbers(text, tag) for tag in ("xmin", "ymin", "xmax", "ymax")]
            expected = [
                (x1 / width, y1 / height, (x2 + 1) / width, (y2 + 1) / height)
                for x1, y1, x2, y2 in zip(*ends, strict=True)
            ]
            assert len(scene.instances) == len(expected) > 0
            for one, truth in zip(scene.instances, expected, strict=True):
                assert one.box.as_tuple() == pytest.approx(truth, abs=0.0005)
                assert one.box.is_proper
            boxes += len(expected)
        assert boxes == {"train": 41, "val": 11}[split]  # <object> counted in the files
        assert tally.counts == {}

    def test_labels_are_words(self, shared: Path, tmp_path: Path) -> None:
        scenes = imagenet.read(with_images(shared, tmp_path), Tally())
        labels = {scene.image.parent.name: scene.instances[0].label for scene in scenes}
        assert labels == {"n01440764": "tench", "n01443537": "goldfish", "n01498041": "stingray", "n01514668": "cock"}

    def test_the_solution_file_gives_the_boxes_of_the_xml(self, shared: Path, tmp_path: Path) -> None:
        root = with_images(shared, tmp_path)
        by_xml = list(imagenet.read(root, Tally(), split="val"))
        for file in (root / "ILSVRC/Annotations/CLS-LOC/val").iterdir():
            file.unlink()
        tally = Tally()
        by_solution = list(imagenet.read(root, tally, split="val"))
        assert by_solution == by_xml
        assert tally.counts == {"image without an XML: boxes of LOC_val_solution.csv": len(by_xml)}

    def test_without_images(self, shared: Path) -> None:
        with pytest.raises(UserError, match="holds no image that has a box"):
            list(imagenet.read(shared / "data/sources/imagenet", Tally()))


class TestTrain:
    def test_both_ends_are_inside(self, tmp_path: Path) -> None:
        write(tmp_path, "n01440764_1", instance(0, 0, 99, 49), instance(10, 10, 10, 10))
        (scene,) = imagenet.read(tmp_path, Tally())
        assert [one.box for one in scene.instances] == [Box(0, 0, 1, 1), Box(0.1, 0.2, 0.11, 0.22)]
        assert (scene.id, scene.image.name) == ("n01440764_1", "n01440764_1.JPEG")

    def test_classes_and_images_come_in_order(self, tmp_path: Path) -> None:
        for name in ("n01443537_2", "n01440764_9", "n01443537_10", "n01440764_3"):
            write(tmp_path, name, instance(1, 1, 9, 9))
        names = [scene.id for scene in imagenet.read(tmp_path, Tally())]
        assert names == ["n01440764_3", "n01440764_9", "n01443537_10", "n01443537_2"]

    def test_boxes_are_clipped_dropped_and_remembered(self, tmp_path: Path) -> None:
        goldfish = instance(8, 8, 4, 4, wnid="n01443537")
        write(tmp_path, "n01440764_1", instance(50, 5, 120, 24), goldfish, instance(1, 1, 3, 3, wnid="n09"))
        tally = Tally()
        (scene,) = imagenet.read(tmp_path, tally)
        assert [one.box for one in scene.instances] == [Box(0.5, 0.1, 1, 0.5)]
        assert scene.unboxed == {"goldfish"}
        assert tally.counts == {
            "box clipped to the image": 1,
            "box without area in the image": 1,
            "class without a name": 1,
        }

    def test_classes_of_one_name_are_left_out(self, tmp_path: Path) -> None:
        write(tmp_path, "n02012849_1", instance(1, 1, 9, 9, wnid="n02012849"))
        write(tmp_path, "n01440764_1", instance(1, 1, 9, 9))
        (tmp_path / "LOC_synset_mapping.txt").write_text("n02012849 crane\nn03126707 Crane\nn01440764 tench, x\n")
        tally = Tally()
        assert [scene.id for scene in imagenet.read(tmp_path, tally)] == ["n01440764_1"]
        assert tally.counts["class that shares its name with another"] == 1

    def test_first_names_that_mean_another_thing(self, tmp_path: Path) -> None:
        """ImageNet's ears are of corn, its boxers are dogs."""
        wnids = ("n13133613", "n02108089", "n01440764")
        write(tmp_path, "n01440764_1", *(instance(1, 1, 9, 9, wnid=wnid) for wnid in wnids))
        lines = zip(wnids, ("ear, spike, capitulum", "boxer", "tench, Tinca tinca"), strict=True)
        (tmp_path / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {names}\n" for wnid, names in lines))
        (scene,) = imagenet.read(tmp_path, Tally())
        assert [one.label for one in scene.instances] == ["ear of corn", "boxer dog", "tench"]

    def test_what_the_lists_promise_and_the_disk_lacks_is_counted(self, tmp_path: Path) -> None:
        write(tmp_path, "n01440764_1", instance(1, 1, 9, 9))
        write(tmp_path, "n01440764_2", instance(1, 1, 9, 9))
        (tmp_path / "ILSVRC/Data/CLS-LOC/train/n01440764/n01440764_2.JPEG").unlink()
        listed = tmp_path / "ILSVRC/ImageSets/CLS-LOC/train_loc.txt"
        listed.parent.mkdir(parents=True)
        listed.write_text("".join(f"n01440764/n01440764_{n} {n}\n" for n in (1, 2, 3)) + "n01443537/n01443537_7 4\n")
        tally = Tally()
        assert len(list(imagenet.read(tmp_path, tally))) == 1
        assert tally.counts == {"image annotated but missing": 1, "image of train_loc.txt without an XML": 2}

    def test_an_annotation_of_another_image_is_not_used(self, tmp_path: Path) -> None:
        file = write(tmp_path, "n01440764_1", instance(1, 1, 9, 9))
        file.write_text(file.read_text().replace("n01440764_1<", "n01440764_2<"))
        write(tmp_path, "n01440764_3", instance(1, 1, 9, 9))
        write(tmp_path, "n01440764_4", instance(1, 1, 9, 9), size=(0, 50))
        tally = Tally()
        assert [scene.id for scene in imagenet.read(tmp_path, tally)] == ["n01440764_3"]
        assert tally.counts == {"annotation that names another image": 1, "annotation without the image's size": 1}


class TestFaults:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"<annotation><size><wid", "not XML .*line 1"),
            (b'<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>', "refused"),
            (b"\xff\xfe<\x00!\x00D\x00", "cannot be read"),
            (b"", "not XML"),
            (b"<annotation><object><name>n1</name></object></annotation>", "an object has no xmin"),
            (FORM.format(name="n01440764_1", width="wide", height=1, objects="").encode(), "'wide'"),
            (FORM.format(name="n01440764_1", width=9, height=9, objects=instance(1, 2, "x", 4)).encode(), "'x'"),
        ],
    )
    def test_broken_xml_is_named(self, tmp_path: Path, content: bytes, said: str) -> None:
        file = write(tmp_path, "n01440764_1", instance(1, 1, 9, 9))
        file.write_bytes(content)
        with pytest.raises(UserError, match=said) as caught:
            list(imagenet.read(tmp_path, Tally()))
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_an_entity_in_another_encoding_does_not_slip_through(self, tmp_path: Path, encoding: str) -> None:
        file = write(tmp_path, "n01440764_1", instance(1, 1, 9, 9))
        file.write_bytes('<!DOCTYPE annotation [<!ENTITY x "y">]><annotation>&x;</annotation>'.encode(encoding))
        with pytest.raises(UserError, match="cannot be read"):
            list(imagenet.read(tmp_path, Tally()))

    @pytest.mark.parametrize("line", ["n01440764", "n01440764 ,"])
    def test_a_broken_mapping(self, tmp_path: Path, line: str) -> None:
        write(tmp_path, "n01440764_1", instance(1, 1, 9, 9))
        (tmp_path / "LOC_synset_mapping.txt").write_text(f"n01443537 goldfish\n{line}\n")
        with pytest.raises(UserError, match="line 2 is not"):
            list(imagenet.read(tmp_path, Tally()))

    def test_no_mapping(self, tmp_path: Path) -> None:
        write(tmp_path, "n01440764_1", instance(1, 1, 9, 9))
        (tmp_path / "LOC_synset_mapping.txt").unlink()
        with pytest.raises(UserError, match=r"LOC_synset_mapping\.txt: cannot be read: No such file"):
            list(imagenet.read(tmp_path, Tally()))

    @pytest.mark.parametrize("row", ["n01440764 1 2 3", "n01440764 1 2 3 x", "n01440764 1 2 3 4 n01443537"])
    def test_a_cut_solution(self, tmp_path: Path, row: str) -> None:
        write(tmp_path, "ILSVRC2012_val_00000001", instance(1, 1, 9, 9), split="val")
        (tmp_path / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\nILSVRC2012_val_00000002,{row} \n")
        with pytest.raises(UserError, match=r"LOC_val_solution\.csv: line 2"):
            list(imagenet.read(tmp_path, Tally(), split="val"))

    def test_a_list_cannot_lead_out_of_the_folder(self, tmp_path: Path) -> None:
        write(tmp_path, "ILSVRC2012_val_00000001", instance(1, 1, 9, 9), split="val")
        Image.new("L", (9, 9)).save(tmp_path / "secret.JPEG")
        listed = tmp_path / "ILSVRC/ImageSets/CLS-LOC/val.txt"
        listed.parent.mkdir(parents=True)
        listed.write_text("../../../../secret 1\nILSVRC2012_val_00000001 2\n")
        (tmp_path / "LOC_val_solution.csv").write_text("ImageId,P\n../../../../secret,n01440764 1 1 2 2\n")
        tally = Tally()
        assert [scene.id for scene in imagenet.read(tmp_path, tally, split="val")] == ["ILSVRC2012_val_00000001"]
        assert tally.counts == {"image annotated but missing": 1}

    def test_the_test_split_has_no_boxes(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="'test' has no boxes"):
            list(imagenet.read(tmp_path, Tally(), split="test"))


def test_val_without_a_list_takes_what_is_there(tmp_path: Path) -> None:
    for number in (3, 1):
        write(tmp_path, f"ILSVRC2012_val_{number:08d}", instance(1, 1, 9, 9), split="val")
    (tmp_path / "LOC_val_solution.csv").write_text("ImageId,P\nILSVRC2012_val_00000002,n01440764 0 0 9 9 \n")
    image = tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000002.JPEG"
    Image.new("L", (20, 10)).save(image)
    scenes = list(imagenet.read(tmp_path, Tally(), split="val"))
    assert [scene.id[-1] for scene in scenes] == ["1", "2", "3"]
    assert (scenes[1].size, scenes[1].instances[0].box) == ((20, 10), Box(0, 0, 0.5, 1))
