"""Uploading with the Hub's own client to a local stand-in, and all that is refused before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("huggingface_hub", reason="data extra not installed: bash scripts/setup.sh")

from huggingface_hub import HfApi, constants

from migician.cli import app
from migician.errors import UserError
from migician.hub.push import push, upload_of
from tests.upload_stand_in import Uploads


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # scripts/test.sh sets it for all other tests
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    with Uploads() as hub:
        yield hub


def dataset(folder: Path, source: str = "coco", stored: str = "embedded", made: int = 1) -> Path:
    files = {
        "README.md": "---\nlicense: other\n---\n# d\n",
        "Difference/train-00000.parquet": "PAR1",
        ".x.part": "half",
    }
    card = {"parts": [{"source": source, "made": made}], "stored": stored}
    for name, content in {**files, "card.json": json.dumps(card), ".cache/y": "z"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def client(hub: Uploads) -> Any:
    return HfApi(endpoint=hub.url, token="hf_of_the_stand_in")


def test_what_is_listed_goes_and_nothing_else(uploads: Uploads, tmp_path: Path) -> None:
    load = upload_of(dataset(tmp_path / "d"), private=False)
    push(load, "me/d", client(uploads))
    assert uploads.private == {"me/d": False}
    sent = {path: content for (_, path), content in uploads.files.items()}
    assert sent == {path: (tmp_path / "d" / path).read_bytes() for path, _ in load.files}
    assert {path: len(content) for path, content in sent.items()} == dict(load.files)
    assert set(sent) == {"README.md", "card.json", "Difference/train-00000.parquet"}


def test_again_to_the_same_place(uploads: Uploads, tmp_path: Path) -> None:
    load = upload_of(dataset(tmp_path / "d"), private=True)
    for _ in range(2):
        push(load, "me/d", client(uploads))
    assert uploads.private == {"me/d": True}


def test_what_is_to_be_private_never_goes_where_all_can_see(uploads: Uploads, tmp_path: Path) -> None:
    uploads.private["me/d"] = False
    with pytest.raises(UserError, match="me/d: is public already"):
        push(upload_of(dataset(tmp_path / "d"), private=True), "me/d", client(uploads))
    assert uploads.files == {}


@pytest.mark.parametrize(
    ("status", "fix"), [(401, "hf auth login"), (403, "hf auth login"), (500, "Run the same command again")]
)
def test_what_the_hub_refuses_is_one_line(
    uploads: Uploads, tmp_path: Path, status: int, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads.refuse = status
    with pytest.raises(UserError, match=f"me/d: the Hub answers {status}.*{fix}"):
        push(upload_of(dataset(tmp_path / "d"), private=False), "me/d", client(uploads))


def test_a_hub_that_is_not_there(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="me/d: the Hub cannot be reached"):
        push(upload_of(dataset(tmp_path / "d"), private=False), "me/d", HfApi(endpoint="http://127.0.0.1:9"))


def test_names_that_are_none(uploads: Uploads, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'a/b/c': expected USER/NAME"):
        push(upload_of(dataset(tmp_path / "d"), private=False), "a/b/c", client(uploads))


class TestUpload:
    def test_a_link_is_refused_with_the_fix(self, tmp_path: Path) -> None:
        folder = dataset(tmp_path / "d")
        (tmp_path / "source").mkdir()
        (folder / "MGrounding-630k" / "Difference").mkdir(parents=True)
        (folder / "MGrounding-630k" / "Difference" / "COCO").symlink_to(tmp_path / "source")
        with pytest.raises(UserError, match=r"Difference/COCO: leads out of .*migician export .* --collect"):
            upload_of(folder, private=True)

    def test_images_that_may_not_be_passed_on(self, tmp_path: Path) -> None:
        for number, stored in enumerate(("embedded", "files")):
            folder = dataset(tmp_path / str(number), "objects365", stored)
            with pytest.raises(UserError, match="holds images of objects365, whose terms forbid"):
                upload_of(folder, private=False)
            assert any("Objects365" in line for line in upload_of(folder, private=True).terms)
        for number, given in enumerate([("objects365", "named"), ("objects365", "files", 0), ("coco", "files")]):
            assert upload_of(dataset(tmp_path / f"fine{number}", *given), private=False).files

    def test_folders_that_are_no_dataset(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"holds no README\.md"):
            upload_of(tmp_path, private=False)
        (dataset(tmp_path / "d") / "card.json").write_text("[]")
        with pytest.raises(UserError, match=r"card\.json: not a card of this version"):
            upload_of(tmp_path / "d", private=False)


def test_a_dry_run_only_lists(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "d")
    done = CliRunner().invoke(app, ["data", "push", str(folder), "--repo", "me/d", "--dry-run", "--private"])
    assert done.exit_code == 0
    assert "Difference/train-00000.parquet\t4\n" in done.stdout and "part" not in done.stdout
    assert "3 files" in done.stderr and "private dataset me/d" in done.stderr and "terms of COCO" in done.stderr
