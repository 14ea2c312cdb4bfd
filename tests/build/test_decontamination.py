"""Builders leave out what MIG-Bench uses: by name from the first, by picture where asked, and they say which list."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from migician.benchmarks.contamination.leakage import name_list
from migician.build import dataset as building
from migician.build import decontamination
from migician.build.dataset import build
from migician.build.decontamination import BY_NAME, BY_PICTURE, MIG_BENCH, Decontaminator, begin
from migician.build.rendering import Piece, Rendered, render
from migician.cli.options import to_exclude
from migician.errors import UserError
from migician.miniature import Amounts, make_world
from migician.samples.sample import read_samples
from tests.build.test_build import MINIATURE, contents

pytestmark = pytest.mark.usefixtures("plain_card")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rename(root: Path, listing: str, old: str, new: str) -> None:
    """Give everything below `root` that is called `old` the name `new`, in the file that lists it too."""
    for path in sorted(root.rglob(f"{old}*"), key=lambda path: len(path.parts), reverse=True):
        path.rename(path.with_name(path.name.replace(old, new, 1)))
    file = root / listing
    file.write_text(file.read_text().replace(old, new))


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A drawn world, one image or sequence of each source under a name that MIG-Bench has."""
    roots = make_world(
        tmp_path_factory.mktemp("world") / "w", 5, Amounts(got10k=6, coco=24, objects365=8, magicbrush=6, held_out=1)
    )
    listing = json.loads((roots["coco"] / "annotations" / "instances_train2017.json").read_text())
    (label, _), *_ = Counter(one["category_id"] for one in listing["annotations"]).most_common()
    number = next(one["image_id"] for one in listing["annotations"] if one["category_id"] == label)
    image = next(Path(one["file_name"]).stem for one in listing["images"] if one["id"] == number)
    rename(roots["coco"], "annotations/instances_train2017.json", image, "000000392687")
    image = sorted((roots["objects365"] / "train").rglob("*.jpg"))[0].stem
    rename(roots["objects365"], "zhiyuan_objv2_train.json", image, "objects365_v2_00900003")
    rename(roots["got10k"], "train/list.txt", "GOT-10k_Train_000002", "GOT-10k_Val_000001")
    sessions = roots["magicbrush"] / "train" / "edit_sessions.json"
    first = next(iter(json.loads(sessions.read_text())))
    for file in (roots["magicbrush"] / "train" / "images" / first).iterdir():
        file.rename(file.with_name(file.name.replace(f"{first}-", "392687-", 1)))
    (roots["magicbrush"] / "train" / "images" / first).rename(roots["magicbrush"] / "train" / "images" / "392687")
    renamed = sessions.read_text().replace(f'"{first}":', '"392687":').replace(f'"{first}-', '"392687-')
    sessions.write_text(renamed)
    return {name: root for name, root in roots.items() if name != "mig-bench"}


def records(folder: Path) -> dict[str, Any]:
    return {one.id: one for one in read_samples(folder / "MGrounding-630k.json")}


@pytest.mark.parametrize(
    ("task", "source", "name"),
    [
        ("object_tracking", "got10k", "/GOT-10k_Val_000001/"),
        ("difference", "magicbrush", "/392687-"),
        ("common_object", "coco", "/000000392687."),
        ("free_form", "coco", "/000000392687."),
        ("region_locating", "objects365", "/objects365_v2_00900003"),
    ],
)
def test_known_images_are_in_no_sample_and_all_other_samples_are_there(
    sources: dict[str, Path], tmp_path: Path, task: str, source: str, name: str
) -> None:
    left_out = build([task], sources, tmp_path / "a", config=MINIATURE)
    kept = build([task], sources, tmp_path / "b", config=MINIATURE, exclude=None)
    everything = records(tmp_path / "b")
    others = {key: one for key, one in everything.items() if not any(name in image for image in one.images)}
    assert records(tmp_path / "a") == others
    assert left_out.parts[0].source == source
    assert left_out.parts[0].refused[BY_NAME] == len(everything) - len(others) > 0
    assert BY_NAME not in kept.parts[0].refused


def test_another_sample_takes_the_place(sources: dict[str, Path], tmp_path: Path) -> None:
    built = build(["difference"], sources, tmp_path / "a", config=MINIATURE, count=5)
    assert built.samples == 5  # of six pairs


def test_the_card_says_which_lists_were_used(sources: dict[str, Path], tmp_path: Path) -> None:
    build(["difference"], sources, tmp_path / "a", config=MINIATURE)
    card = json.loads((tmp_path / "a" / "card.json").read_text())["mig_bench"]
    assert card["left_out"] is True and card["pictures"] == 0
    assert card["lists"] == {name: file.sha256 for name, file in name_list().files.items()}
    text = (tmp_path / "a" / "README.md").read_text()
    assert card["sentence"] in text and all(sha256[:12] in text for sha256 in card["lists"].values())


def test_the_card_says_loudly_what_was_kept(sources: dict[str, Path], tmp_path: Path) -> None:
    build(["difference"], sources, tmp_path / "a", config=MINIATURE, exclude=None)
    card = json.loads((tmp_path / "a" / "card.json").read_text())["mig_bench"]
    assert card["left_out"] is False and card["lists"] == {}
    assert "**Images that MIG-Bench uses were not left out" in (tmp_path / "a" / "README.md").read_text()


def test_the_command_line_says_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert to_exclude(None, None, keep=False) == MIG_BENCH and capsys.readouterr().err == ""
    assert to_exclude(None, None, keep=True) is None
    assert "images that MIG-Bench uses are kept" in capsys.readouterr().err


