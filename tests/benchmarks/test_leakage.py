"""Images of the benchmark are found under any name and after any re-encoding, and others are not."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from migician.benchmarks.contamination import fingerprints
from migician.benchmarks.contamination.fingerprints import NEAR, fingerprint, near_pairs, prepare
from migician.benchmarks.contamination.leakage import Leaks, names_in
from migician.errors import UserError


@pytest.fixture(scope="module")
def photos(shared: Path) -> list[Path]:
    """Real photos, no two of the same scene."""
    sources = shared / "data" / "sources"
    found = [
        *sorted(sources.glob("coco/*/*.jpg")),
        *sorted(sources.glob("sa1b/*/*.jpg")),
        *sorted(sources.glob("mot17/MOT17/train/*/img1/000001.jpg")),
        *sorted(sources.glob("clevr_change/data/images/CLEVR_default_000000.png")),
    ]
    if len(found) < 10:
        pytest.skip(f"too few real photos in {sources}")
    return found


def taken(picture: Image.Image) -> int:
    prepare(picture)
    found = fingerprint(picture)
    assert found is not None
    return found


def encoded(picture: Image.Image, kind: str = "JPEG", **options: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    stream.seek(0)
    return Image.open(stream)


def versions(photo: Path) -> Iterator[tuple[str, Image.Image]]:
    with Image.open(photo) as opened:
        whole = opened.convert("RGB")
    half = whole.resize((whole.width // 2, whole.height // 2), Image.Resampling.BICUBIC)
    yield "quality 50", encoded(whole, quality=50)
    yield "quality 20", encoded(whole, quality=20)
    yield "half", encoded(half, quality=75)
    yield "half as PNG", encoded(half, "PNG")
    yield "square", encoded(whole.resize((512, 512)), quality=90)
    yield "quarter", encoded(whole.resize((whole.width // 4, whole.height // 4)), quality=50)


class TestFingerprints:
    def test_the_same_photo_encoded_and_resized_anew_is_near(self, photos: list[Path]) -> None:
        worst = {}
        for photo in photos:
            with Image.open(photo) as opened:
                own = taken(opened)
            for name, version in versions(photo):
                worst[name] = max(worst.get(name, 0), (own ^ taken(version)).bit_count())
        assert max(worst.values()) <= NEAR - 2, worst

    def test_different_photos_are_far(self, photos: list[Path]) -> None:
        own = []
        for photo in photos:
            with Image.open(photo) as opened:
                own.append(taken(opened))
        apart = [(a ^ b).bit_count() for a, b in itertools.combinations(own, 2)]
        assert min(apart) > 2 * NEAR
        assert abs(np.mean(apart) - 32) < 1.5 and np.std(apart) < 5  # about as independent bits: see NEAR

    def test_a_flat_picture_has_none(self) -> None:
        assert fingerprint(Image.new("RGB", (300, 200), (90, 80, 70))) is None

    @given(
        known=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5),
        flips=st.lists(st.tuples(st.integers(0, 4), st.lists(st.integers(0, 63), max_size=8, unique=True)), max_size=6),
    )
    def test_near_pairs_are_all_pairs_within_the_threshold(
        self, known: list[int], flips: list[tuple[int, list[int]]]
    ) -> None:
        wanted = [known[which % len(known)] ^ sum(1 << bit for bit in bits) for which, bits in flips]
        found = set(near_pairs(np.array(wanted, np.uint64), np.array(known, np.uint64)))
        assert found == {
            (i, j, (a ^ b).bit_count())
            for i, a in enumerate(wanted)
            for j, b in enumerate(known)
            if (a ^ b).bit_count() <= NEAR
        }

    @given(st.lists(st.sampled_from([0, 1, 63, 127, 2**64 - 1]), max_size=4), st.permutations([0, 1, 3, 127, 2**63]))
    def test_the_benchmark_may_be_the_larger_or_the_smaller_side(self, wanted: list[int], known: list[int]) -> None:
        for some in (known, known[:1]):
            leaks = Leaks(tuple(map(str, some)), fingerprints={str(one): one for one in some})
            apart = {at: sorted(((a ^ b).bit_count(), i) for i, b in enumerate(some)) for at, a in enumerate(wanted)}
            expected = {at: [str(some[i]) for bits, i in ones if bits <= NEAR] for at, ones in apart.items()}
            found = leaks.near(np.array(wanted, np.uint64))
            assert found == {at: names for at, names in expected.items() if names}

    @given(st.lists(st.integers(0, 2**64 - 1), max_size=9))
    def test_both_ways_to_count_bits(self, values: list[int]) -> None:
        array = np.array(values, np.uint64)
        expected = [value.bit_count() for value in values]
        assert fingerprints._ones_by_table(array).tolist() == expected == fingerprints._ones(array).tolist()


NAMES = [
    "./MIG-Bench/images/region/objects365_v2_00900613_2.jpg",
    "MIG-Bench/images/group_grounding/sa_6136360.jpg",
    "./MIG-Bench/images/object_tracking/GOT-10k_Val_000001/00000001.jpg",
    "./MIG-Bench/images/static_diff/100081_2_source.png",
    "./MIG-Bench/images/common/bear/2318253.jpg",
    "./MIG-Bench/images/common/Car/car_1.jpg",
    "./MIG-Bench/images/multi_view/123648.jpg",
    "./MIG-Bench/images/refer_grounding/case003_285864_raw.jpg",
    "./MIG-Bench/images/view_diff/20241106145005.jpg",
]


class TestNames:
    @pytest.mark.parametrize(
        ("path", "position"),
        [
            ("objects365_v2_00900613.jpg", 0),
            ("./MGrounding-630k/Region_Locating/Objects365/patch16/objects365_v2_00900613-10-20-300-400.jpg", 0),
            ("/data/obj365/images/v2/patch16/OBJECTS365_V2_00900613.png", 0),
            ("SA-1B/sa_000012/sa_6136360.jpg", 1),
            ("GOT-10k/val/GOT-10k_Val_000001/00000007.jpg", 2),
            ("MagicBrush/dev/images/100081/100081-input.png", 3),
            ("MagicBrush/dev/images/100081/100081-output1.png", 3),
            ("train2017/000000100081.jpg", 3),
            ("coco/COCO_train2014_000000100081.jpg", 3),
            ("vg/VG_100K_2/2318253.jpg", 4),
            ("vg/VG_100K/285864.jpg", 7),
            ("copy/common/Car/car_1.png", 5),
            ("MIG-Bench/images/multi_view/123648.jpg", 6),
            (r"images\multi_view\123648.jpg", 6),
            ("anywhere/20241106145005.jpg", 8),
        ],
    )
    def test_copies_are_found(self, path: str, position: int) -> None:
        assert Leaks.named(NAMES).of(path) == NAMES[position]

    @pytest.mark.parametrize(
        "path",
        [
            "objects365_v1_00900613.jpg",
            "objects365_v2_009006130.jpg",
            "sa_61363601.jpg",
            "usa_6136360.jpg",
            "GOT-10k/train/GOT-10k_Train_000001/00000001.jpg",
            "LaSOT/car/car-1/img/00000001.jpg",
            "train2017/000000200081.jpg",
            "100081.jpg",
            "bear/2318253.jpg",
            "Car/car_1.jpg",
            "123648.jpg",
            "other/123648.jpg",
            "case003_1.jpg",
            "",
            "/",
        ],
    )
    def test_others_are_not(self, path: str) -> None:
        assert Leaks.named(NAMES).of(path) is None

    @given(st.text(max_size=60))
    def test_any_text_may_be_a_path(self, path: str) -> None:
        Leaks.named([*NAMES, path]).of(path + "x")

    @pytest.mark.parametrize("file", ["MIG_data.json", "revised_MIG_bench.json"])
    def test_the_real_file(self, shared: Path, file: str) -> None:
        leaks = Leaks.read(shared / "data" / "mig_bench" / file)
        assert all(leaks.of(name) for name in leaks.names)
        assert all(leaks.of(f"/elsewhere/{name}") for name in leaks.names)
        counts = leaks.telling()
        assert counts["sequence"] == 660 and 4000 < counts["name"] < 4100 and sum(counts.values()) == len(leaks.names)

    def test_no_real_sample_is_taken_for_one_but_the_dev_split_of_magicbrush(self, shared: Path) -> None:
        leaks = Leaks.read(shared / "data" / "mig_bench" / "MIG_data.json")
        sources = shared / "data" / "sources"
        images = [path for path in sources.rglob("*") if path.suffix in {".jpg", ".png"}]
        assert len(images) > 30 and not [path for path in images if leaks.of(path)]
        sessions = json.loads((sources / "magicbrush" / "dev" / "edit_sessions.json").read_text())
        assert all(leaks.of(turn["output"]) for turns in sessions.values() for turn in turns)


class TestReading:
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Path:
        rng = np.random.default_rng(0)
        rows = []
        for number in range(3):
            name = f"MIG-Bench/images/diff/{number}.png"
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            coarse.resize((200, 150), Image.Resampling.BICUBIC).save(tmp_path / name)
            rows.append({"task": "diff", "images": [f"./{name}"], "question": "?", "answer": [0, 0, 1, 1]})
        (tmp_path / "MIG_data.json").write_text(json.dumps(rows))
        return tmp_path

    def read(self, bench: Path) -> Leaks:
        return Leaks.read(bench / "MIG_data.json", bench, bench / "store.json")

    def test_a_copy_under_another_name_is_found_by_what_it_shows(self, bench: Path) -> None:
        leaks = self.read(bench)
        with Image.open(bench / "MIG-Bench/images/diff/1.png") as picture:
            picture.resize((100, 75)).save(bench / "copy.jpg", quality=50)
            picture.transpose(Image.Transpose.ROTATE_180).save(bench / "other.png")
        assert leaks.shown_in(bench / "copy.jpg") == "./MIG-Bench/images/diff/1.png"
        assert leaks.shown_in(bench / "other.png") is None
        assert leaks.shown_in(bench / "MIG_data.json") is None

    def test_a_near_fingerprint_alone_is_not_enough(self, bench: Path) -> None:
        leaks = self.read(bench)
        names = list(leaks.names)
        assert leaks.confirmed(bench / names[2], names[:2]) is None
        assert leaks.confirmed(bench / names[2], names) == names[2]

    def test_fingerprints_are_kept_and_taken_again_of_changed_files(self, bench: Path) -> None:
        first = self.read(bench)
        stored = json.loads((bench / "store.json").read_text())
        stored["images"]["./MIG-Bench/images/diff/0.png"]["fingerprint"] = 5
        (bench / "store.json").write_text(json.dumps(stored))
        assert self.read(bench).fingerprints["./MIG-Bench/images/diff/0.png"] == 5
        (bench / "MIG-Bench/images/diff/0.png").write_bytes((bench / "MIG-Bench/images/diff/1.png").read_bytes())
        again = self.read(bench).fingerprints
        assert again["./MIG-Bench/images/diff/0.png"] == first.fingerprints["./MIG-Bench/images/diff/1.png"]

    @pytest.mark.parametrize("kept", ["", "{", '{"version": 0, "images": {}}', "[1]"])
    def test_a_store_that_cannot_be_used_is_made_anew(self, bench: Path, kept: str) -> None:
        expected = self.read(bench).fingerprints
        (bench / "store.json").write_text(kept)
        assert self.read(bench).fingerprints == expected

    def test_images_that_are_not_there_are_counted(self, bench: Path) -> None:
        (bench / "MIG-Bench/images/diff/0.png").unlink()
        (bench / "MIG-Bench/images/diff/1.png").write_bytes(b"no picture")
        leaks = self.read(bench)
        assert leaks.missing == 2 and len(leaks.fingerprints) == 1

    def test_a_wrong_root_or_file_is_one_sentence(self, bench: Path) -> None:
        (bench / "empty").mkdir()
        with pytest.raises(UserError, match="none of the 3 images"):
            Leaks.read(bench / "MIG_data.json", bench / "empty", bench / "store.json")
        with pytest.raises(UserError, match="migician fetch mig-bench"):
            Leaks.read(bench / "nowhere.json")
        (bench / "other.json").write_text('{"a": 1}')
        with pytest.raises(UserError, match="not a MIG-Bench file"):
            Leaks.read(bench / "other.json")


def test_a_byte_order_mark_before_the_benchmark_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "MIG_data.json"
    file.write_bytes(b'\xef\xbb\xbf[{"images": ["a.png", "b.png"]}]')
    assert names_in(file)[1] == ["a.png", "b.png"]
