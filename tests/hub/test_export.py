"""Parquet gives back what the JSON and the image files hold, in bounded groups, and whole or not at all."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("datasets", reason="data extra not installed: bash scripts/setup.sh")

import datasets
from pyarrow import parquet

from migician.build.dataset import build
from migician.cli import app
from migician.errors import UserError
from migician.hub import export as exporting
from migician.hub.export import export
from migician.miniature import Amounts, make_world
from migician.samples.dataset_info import add_dataset
from tests.build.test_build import MINIATURE


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("built")
    roots = make_world(
        home / "w", 5, Amounts(got10k=12, coco=80, objects365=12, magicbrush=12, sa1b=24, imagenet=60, held_out=1)
    )
    sources = {name: root for name, root in roots.items() if name != "mig-bench"}
    return build(["all"], sources, home / "d", count=6, config=MINIATURE).folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in parquet.read_table(file).to_pylist()]


def families(folder: Path) -> dict[str, list[dict[str, Any]]]:
    info = json.loads((folder / "dataset_info.json").read_text())
    files = [entry["file_name"] for name, entry in info.items() if name != "mgrounding"]
    return {Path(file).stem: json.loads((folder / file).read_text()) for file in files}


def test_records_and_images_come_back(built: Path, tmp_path: Path) -> None:
    done = export(built, tmp_path / "p")
    assert done.samples == dict.fromkeys(families(built), 6)
    for name, wanted in families(built).items():
        found = rows(tmp_path / "p" / name)
        for row, record in zip(found, wanted, strict=True):
            assert [image["bytes"] for image in row["images"]] == [
                (built / image).read_bytes() for image in record["images"]
            ]
            row["images"] = [image["path"] for image in row["images"]]
        assert found == wanted


def test_datasets_decodes_the_images(built: Path, tmp_path: Path) -> None:
    export(built, tmp_path / "p")
    wanted = families(built)
    everything = datasets.load_dataset(str(tmp_path / "p"), split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(everything["id"]) == sorted(one["id"] for records in wanted.values() for one in records)
    for name, records in wanted.items():
        by_name = datasets.load_dataset(str(tmp_path / "p"), name, split="train", cache_dir=str(tmp_path / "cache"))
        files = str(tmp_path / "p" / name / "*.parquet")
        by_file = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
        for rows_ in (by_name, by_file):
            assert rows_["conversations"] == [one["conversations"] for one in records]
            for row, record in zip(rows_, records, strict=True):
                for image, path in zip(row["images"], record["images"], strict=True):
                    with Image.open(built / path) as wanted_image:
                        assert np.array_equal(np.asarray(image), np.asarray(wanted_image))


def test_without_images_a_row_is_the_record(built: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["data", "export", str(built), "--to", str(tmp_path / "p"), "--no-images"])
    assert done.exit_code == 0, done.output
    for name, wanted in families(built).items():
        assert rows(tmp_path / "p" / name) == wanted
    # Nothing of the images goes along, and no path of this machine.
    assert not (tmp_path / "p" / "samples.jpg").exists()
    assert str(built.parent) not in (tmp_path / "p" / "card.json").read_text()
    readme = (tmp_path / "p" / "README.md").read_text()
    assert "samples.jpg" not in readme and "The images are not here" in readme


def test_shards_hold_all_in_order_and_groups_stay_small(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = max(image.stat().st_size for image in (built / "MGrounding-630k").rglob("*.*") if image.is_file())
    monkeypatch.setattr(exporting, "GROUP", 3 * one)
    monkeypatch.setattr(exporting, "SHARD", 9 * one)
    done = export(built, tmp_path / "p")
    shards = sorted((tmp_path / "p" / "Object_Tracking").glob("*.parquet"))
    assert len(shards) > 1 and done.shards == len(list((tmp_path / "p").rglob("*.parquet")))
    assert [shard.name for shard in shards] == [f"train-{number:05d}.parquet" for number in range(len(shards))]
    assert all(parquet.ParquetFile(shard).num_row_groups > 1 for shard in shards[:-1])
    found = [row["id"] for row in rows(tmp_path / "p" / "Object_Tracking")]
    assert found == [one["id"] for one in families(built)["Object_Tracking"]]


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 30, 30)).save(stream, "PNG")
    return stream.getvalue()


def mixture(folder: Path, records: list[dict[str, Any]]) -> Path:
    """A file of samples as `migician data mix` writes it, without a card."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a.png").write_bytes(picture())
    file = folder / "mixed.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    add_dataset(file)
    return file


def record(id_: object, *images: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>?" * len(images) or "?"}, {"from": "gpt", "value": "!"}]
    return {"id": id_, "images": list(images), "conversations": turns, "type": "t"}


def test_a_mixture_without_a_card(tmp_path: Path) -> None:
    wanted = [record(7, "a.png"), record("b", "./a.png", "a.png"), record("c")]
    for place, given in enumerate((mixture(tmp_path / "m", wanted), tmp_path / "m")):
        export(given, tmp_path / str(place))
        found = datasets.load_dataset(str(tmp_path / str(place)), split="train", cache_dir=str(tmp_path / f"c{place}"))
        assert found["id"] == ["7", "b", "c"]
        assert [len(images) for images in found["images"]] == [1, 2, 0]
        assert found[0]["images"][0].size == (9, 7)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([record("a", "a.png"), record("b", "gone.png")], r"sample 'b': image .*gone\.png cannot be read.*--media-dir"),
        ([record("a", "../secret.txt")], r"image '\.\./secret\.txt' leads out"),
        ([record("a", "/etc/hostname")], "leads out"),
        ([record("a", "a.png"), {"id": "b"}], r"mixed\.jsonl: byte \d+: not a sample"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(tmp_path: Path, records: list[dict[str, Any]], said: str) -> None:
    file = mixture(tmp_path / "m", records)
    (tmp_path / "secret.txt").write_text("secret")
    with pytest.raises(UserError, match=said):
        export(file, tmp_path / "p")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m", "secret.txt"]


def test_another_folder_begins_the_paths(tmp_path: Path) -> None:
    file = mixture(tmp_path / "m", [record("a", "a.png")])
    (tmp_path / "m" / "a.png").rename(tmp_path / "a.png")
    export(file, tmp_path / "p", media_dir=tmp_path)
    assert rows(tmp_path / "p" / "mixed")[0]["images"] == [{"bytes": picture(), "path": "a.png"}]


def test_what_is_there_stays(built: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="not what this command makes"):
        export(built, tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
