"""A training YAML as LLaMA-Factory's own parser reads it, or by a table of its defaults if it is not installed."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from migician.errors import UserError
from migician.files import decode
from migician.training.check.settings.training_yaml import DEFAULTS, TrainingSettings, read_given

_OF_A_LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "FORCE_TORCHRUN")
"""With these set, the parser would wait for other processes."""


def parse_settings(file: Path, overrides: Sequence[str] = ()) -> TrainingSettings:
    """All settings of a YAML and of `overrides` ("key=value"), defaults included, as LLaMA-Factory takes them.

    Its parser runs in another process, which is kept for the next call. Raises `UserError` if the file is not a YAML of
    settings, or the parser does not start.
    """
    given = read_given(file, overrides)
    if not is_installed():
        return TrainingSettings(file, DEFAULTS | given, given)
    answer = _ask(file, overrides)
    if answer.failed:
        raise UserError(f"{file}: LLaMA-Factory cannot read it: {answer.failed}")
    return msgspec.structs.replace(answer, file=file, parsed=True)


@functools.cache
def is_installed() -> bool:
    """Whether LLaMA-Factory is installed here; looked up, not imported."""
    return importlib.util.find_spec("llamafactory") is not None


def _ask(file: Path, overrides: Sequence[str]) -> TrainingSettings:
    questions, answers, log = _process()
    try:
        # Paths in the settings are relative to the current folder.
        question = {"folder": str(Path.cwd()), "file": str(file), "overrides": list(overrides)}
        questions.write(msgspec.json.encode(question) + b"\n")
        questions.flush()
        line = answers.readline()
    except BrokenPipeError:
        line = b""
    if not line:
        _process.cache_clear()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise UserError(f"{file}: LLaMA-Factory's parser does not start: {said[-1]}")
    return decode(line, TrainingSettings, file, "settings that LLaMA-Factory's parser has an answer to")


@functools.cache
def _process() -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """The parser's process: its input, its output, and the file of its error messages."""
    environment = {key: value for key, value in os.environ.items() if key not in _OF_A_LAUNCH}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "TRANSFORMERS_VERBOSITY": "error", "LLAMAFACTORY_VERBOSITY": "ERROR"}
    log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
    # -P: modules of this folder must not hide others of the same name.
    words = [sys.executable, "-P", str(Path(__file__).with_name("parser_process.py"))]
    process = subprocess.Popen(  # noqa: S603 - our own file
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment
    )
    if process.stdin is None or process.stdout is None:
        raise UserError("LLaMA-Factory's parser cannot be asked")
    atexit.register(_stop, process)
    return process.stdin, process.stdout, log


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.stdin:
        process.stdin.close()
    process.wait()
