"""The card of a model: what it is, what was measured with it, what it was made from; figures come from reports only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from migician.benchmarks.scoring.values import value_of
from migician.build.card.readme import read_card
from migician.errors import UserError, writing
from migician.evaluation.headings import benchmark_words, is_released, mark, title
from migician.evaluation.report import HEADINGS, Report, metric_names
from migician.evaluation.run_folder import read_report
from migician.files import is_file, read_object
from migician.models import find_family
from migician.models.checkpoint import Checkpoint, read_checkpoint
from migician.models.family import Family
from migician.provenance import citation
from migician.reports.tables import one_run_told
from migician.reports.writers import write_markdown
from migician.sources import SOURCES
from migician.training.adapters import read_trained


def write_model_card(
    model: str | Path,
    reports: Sequence[str | Path] = (),
    *,
    datasets: Sequence[str | Path] = (),
    base: str | None = None,
    licence: str | None = None,
    force: bool = False,
) -> Path:
    """Write README.md into the folder of a model, ready for the Hub, and give its path.

    `reports` are folders that `migician eval` or `score` wrote, `datasets` those of built datasets it was trained on;
    `base` is the Hub id it was finetuned from, `licence` the Hub's name of the weights' licence ("apache-2.0").
    Training is described by what LLaMA-Factory left in the folder and in those that merge.json names, where they are
    there. Raises `UserError` where a report is about other weights, and where there is another README.md and no
    `force`; `Done` where there is this one.
    """
    folder = Path(model)
    checkpoint = read_checkpoint(folder)
    target = folder / "README.md"
    found = [(Path(one).resolve().name, read_report(Path(one))) for one in reports]
    for given, (_, report) in zip(reports, found, strict=True):
        _check_weights(Path(given), report, checkpoint)
    family = find_family(folder)
    sections = [
        _opening(folder, checkpoint, family),
        _measured(found),
        _made(folder, base),
        _data([Path(one) for one in datasets]),
        _limits(found),
        citation("The model follows"),
    ]
    text = _front_matter(folder, found, base, licence) + "\n\n" + "\n\n".join(filter(None, sections)) + "\n"
    with writing(target, force=force) as stream:
        stream.write(text.encode())
    return target


def _check_weights(folder: Path, report: Report, checkpoint: Checkpoint) -> None:
    said = (report.get("model") or {}).get("weights_fingerprint")
    own = checkpoint.fingerprint()
    if said is not None and said != own:
        raise UserError(
            f"{folder}: was measured with other weights ({said[:12]}) than those of {checkpoint.folder} ({own[:12]}): "
            "evaluate these, or name the report of these"
        )


def _benchmark(report: Report) -> dict[str, str]:
    """What was measured on; a file of one's own, in the form of a benchmark, must not be taken for it on the Hub."""
    name = f"{benchmark_words(report)} ({report['data']}, sha256 {report['data_sha256'][:12]})"
    return {"type": report["benchmark"] if is_released(report) else "other", "name": name}


def _front_matter(folder: Path, reports: Sequence[tuple[str, Report]], base: str | None, licence: str | None) -> str:
    """What the Hub reads: https://huggingface.co/docs/hub/model-cards."""
    fields: dict[str, Any] = {"license": licence or "other", "library_name": "transformers"}
    fields |= {"pipeline_tag": "image-text-to-text", "language": ["en"]}
    fields |= {"base_model": base} if base else {}
    fields["tags"] = ["multi-image-grounding", "visual-grounding", "bounding-boxes"]
    results = [
        {
            "task": {"type": "image-text-to-text"},
            "dataset": _benchmark(report),
            "metrics": [
                {
                    "type": metric,
                    "value": float(value_of(report["average"], metric).text),
                    "name": f"{HEADINGS.get(metric, metric)}, average of {report['average']['tasks']} tasks: "
                    f"{title(report)}",
                }
                for metric in metric_names(report["average"])
            ],
        }
        for _, report in reports
    ]
    if results:
        fields["model-index"] = [{"name": folder.resolve().name, "results": results}]
    return "---\n" + yaml.safe_dump(fields, sort_keys=False) + "---"


def _opening(folder: Path, checkpoint: Checkpoint, family: Family) -> str:
    dtypes = ", ".join(sorted({tensor.dtype for tensor in checkpoint.tensors.values()}))
    written = family.format.removeprefix("Format:").partition(". ")[0]
    return (
        f"# {folder.resolve().name}\n\n"
        "Several images and a sentence in, the right image and a box out: multi-image grounding. A "
        f"`{family.name}` of {checkpoint.n_parameters:,} parameters ({dtypes}), fingerprint "
        f"`{checkpoint.fingerprint()[:12]}`.\n\n{_USE}\n\n"
        f"It writes a box as `{written}`, the numbers in {_SCALES[family.style.scale]}. On benchmarks it is asked for "
        f"one with: `{family.format}`"
    )


_USE = """```python
from migician import ground, load_model

model = load_model("PATH-OR-REPOSITORY")
found = ground(model, ["street.jpg", "garage.jpg"], "Find the red car of Image-1 in Image-2.")
found.boxes[0].image, found.boxes[0].pixels
```"""

_SCALES = {
    "permille": "0..1000 of the image's width and height",
    "fraction": "fractions of the image's width and height",
    "bins": "0..999 of the image's width and height",
    "pixel": "pixels of the image as the model sees it",
}