def test_what_is_left_of_a_build_that_kept_them_is_not_used(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dying(piece: Piece) -> Rendered:
        render(piece)
        raise RuntimeError

    monkeypatch.setattr(building, "render", dying)
    with pytest.raises(RuntimeError):
        build(["difference"], sources, tmp_path / "a", config=MINIATURE, exclude=None)
    monkeypatch.setattr(building, "render", render)
    (left,) = (tmp_path / ".a.part" / "parts").rglob("*.jsonl")
    assert b"392687-" in left.read_bytes()
    build(["difference"], sources, tmp_path / "a", config=MINIATURE)
    build(["difference"], sources, tmp_path / "b", config=MINIATURE)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


class TestPictures:
    """Images under names of their own that show what MIG-Bench's do."""

    @pytest.fixture
    def coco(self, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / "coco"
        (root / "train2017").mkdir(parents=True)
        (root / "annotations").mkdir()
        images, annotations = [], []
        for number in range(700_000, 700_012):
            name = f"{number:012d}.jpg"
            coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            coarse.resize((320, 240), Image.Resampling.BICUBIC).save(root / "train2017" / name, quality=95)
            images.append({"id": number, "file_name": name, "width": 320, "height": 240})
            box = {"image_id": number, "category_id": number % 2, "bbox": [40, 30, 160, 120], "iscrowd": 0}
            annotations.append(box)
        categories = [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}]
        listing = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / "instances_train2017.json").write_text(json.dumps(listing))
        return root

    def bench(self, coco: Path, *numbers: int) -> Decontaminator:
        """A MIG-Bench whose images are half as large and encoded again."""
        root = coco.parent / "bench"
        shutil.rmtree(root, ignore_errors=True)
        (root / "MIG-Bench/images/diff").mkdir(parents=True)
        names = [f"./MIG-Bench/images/diff/{number % 100}.png" for number in numbers]
        for name, number in zip(names, numbers, strict=True):
            with Image.open(coco / "train2017" / f"{number:012d}.jpg") as photo:
                photo.resize((160, 120)).save(root / name)
        rows = [{"task": "diff", "images": names, "question": "?", "answer": [0, 0, 1, 1]}]
        (root / "MIG_data.json").write_text(json.dumps(rows))
        return Decontaminator(root / "MIG_data.json", root)

    def test_they_are_in_no_sample_whoever_does_the_work(self, coco: Path, tmp_path: Path) -> None:
        exclude, given = self.bench(coco, 700_003), {"coco": coco}
        built = build(["common_object"], given, tmp_path / "one", exclude=exclude)
        build(["common_object"], given, tmp_path / "two", exclude=exclude, workers=2)
        build(["common_object"], given, tmp_path / "names")
        assert contents(tmp_path / "one") == contents(tmp_path / "two")
        everything = records(tmp_path / "names")
        others = {
            key: one for key, one in everything.items() if not any("000000700003" in image for image in one.images)
        }
        assert records(tmp_path / "one") == others
        assert built.parts[0].refused[BY_PICTURE] == len(everything) - len(others) > 0
        card = json.loads((tmp_path / "one" / "card.json").read_text())["mig_bench"]
        assert card["pictures"] == 1 and len(card["lists"]) == 3 and "likeness" in card["sentence"]

    def test_only_images_of_samples_are_opened_and_each_once(
        self, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exclude, opened = self.bench(coco, 700_003), []
        real = decontamination.Leaks.shown_in
        monkeypatch.setattr(
            decontamination.Leaks, "shown_in", lambda leaks, path: opened.append(Path(path).name) or real(leaks, path)
        )
        build(["common_object"], {"coco": coco}, tmp_path / "a", count=1, seed=3, exclude=exclude)
        (one,) = records(tmp_path / "a").values()
        assert {Path(image).name for image in one.images} <= set(opened) and len(opened) == len(set(opened)) < 12

    def test_a_file_that_changed_is_read_again(self, coco: Path, tmp_path: Path) -> None:
        for number in (700_003, 700_004):
            exclude = self.bench(coco, number)
            build(["common_object"], {"coco": coco}, tmp_path / str(number), exclude=exclude)
            used = {Path(image).stem for one in records(tmp_path / str(number)).values() for image in one.images}
            assert f"{number:012d}" not in used and len(used) == 11

    def test_names_of_a_given_file_count_too(self, coco: Path, tmp_path: Path) -> None:
        rows = [{"images": ["./MIG-Bench/images/static_diff/700005_1_source.png"]}]
        (tmp_path / "other.json").write_text(json.dumps(rows))
        # COCO's numbers end below 600,000, but a benchmark may name what it likes.
        rename(coco, "annotations/instances_train2017.json", "000000700006", "000000392687")
        exclude = Decontaminator(tmp_path / "other.json")
        built = build(["common_object"], {"coco": coco}, tmp_path / "a", exclude=exclude)
        used = {Path(image).stem for one in records(tmp_path / "a").values() for image in one.images}
        # Which of the ten others come is chance.
        assert 8 <= len(used) <= 10 and not used & {"000000700005", "000000392687"}
        assert built.parts[0].refused[BY_NAME] > 0

    def test_what_was_given_decides_over_the_state(self, coco: Path) -> None:
        first, about = begin(self.bench(coco, 700_003))
        again, _ = begin(self.bench(coco, 700_003))
        other, _ = begin(self.bench(coco, 700_004))
        assert first == again != other and about.pictures == 1 and about.by_name_only == 0
        assert begin(MIG_BENCH)[0] == MIG_BENCH and begin(None)[0] is None

    def test_images_without_their_file_are_refused(self, coco: Path) -> None:
        with pytest.raises(UserError, match="only with the JSON file"):
            Decontaminator(images=coco)
