"""Fixtures shared by the tests: where real samples lie, and one tiny model for the whole run."""

from __future__ import annotations

import fcntl
import functools
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from forked import Parent, parent_with
from hypothesis import settings

# No test is about time: a busy machine must not fail one. Nor is one about luck: searches begin from fixed seeds, so
# that the same tests run each time; HYPOTHESIS_SEARCH=1 begins from new ones.
settings.register_profile("fixed", deadline=None, derandomize=not os.environ.get("HYPOTHESIS_SEARCH"))
settings.load_profile("fixed")

# The `hub` of what fetches from it.
pytest_plugins = ["mgrounding_hub"]

REPOSITORY = Path(__file__).resolve().parent.parent


# Files that go to one worker, as what they load takes ten seconds: LLaMA-Factory (its parser, too), a served model.
TOGETHER = {
    "training": (
        "test_again test_both_views test_checking test_end_to_end test_faults test_labels test_layouts test_lengths "
        "test_memory test_mixture test_preflight test_training"
    ),
    "served": "test_server test_synthesis_server",
}
_GROUPS = {name: group for group, names in TOGETHER.items() for name in names.split()}
# The longest first: at the end no worker waits for another.
LONGEST = (
    "test_end_to_end test_engine test_shared_prefix test_notebooks test_chat_load test_chat_page test_page_browser "
    "test_threads test_alone test_border test_synthesis test_server_faults test_resume test_server test_build "
    "test_run_folders test_choices test_any_reply"
)
_RANKS = {name: rank for rank, name in enumerate(LONGEST.split())}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By file, as `--dist loadfile`, but some files together and all in the order in which they were collected."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return _GROUPS.get(Path(file).stem, file)

    config.option.loadscopereorder = False  # by how many tests they have
    return Together(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _RANKS.get(item.path.stem, len(_RANKS)))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that holds `data/` with real benchmark files and samples; skips where it is not."""
    folder = Path(os.environ.get("MIGICIAN_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real samples are not here: {folder / 'data'} (set MIGICIAN_SHARED)")
    return folder


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A random-start model of the true class of a base, by its name; one for all workers, so only to read."""
    pytest.importorskip("transformers", reason="models extra not installed: bash scripts/setup.sh")
    from migician.models.stand_ins.tiny import make_tiny

    own = tmp_path_factory.getbasetemp()
    models = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "models"
    models.mkdir(exist_ok=True)

    def made(base: str) -> Path:
        folder = models / ("tiny" if base == "qwen2_vl" else base)
        with (models / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
            if not folder.exists():
                make_tiny(folder, seed=0, base=base)
        return folder

    return made


@pytest.fixture(scope="session")
def tiny_folder(tiny_of: Callable[[str], Path]) -> Path:
    """A random-start Qwen2-VL of true class that answers in a blink; one for all workers, so only to read."""
    return tiny_of("qwen2_vl")


@pytest.fixture(scope="session")
def transformers_server(tiny_folder: Path) -> Iterator[str]:
    """The address of `transformers serve` with the tiny model."""
    from serving import transformers_serving

    with transformers_serving(tiny_folder) as address:
        yield address


@pytest.fixture(scope="session")
def llamafactory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parent]:
    """Runs scripts that use LLaMA-Factory, each in a process of its own, without importing it again."""
    pytest.importorskip("llamafactory", reason="train extra not installed: bash scripts/setup.sh")
    imports = "import torch, datasets, yaml, llamafactory.train.tuner, llamafactory.train.sft.workflow"
    cache = str(tmp_path_factory.mktemp("llamafactory"))
    fixed = {"DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1", "WANDB_DISABLED": "true", "CUDA_VISIBLE_DEVICES": ""}
    with parent_with(imports, HF_DATASETS_CACHE=cache, **fixed) as parent:
        yield parent


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """`migician miniature` in this process draws a few of each instead of the quickstart's thousands (a minute)."""
    from migician import miniature

    few = miniature.Amounts(got10k=4, coco=8, objects365=4, magicbrush=4, held_out=1, imagenet=6, sa1b=6)
    monkeypatch.setattr(miniature, "make_world", functools.partial(miniature.make_world, amounts=few))


@pytest.fixture
def plain_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds in this process draw no pictures for their cards, which takes ten times as long as a small build.

    For tests of what is built: `test_card`, `test_build` and the whole runs have the pictures.
    """
    from PIL import Image

    from migician.build.card.album import Album
    from migician.draw import encoded

    dot = encoded(Image.new("RGB", (1, 1)), "PNG")
    monkeypatch.setattr("migician.build.card.card.histograms", lambda families: dot)
    monkeypatch.setattr("migician.build.card.card.album", lambda *_: Album(None, 0, 0))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser; skips where Chromium is not installed. Ask it for a `new_page(viewport=...)`."""
    pytest.importorskip("playwright", reason="dev extra not installed: bash scripts/setup.sh")
    from browser import CHROMIUM, browser

    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with browser() as opened:
        yield opened


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed or logged, made fit to be sent: names that are not UTF-8 stop a worker of xdist."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
