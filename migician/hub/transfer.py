"""Dataset repositories of the Hub: what they hold, and one file of them, resumed and checked.

The Hub's own client is the transport. Its `hf_hub_download` (1.33) starts a file from zero after a run was killed,
too much for volumes of 10 GB; so the bytes are kept beside the target here and its `http_get` resumes after them,
over plain HTTP (Xet transfers, which the client prefers, cannot be resumed either).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migician.errors import UserError, partial_of
from migician.files import sha256_of
from migician.hub.archives import check_name
from migician.progress import OnProgress


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a repository: its path there, its size in bytes, and what proves its content."""

    path: str
    size: int
    sha256: str | None
    """Of files in large-file storage."""
    git_id: str | None
    """Of all others: the sha1 git gives the content."""

    @property
    def hash(self) -> str:
        """What proves its content, with its kind."""
        return f"sha256:{self.sha256}" if self.sha256 else f"git:{self.git_id}"


@dataclass(frozen=True, slots=True)
class Repository:
    """A dataset repository at one commit."""

    repository: str
    revision: str
    """The full commit, whatever name was asked for."""
    endpoint: str
    files: tuple[HubFile, ...]


def list_files(repository: str, revision: str) -> Repository:
    """The files of a dataset repository, hidden ones left out; `HF_ENDPOINT` is honoured.

    Raises `UserError` where the Hub cannot be reached, or does not know the repository or refuses it.
    """
    with hub_errors(repository, revision):
        from huggingface_hub import HfApi

        api = HfApi()
        info = api.dataset_info(repository, revision=revision, files_metadata=True)
    files = []
    for one in info.siblings or []:
        fault = check_name(one.rfilename)
        if fault or one.size is None:
            raise UserError(f"{repository}: the Hub lists a file {one.rfilename!r} that {fault or 'has no size'}")
        if not one.rfilename.startswith("."):
            files.append(HubFile(one.rfilename, one.size, one.lfs.sha256 if one.lfs else None, one.blob_id))
    if not info.sha or not files:
        raise UserError(f"{repository}: the Hub lists no files at revision {revision!r}")
    return Repository(repository, info.sha, api.endpoint, tuple(sorted(files, key=lambda one: one.path)))


def partial_path(target: Path, file: HubFile) -> Path:
    """Where the bytes of an unfinished download lie; another content has another place."""
    return partial_of(target.with_name(f"{target.name}.{(file.sha256 or file.git_id or 'unknown')[:12]}"))


def download(listing: Repository, file: HubFile, target: Path, report: OnProgress | None = None) -> None:
    """Download one file to `target`, which appears whole and checked, or not at all.

    What an earlier run left is kept and completed. `report` is given the bytes done and in all. Raises `UserError`
    for what the network or the disk refuses, and for content that is not what the Hub lists; that is removed.
    """
    part = partial_path(target, file)
    with hub_errors(listing.repository, listing.revision, part, "Run the same command again to resume"):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers, disable_progress_bars  # type: ignore[attr-defined]

        disable_progress_bars("huggingface_hub.http_get")
        part.parent.mkdir(parents=True, exist_ok=True)
        begun = part.stat().st_size if part.exists() else 0
        if begun > file.size:
            part.unlink()
            begun = 0
        url = hf_hub_url(
            listing.repository, file.path, repo_type="dataset", revision=listing.revision, endpoint=listing.endpoint
        )
        # Without this, text comes compressed, and then neither its length nor a place in it means anything.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        with _Watched(part, file.size, report) as stream:
            http_get(url, stream, resume_size=begun, headers=headers, expected_size=file.size)
            stream.flush()
            os.fsync(stream.fileno())
    if not is_content(part, file):
        part.unlink()
        raise UserError(
            f"{listing.repository}: {file.path} arrived with another content than the Hub lists "
            f"({file.hash}); it was removed. Run the same command again"
        )
    part.rename(target)


def is_content(path: Path, file: HubFile) -> bool:
    """Whether a file on disk has the size and the hash that the Hub lists; raises `UserError` if it lists no hash."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        return sha256_of(path) == file.sha256
    if not file.git_id:
        raise UserError(f"{file.path}: the Hub lists no hash for it, so it cannot be checked")
    # Git hashes a header before the content; nothing secret hangs on this sha1.
    blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    blob.update(path.read_bytes())
    return blob.hexdigest() == file.git_id


class _Watched(io.BufferedWriter):
    """Appends to a file, and reports after each write how much there is."""

    def __init__(self, path: Path, total: int, report: OnProgress | None) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._total = total
        self._report = report

    def write(self, content: Any) -> int:
        written = super().write(content)
        self.flush()  # pieces are large, and what came counts even if the next never does
        if self._report:
            self._report(self.tell(), self._total)
        return written


@contextlib.contextmanager
def hub_errors(
    repository: str, revision: str = "", part: Path | None = None, otherwise: str = "Check the network"
) -> Iterator[None]:
    """What the Hub's client raises, as a `UserError` that says what to do: `otherwise`, where trying again may help."""
    try:
        from huggingface_hub import errors
    except ImportError:
        raise UserError(
            f"{repository}: the Hub's client is not installed: pip install 'huggingface_hub>=1.0'"
        ) from None
    try:
        yield
    except errors.HFValidationError as error:
        raise UserError(f"{repository!r}: expected USER/NAME: {str(error).splitlines()[0]}") from None
    except errors.GatedRepoError:
        raise UserError(
            f"{repository}: asks for permission; accept its terms on the Hub, then run: hf auth login"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{repository}: the Hub knows no revision {revision!r} of it") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{repository}: no such dataset on the Hub, or not for you; if it is yours, run: hf auth login"
        ) from None
    except errors.OfflineModeIsEnabled:
        raise UserError(f"{repository}: HF_HUB_OFFLINE is set, and this needs the Hub. Unset it") from None
    except errors.LocalTokenNotFoundError:
        raise UserError(f"{repository}: not logged in to the Hub; run: hf auth login") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "Log in with a token that may do this: hf auth login" if status in (401, 403, 404) else otherwise
        raise UserError(f"{repository}: the Hub answers {status}. {advice}") from None
    except errors.HTTPError as error:  # type: ignore[attr-defined] # of httpx in huggingface_hub 1, of httpx2 in 2
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"{repository}: the Hub cannot be reached ({reason}). {otherwise}; HF_ENDPOINT names a mirror"
        ) from None
    except OSError as error:
        reason = error.strerror or str(error).strip().split("\n")[0]
        what = f"{part}: the download stopped" if part else f"{repository}: stopped"
        raise UserError(f"{what}: {reason}. {otherwise}") from None
