"""Averages against torch's own arithmetic, and nothing half-written, whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
save_file = pytest.importorskip("safetensors.torch").save_file
load_file = pytest.importorskip("safetensors.torch").load_file

from migician.again import MADE  # noqa: E402
from migician.errors import UserError  # noqa: E402
from migician.models.checkpoint import INDEX, read_checkpoint  # noqa: E402
from migician.training import merge as merging  # noqa: E402
from migician.training.merge import merge  # noqa: E402

CONFIG = {"model_type": "qwen2_vl", "text_config": {"hidden_size": 4}, "transformers_version": "5.6.0"}


def weights(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = {"a.weight": (5, 7), "b.bias": (11,), "c.scale": (), "d.weight": (3, 2, 4), "e.empty": (0, 3)}
    return {name: torch.randn(size, generator=generator).to(dtype) for name, size in sizes.items()}


def write(folder: Path, tensors: dict[str, torch.Tensor], shards: int = 1, **config: object) -> Path:
    """A checkpoint folder, its tensors dealt over so many files."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {name: f"model-{index % shards + 1:05}-of-{shards:05}.safetensors" for index, name in enumerate(tensors)}
    for file in set(places.values()):
        save_file({name: tensors[name] for name in tensors if places[name] == file}, folder / file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def read(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "a", weights(1)), write(tmp_path / "b", weights(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("weight", [0.5, 0.3, 0.0, 1.0])
@pytest.mark.parametrize(("shards_a", "shards_b"), [(1, 1), (3, 1), (2, 4)])
def test_average_is_that_of_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, weight: float, shards_a: int, shards_b: int
) -> None:
    monkeypatch.setattr(merging, "PIECE", 6)  # so that tensors are cut in pieces that do not come out even
    a, b = weights(1, dtype), weights(2, dtype)
    folders = write(tmp_path / "a", a, shards_a), write(tmp_path / "b", b, shards_b)
    out = merge(folders, tmp_path / "out", [1 - weight, weight])
    merged = read(out)
    assert merged.keys() == a.keys()
    for name, tensor in merged.items():
        expected = ((1 - weight) * a[name].double() + weight * b[name].double()).to(dtype)
        torch.testing.assert_close(tensor, expected, rtol=torch.finfo(dtype).eps, atol=1e-12)
    assert read_checkpoint(out).tensors.keys() == a.keys()


def test_a_model_merged_with_itself_is_itself(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        folder = write(tmp_path / str(dtype) / "a", weights(3, dtype))
        out = merge([folder, folder], tmp_path / str(dtype) / "out", [0.7, 0.3])
        assert (out / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_only_a_piece_of_a_tensor_is_in_memory(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    averaged = merging._averaged

    def spy(checkpoints: list[Any], *rest: Any) -> memoryview:
        made = averaged(checkpoints, *rest)
        seen.extend([len(made)] * len(checkpoints))
        return made

    monkeypatch.setattr(merging, "PIECE", 8)
    monkeypatch.setattr(merging, "_averaged", spy)
    done: list[tuple[int, int]] = []
    merge(pair, pair[0].parent / "out", on_progress=lambda part, total: done.append((part, total)))
    assert max(seen) == 8 * 4
    assert sum(seen) == 2 * done[-1][0]
    assert done[-1][0] == done[-1][1] == 4 * (35 + 11 + 1 + 24)


def test_small_files_come_from_a_and_trainer_state_stays_behind(pair: tuple[Path, Path]) -> None:
    a, b = pair
    (a / "chat_template.jinja").write_text("{{ messages }}")
    (a / "generation_config.json").write_text('{"do_sample": false}')
    (b / "generation_config.json").write_text('{"do_sample": true}')
    for left in ("trainer_state.json", "optimizer.pt", "training_args.bin", "all_results.json", "README.md"):
        (a / left).write_text("{}")
    out = merge([a, b], a.parent / "deep" / "out")
    names = {file.name for file in out.iterdir()}
    assert names == {
        MADE,
        *("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"),
        *("model.safetensors", "merge.json"),
    }
    assert json.loads((out / "generation_config.json").read_text()) == {"do_sample": False}
    told = json.loads((out / "merge.json").read_text())
    first, second = told["checkpoints"]
    assert first["weight"] == second["weight"] == 0.5
    assert first["fingerprint"] == read_checkpoint(a).fingerprint() != second["fingerprint"]


def test_tools_notes_about_themselves_do_not_matter(tmp_path: Path) -> None:
    a = write(tmp_path / "a", weights(1), transformers_version="5.0.0", use_cache=False, _name_or_path="x")
    b = write(tmp_path / "b", weights(2), transformers_version="5.6.0")
    (b / "tokenizer.json").write_text('{\n "version": "1.0"\n}')
    assert merge([a, b], tmp_path / "out").is_dir()


def changed(**tensors: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in (weights(2) | tensors).items() if tensor is not None}


@pytest.mark.parametrize(
    ("tensors", "config", "tokenizer", "said"),
    [
        (changed(**{"b.bias": None}), {}, None, "tensor b.bias is only in A"),
        (changed(extra=torch.zeros(1)), {}, None, "tensor extra is only in B"),
        (changed(**{"b.bias": torch.zeros(12)}), {}, None, r"tensor b.bias is F32 \[11\] in A and F32 \[12\] in B"),
        (weights(2, torch.bfloat16), {}, None, r"a.weight is F32 \[5, 7\] in A and BF16 \[5, 7\] in B"),
        (weights(2), {"text_config": {"hidden_size": 8}}, None, "config.json: text_config.hidden_size is 4 in A and 8"),
        (weights(2), {}, '{"version": "2.0"}', "tokenizer.json differs"),
        (changed(**{"b.bias": torch.full((11,), float("nan"))}), {}, None, "tensor b.bias holds NaN"),
        (changed(**{"d.weight": torch.full((3, 2, 4), float("inf"))}), {}, None, "tensor d.weight holds NaN or inf"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(
    tmp_path: Path, tensors: dict[str, torch.Tensor], config: dict[str, object], tokenizer: str | None, said: str
) -> None:
    a, b = write(tmp_path / "a", weights(1)), write(tmp_path / "b", tensors, **config)
    if tokenizer:
        (b / "tokenizer.json").write_text(tokenizer)
    with pytest.raises(UserError, match=said):
        merge([a, b], tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b"]


def test_whole_numbers_are_kept_if_equal_and_refused_if_not(tmp_path: Path) -> None:
    ids = {"ids": torch.arange(5)}
    a, b = write(tmp_path / "a", weights(1) | ids), write(tmp_path / "b", weights(2) | ids)
    assert torch.equal(read(merge([a, b], tmp_path / "out"))["ids"], ids["ids"])
    c = write(tmp_path / "c", weights(2) | {"ids": torch.arange(5) + 1})
    with pytest.raises(UserError, match=r"tensor ids \(I64\) differs"):
        merge([a, c], tmp_path / "other")


def test_three_checkpoints_with_their_weights(tmp_path: Path) -> None:
    parts = [weights(seed, torch.bfloat16) for seed in (1, 2, 3)]
    folders = [write(tmp_path / str(number), part, shards=1 + number) for number, part in enumerate(parts)]
    merged = read(merge(folders, tmp_path / "out", [0.5, 0.2, 0.3]))
    for name, tensor in merged.items():
        exact = sum(share * part[name].double() for share, part in zip((0.5, 0.2, 0.3), parts, strict=True))
        torch.testing.assert_close(tensor, exact.to(torch.bfloat16), rtol=torch.finfo(torch.bfloat16).eps, atol=1e-12)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([-0.1, 1.1], "shares of 0 to 1"),
        ([0.5, 0.6], "that sum to 1"),
        ([float("nan"), 0.5], "shares of 0 to 1"),
        ([1.0], "1 weights for 2 checkpoints"),
    ],
)
def test_weights_are_shares(pair: tuple[Path, Path], weights: list[float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        merge(pair, pair[0].parent / "out", weights)


def test_an_existing_folder_is_never_overwritten(pair: tuple[Path, Path]) -> None:
    for existing in pair:
        with pytest.raises(UserError, match="is one of the checkpoints"):
            merge(pair, existing)


def test_a_full_disk_is_noticed_before_writing(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = merging.shutil.disk_usage(pair[0])
    monkeypatch.setattr(merging.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match=r"0\.0 GB free, the merged model needs 0\.1 GB"):
        merge(pair, pair[0].parent / "out")
    assert not list(pair[0].parent.glob("*out*")) + list(pair[0].parent.glob(".*"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda folder: os.truncate(folder / "model.safetensors", 300), "damaged safetensors"),
        (lambda folder: os.truncate(folder / "model.safetensors", 700), "bytes, but its header says"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), "its header claims"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"[]"), "damaged safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "no 'model_type'"),
        (lambda folder: (folder / INDEX).write_text('{"weight_map": {"a": "gone.safetensors"}}'), "shards are missing"),
        (lambda folder: (folder / INDEX).write_text("{}"), "no 'weight_map'"),
    ],
)
def test_a_damaged_checkpoint_is_named(pair: tuple[Path, Path], damage: object, said: str) -> None:
    damage(pair[1])  # type: ignore[operator]
    with pytest.raises(UserError, match=said) as caught:
        merge(pair, pair[0].parent / "out")
    assert str(pair[1]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_failure_on_the_way_leaves_nothing(pair: tuple[Path, Path]) -> None:
    def fail(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge(pair, pair[0].parent / "out", on_progress=fail)
    assert sorted(file.name for file in pair[0].parent.iterdir()) == ["a", "b"]


def test_a_killed_merge_leaves_no_half_model_and_can_be_repeated(pair: tuple[Path, Path]) -> None:
    out = pair[0].parent / "out"
    script = (
        "import os, signal, sys; from migician.training.merge import merge\n"
        "merge(sys.argv[1:3], sys.argv[3], on_progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = subprocess.run([sys.executable, "-c", script, *map(str, pair), str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    merge(pair, out)
    assert sorted(file.name for file in out.parent.iterdir()) == ["a", "b", "out"]


def test_merged_models_load_in_transformers(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from migician.models.stand_ins.tiny import make_tiny

    other = make_tiny(tmp_path / "other", seed=1)
    out = merge([tiny_folder, other], tmp_path / "out")
    first, second, both = (
        AutoModelForImageTextToText.from_pretrained(folder).state_dict() for folder in (tiny_folder, other, out)
    )
    for name, tensor in both.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2, rtol=1e-6, atol=1e-9)
    assert AutoProcessor.from_pretrained(out).chat_template == AutoProcessor.from_pretrained(tiny_folder).chat_template
