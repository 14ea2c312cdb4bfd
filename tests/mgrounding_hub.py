"""MGrounding-630k's repository in miniature on a stand-in for the Hub, and how tests fetch from it."""

import io
import json
import os
import random
import subprocess
import sys
import time
import zipfile

import pytest
from hub_stand_in import Hub
from split_zip import write_split

from migician.hub.released import fetch, plan

STRAY = "home/liyou/opensource_datasets/MGrounding-630k/"


def noise(seed, size):
    return random.Random(seed).randbytes(size)


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def records(family, names):
    turns = [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "!"}]
    return [
        {"id": i, "images": [f"./MGrounding-630k/{family}/{name}"], "conversations": turns, "type": family}
        for i, name in enumerate(names)
    ]


def mgrounding():
    """The released repository in miniature: stray prefix, two plain zips, one in volumes, the merged file."""
    files, merged = {".gitattributes": b"*.zip filter=lfs", "README.md": b"# MGrounding-630k\n"}, []
    for seed, family in enumerate(["Difference", "Free-Form", "Group_Grounding"]):
        names = [f"SRC/{i}.jpg" for i in range(6)]
        part = records(family, names)
        merged += part
        members = {f"{STRAY}{family}/{name}": noise(seed * 100 + i, 3000) for i, name in enumerate(names)}
        members[f"{STRAY}{family}/{family.lower()}_train.json"] = json.dumps(part).encode()
        if family == "Group_Grounding":
            volumes = write_split(members, 8000, zip64=True).volumes
            files |= {f"{family}.z{n:02d}": volume for n, volume in enumerate(volumes[:-1], 1)}
            files[f"{family}.zip"] = volumes[-1]
        else:
            files[f"{family}.zip"] = zipped(members)
    files["MGrounding-630k.json"] = json.dumps(merged).encode()
    return files


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    with Hub("Michael4933/MGrounding-630k", mgrounding(), plain=["README.md", ".gitattributes"]) as running:
        # Read from HF_ENDPOINT when the client is imported; the tests of the command set that instead.
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # scripts/test.sh sets it for all other tests
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # 10 MB; what is short of one is lost in a drop
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client's pause before it tries again
        yield running


def run(to, only=(), revision=None, keep=False, name="mgrounding-630k"):
    said = []
    checked = fetch(plan(name, to, list(only), revision, keep), keep, said.append)
    return checked, said


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def state(to):
    return json.loads((to / "MGrounding-630k/fetched.json").read_text())


COMMAND = [sys.executable, "-m", "migician.cli", "fetch", "mgrounding-630k", "--to"]


def command(hub, to, *more, **environment):
    return subprocess.run(
        [*COMMAND, str(to), *more], capture_output=True, text=True, check=False,
        env={**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", **environment},
    )  # fmt: skip
