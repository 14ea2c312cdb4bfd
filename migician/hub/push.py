"""A dataset to the Hub: what would go, whether it may, and the upload, which is that of the Hub's own client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from migician.build.card.readme import read_card
from migician.errors import UserError
from migician.hub.transfer import hub_errors
from migician.sources import SOURCES

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_HIDDEN = [".*", "*/.*"]
MANY = 100_000
"""Files a repository from which the Hub advises fewer: https://huggingface.co/docs/hub/repositories-recommendations."""


@dataclass(frozen=True, slots=True)
class HubUpload:
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


def upload_of(dataset: str | Path, *, private: bool) -> HubUpload:
    """What of a built or exported dataset would go to the Hub: all but hidden files.

    Raises `UserError` where the folder is no dataset with a README.md; where it holds a link, as the Hub takes none
    and the images it leads to would be missing there; and where it holds images whose terms forbid passing them on,
    unless the repository is to be private.
    """
    folder = Path(dataset)
    if not (folder / "README.md").is_file():
        raise UserError(f"{folder}: holds no README.md, so it is no dataset of migician build or migician data export")
    files = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts):
            continue
        if path.is_symlink():
            raise UserError(
                f"{path}: leads out of the dataset to {path.readlink()}, and the Hub takes no links. Push what "
                f"migician export {folder} --to FOLDER writes, or build it again with --collect"
            )
        if path.is_file():
            files.append((name.as_posix(), path.stat().st_size))
    sources, stored = _sources(folder)
    withheld = [name for name in sources if stored != "named" and SOURCES[name].withheld]
    if withheld and not private:
        raise UserError(
            f"{folder}: holds images of {', '.join(withheld)}, whose terms forbid passing them on: push with "
            "--private, or export the dataset with --no-images and push that"
        )
    terms = [f"{SOURCES[name].folder}: {SOURCES[name].terms}" for name in sources]
    return HubUpload(folder, tuple(sorted(files)), tuple(terms), private)


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


def push(upload: HubUpload, repository: str, hub: HfApi | None = None) -> None:
    """Send `upload` to the dataset `repository` ("user/name") of the Hub, which is made where there is none.

    The same call resumes after an interruption. `hub` is the client, by default the Hub's own with the token of
    HF_TOKEN or of `hf auth login`. Raises `UserError` for what the Hub refuses, and where what is to be private would
    go to a public repository.
    """
    with hub_errors(repository, otherwise="Run the same command again"):
        if hub is None:
            from huggingface_hub import HfApi

            hub = HfApi(library_name="migician")
        hub.create_repo(repository, repo_type="dataset", private=upload.private, exist_ok=True)
        # Making one private does nothing where there is one already.
        if upload.private and not hub.dataset_info(repository).private:
            raise UserError(f"{repository}: is public already; make it private on the Hub, or choose another name")
        hub.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=upload.folder,
            ignore_patterns=list(_HIDDEN),
            commit_message="Upload by migician",
        )
