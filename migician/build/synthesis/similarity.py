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
from migician.files import is_folder
from migician.progress import OnProgress

_SHARD = 1024
_BATCH = 32


def clip_vectors(
    images: Sequence[Path], model: str, cache: Path, report: OnProgress = lambda done, total: None
) -> NDArray[np.float32]:
    """(n, d) unit rows, one an image, by a transformers CLIP model; a row of NaN where the image cannot be read.

    `model` is a name on the Hub or a folder. Vectors are kept in `cache` in files of 1,024
    images; a file is made again where model or images (path, size, time of change) differ. They
    take 2 KiB of memory an image at d = 512. Raises `UserError` where the model cannot be loaded.
    """
    encoder = _Encoder(model)
    shards: list[NDArray[np.float32]] = []
    for start in range(0, len(images), _SHARD):
        shard = images[start : start + _SHARD]
        file = cache / f"{_key(encoder.fingerprint(), shard)}.npy"
        vectors = _stored(file, len(shard))
        if vectors is None:
            vectors = _embedded(shard, encoder)
            with writing(file) as stream:
                np.save(stream, vectors, allow_pickle=False)
        shards.append(vectors)
        report(start + len(shard), len(images))
    # A shard without any readable image does not know how long a vector is.
    width = max((shard.shape[1] for shard in shards), default=1)
    empty = np.zeros((0, width), np.float32)
    return np.concatenate([empty, *(np.broadcast_to(shard, (len(shard), width)) for shard in shards)])


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

        try:
            return f"{self.name}@{getattr(AutoConfig.from_pretrained(self.name), '_commit_hash', None)}"
        except (OSError, ValueError) as error:
            raise UserError(f"--clip-model {self.name}: cannot be loaded: {_line(error)}") from None

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
        array: NDArray[np.float32] = unit.cpu().numpy()
        return array

    def _load(self) -> tuple[Any, Any, str]:
        if self._loaded is None:
            try:
                import torch
                from transformers import CLIPImageProcessor, CLIPModel
            except ImportError:
                raise UserError('grouping by CLIP needs the models extra: pip install "migician[models]"') from None
            try:
                processor = CLIPImageProcessor.from_pretrained(self.name)
                model = CLIPModel.from_pretrained(self.name)
            except (OSError, ValueError) as error:
                raise UserError(f"--clip-model {self.name}: cannot be loaded: {_line(error)}") from None
            device = "cuda" if torch.cuda.is_available() else "cpu"
            self._loaded = (model.eval().to(device), processor, device)
        return self._loaded


def _embedded(images: Sequence[Path], encoder: _Encoder) -> NDArray[np.float32]:
    rows: dict[int, NDArray[np.float32]] = {}
    width = 1
    for start in range(0, len(images), _BATCH):
        read = {place: _opened(image) for place, image in enumerate(images[start : start + _BATCH], start)}
        pictures = {place: picture for place, picture in read.items() if picture is not None}
        if pictures:
            vectors = encoder.vectors(list(pictures.values()))
            width = vectors.shape[1]
            rows.update(zip(pictures, vectors, strict=True))
    absent = np.full(width, np.nan, np.float32)
    return np.stack([rows.get(place, absent) for place in range(len(images))])


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


def _key(fingerprint: str, images: Sequence[Path]) -> str:
    stats = [(str(image), *_looks(image)) for image in images]
    return hashlib.sha256(msgspec.json.encode([fingerprint, stats])).hexdigest()


def _looks(image: Path) -> tuple[int, int]:
    try:
        found = image.stat()
    except OSError:
        return (0, 0)
    return found.st_size, found.st_mtime_ns


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return file.name.encode() + hashlib.file_digest(stream, "sha256").digest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
