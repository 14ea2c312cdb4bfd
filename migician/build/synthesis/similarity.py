"""CLIP vectors of images, made in batches and kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from migician.errors import UserError, writing
from migician.files import is_folder, status
from migician.progress import OnProgress

_SHARD = 1024
_BATCH = 32


def clip_vectors(
    images: Sequence[Path], model: str, cache: Path, report: OnProgress = lambda done, total: None
) -> NDArray[np.float32]:
    """(n, d) unit rows, one per image, by a transformers CLIP model; a row of NaN where the image cannot be read.

    `model` is a name on the Hub or a folder. Vectors are kept in `cache` in files of 1,024
    images; a file is made again where model or images (path, size, time of change) differ. They
    take 2 KiB of memory per image at d = 512. Raises `UserError` where the model cannot be loaded.
    """
    encoder = _Encoder(model)
    shards: list[NDArray[np.float32]] = []
    for start in range(0, len(images), _SHARD):
        shard = images[start : start + _SHARD]
        known = [encoder.fingerprint(), [(str(image), *_looks(image)) for image in shard]]
        file = cache / f"{hashlib.sha256(msgspec.json.encode(known)).hexdigest()}.npy"
        vectors = _stored(file, len(shard))
        if vectors is None:
            vectors = _embedded(shard, encoder)
            with writing(file) as stream:
                np.save(stream, vectors, allow_pickle=False)
        shards.append(vectors)
        report(start + len(shard), len(images))
    # A shard without any readable image does not know how long a vector is.
    width = max((shard.shape[1] for shard in shards), default=1)
    wide = [np.broadcast_to(shard, (len(shard), width)) for shard in shards]
    return np.concatenate([np.zeros((0, width), np.float32), *wide])


@dataclass(slots=True)
class _Encoder:
    """A CLIP model that is loaded when the first image needs it."""

    name: str
    _loaded: tuple[Any, Any, str] | None = None

    def fingerprint(self) -> str:
        """What tells one set of weights from another: the files of a folder, the commit on the Hub."""
        folder = Path(self.name)
        if is_folder(folder):
            files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".safetensors"))
            return hashlib.sha256(b"".join(_digest(file) for file in files)).hexdigest()
        from transformers import AutoConfig

        return f"{self.name}@{getattr(self._pretrained(AutoConfig), '_commit_hash', None)}"

    def vectors(self, pictures: list[Image.Image]) -> NDArray[np.float32]:
        """(n, d) unit rows."""
        import torch

        model, processor, device = self._load()
        inputs = processor(images=pictures, return_tensors="pt")
        with torch.inference_mode():
            found = model.get_image_features(pixel_values=inputs["pixel_values"].to(device))
            # transformers 5 gives an output object, 4 gave the tensor itself.
            features = getattr(found, "pooler_output", found).float()
            unit = features / features.norm(dim=1, keepdim=True)
        return np.asarray(unit.cpu())

    def _load(self) -> tuple[Any, Any, str]:
        if self._loaded is None:
            try:
                import torch
                from transformers import CLIPImageProcessor, CLIPModel
            except ImportError:
                raise UserError('grouping by CLIP needs the models extra: pip install "migician[models]"') from None
            processor, model = self._pretrained(CLIPImageProcessor), self._pretrained(CLIPModel)
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._loaded = (model.eval().to(device), processor, device)
        return self._loaded

    def _pretrained(self, kind: Any) -> Any:
        try:
            return kind.from_pretrained(self.name)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"--clip-model {self.name}: cannot be loaded: {reason}") from None


def _embedded(images: Sequence[Path], encoder: _Encoder) -> NDArray[np.float32]:
    places: list[int] = []
    found: list[NDArray[np.float32]] = []
    for start in range(0, len(images), _BATCH):
        read = enumerate(map(_opened, images[start : start + _BATCH]), start)
        if pictures := {place: picture for place, picture in read if picture is not None}:
            places += pictures
            found.append(encoder.vectors(list(pictures.values())))
    vectors = np.full((len(images), found[0].shape[1] if found else 1), np.nan, np.float32)
    if found:
        vectors[places] = np.concatenate(found)
    return vectors


def _opened(image: Path) -> Image.Image | None:
    try:
        with Image.open(image) as opened:
            picture: Image.Image = opened.convert("RGB")
            return picture
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _stored(file: Path, count: int) -> NDArray[np.float32] | None:
    """The vectors in `file`; None where it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        vectors = np.load(file, allow_pickle=False)
        if vectors.dtype == np.float32 and vectors.ndim == 2 and len(vectors) == count:
            return np.asarray(vectors, np.float32)
    return None


def _looks(image: Path) -> tuple[int, int]:
    found = status(image)
    return (found.st_size, found.st_mtime_ns) if found else (0, 0)


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return file.name.encode() + hashlib.file_digest(stream, "sha256").digest()
