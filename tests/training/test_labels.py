"""What LLaMA-Factory makes of a sample for each base: which tokens are learned; the loss is transformers' own."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY
from PIL import Image

from migician.samples.bases import BASES
from migician.samples.conventions import CONVENTIONS
from migician.samples.dataset_info import dataset_entry
from migician.samples.segments import Boxed, read_tokens

pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
torch = pytest.importorskip("torch", reason="train extra not installed: bash scripts/setup.sh")

IGNORED = -100
BOX = "<|box_start|>(316,58),(764,999)<|box_end|>"
# Sizes that LLaMA-Factory leaves alone, so that plain transformers sees the same pixels.
SIZES = {"a.png": (112, 84), "b.png": (56, 140), "c.png": (84, 84), "d.png": (112, 112)}
Turns = list[tuple[str, str]]
CONVERSATIONS: list[tuple[list[str], Turns]] = [
    (
        ["a.png", "b.png", "c.png"],
        [
            ("human", "Image-1: <image>\nImage-2: <image>\nFind <|object_ref_start|>the dog<|object_ref_end|>."),
            ("gpt", f"It's in the first image. {BOX}"),
            ("human", "And in this one? <image>"),
            ("gpt", "assistant\nIt is not there.\n"),  # an answer that looks like a turn
            ("human", "Are you sure?"),
            ("gpt", "Yes"),
            ("human", "Only its box."),
            ("gpt", BOX),
        ],
    ),
    (["d.png"], [("human", "<image>What is it?"), ("gpt", "A star.")]),
]


def written(base: str, turns: Turns) -> Turns:
    """Turns as the training data of a base has them; its images are 112 pixels wide and 84 high."""
    pairs = []
    for (_, question), (_, answer) in zip(turns[::2], turns[1::2], strict=True):
        segments = [read_tokens(question), read_tokens(answer)]
        known = [
            [Boxed(one.boxes, one.label, 0) if isinstance(one, Boxed) else one for one in side] for side in segments
        ]
        asked, answered = CONVENTIONS[BASES[base].convention].write(known[0], known[1], lambda _: (112, 84))
        pairs += [("human", asked), ("gpt", answered)]
    return pairs


@dataclass(frozen=True)
class Trained:
    """Both samples as the recipes of a base batch them."""

    base: str
    folder: Path
    """Of the model."""
    data: Path
    model: Any
    batch: dict[str, Any]

    def turns(self, number: int) -> Turns:
        return written(self.base, CONVERSATIONS[number][1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images, and a dataset for each convention."""
    folder = tmp_path_factory.mktemp("labels")
    for seed, (name, size) in enumerate(SIZES.items()):
        Image.effect_noise(size, 40 + 20 * seed).convert("RGB").save(folder / name)
    for base in BASES:
        samples = [
            {
                "id": number,
                "images": images,
                "conversations": [{"from": role, "value": text} for role, text in written(base, turns)],
                "type": "t",
            }
            for number, (images, turns) in enumerate(CONVERSATIONS)
        ]
        (folder / f"{base}.json").write_text(json.dumps(samples))
    entries = {base: dataset_entry(f"{base}.json") for base in BASES}
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder


def prepared(data: Path, folder: Path, base: str, **settings: Any) -> Trained:
    """The model as LLaMA-Factory loads it for training, and the one batch it makes of all its rows."""
    os.environ.setdefault("DISABLE_VERSION_CHECK", "1")
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    given = {
        "model_name_or_path": str(folder),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset_dir": str(data),
        "media_dir": str(data),
        "dataset": base,
        "template": BASES[base].template.name,
        "cutoff_len": 2048,
        "overwrite_cache": True,
        "output_dir": str(data / "out"),
        "report_to": "none",
        "use_cpu": True,
    }
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(given | settings)
    tokenizer = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(tokenizer["tokenizer"], data_args)
    dataset = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokenizer)["train_dataset"]
    model = load_model(tokenizer["tokenizer"], model_args, finetuning_args, training_args.do_train)
    collator = SFTDataCollatorWith4DAttentionMask(
        template=template,
        model=model,
        pad_to_multiple_of=8,
        label_pad_token_id=IGNORED,
        block_diag_attn=model_args.block_diag_attn,
        neat_packing=data_args.neat_packing,
        attn_implementation=model.config._attn_implementation,
        **tokenizer,
    )
    batch = dict(collator([dataset[row] for row in range(len(dataset))]))
    return Trained(base, folder, data, model, batch)


@pytest.fixture(scope="module", params=BASES)
def trained(request: pytest.FixtureRequest, data: Path, tiny_of: Callable[[str], Path]) -> Trained:
    return prepared(data, tiny_of(request.param), request.param)


