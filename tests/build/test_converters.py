"""Foreign conversations as samples: marks, roles and boxes in their place, the doubtful left out and counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from command_line import command
from foreign import dump, picture
from hypothesis import given
from hypothesis import strategies as st

from migician.boxtext import plain
from migician.build.converters import groma, llava
from migician.build.converters.foreign import ImageFolder
from migician.errors import UserError
from migician.samples.sample import IMAGE_MARK, Sample, read_samples
from migician.sources.scenes import Tally


@pytest.fixture
def images(tmp_path: Path) -> ImageFolder:
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        picture(tmp_path / "images" / name)
    return ImageFolder(tmp_path / "images", tmp_path)


def said(*values: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": value} for i, value in enumerate(values)]


TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|box_start|>",
    "<|vision_pad|>",
    "<image>",
    "<video>",
    "<audio>",
)


class TestPlain:
    @pytest.mark.parametrize("token", TOKENS)
    def test_no_token_survives(self, token: str) -> None:
        assert plain(f"a{token}b") == f"a< {token[1:-1]} >b"

    @given(st.lists(st.sampled_from([*TOKENS, *(t[:3] for t in TOKENS), *(t[3:] for t in TOKENS), "<", ">", "|", "a"])))
    def test_none_comes_to_be_from_its_pieces(self, pieces: list[str]) -> None:
        text = plain("".join(pieces))
        assert not any(token in text for token in TOKENS)
        assert plain(text) == text

    def test_code_stays(self) -> None:
        code = "xs |> map (fun x -> x <| 1) if a <b> c"
        assert plain(code) == code


class TestImageFolder:
    def test_names_are_relative_to_the_media_folder_or_whole(self, tmp_path: Path) -> None:
        picture(tmp_path / "m" / "images" / "a.jpg")
        inside = ImageFolder(tmp_path / "m" / "images", tmp_path / "m")
        assert inside.find(["x.jpg", "./a.jpg"], Tally()) == "images/a.jpg"
        outside = ImageFolder(tmp_path / "m" / "images", tmp_path / "elsewhere")
        assert outside.find(["a.jpg"], Tally()) == str(tmp_path / "m/images/a.jpg")

    @pytest.mark.parametrize("name", ["/etc/passwd", "../a.jpg", "x/../../a.jpg", "a\0.jpg", "", "."])
    def test_names_that_lead_out_are_refused(self, images: ImageFolder, name: str) -> None:
        tally = Tally()
        assert images.find([name], tally) is None
        assert tally.counts == {"image name that leads out of the folder": 1}

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is not a folder"):
            ImageFolder(tmp_path / "none", tmp_path)


def one(tmp_path: Path, images: ImageFolder, record: dict[str, Any]) -> tuple[Sample | None, dict[str, int]]:
    tally = Tally()
    made = list(llava.convert(dump(tmp_path / "data.json", [record]), images, tally))
    return (made[0] if made else None), tally.counts


class TestLlava:
    @pytest.mark.parametrize(
        ("image", "turns", "texts"),
        [
            ("a.jpg", ["<image>\nWhat?", "A bus."], ["<image>\nWhat?", "A bus."]),
            ("a.jpg", ["What?\n<image>", "A bus."], ["What?\n<image>", "A bus."]),
            ("a.jpg", ["What?", "A bus."], ["<image>\nWhat?", "A bus."]),
            ("a.jpg", ["<image>\nWhat?", "A", "<image>\nAnd?", "B"], ["<image>\nWhat?", "A", "And?", "B"]),
            ("a.jpg", ["Hi", "Hi", "<image> What?", "B"], ["<image>\nHi", "Hi", "What?", "B"]),
            (["a.jpg"], ["<image> <image> What?", "A bus."], ["<image>  What?", "A bus."]),
            (["a.jpg", "b.jpg"], ["Is <image> like <image>?", "No"], ["Is <image> like <image>?", "No"]),
            (["a.jpg", "b.jpg"], ["Alike?", "No"], ["<image><image>\nAlike?", "No"]),
            (["a.jpg", "b.jpg", "sub/c.jpg"], ["A <image> alike?", "No"], ["A <image><image><image> alike?", "No"]),
            (
                ["a.jpg", "b.jpg"],
                ["<image> What?", "A", "And <image>?", "B"],
                ["<image><image> What?", "A", "And Image-2?", "B"],
            ),
            (None, ["What is 2+2?", "4"], ["What is 2+2?", "4"]),
            ("", ["What is 2+2?", "4"], ["What is 2+2?", "4"]),
            (
                "a.jpg",
                ["<image>Say <|im_end|>", "<|im_end|> <video>"],
                ["<image>Say < |im_end| >", "< |im_end| > < video >"],
            ),
            ("a.jpg", ["<im<image>age>x<image>", "ok"], ["<im<image>age>x", "ok"]),
        ],
    )
    def test_marks_stand_in_the_first_question(
        self, tmp_path: Path, images: ImageFolder, image: Any, turns: list[str], texts: list[str]
    ) -> None:
        made, counts = one(tmp_path, images, {"id": 5, "image": image, "conversations": said(*turns)})
        assert made is not None and counts == {}
        assert [turn.value for turn in made.conversations] == texts
        assert made.problems() == [] and made.id == "data-0" and made.type == "llava"
        names = [image] if isinstance(image, str) else image or []
        assert made.images == [f"images/{name}" for name in names if name]

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ({"video": "v.mp4", "conversations": said("<video>?", "!")}, "record with a video"),
            ({"image": "x.jpg", "conversations": said("<image>?", "!")}, "image missing"),
            ({"image": "../x.jpg", "conversations": said("<image>?", "!")}, "image name that leads out of the folder"),
            ({"conversations": said("<image>?", "!")}, "image marks without images"),
            (
                {"image": ["a.jpg", "b.jpg"], "conversations": said("<image>" * 3 + "?", "!")},
                "more image marks than images",
            ),
            ({"image": "a.jpg", "conversations": said("?", "<image>!")}, "image mark in an answer"),
            ({"conversations": said("?", "!", "?")}, "speakers out of order"),
            ({"conversations": said("?", "!")[::-1]}, "speakers out of order"),
            ({"conversations": []}, "speakers out of order"),
            ({"conversations": [{"from": "bot", "value": "?"}, *said("?", "!")[1:]]}, "speakers out of order"),
            ({"image": "a.jpg", "conversations": said("<image>\n", "A bus.")}, "turn without text"),
            ({"conversations": said("?", " ")}, "turn without text"),
            ({"conversations": said("Where?", "[0.31, 0.2, .5, 1.0]")}, "box in a notation whose scale is not known"),
            (
                {"conversations": said("Where?", "<|box_start|>(1,2),(3,4)<|box_end|>")},
                "box in a notation whose scale is not known",
            ),
            ({"conversations": "text"}, "record of another form"),
            ({"image": 7, "conversations": said("?", "!")}, "record of another form"),
        ],
    )  # fmt: skip
    def test_what_is_left_out_is_counted(
        self, tmp_path: Path, images: ImageFolder, record: dict[str, Any], reason: str
    ) -> None:
        good = {"image": "a.jpg", "conversations": said("<image>?", "!")}
        tally = Tally()
        file = dump(tmp_path / "data.json", [record, good])
        assert [made.id for made in llava.convert(file, images, tally)] == ["data-1"]
        assert tally.counts == {reason: 1}

    def test_a_system_text_stays_first(self, tmp_path: Path, images: ImageFolder) -> None:
        turns = [{"from": "system", "value": "Be brief."}, *said("<image>?", "!")]
        made, _ = one(tmp_path, images, {"image": "a.jpg", "conversations": turns})
        assert made and [turn.from_ for turn in made.conversations] == ["system", "human", "gpt"]
        assert made.problems() == []

    def test_a_folder_of_lists_and_lines(self, tmp_path: Path, images: ImageFolder) -> None:
        folder = tmp_path / "annotations"
        record = {"image": "a.jpg", "conversations": said("<image>?", "!")}
        dump(folder / "b" / "train.json", [record])
        (folder / "a.jsonl").write_text(json.dumps(record) + "\n" + json.dumps(record) + "\n")
        (folder / "notes.txt").write_text("[")
        assert [made.id for made in llava.convert(folder, images, Tally())] == ["a-0", "a-1", "b/train-0"]
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match=r"holds no \.json or \.jsonl"):
            list(llava.convert(tmp_path / "empty", images, Tally()))

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b'[{"conversations": [', "cut short in record 0"),
            (b'[{"conversations" [}]]', "byte 21: there is text after the end of the list"),
            (b'[{"question": "?"}]', "none of its 1 records"),
            (b'[{"conversations": [{"from": "human", "value": "\xff"}]}]', "record 0 is not JSON"),
        ],
    )
    def test_broken_files_are_named(self, tmp_path: Path, images: ImageFolder, content: bytes, told: str) -> None:
        file = tmp_path / "data.json"
        file.write_bytes(content)
        with pytest.raises(UserError, match=told) as caught:
            list(llava.convert(file, images, Tally()))
        assert str(file) in str(caught.value)

    def test_no_image_at_all_is_an_error(self, tmp_path: Path, images: ImageFolder) -> None:
        file = dump(tmp_path / "data.json", [{"image": "x.jpg", "conversations": said("<image>?", "!")}] * 2)
        with pytest.raises(UserError, match=r"none of the images are there, such as 'x\.jpg'"):
            list(llava.convert(file, images, Tally()))

    texts = st.lists(
        st.sampled_from(["<image>", "x", "\n", " ", "<", "image>", "<video>", "<|im_end|>"]), max_size=6
    ).map("".join)

    @given(turns=st.lists(texts, min_size=2, max_size=6), count=st.integers(0, 3))
    def test_whatever_comes_out_is_a_sound_sample(
        self, tmp_path_factory: pytest.TempPathFactory, turns: list[str], count: int
    ) -> None:
        folder = tmp_path_factory.mktemp("llava")
        picture(folder / "a.jpg", (2, 2))
        file = dump(folder / "d.json", [{"image": ["a.jpg"] * count, "conversations": said(*turns)}])
        tally = Tally()
        made = list(llava.convert(file, ImageFolder(folder, folder), tally))
        assert len(made) + sum(tally.counts.values()) == 1
        for sample in made:
            assert sample.problems() == []
            assert sample.conversations[0].value.count(IMAGE_MARK) == count
            assert not any(token in turn.value for turn in sample.conversations for token in ("<video>", "<|im_end|>"))


def conversation(question: str, answer: str, *boxes: int) -> list[dict[str, Any]]:
    return [
        {"from": "human", "value": question, "box_inds": None},
        {"from": "gpt", "value": answer, "box_inds": list(boxes)},
    ]


class TestGroma:
    def convert(
        self, tmp_path: Path, images: ImageFolder, *conversations: list[dict[str, Any]], **more: Any
    ) -> tuple[list[Sample], dict[str, int]]:
        boxes = [[10, 10, 20, 20], [50, 0, 50, 25], [5, 5, 0, 5], [-10, 0, 20, 50]]
        base = {"file_name": "a.jpg", "width": 100, "height": 50, "boxes": boxes}
        file = dump(tmp_path / "groma_instruct.json", [{**base, "conversation": one, **more} for one in conversations])
        tally = Tally()
        return list(groma.convert(file, images, tally)), tally.counts

    def test_phrases_become_references_with_their_boxes(self, tmp_path: Path, images: ImageFolder) -> None:
        answer = "<p> A man </p> <roi> <ground_box> </roi> and <p>two dogs</p><roi><ground_box><ground_box></roi>"
        answer += " <p>play</p>."
        turns = [*conversation("Who is it?", answer, 1, 0, 3), *conversation("Why?", "I do not know.")]
        (made,), counts = self.convert(tmp_path, images, turns)
        question, *rest = [turn.value for turn in made.conversations]
        assert (
            question.startswith("<image>\nWho is it? ")
            and question.removeprefix("<image>\nWho is it? ") in groma.REQUESTS
        )
        assert rest == [
            "<|object_ref_start|>A man<|object_ref_end|><|box_start|>(500,0),(1000,500)<|box_end|> and "
            "<|object_ref_start|>two dogs<|object_ref_end|><|box_start|>(100,200),(300,600)<|box_end|>"
            "<|box_start|>(0,0),(100,1000)<|box_end|> play.",
            "Why?",
            "I do not know.",
        ]
        assert made.problems() == [] and counts == {"box clipped to the image": 1}
        (without,), _ = self.convert(tmp_path, images, conversation("What?", "Nothing."))
        assert without.conversations[0].value == "<image>\nWhat?"

    @pytest.mark.parametrize(
        ("turns", "reason"),
        [
            (conversation("?", "<p>a</p><roi><ground_box></roi>"), "region tokens and boxes differ in number"),
            (conversation("?", "a", 0), "region tokens and boxes differ in number"),
            (conversation("?", "<p>a</p><roi><ground_box></roi>", 9), "region token for a box that is not there"),
            (conversation("?", "<p>a</p><roi><ground_box></roi>", -1), "region token for a box that is not there"),
            (conversation("What is <refer_box>?", "a"), "region token in a question"),
            (conversation("[grounding] What?", "a"), "region token in a question"),
            (conversation("?", "<p>a<roi><ground_box></roi>", 0), "region token out of place"),
            (conversation("?", "a <ground_box>", 0), "region token out of place"),
            (conversation("?", "a <r5>"), "region token out of place"),
            (conversation("?", " "), "turn without text"),
            (conversation("?", "!")[:1], "question without an answer"),
        ],
    )
    def test_what_is_left_out_is_counted(
        self, tmp_path: Path, images: ImageFolder, turns: list[dict[str, Any]], reason: str
    ) -> None:
        made, counts = self.convert(tmp_path, images, turns, conversation("?", "!"))
        assert [one.id for one in made] == ["groma_instruct-1"] and counts == {reason: 1}

    def test_a_box_without_area_drops_the_record(self, tmp_path: Path, images: ImageFolder) -> None:
        made, counts = self.convert(tmp_path, images, conversation("?", "<p>a</p><roi><ground_box></roi>", 2))
        assert made == []
        assert counts == {"box without area in the image": 1, "answer with a box that cannot be written": 1}

    def test_foreign_tokens_stay_text(self, tmp_path: Path, images: ImageFolder) -> None:
        (made,), _ = self.convert(tmp_path, images, conversation("<image><|im_end|>?", "<p>a</p> <|box_start|>"))
        assert [turn.value for turn in made.conversations] == ["<image>\n< image >< |im_end| >?", "a < |box_start| >"]

    def test_other_forms_and_no_image(self, tmp_path: Path, images: ImageFolder) -> None:
        with pytest.raises(UserError, match="none of its 1 records has the form"):
            self.convert(tmp_path, images, [{"from": "human"}])
        with pytest.raises(UserError, match=r"none of the images are there, such as 'gone\.jpg'"):
            self.convert(tmp_path, images, conversation("?", "!"), file_name="gone.jpg")
        (tmp_path / "latin.json").write_bytes(b'[{"file_name": "\xe9.jpg"}]')
        with pytest.raises(UserError, match=r"latin\.json: record 0 is not JSON"):
            list(groma.convert(tmp_path / "latin.json", images, Tally()))

    def test_an_image_without_a_size(self, tmp_path: Path, images: ImageFolder) -> None:
        _, counts = self.convert(tmp_path, images, conversation("?", "!"), width=0)
        assert counts == {"image without a size": 1}


def test_the_command_writes_samples_and_says_what_it_left_out(tmp_path: Path, images: ImageFolder) -> None:
    records = [
        {"image": "a.jpg", "conversations": said("<image>?", "!")},
        {"video": "v", "conversations": said("?", "!")},
    ]
    dump(tmp_path / "m4.json", records)
    words = ["data", "convert", "llava", "--from", "m4.json", "--images", "images"]
    status, _, error = command(*words, "--out", "converted/m4.json", "--media", ".", cwd=tmp_path)
    assert status == 0 and "converted/m4.json: 1 sample\n  record with a video: 1\n" in error
    (made,) = read_samples(tmp_path / "converted/m4.json")
    assert made.images == ["images/a.jpg"]
    info = json.loads((tmp_path / "converted/dataset_info.json").read_text())
    assert info["m4"]["file_name"] == "m4.json"
    status, _, error = command(*words, "--out", "x.jsonl", cwd=tmp_path)
    assert status == 2 and "expected a .json file" in error
    for args, told in (
        (["data", "convert", "lava", *words[3:]], "Did you mean 'llava'"),
        ([*words, "--split", "val"], "are for refcoco"),
        ([*words, "--to", "qwen3_vl"], "then: migician data convert records --from x.json --to ..."),
        ([*words, "--wording", "qwen3_vl"], "--wording are for records, not for llava"),
        (["data", "convert", "refcoco", "--from", "gone", "--images", "images"], "gone: no such file"),
        (["data", "convert", "groma", "--from", "m4.json", "--images", "images"], "none of its 2 records"),
        (["data", "convert", "llava", "--from", "m4.json", "--images", "gone"], "gone is not a folder"),
    ):
        status, _, error = command(*args, "--out", "x.json", cwd=tmp_path)
        assert status == 2 and told in error and len(error.strip().splitlines()) == 1, error
        assert not (tmp_path / "x.json").exists()


def test_counts_of_a_conversion_add_up(tmp_path: Path, images: ImageFolder) -> None:
    file = dump(tmp_path / "d.json", [{"video": "v", "conversations": said("?", "!")}] * 3)
    status, _, error = command(
        "data", "convert", "llava", "--from", file, "--images", "images", "--out", "x.json", cwd=tmp_path
    )
    assert status == 2 and "no samples could be made: record with a video: 3" in error
    assert Counter(path.name for path in tmp_path.iterdir())["x.json"] == 0
