"""Other bases than Qwen2-VL: their recipes, the convention of their data, what finetune.sh and the check say."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY
from PIL import Image

from migician.benchmarks.mig_bench import prompt
from migician.benchmarks.scoring.boxes import BoxQuestion
from migician.boxes import Box
from migician.build.converters.records import Conversion, convert_file
from migician.errors import UserError
from migician.models.families import qwen2_5_vl, qwen3_vl
from migician.models.family import QWEN2_VL
from migician.samples.bases import BASES, TEMPLATES, base_named, base_of
from migician.samples.conventions import CONVENTIONS
from migician.samples.dataset_info import dataset_entry
from migician.samples.segments import read_tokens
from migician.training.check import check
from migician.training.check.data.conventions import check_convention, text_faults
from migician.training.check.findings import Finding
from migician.training.check.options import CheckOptions, Cluster
from migician.training.check.settings.cost import PEAK_FLOPS, operations_of
from migician.training.check.settings.learning import learning_of
from migician.training.check.settings.memory import Load, memory_need, numbers_of
from migician.training.check.settings.model_shape import RELEASED
from migician.training.check.settings.training_yaml import DEFAULTS, TrainingSettings

BOX = "<|box_start|>(316,58),(764,999)<|box_end|>"
OTHERS = [name for name in BASES if name != "qwen2_vl"]
RECIPES = [(base, stage, variant) for base in OTHERS for stage in (1, 2) for variant in ("full", "lora")]


def recipe(base: str, stage: int, variant: str) -> Path:
    folder = REPOSITORY / "train" / ("" if base == "qwen2_vl" else base)
    return folder / f"stage-{stage}_finetune_{variant}.yaml"


def settings_of(file: Path, **changed: Any) -> TrainingSettings:
    given = yaml.safe_load(file.read_text()) | changed
    return TrainingSettings(file, DEFAULTS | given, given)


class TestRecipes:
    @pytest.mark.parametrize(("base", "stage", "variant"), RECIPES)
    def test_they_differ_from_qwen2_vls_only_in_model_and_template(self, base: str, stage: int, variant: str) -> None:
        own = yaml.safe_load(recipe(base, stage, variant).read_text())
        published = yaml.safe_load(recipe("qwen2_vl", stage, variant).read_text())
        assert own["template"] == BASES[base].template.name
        differing = {key for key in own.keys() | published.keys() if own.get(key) != published.get(key)}
        assert differing <= {"template", "model_name_or_path"}
        if stage == 1:
            assert base_of(own["model_name_or_path"]) is BASES[base]

    @pytest.mark.parametrize(("base", "stage", "variant"), RECIPES)
    def test_their_headers_say_what_the_check_computes(self, base: str, stage: int, variant: str) -> None:
        file = recipe(base, stage, variant)
        head = " ".join(line.strip("# \n") for line in file.read_text().splitlines() if line.startswith("#"))
        assert head.count("not measured") == 2
        sizes = {name.rpartition("-")[2].upper(): shape for name, shape in RELEASED.items() if shape.base == base}
        if variant == "full":
            cut, gb, names = re.search(
                r"two samples of ([\d,]+) tokens.*?: (.*?) GB on each.*?for (.*?);", head
            ).groups()
            said = dict(zip(re.findall(r"\d+B", names), map(float, re.findall(r"\d+", gb)), strict=True))
            for size, value in said.items():
                assert memory_gb(file, sizes[size], 8, int(cut.replace(",", ""))) == pytest.approx(value, abs=0.51)
        else:
            said = re.findall(r"(\d+B) ([\d.]+)(?: GB, with --qlora| and) ([\d.]+) GB", head)
            assert said
            for size, plain, quantised in said:
                assert memory_gb(file, sizes[size], 1, 4096) == pytest.approx(float(plain), abs=0.051)
                bits = memory_gb(file, sizes[size], 1, 4096, quantization_bit=4)
                assert bits == pytest.approx(float(quantised), abs=0.051)

    @pytest.mark.parametrize("base", OTHERS)
    def test_hours_in_the_headers(self, base: str) -> None:
        tokens, in_images = (1400, 1150) if BASES[base].side == 28 else (1130, 880)
        for stage, samples in ((1, 1_000_000), (2, 200_000)):
            file = recipe(base, stage, "lora")
            shape = [one for one in RELEASED.values() if one.base == base][-1]
            learning = learning_of(settings_of(file), shape)
            passes = {part: learning.passes(part) for part in ("language", "projector", "vision")}
            each = operations_of(shape, passes, tokens, in_images)
            said = re.search(r"not measured: (\d+) \(", file.read_text().replace("\n", " ").replace("# ", ""))
            assert said and float(said[1]) == pytest.approx(
                samples * each / (0.3 * PEAK_FLOPS["A100"]) / 3600, abs=0.51
            )


def memory_gb(file: Path, shape: Any, gpus: int, tokens: int, **changed: Any) -> float:
    settings = settings_of(file, **changed)
    if "deepspeed" in settings.given:
        settings.values["deepspeed"] = str(REPOSITORY / settings.text("deepspeed"))
    tokens *= settings.batch[0]
    load = Load(tokens, 4 * tokens, 2, True, False)
    return memory_need(learning_of(settings, shape), load, numbers_of(settings, 2), settings.zero(), gpus).total / 1e9


@pytest.mark.parametrize(
    ("reference", "base"),
    [
        ("qwen3_vl", "qwen3_vl"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl"),
        ("Qwen/Qwen3.5-9B", "qwen3_5"),
        ("Qwen/Qwen3-VL-32B-Thinking", "qwen3_vl"),
        ("Michael4933/Migician", "qwen2_vl"),  # does not say; as before
    ],
)
def test_which_base_a_name_is(reference: str, base: str) -> None:
    assert base_named(reference).name == base


@pytest.mark.parametrize("reference", ["qwen3", "Qwen2-VL", "qwen3-vl-8b"])
def test_a_mistyped_base_is_not_a_qwen2_vl(reference: str) -> None:
    with pytest.raises(UserError, match=f"unknown base '{reference}'. Known: qwen2_vl, .*OWNER/NAME"):
        base_named(reference)


def test_which_base_a_folder_is(tiny_of: Callable[[str], Path], tmp_path: Path) -> None:
    assert [base_named(str(tiny_of(base))).name for base in BASES] == [*BASES]
    (tmp_path / "config.json").write_text('{"model_type": "llava"}')
    with pytest.raises(UserError, match="there are recipes for"):
        base_named(str(tmp_path))


JSON_BOXES = [
    ('[{"bbox_2d": [1, 2, 3, 4], "label": "x"}]', "qwen3_vl", []),
    ('```json\n[\n\t{"bbox_2d": [0, 0, 1000, 1000]}\n]\n```', "qwen3_vl", []),
    ('in {"bbox_2d": [x1, y1, x2, y2]}', "qwen3_vl", []),
    ('[{"bbox_2d": [1, 2, 3, 1001]}]', "qwen3_vl", ["box_scale"]),
    ('[{"bbox_2d": [1, 2, 3, 1001]}]', "qwen2_5_vl", []),
    ('[{"bbox_2d": [-1, 2, 3, 4]}]', "qwen2_5_vl", ["box_scale"]),
    ('[{"bbox_2d": [5, 2, 3, 4]}, {"bbox_2d": [1, 4, 3, 4]}]', "qwen3_vl", ["box_corners", "box_area"]),
    ('[{"bbox_2d": [5, 2, 3]}]', "qwen3_vl", ["box_text"]),
    ('[{"bbox": [0.1, 0.2, 0.3, 1.4]}]', "fractions", ["box_scale"]),
    (BOX, "qwen3_vl", ["convention"]),
    ("<|object_ref_start|>dog<|object_ref_end|>", "qwen2_5_vl", ["convention"]),
    ('[{"bbox_2d": [1, 2, 3, 4]}]', "qwen2_vl", ["convention"]),
    (BOX, "qwen2_vl", []),
    ("no box", "qwen3_vl", []),
]


@pytest.mark.parametrize(("text", "convention", "kinds"), JSON_BOXES)
def test_what_is_wrong_with_the_boxes_of_a_text(text: str, convention: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in text_faults(text, convention)] == kinds


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a mixture in Qwen2-VL's convention in data/mixtures."""
    monkeypatch.chdir(tmp_path)
    mixtures = tmp_path / "data/mixtures"
    mixtures.mkdir(parents=True)
    Image.effect_noise((200, 150), 60).convert("RGB").save(tmp_path / "data/a.jpg")
    for name in ("stage1", "stage2"):
        said = [{"from": "human", "value": "<image>Where?"}, {"from": "gpt", "value": BOX}]
        rows = [{"id": number, "images": ["a.jpg"], "conversations": said, "type": "t"} for number in range(2)]
        rows[1]["conversations"] = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A star."}]
        (mixtures / f"{name}.json").write_text(json.dumps(rows))
    entries = {name: dataset_entry(f"{name}.json") for name in ("stage1", "stage2")}
    (mixtures / "dataset_info.json").write_text(json.dumps(entries))
    return tmp_path


