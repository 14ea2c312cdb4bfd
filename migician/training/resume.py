"""Where an interrupted training resumes: the last complete checkpoint, and the settings that LLaMA-Factory needs.

By default LLaMA-Factory 0.9.5 takes the newest folder `checkpoint-N`, complete or not; and without DeepSpeed it then
restores the optimizer and the step of a Qwen2-VL but not its weights. Nothing is unpickled here: torch's files are
zip archives, whose end says whether they are complete.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

import msgspec

from migician.errors import UserError
from migician.files import is_file, is_folder, read_object, read_text
from migician.training.adapters import is_adapter, read_trained

_NAME = re.compile(r"checkpoint-(\d+)")
_RANDOM = re.compile(r"rng_state(?:_(\d+))?\.pth")
_RANK = re.compile(r"zero_pp_rank_(\d+)_mp_rank_00_(?:optim|model)_states\.pt$")


@dataclass(frozen=True, slots=True)
class Saved:
    """One checkpoint of an interrupted training."""

    folder: Path
    step: int
    fault: str
    """What it lacks; empty if it is complete."""
    processes: int | None
    """How many wrote DeepSpeed's part of it; None if there is none."""
    universal: bool
    """Whether DeepSpeed's part was converted for any number of processes (its `ds_to_universal`)."""
    adapter: bool = False
    """Whether it is a LoRA adapter, whose base is elsewhere."""

    def needs_conversion(self, processes: int) -> bool:
        """Whether that many processes can only load it converted, because another number wrote DeepSpeed's part."""
        return self.processes not in (None, processes)

    @property
    def overrides(self) -> list[str]:
        """What LLaMA-Factory must be given after its YAML to resume exactly from here."""
        given = [f"resume_from_checkpoint={self.folder}"]
        # DeepSpeed brings the weights, and peft an adapter's; else they come from where the model comes from.
        whole = self.processes is not None or self.adapter
        return given if whole else [*given, f"model_name_or_path={self.folder}"]


def saved_in(output_dir: str | Path) -> list[Saved]:
    """The checkpoints of a training, newest first, complete or not; raises `UserError` if `output_dir` is a file."""
    if Path(output_dir).exists() and not is_folder(Path(output_dir)):
        raise UserError(f"{output_dir}: is a file, not the output_dir of a training")
    named = ((folder, _NAME.fullmatch(folder.name)) for folder in Path(output_dir).glob("checkpoint-*"))
    found = sorted(((int(name[1]), folder) for folder, name in named if name and is_folder(folder)), reverse=True)
    return [
        Saved(
            folder,
            step,
            _fault(folder, step),
            max(_ranks(_zero_parts(folder), "optim"), default=-1) + 1 or None,
            is_file(folder / "latest_universal"),
            is_adapter(folder),
        )
        for step, folder in found
    ]


def resume_point(output_dir: str | Path, processes: int) -> Saved | None:
    """The newest complete checkpoint; None if there is none.

    Raises `UserError` if another number of processes than `processes` wrote DeepSpeed's part of it: the optimizer
    cannot be split differently without a conversion.
    """
    whole = next((one for one in saved_in(output_dir) if not one.fault), None)
    if whole and whole.needs_conversion(processes) and not whole.universal:
        tag = whole.folder / read_text(whole.folder / "latest").strip()
        raise UserError(
            f"{whole.folder}: written by {whole.processes} processes, not {processes}, and each wrote a "
            f"piece of the optimizer. Run on {whole.processes} again, or convert it once: python -m "
            f"deepspeed.checkpoint.ds_to_universal --input_folder {tag} --output_folder {tag}_universal"
        )
    return whole


class _State(msgspec.Struct):
    global_step: int


def step_of(folder: Path) -> int | None:
    """The step that a trainer_state.json is of; None where it cannot be read."""
    try:
        return read_object(folder / "trainer_state.json", _State).global_step
    except UserError:
        return None


def _fault(folder: Path, step: int) -> str:
    """What a checkpoint lacks to resume from it."""
    if (saved := step_of(folder)) != step:
        return "no readable trainer_state.json" if saved is None else f"trainer_state.json is of step {saved}"
    try:
        read_trained(folder)
    except UserError as error:
        return str(error)
    parts = _zero_parts(folder)
    files = parts or [folder / "optimizer.pt", folder / "scheduler.pt"]
    if is_file(folder / "latest") and not parts:
        return "DeepSpeed's part is missing"
    missing = _missing_ranks(folder, parts)
    if missing:
        return f"the part of process {min(missing)} is missing"
    cut = next((file for file in files if not zipfile.is_zipfile(file)), None)
    return f"{cut.relative_to(folder)} is missing or cut" if cut else ""


def _zero_parts(folder: Path) -> list[Path]:
    """DeepSpeed's files of the step that its `latest` names."""
    try:
        tag = read_text(folder / "latest").strip()
        return sorted((folder / Path(tag).name).glob("*_states.pt"))
    except (UserError, OSError, ValueError):  # the last two for an invalid folder name
        return []


def _ranks(parts: list[Path], kind: str) -> set[int]:
    found = (_RANK.search(file.name) for file in parts if kind in file.name)
    return {int(match[1]) for match in found if match}


def _missing_ranks(folder: Path, parts: list[Path]) -> set[int]:
    """The processes, from 0, that saved their random state but have no file in `parts`.

    In stage 3 each has a file of the optimizer and one of the model.
    """
    if not parts:
        return set()
    found = (_RANDOM.fullmatch(file.name) for file in folder.glob("rng_state*.pth"))
    wanted = {int(match[1] or 0) for match in found if match}
    optimizer, model = _ranks(parts, "optim"), _ranks(parts, "model")
    return ((wanted | model) - optimizer) | ((wanted | optimizer) - model if model else set())