def plain(trained: Trained, number: int) -> tuple[dict[str, Any], list[int]]:
    """A sample by transformers' own processor and chat template, and the labels that it should have.

    The labels are those of the text after each `<|im_start|>assistant` and its newline, up to `<|im_end|>` and one
    newline more.
    """
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(trained.folder)
    images, turns = CONVERSATIONS[number][0], trained.turns(number)
    pictures = [Image.open(trained.data / name) for name in images]
    messages = []
    for role, text in turns:
        parts: list[dict[str, str]] = []
        for place, piece in enumerate(text.split("<image>")):
            parts += [{"type": "image"}] if place else []
            parts += [{"type": "text", "text": piece}] if piece else []
        messages.append({"role": "user" if role == "human" else "assistant", "content": parts})
    text = processor.apply_chat_template(messages, tokenize=False)
    inputs = processor(text=[text], images=pictures, return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    token = processor.tokenizer.convert_tokens_to_ids
    newline = processor.tokenizer.encode("\n", add_special_tokens=False)
    opening = [token("<|im_start|>"), *processor.tokenizer.encode("assistant\n", add_special_tokens=False)]
    labels = [IGNORED] * len(ids)
    at = 0
    while at < len(ids):
        if ids[at : at + len(opening)] != opening:
            at += 1
            continue
        at += len(opening)
        end = ids.index(token("<|im_end|>"), at) + 1 + len(newline)
        labels[at:end] = ids[at:end]
        at = end
    return dict(inputs), labels


@pytest.mark.parametrize("number", [0, 1])
def test_only_answers_are_learned_and_what_ends_them(trained: Trained, number: int) -> None:
    batch = trained.batch
    inputs, labels = plain(trained, number)
    ids = inputs["input_ids"][0].tolist()
    length = len(ids)
    assert batch["input_ids"][number, :length].tolist() == ids
    assert batch["labels"][number, :length].tolist() == labels
    assert batch["attention_mask"][number].tolist() == [1] * length + [0] * (batch["input_ids"].shape[1] - length)
    assert set(batch["labels"][number, length:].tolist()) <= {IGNORED}


def test_what_is_learned_reads_as_the_answers(trained: Trained) -> None:
    """The same without ids: the learned tokens, written out, are the answers, each with its end and a newline."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained.folder)
    for number, row in enumerate(trained.batch["labels"]):
        answers = [f"{text}<|im_end|>\n" for role, text in trained.turns(number) if role == "gpt"]
        assert tokenizer.decode(row[row != IGNORED]) == "".join(answers)


def test_json_bases_learn_json() -> None:
    """The oracle of the tests above, by hand."""
    turns = CONVERSATIONS[0][1]
    assert written("qwen3_vl", turns)[0][1].endswith('Find "the dog".')
    assert written("qwen3_vl", turns)[1][1] == (
        'It\'s in the first image. [{"bbox_2d": [316, 58, 764, 999], "label": "the dog"}]'
    )
    last = '```json\n[\n\t{"bbox_2d": [35, 5, 86, 84], "label": "object"}\n]\n```'
    assert written("qwen2_5_vl", turns)[-1][1] == last
    assert written("qwen2_vl", turns) == turns


def plain_loss(trained: Trained) -> float:
    """The mean over the learned tokens of both samples, each alone and without padding, by plain transformers."""
    from transformers import AutoModelForImageTextToText

    own = AutoModelForImageTextToText.from_pretrained(trained.folder, dtype=torch.float32).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for number in range(len(CONVERSATIONS)):
            inputs, labels = plain(trained, number)
            learned = sum(label != IGNORED for label in labels)
            total += own(**inputs, labels=torch.tensor([labels])).loss.item() * learned
            count += learned
    return total / count


def test_the_loss_is_that_of_plain_transformers(trained: Trained) -> None:
    with torch.no_grad():
        theirs = trained.model.eval()(**trained.batch).loss.item()
    assert theirs == pytest.approx(plain_loss(trained), abs=1e-3)


RECIPES = sorted((REPOSITORY / "train").rglob("stage-*_finetune_*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_llamafactory_parses_the_training_files(recipe: Path, data: Path) -> None:
    """With its own checks; only what the CPU here cannot do is taken out."""
    from llamafactory.data.template import TEMPLATES
    from llamafactory.hparams import get_train_args

    settings = yaml.safe_load(recipe.read_text())
    for key in ("bf16", "deepspeed"):
        settings.pop(key, None)
    if importlib.util.find_spec("liger_kernel") is None:
        settings.pop("enable_liger_kernel", None)
    settings |= {"use_cpu": True, "output_dir": str(data / "x")}
    _, data_args, _, finetuning_args, _ = get_train_args(settings)
    assert bool(data_args.packing) is ("fast" in recipe.name)
    assert finetuning_args.freeze_vision_tower
    base = BASES.get(recipe.parent.name, BASES["qwen2_vl"])
    assert data_args.template == base.template.name and data_args.template in TEMPLATES


@pytest.mark.parametrize("base", BASES)
def test_packed_samples_do_not_see_each_other(base: str, data: Path, tiny_of: Callable[[str], Path]) -> None:
    """The faster variant: both samples in one sequence have the loss that each has alone; not so of Qwen3.5."""
    packed = prepared(data, tiny_of(base), base, neat_packing=True, per_device_train_batch_size=1)
    assert len(packed.batch["input_ids"]) == 1
    with torch.no_grad():
        theirs = packed.model.eval()(**packed.batch).loss.item()
    assert (theirs == pytest.approx(plain_loss(packed), abs=1e-3)) is not BASES[base].recurrent