def stage_of(base: str, model: Path, data: str, **changed: Any) -> list[Finding]:
    """What the check finds in a run of stage 1 of `base`, apart from the machine's limits."""
    settings = yaml.safe_load(recipe(base, 1, "lora").read_text())
    settings |= {"model_name_or_path": str(model), "dataset_dir": data, "output_dir": "saves"} | changed
    Path("stage.yaml").write_text(yaml.safe_dump(settings))
    report = check("stage.yaml", CheckOptions(cluster=Cluster(gpus=1)))
    return [one for one in report.findings if one.kind not in ("disk", "memory", "keys_unknown", "repeated")]


def convert(work: Path, to: str, max_pixels: int = 589824) -> str:
    for name in ("stage1", "stage2"):
        out = work / f"data/mixtures-{to}" / f"{name}.json"
        out.parent.mkdir(exist_ok=True)
        convert_file(
            work / f"data/mixtures/{name}.json", out, Conversion("qwen2_vl", to, work / "data", max_pixels), force=True
        )
    return f"data/mixtures-{to}"


def test_the_folder_that_one_is_in_can_be_converted(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work / "data/mixtures")
    with pytest.raises(UserError, match=r"then set --data \S*/data/mixtures-qwen3_vl$"):
        check_convention(Path(), Path("media"), BASES["qwen3_vl"], ["stage1"])


