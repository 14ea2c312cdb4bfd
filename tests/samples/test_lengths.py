"""Lengths in tokens: what LLaMA-Factory and transformers make of the same images and texts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from migician.errors import UserError
from migician.samples.bases import BASES, TEMPLATES, Template
from migician.samples.lengths import EstimatedTokens, Resize, TokenizerTokens, image_tokens, processor_pixels, rendered

sides = st.integers(1, 5000)
SIZES = [
    (640, 480),
    (28, 28),
    (27, 500),
    (13, 7),
    (1, 1),
    (4000, 3000),
    (14 * 5, 14 * 7),
    (42, 70),
    (3000, 10),
    (10, 2900),
]


class TestImages:
    @settings(deadline=None)
    @given(width=sides, height=sides)
    def test_as_transformers_resizes_what_llamafactory_leaves_alone(self, width: int, height: int) -> None:
        theirs = pytest.importorskip("transformers.models.qwen2_vl.image_processing_qwen2_vl").smart_resize
        width, height = max(width, 28), max(height, 28)
        if max(width, height) / min(width, height) <= 200:
            for base in BASES.values():
                most = base.side**2 * 1280
                open_ = Resize(10**9, 32 * 32, most, base.min_pixels, base.side)
                high, wide = theirs(height, width, base.side, base.min_pixels, most)
                assert image_tokens((width, height), open_) == high * wide // base.side**2

    @given(width=sides, height=sides, most=st.sampled_from([112 * 112, 512 * 512, 768 * 768]))
    def test_no_image_is_longer_than_its_pixels_allow(self, width: int, height: int, most: int) -> None:
        tokens = image_tokens((width, height), Resize(image_max_pixels=most))
        # Rounding adds half a token a side at most; images narrower than a token are made one wide.
        assert 1 <= tokens <= max(most / 784 + 0.5 * (most / 28 / 28 + 1) + 1, 200)

    def test_nothing_left_of_a_line(self) -> None:
        with pytest.raises(ValueError, match="too narrow"):
            image_tokens((1, 10_000_000))


@dataclass(frozen=True)
class Factory:
    """LLaMA-Factory's own encoding of a sample, by a tiny model's tokenizer and processor."""

    folder: Path
    template: Template
    side: int
    encoder: Any

    def length(self, turns: list[tuple[str, str]], images: list[Image.Image], resize: Resize) -> int:
        processor = self.encoder.processor
        processor.image_max_pixels, processor.image_min_pixels = resize.image_max_pixels, resize.image_min_pixels
        roles = {"human": "user", "gpt": "assistant"}
        system = turns[0][1] if turns[0][0] == "system" else ""
        messages = [{"role": roles[role], "content": text} for role, text in turns if role != "system"]
        ids, _ = self.encoder._encode_data_example(messages[:-1], messages[-1:], system, "", list(images), [], [])
        return len(ids)

    def resize(self, most: int, fewest: int = 32 * 32) -> Resize:
        least, limit = processor_pixels(self.folder)
        return Resize(most, fewest, limit, least, self.side)

    def own_length(self, turns: list[tuple[str, str]], sizes: list[tuple[int, int]], resize: Resize) -> int:
        """The same by `migician.samples.lengths`."""
        (text,) = TokenizerTokens(self.folder).count([rendered(turns, self.template)])
        return text + sum(image_tokens(size, resize) - 1 for size in sizes)


@pytest.fixture(scope="module", params=[(base, name) for base in BASES for name in BASES[base].templates], ids=str)
def factory(request: pytest.FixtureRequest, tiny_of: Callable[[str], Path]) -> Factory:
    pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
    base, name = request.param
    tiny_folder = tiny_of(base)
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")
    from llamafactory.data.processor.supervised import SupervisedDatasetProcessor
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments
    from transformers import AutoProcessor, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    processor = AutoProcessor.from_pretrained(tiny_folder)
    arguments = DataArguments(template=name, cutoff_len=10**6)
    template = get_template_and_fix_tokenizer(tokenizer, arguments)
    encoder = SupervisedDatasetProcessor(template, tokenizer, processor, arguments)
    return Factory(tiny_folder, TEMPLATES[name], BASES[base].side, encoder)


BOX = "<|box_start|>(316,58),(764,999)<|box_end|>"
CONVERSATIONS = [
    [("human", "<image>Where is it?"), ("gpt", f"It's here. {BOX}")],
    [("human", "Image-1: <image>\nImage-2: <image>\nWhat changed?"), ("gpt", BOX)],
    [
        ("human", "<image>" * 3 + " find <|object_ref_start|>a dog<|object_ref_end|>"),
        ("gpt", BOX),
        ("human", "And?"),
        ("gpt", "图 二 é "),
    ],
    [("system", "Be brief."), ("human", "<image>?"), ("gpt", "!"), ("human", "now <image> too"), ("gpt", " x\n\n")],
    [("human", "no image at all"), ("gpt", "12345")],
    [("human", "<image>Think."), ("gpt", "<think>\nIt is red.\n</think>\n\nRed.")],
]


class TestSamples:
    @pytest.mark.parametrize("turns", CONVERSATIONS)
    @pytest.mark.parametrize("most", [112 * 112, 768 * 768])
    def test_as_long_as_llamafactory_makes_them(
        self, factory: Factory, turns: list[tuple[str, str]], most: int
    ) -> None:
        resize = factory.resize(most)
        images = sum(text.count("<image>") for _, text in turns)
        for first in range(len(SIZES)):
            sizes = [SIZES[(first + k) % len(SIZES)] for k in range(images)]
            pictures = [Image.new("RGB", size) for size in sizes]
            assert factory.own_length(turns, sizes, resize) == factory.length(turns, pictures, resize), sizes

    @settings(max_examples=40, deadline=None)
    @given(
        width=st.integers(1, 3000),
        height=st.integers(1, 300),
        question=st.text(max_size=40),
        answer=st.text(max_size=40),
    )
    def test_any_size_any_text(self, factory: Factory, width: int, height: int, question: str, answer: str) -> None:
        turns = [("human", f"<image>{question}"), ("gpt", answer)]
        resize = factory.resize(200_000, 1024)
        expected = factory.length(turns, [Image.new("L", (width, height))], resize)
        assert factory.own_length(turns, [(width, height)], resize) == expected


class TestEstimate:
    # Counted with Qwen's own vocabulary of 151,643 pieces.
    @pytest.mark.parametrize(
        ("text", "true"),
        [
            ("Image-1: <|vision_start|><|image_pad|><|vision_end|>\nFind (316,58),(764,999)", 26),
            ("Given the set of images, please locate the object that all of them share in the third image.", 20),
            (f"It's in the third image. {BOX}", 26),
            ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n", 11),
            ("Compare this image with the original: what was added on the left-hand side, near the woman's bag?", 23),
        ],
    )
    def test_near_the_truth(self, text: str, true: int) -> None:
        (count,) = EstimatedTokens().count([[text]])
        assert abs(count - true) <= 0.1 * true

    def test_the_questions_of_mig_bench(self, shared: Path) -> None:
        rows = json.loads((shared / "data" / "mig_bench" / "MIG_data.json").read_text())
        (count,) = EstimatedTokens().count([[row["question"] for row in rows]])
        assert abs(count - 127_547) < 0.05 * 127_547


class TestCheckpoints:
    def test_pixels_of_a_checkpoint(self, tmp_path: Path) -> None:
        assert processor_pixels(tmp_path) == (3136, 12845056)
        (tmp_path / "preprocessor_config.json").write_text('{"min_pixels": 784, "max_pixels": 7840, "x": 1}')
        assert processor_pixels(tmp_path) == (784, 7840)
        (tmp_path / "preprocessor_config.json").write_text('{"size": {"shortest_edge": 1, "longest_edge": 2}}')
        assert processor_pixels(tmp_path) == (1, 2)
        (tmp_path / "preprocessor_config.json").write_text('{"min_pixels": "many"}')
        with pytest.raises(UserError, match="not the settings of an image processor"):
            processor_pixels(tmp_path)

    def test_no_tokenizer(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"tokenizer\.json: no such file"):
            TokenizerTokens(tmp_path)
        (tmp_path / "tokenizer.json").write_text("{")
        with pytest.raises(UserError, match="cannot be read as a tokenizer"):
            TokenizerTokens(tmp_path)
