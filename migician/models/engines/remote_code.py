"""Families whose weights come with the code that runs them.

That code is the authors', written for older versions of transformers; here only stand-ins with the calls documented in
the model cards have been run. A family's `ask` makes the call, as `(model, tokenizer, turns, pictures, new tokens) ->
reply`. Code is loaded from one folder, never from elsewhere, and its sha256 is in the report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer

from migician.errors import UserError
from migician.files import read_object
from migician.models.checkpoint import WANTED, Checkpoint, locate, read_checkpoint, shown_name
from migician.models.conversation import conversation
from migician.models.engines.machine import Machine, described
from migician.models.engines.sent_images import given_pictures, processor_says, sent_limits, sent_size
from migician.models.family import Family
from migician.models.protocol import Model, Request


@dataclass(frozen=True)
class ShippedModel(Model):
    """A model that runs by its own code, one request at a time, greedily."""

    name: str
    family: Family
    model: Any
    tokenizer: Any
    checkpoint: Checkpoint
    max_pixels: int | None = None
    notes: tuple[str, ...] = ()
    """Unexpected choices made for this machine."""

    def answer(self, requests: Sequence[Request]) -> list[str]:
        """One reply per request, as the model's own code gives it; see `Model.answer`."""
        return [self._answer(request) for request in requests]

    def describe(self) -> dict[str, Any]:
        """Weights, code, precision, image limits, decoding and versions, for a report."""
        code = hashlib.sha256()
        for file in sorted(self.checkpoint.folder.glob("*.py")):
            code.update(file.name.encode() + b"\0" + file.read_bytes())
        return {
            **described(self, self.checkpoint, self.model),
            "code_sha256": code.hexdigest(),
            **sent_limits(self.family, self.max_pixels),
            "image_processor": processor_says(self.checkpoint.folder),
            "decoding": {"method": "greedy"},
        }

    def _answer(self, request: Request) -> str:
        most = self.family.max_images
        if most is not None and len(request.images) > most:
            raise UserError(f"{self.family.name} sees {most} image at a time; this request has {len(request.images)}")
        turns = conversation(request, self.family)
        pictures = given_pictures(request, partial(sent_size, family=self.family, max_pixels=self.max_pixels))
        if self.family.ask is None:
            raise ValueError(f"{self.family.name} ships no code")
        with torch.inference_mode():
            return self.family.ask(self.model, self.tokenizer, turns, pictures, request.max_new_tokens)


def load(
    reference: str,
    family: Family,
    *,
    dtype: str | None = None,
    device: str | None = None,
    max_pixels: int | None = None,
    revision: str | None = None,
) -> ShippedModel:
    """Weights and code of a folder, or of one commit on the Hub.

    Its code scales images as it likes; before that, larger ones are shrunk to `max_pixels`. `load_model` checks that
    the user trusts the code. Raises `UserError` if the folder's configs point to code elsewhere, which no revision
    pins, and if its code does not load here.
    """
    folder = locate(reference, revision, [*WANTED, "*.py"])
    _refuse_foreign_code(folder)
    checkpoint = read_checkpoint(folder)
    machine = Machine.choose(checkpoint, device=device, dtype=dtype, attention=None)
    if machine.device == "auto":
        raise UserError(f"{family.name} runs its own code on one device: give it, such as cuda:0")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True, local_files_only=True)
        model = getattr(transformers, family.auto_class).from_pretrained(
            folder, trust_remote_code=True, local_files_only=True, use_safetensors=True, dtype=machine.dtype
        )
    except (ImportError, AttributeError, TypeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder}: its code or tokenizer does not load under transformers {transformers.__version__} "
            f"({reason:.160}); its model card names the version it was written for"
        ) from None
    name = shown_name(reference, folder)
    return ShippedModel(name, family, model.eval().to(machine.device), tokenizer, checkpoint, max_pixels, machine.notes)


def _refuse_foreign_code(folder: Path) -> None:
    for file in sorted(folder.glob("*config.json")):
        places = read_object(file).get("auto_map") or {}
        for place in places.values() if isinstance(places, dict) else ():
            for one in place if isinstance(place, list) else [place]:
                if "--" in str(one):
                    raise UserError(
                        f"{file}: takes code from {str(one).partition('--')[0]}, which the revision does not pin: "
                        "copy that code into a local folder, and name it in the config"
                    )