def test_the_commands_that_convert_can_be_pasted(work: Path) -> None:
    split = work / "my data/stage1"  # two files in one folder
    split.mkdir(parents=True)
    for name in ("a.json", "b.json"):
        shutil.copy(work / "data/mixtures/stage1.json", split / name)
    (work / "my data/dataset_info.json").write_text(json.dumps({"stage1": dataset_entry("stage1")}))
    with pytest.raises(UserError) as refused:
        check_convention(Path("my data"), Path("the media"), BASES["qwen3_vl"], ["stage1", "gone"])
    words = [word.rstrip(";") for word in shlex.split(str(refused.value).partition("first: ")[2])]
    assert [words[at + 1] for at, word in enumerate(words) if word == "--from"] == [
        "my data/stage1/a.json",
        "my data/stage1/b.json",
    ]
    assert words.count("the media") == 2 and words[-1] == "my data-qwen3_vl"


class TestCheck:
    @pytest.mark.parametrize("base", BASES)
    def test_data_in_its_convention_is_sound(self, base: str, work: Path, tiny_of: Callable[[str], Path]) -> None:
        data = "data/mixtures" if base == "qwen2_vl" else convert(work, BASES[base].convention)
        assert not stage_of(base, tiny_of(base), data)

    @pytest.mark.parametrize("base", OTHERS)
    def test_data_in_another_is_found_with_the_fix(self, base: str, work: Path, tiny_of: Callable[[str], Path]) -> None:
        (found,) = stage_of(base, tiny_of(base), "data/mixtures")
        assert (found.kind, found.count, found.severity) == ("convention", 1, "problem")  # the other has no box
        assert found.places[0].value == f"<|box_start|>, which is not {BASES[base].convention}"
        assert "migician data convert records" in found.fix
        other = convert(work, "fractions")
        assert "are written as fractions" in stage_of(base, tiny_of(base), other)[0].places[0].value

    def test_tokens_within_converted_data(self, work: Path, tiny_of: Callable[[str], Path]) -> None:
        """Records that were added by hand: the card says one convention, the records another."""
        data = convert(work, "qwen3_vl")
        rows = json.loads((work / data / "stage1.json").read_text())
        rows[1]["conversations"][1]["value"] = f"There. {BOX}"
        (work / data / "stage1.json").write_text(json.dumps(rows))
        (found,) = stage_of("qwen3_vl", tiny_of("qwen3_vl"), data)
        assert (found.kind, found.places[0].record) == ("convention", 1)

    def test_json_that_qwen2_vl_does_not_learn(self, work: Path, tiny_of: Callable[[str], Path]) -> None:
        (found,) = stage_of("qwen2_vl", tiny_of("qwen2_vl"), convert(work, "qwen3_vl"))
        assert "written as qwen3_vl, and the model learns qwen2_vl" in found.places[0].value

    def test_pixels_of_another_limit(self, work: Path, tiny_of: Callable[[str], Path]) -> None:
        data = convert(work, "qwen2_5_vl", 12544)
        (found,) = stage_of("qwen2_5_vl", tiny_of("qwen2_5_vl"), data)
        assert found.places[0].value.startswith("its boxes are pixels of images of at most 12544 pixels")
        assert not stage_of("qwen2_5_vl", tiny_of("qwen2_5_vl"), data, image_max_pixels=12544)

    @pytest.mark.parametrize("base", OTHERS)
    def test_another_bases_template(self, base: str, work: Path, tiny_of: Callable[[str], Path]) -> None:
        other = next(name for name in TEMPLATES if name not in BASES[base].templates)
        data = convert(work, BASES[base].convention)
        found = {one.kind: one.places[0].value for one in stage_of(base, tiny_of(base), data, template=other)}
        assert (
            f"the model is a {BASES[base].title}: its template is {BASES[base].template.name}" in found["setting_value"]
        )

    def test_the_thinking_template(self, work: Path, tiny_of: Callable[[str], Path]) -> None:
        """The obvious name is the wrong one: it trains <think></think> before each answer of an Instruct model."""
        data, folder = convert(work, "qwen3_vl"), work / "model"
        shutil.copytree(tiny_of("qwen3_vl"), folder)
        (found,) = stage_of("qwen3_vl", folder, data, template="qwen3_vl")
        assert (found.kind, found.severity) == ("thinking", "warning")
        with (folder / "chat_template.jinja").open("a") as file:
            file.write("{{ '<think>\n' if add_generation_prompt }}")
        assert not stage_of("qwen3_vl", folder, data, template="qwen3_vl")

    def test_a_base_that_cannot_pack(self, work: Path, tiny_of: Callable[[str], Path]) -> None:
        """tests/training/test_labels.py shows it: LLaMA-Factory packs, and the losses are others."""
        data = convert(work, "qwen3_vl")
        (found,) = stage_of("qwen3_5", tiny_of("qwen3_5"), data, neat_packing=True)
        assert found.kind == "setting_value" and found.places[0].value.startswith("neat_packing: layers of Qwen3.5")
        assert not stage_of("qwen3_vl", tiny_of("qwen3_vl"), data, neat_packing=True)

    def test_box_tokens_are_only_asked_of_qwen2_vl(self, work: Path, tiny_of: Callable[[str], Path]) -> None:
        folder = work / "model"
        shutil.copytree(tiny_of("qwen3_5"), folder)
        text = (folder / "tokenizer.json").read_text()
        (folder / "tokenizer.json").write_text(text.replace("<|box_start|>", "<|other|>"))
        assert not stage_of("qwen3_5", folder, convert(work, "qwen3_vl"))


