"""The benchmark of evaluation: its shapes are the real ones, and it runs."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="models extra not installed: bash scripts/setup.sh")
pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "scripts/benchmark_eval.py"
    spec = importlib.util.spec_from_file_location("benchmark_eval", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_built_in_shape_is_that_of_the_real_file(benchmark, shared):
    rows = json.loads((shared / "data/mig_bench/MIG_data.json").read_text())
    tuples = Counter(tuple(row["images"]) for row in rows)
    assert Counter(benchmark.shape_of(None)) == Counter((len(images), count) for images, count in tuples.items())
    assert sum(map(len, tuples)) - benchmark.REPEATED == len({name for images in tuples for name in images})


def test_the_large_shape_is_qwen2_vl_7b(benchmark, tiny_folder):
    from transformers import Qwen2VLForConditionalGeneration

    with torch.device("meta"):
        model = Qwen2VLForConditionalGeneration(benchmark.model_config(tiny_folder, "qwen2-vl-7b"))
    assert sum(weight.numel() for weight in model.parameters()) == 8_291_375_616  # as its model card says: 8.29B


def test_the_whole_benchmark_on_a_few_questions(benchmark, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "bench"
    words = ["--folder", folder, "--questions", 12, "--new-tokens", 4, "--batch-size", 8, "--plain", 3, "--threads", 1]
    monkeypatch.setattr(sys, "argv", ["benchmark_eval.py", *map(str, words)])
    benchmark.main()
    said = capsys.readouterr().out
    assert "| ours |" in said and "| plain loop |" in said and "| floor of ours |" in said
    compared, different = re.search(r"replies: (\d+) compared, \d+ kinds, (\d+) differ", said).groups()
    assert int(compared) >= 3 and different == "0"
    counts = dict(re.findall(r"(\w+) ([\d,]+)", said.partition("work:")[2].splitlines()[0]))
    assert counts["images_encoded"] == counts["distinct_images"]
    assert counts["prefixes_computed"] == counts["image_tuples"]
    assert not folder.exists()