def _measured(reports: Sequence[tuple[str, Report]]) -> str:
    if not reports:
        return "## Measured\n\nNothing yet: this card was written without a report."
    parts, names = ["## Measured"], [name for name, _ in reports]
    own = {name if names.count(name) == 1 else f"{name} {at}": one for at, (name, one) in enumerate(reports, start=1)}
    marks = [told] if (told := mark(own)) else []
    for name, report in reports:
        machine, model = report.get("hardware") or {}, report.get("model") or {}
        on = ", ".join(machine.get("gpus") or [f"{machine.get('cpus', 'some')} CPU cores"])
        whose = "" if model.get("weights_fingerprint") else " The report does not say which weights the replies are of."
        facts = [
            f"`{report['data']}`, sha256 `{report['data_sha256']}`",
            f"{model.get('dtype') or 'precision unknown'}, {_decoding(model)}",
            f"on {on}, {report.get('date', 'undated')}",
            f"migician at commit {report.get('commit') or 'unknown'}",
        ]
        parts.append(write_markdown(one_run_told(name, report, marks)).rstrip())
        parts.append("; ".join(facts) + "." + whose)
    return "\n\n".join(parts)


def _decoding(model: dict[str, Any]) -> str:
    method = (model.get("decoding") or {}).get("method")
    return f"{method} decoding" if method else "decoding unknown"


def _made(folder: Path, base: str | None) -> str:
    lines = [f"Finetuned from [{base}](https://huggingface.co/{base})."] if base else []
    if told := _training(folder):
        lines.append(f"Trained: {told}.")
    if is_file(folder / "merge.json"):
        lines += _merged(folder, read_object(folder / "merge.json", _Merged))
    return "\n".join(["## How it was made", "", *lines]) if lines else ""


def _merged(folder: Path, made: _Merged) -> Iterator[str]:
    """What a merge.json tells: an average of checkpoints, or an adapter in its base."""
    if not (made.adapter or made.checkpoints):
        raise UserError(f"{folder / 'merge.json'}: names neither checkpoints nor an adapter: not what a merge writes")
    if made.adapter:
        base = made.base.path if made.base else "its base"
        yield f"A LoRA adapter of rank {made.rank} merged into {base}{_trained_at(folder, made.adapter)}."
    if made.checkpoints:
        yield "The weighted average of these checkpoints:\n"
    for part in made.checkpoints:
        told = _trained_at(folder, part) or ": its training is not known here"
        yield f"- {part.weight:g} of {Path(part.path).name} (`{part.fingerprint[:12]}`){told}"


def _trained_at(folder: Path, part: _Parent) -> str:
    """How a part was trained, as text to follow its name; empty where its folder does not tell."""
    # merge.json has the paths as they were given; the folders may have come along beside this one.
    for place in (Path(part.path), folder.resolve().parent / Path(part.path).name):
        if not _holds(place, part.fingerprint):
            continue
        if told := _training(place):
            return f": {told}"
        adapter = read_object(place / "merge.json", _Merged).adapter if is_file(place / "merge.json") else None
        if adapter and (told := _trained_at(place, adapter)):
            return f": a LoRA adapter{told}"
    return ""


class _Parent(msgspec.Struct):
    path: str
    fingerprint: str
    weight: float = 1.0


class _Merged(msgspec.Struct):
    """What the card says of a merge.json."""

    checkpoints: list[_Parent] = []
    base: _Parent | None = None
    adapter: _Parent | None = None
    rank: int = 0


class _Results(msgspec.Struct):
    """What the card says of a train_results.json."""

    train_runtime: float
    epoch: float
    train_loss: float


class _State(msgspec.Struct):
    global_step: int


def _holds(folder: Path, fingerprint: str) -> bool:
    """Whether those weights are in the folder, which may be gone or trained again since."""
    try:
        return read_trained(folder).fingerprint() == fingerprint
    except (UserError, OSError):
        return False


def _training(folder: Path) -> str:
    """What LLaMA-Factory's own files say of a training that ended there; empty where it left none."""
    if not is_file(folder / "train_results.json") or not is_file(folder / "trainer_state.json"):
        return ""
    results = read_object(folder / "train_results.json", _Results)
    state = read_object(folder / "trainer_state.json", _State)
    hours = results.train_runtime / 3600
    took = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    epochs = f"{results.epoch:g} epoch{'s' if results.epoch != 1 else ''}"
    return f"{state.global_step:,} steps, {epochs}, {took}, mean loss {results.train_loss:.3f}"


def _data(folders: Sequence[Path]) -> str:
    lines = []
    for folder in folders:
        try:
            card = read_card(folder) or {}
            counts = f"{card['name']}: {card['samples']:,} samples, seed {card['seed']}"
            made = dict.fromkeys(part["source"] for part in card["parts"] if part["made"])
            told = card["mig_bench"]["sentence"]
        except KeyError:
            raise UserError(f"{folder / 'card.json'}: not the card of a dataset that migician build wrote") from None
        terms = [f"{SOURCES[name].folder} ({SOURCES[name].terms})" for name in made if name in SOURCES]
        lines.append(f"- {counts}. Sources and their terms: {'; '.join(terms)}. {told}")
    return "\n".join(["## Training data", "", *lines]) if lines else ""


def _limits(reports: Sequence[tuple[str, Report]]) -> str:
    lines = [
        "## What to know before you use it",
        "",
        "- A box is text that the model writes: it can be missing, unreadable or in the wrong image. "
        "`found.status` says which, and `found.boxes` then holds less.",
        "- The figures hold for the file and the protocol named with them, and say nothing of other tasks, languages "
        "or kinds of images.",
    ]
    for name, report in reports:
        counts: Counter[str] = Counter()
        for figures in report["per_task"].values():
            counts.update(figures["outcomes"])
        shares = [f"{what.replace('_', ' ')} {100 * count / report['n']:.1f}%" for what, count in counts.items()]
        lines.append(f"- Of {report['n']:,} replies in {name}: {', '.join(shares)}.")
    return "\n".join(lines)