def finetune(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(REPOSITORY / "scripts/finetune.sh"), "--dry-run", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class TestFinetune:
    @pytest.mark.parametrize("base", BASES)
    def test_a_name_chooses_recipes_and_checkpoint(self, base: str) -> None:
        told = finetune("--base", base, "--lora", "--data", "/nowhere").stdout.splitlines()
        first = recipe(base, 1, "lora")
        start = yaml.safe_load(first.read_text())["model_name_or_path"]
        assert f"scripts/stage.sh {first.relative_to(REPOSITORY)} model_name_or_path={start} " in told[0]
        assert f"--base {start} " in told[1]
        assert str(recipe(base, 2, "lora").relative_to(REPOSITORY)) in told[2]
        assert "model_name_or_path=saves/stage-1 " in told[2]

    def test_a_folder_chooses_recipes(self, tiny_of: Callable[[str], Path]) -> None:
        told = finetune(
            "--base", str(tiny_of("qwen3_vl")), "--data", "/nowhere", "--bench", "b.json"
        ).stdout.splitlines()
        assert f"train/qwen3_vl/stage-1_finetune_full.yaml model_name_or_path={tiny_of('qwen3_vl')} " in told[0]
        assert "--prompt trained" in told[-1]

    def test_data_in_another_convention_is_refused_with_commands_that_fix_it(self, work: Path) -> None:
        data, media = work / "data/mixtures", work / "data"
        refused = finetune("--base", "qwen3_vl", "--data", str(data), "--media", str(media))
        assert refused.returncode == 2 and not refused.stdout
        assert "stage1.json: its boxes are written as qwen2_vl, and Qwen3-VL learns qwen3_vl" in refused.stderr
        commands = re.findall(r"migician (data convert records [^;]*);", refused.stderr)
        assert len(commands) == 2
        for command in commands:
            subprocess.run(["migician", *shlex.split(command)], check=True, capture_output=True)
        new = re.search(r"set --data (\S+)", refused.stderr)
        assert new
        taken = finetune("--base", "qwen3_vl", "--data", new[1], "--media", str(media))
        assert taken.returncode == 0 and f"dataset_dir={new[1]}" in taken.stdout
        assert finetune("--data", new[1], "--media", str(media)).returncode == 2  # and Qwen2-VL does not learn that


@pytest.mark.parametrize("family", [qwen2_5_vl.FAMILY, qwen3_vl.FAMILY], ids=lambda family: family.name)
@pytest.mark.parametrize(
    "text",
    [
        "Find <|object_ref_start|>the dog<|object_ref_end|> in Image-1.",
        "In Image-2: <|box_start|>(100,200),(300,400)<|box_end|>. Where is it in Image-1?",
    ],
)
@pytest.mark.parametrize("need_format", [False, True])
def test_the_trained_wording_asks_as_converted_records_do(family: Any, text: str, need_format: bool) -> None:
    sizes = [(308, 196), (616, 420)]
    question = BoxQuestion(0, "t", ("a", "b"), text, Box(0, 0, 1, 1), None, need_format)
    text = f"{text} {QWEN2_VL.format}" if need_format else text  # as records for Qwen2-VL have it
    segments = [one if isinstance(one, str) or not hasattr(one, "boxes") else type(one)(one.boxes, one.label, 1)
                for one in read_tokens(text)]  # fmt: skip
    asked, _ = CONVENTIONS[family.name].write(segments, [], lambda image: sizes[image])
    assert prompt(question, "trained", family, sizes) == asked
