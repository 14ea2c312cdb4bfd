"""A dataset to the Hub: what would go, whether it may, and the upload, which is that of the Hub's own client."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from migician.build.card.readme import read_card
from migician.errors import UserError
from migician.sources import SOURCES

_HIDDEN = [".*", "*/.*"]
MANY = 100_000
"""Files a repository from which the Hub advises fewer: https://huggingface.co/docs/hub/repositories-recommendations."""


class Hub(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool, exist_ok: bool) -> Any: ...  # noqa: D102
    def dataset_info(self, repo_id: str) -> Any: ...  # noqa: D102
    def upload_folder(  # noqa: D102
        self, *, repo_id: str, repo_type: str, folder_path: Path, ignore_patterns: list[str], commit_message: str
    ) -> Any: ...


@dataclass(frozen=True, slots=True)
class Cargo:
    """What of a dataset would go to the Hub."""

    folder: Path
    files: tuple[tuple[str, int], ...]
    """Each with its size in bytes."""
    terms: tuple[str, ...]
    """Of each source."""
    private: bool

    @property
    def size(self) -> int:
        """In bytes, all together."""
        return sum(size for _, size in self.files)


def cargo(dataset: str | Path, *, private: bool) -> Cargo:
    """What of a built or exported dataset would go to the Hub: all but hidden files.

    Raises `UserError` where the folder is no dataset with a README.md; where it holds a link, as the Hub takes none
    and the images behind it would be missing there; and where it holds images whose terms forbid to pass them on,
    unless the repository is to be private.
    """
    folder = Path(dataset)
    if not (folder / "README.md").is_file():
        raise UserError(f"{folder}: holds no README.md, so it is no dataset of migician build or migician data export")
    files = []
    for where, inner, names in os.walk(folder):
        place = Path(where)
        for name in sorted([*inner, *names]):
            if name.startswith("."):
                continue
            path = place / name
            if path.is_symlink():
                raise UserError(
                    f"{path}: leads out of the dataset to {path.readlink()}, and the Hub takes no links. Push what "
                    f"migician data export {folder} --to FOLDER writes, or build it again with --collect"
                )
            if name in names:
                files.append((path.relative_to(folder).as_posix(), path.stat().st_size))
        inner[:] = [name for name in inner if not name.startswith(".")]
    sources, stored = _sources(folder)
    withheld = [name for name in sources if stored != "named" and SOURCES[name].withheld]
    if withheld and not private:
        raise UserError(
            f"{folder}: holds images of {', '.join(withheld)}, whose terms forbid to pass them on: push with "
            "--private, or export the dataset with --no-images and push that"
        )
    terms = [f"{SOURCES[name].folder}: {SOURCES[name].terms}" for name in sources]
    return Cargo(folder, tuple(sorted(files)), tuple(terms), private)


def _sources(folder: Path) -> tuple[list[str], str]:
    """The sources that samples were made of, and how the images are stored; none where there is no card."""
    card = read_card(folder)
    if card is None:
        return [], "files"
    try:
        made = dict.fromkeys(part["source"] for part in card["parts"] if part["made"])
        return [name for name in made if name in SOURCES], card["stored"]
    except KeyError as error:
        raise UserError(f"{folder / 'card.json'}: not a card of this version ({error!r}); build it again") from None


def push(load: Cargo, repository: str, hub: Hub | None = None) -> None:
    """Upload `load` to the dataset `repository` ("user/name") of the Hub, which is made where there is none.

    The same call goes on after an interruption. `hub` is the client, by default the Hub's own with the token of
    HF_TOKEN or of `hf auth login`. Raises `UserError` for what the Hub refuses, and where what is to be private would
    go to a public repository.
    """
    with _hub_errors(repository):
        if hub is None:
            from huggingface_hub import HfApi

            hub = HfApi(library_name="migician")
        hub.create_repo(repository, repo_type="dataset", private=load.private, exist_ok=True)
        # Making one private does nothing where there is one already.
        if load.private and not hub.dataset_info(repository).private:
            raise UserError(f"{repository}: is public already; make it private on the Hub, or choose another name")
        hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=load.folder,
            ignore_patterns=list(_HIDDEN),
            commit_message="Upload by migician",
        )


@contextlib.contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """What the Hub's client raises, as one line that says what to do."""
    try:
        import httpx
        from huggingface_hub import errors
    except ImportError:
        raise UserError("the Hub's client is not installed: pip install 'migician[data]'") from None
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f"--repo {repository!r}: expected USER/NAME: {str(error).splitlines()[0]}") from None
    except errors.OfflineModeIsEnabled:
        raise UserError(f"{repository}: HF_HUB_OFFLINE is set, and this needs the Hub. Unset it") from None
    except errors.LocalTokenNotFoundError:
        raise UserError(f"{repository}: not logged in to the Hub; run: hf auth login") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        cure = "Log in with a token that may write: hf auth login" if status in (401, 403, 404) else "Run it again"
        raise UserError(f"{repository}: the Hub answers {status}. {cure}") from None
    except httpx.HTTPError as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{repository}: the Hub cannot be reached ({reason}). Run the same command again") from None
