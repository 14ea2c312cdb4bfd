"""Hold `--protocol lmms-eval` and `--protocol vlmevalkit` against the packages' own functions, reply by reply.

    python -m pip install --no-deps --target LMMS lmms-eval==0.7.3
    git clone https://github.com/open-compass/VLMEvalKit KIT && git -C KIT checkout e8e78f05
    python scripts/real_peers.py LMMS KIT

Their modules are loaded alone, without what they import, so that nothing else has to be installed. Exits with 1 where a
reply is read in another way; prints, beside that, how often `strict` decides otherwise.
"""

from __future__ import annotations

import random
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

from migician.benchmarks.scoring import peers
from migician.benchmarks.scoring.boxes import BOXES, BoxQuestion
from migician.benchmarks.scoring.option_text import read_option
from migician.benchmarks.scoring.scoring import Answer, Reading
from migician.boxes import Box
from migician.boxtext import QWEN

CHOICES = (
    ["a cat", "a dog", "the third image", "None of the choices provided"],
    ["red", "blue"],
    ["rubber", "cotton", "kevlar", "leather"],
    ["1", "2", "3"],
)
SAID = (
    "{L}",
    "{L}.",
    "({L})",
    "{L}) {t}",
    "{L}. {t}",
    "{l}",
    "{l}.",
    "The answer is {L}.",
    "the answer is: {l}",
    "the correct answer is **{L}**",
    "Answer: {L}",
    "Final Answer: {L}",
    "Answers: {L}, {M}",
    "Answer: {L}. {t}",
    "{t}",
    "{t}.",
    "I think it is {t}.",
    "Both {t} and {u}",
    "Between {L} and {M}, {L} is right",
    "Not {M}. {L}",
    "{L} or {M}",
    "{L}{M}",
    "Option {L}",
    "Choice {l}",
    "",
    "Dog. ",
    "Apple",
    "E",
    "Z",
    "<think>{M}</think>{L}",
    "```{L}```",
    "**{L}**",
    "[{L}]",
    "{L}\n\nBecause {t}",
    "Because of this\n{L}",
    "({M}) is wrong, so ({L})",
    "I choose {L}, since A is common",
    "Cannot determine the answer {L}",
    "Failed to obtain answer via API {t}",
    "Answer: {M}. Wait, {L}.",
)
BOXED = (
    "({a},{b}),({c},{d})",
    "[{a}, {b}, {c}, {d}]",
    '{{"bbox_2d": [{a}, {b}, {c}, {d}], "label": "x"}}',
    "{a} {b} {c} {d}",
    '```json\n[{{"bbox": [{b}, {a}, {d}, {c}]}}, {{"bbox_2d": [{a}, {b}, {c}, {d}]}}]\n```',
    "x1={a}, y1={b}, x2={c}, y2={d}",
    "[[{a}, {b}, {c}, {d}]]",
    "no box",
    "",
    "[{c}, {d}, {a}, {b}]",
    '{{"boxes": [{a}, {b}, {c}, {d}]}}',
    "[{a}, {b}, {c}]",
    "In Image 2: [{a},{b},{c},{d}]",
    '{{"box": ["{a}", "{b}", "{c}", "{d}"]}}',
    "-{a}, {b}, {c}, {d}, {a}",
    "1.5.{a} {b} {c} {d}",
    "{a}e2, {b}, {c}, {d}",
    "[null, {a}, {b}, {c}, {d}]",
    "[{a}, {b}, {c}, {d}",
    "```json\nnope\n``` [{a}, {b}, {c}, {d}]",
)
SIZE = (640, 427)


def load(file: Path, **names: Any) -> Any:
    """A module from its file, with stand-ins for what it imports: what `names` holds, and nothing for the rest."""
    source = "\n".join(
        line for line in file.read_text().splitlines() if not line.startswith(("from .", "from vlmeval"))
    )
    module = types.ModuleType(file.stem)
    module.__file__ = str(file)
    module.__dict__.update(names)
    quiet = types.SimpleNamespace(debug=print, info=lambda *_: None, warning=lambda *_: None)
    quiet.debug = quiet.info
    for name, content in {
        "loguru": {"logger": quiet},
        "lmms_eval": {},
        "lmms_eval.filters": {},
        "lmms_eval.filters.extraction": {"ExtendedRegexFilter": object},
        "lmms_eval.tasks": {},
        "lmms_eval.tasks._task_utils": {},
        "lmms_eval.tasks._task_utils.default_template_yaml": {"load_default_template_yaml": lambda file: {}},
    }.items():
        stand_in = types.ModuleType(name)
        stand_in.__dict__.update(content)
        sys.modules[name] = stand_in
    exec(compile(source, str(file), "exec"), module.__dict__)
    return module


def main() -> int:
    """Compare, print, and give the status."""
    lmms, kit = Path(sys.argv[1]) / "lmms_eval/tasks", Path(sys.argv[2]) / "vlmeval"
    tasks = ("muirbench", "blink", "mantis", "vstar_bench", "refcoco_grounding")
    theirs = {task: load(lmms / task / "utils.py") for task in tasks}
    matching = load(kit / "utils/matching_util.py", get_logger=lambda name: None)
    refcoco = load(kit / "dataset/refcoco.py", ImageBaseDataset=object).RefCOCODataset
    rng = random.Random(0)
    unequal: Counter[str] = Counter()
    otherwise: Counter[str] = Counter()
    asked = boxed = 0
    for form in SAID:
        for options in CHOICES:
            for _ in range(2):
                right, other = rng.randrange(len(options)), rng.randrange(len(options))
                letter, gold = "ABCD"[right], "ABCD"[right if rng.random() < 0.7 else rng.randrange(len(options))]
                words = {"L": letter, "l": letter.lower(), "M": "ABCD"[other], "t": options[right], "u": options[other]}
                reply = form.format(**words)
                settled = read_option(reply, options, lettered=True)
                strict = len(settled) == 1 and "ABCD"[settled[0]] == gold
                asked += 1
                for task, (own, is_right) in _by_lmms_eval(theirs, reply, options, gold).items():
                    found = peers.lmms_eval_option(task, reply, options, f"({gold})" if task == "blink" else gold)
                    unequal[task] += found[1] != is_right or (own is not None and (found[0] or "") != own)
                    otherwise[task] += is_right != strict
                inferred = matching.can_infer(reply, dict(zip("ABCD", options, strict=False))) or None
                unequal["vlmevalkit"] += inferred != peers.vlmevalkit_option(reply, options)
                otherwise["vlmevalkit"] += (inferred == gold) != strict
    for form in BOXED:
        for turn in range(20):
            boxed += 1
            reply, xywh = _boxed(form, turn, rng)
            ours = {name: _iou(reply, xywh, name) for name in ("lmms-eval", "vlmevalkit")}
            for name, iou in _ious(theirs["refcoco_grounding"], refcoco, reply, xywh).items():
                unequal[f"boxes, {name}"] += abs(ours[name] - iou) > 1e-9
    print(f"{asked} replies to multiple choice, {boxed} with boxes; read otherwise than by the packages themselves:")
    for name, count in unequal.items():
        print(f"  {name}: {count}" + (f" (strict decides otherwise on {otherwise[name]})" if name in otherwise else ""))
    return int(any(unequal.values()))


def _by_lmms_eval(
    theirs: dict[str, Any], reply: str, options: list[str], gold: str
) -> dict[str, tuple[str | None, bool]]:
    """What each task of lmms-eval takes for the answer, where its function says, and whether that is right."""
    extractor = theirs["muirbench"].MultiChoiceRegexFilter
    said = extractor.apply(extractor.__new__(extractor), [[reply]], [None])[0]
    document = {"answer": f"({gold})", "choices": options, "idx": 0, "sub_task": ""}
    blink = theirs["blink"].blink_process_results(document, [reply])["blink_acc"]
    shown = [f"({letter}) {option}" for letter, option in zip("ABCD", options, strict=False)]
    mantis = theirs["mantis"].get_prediction("multi-choice", reply, gold, shown)
    question = {"question_id": 0, "text": "", "label": gold, "category": "c"}
    vstar = theirs["vstar_bench"].vstar_process_results(question, [reply])["vstar_overall_acc"]
    return {
        "muirbench": (said, said.lower().strip() == gold.lower()),
        "blink": (blink["pred_parsed"], blink["is_correct"]),
        "mantis": (None, mantis["correct"]),
        "vstar_bench": (vstar["prediction"] or "", vstar["score"] == 1),
    }


def _boxed(form: str, turn: int, rng: random.Random) -> tuple[str, list[float]]:
    """A reply with a box on one of several scales, and the truth (x, y, width, height in pixels): that box or not."""
    x, y = sorted(rng.random() for _ in range(2)), sorted(rng.random() for _ in range(2))
    width, height = SIZE
    scale = [(1000, 1000), (1, 1), SIZE, (3000, 3000)][turn % 4]
    numbers = [x[0] * scale[0], y[0] * scale[1], x[1] * scale[0], y[1] * scale[1]]
    written = [f"{number:.3f}" if scale == (1, 1) or turn % 5 == 0 else str(round(number)) for number in numbers]
    own = [x[0] * width, y[0] * height, (x[1] - x[0]) * width, (y[1] - y[0]) * height]
    reply = form.format(**dict(zip("abcd", written, strict=True)))
    return reply, own if turn % 3 else [width * 0.1, height * 0.2, width * 0.5, height * 0.6]


def _ious(grounding: Any, refcoco: Any, reply: str, xywh: list[float]) -> dict[str, float]:
    document = {"bbox": xywh, "image": types.SimpleNamespace(size=SIZE), "answer": "it"}
    found = grounding.refcoco_grounding_process_result(document, [reply])["refcoco_grounding_IoU"]
    read = refcoco._parse_prediction(reply)
    corners = None if read is None else refcoco._to_absolute(read, *SIZE)
    x, y, width, height = xywh
    return {
        "lmms-eval": grounding._compute_iou(found["bbox"], found["pred"]),
        "vlmevalkit": 0.0 if corners is None else refcoco._compute_iou(corners, [x, y, x + width, y + height]),
    }


def _iou(reply: str, xywh: list[float], protocol: Any) -> float:
    x, y, width, height = xywh
    question = BoxQuestion(0, "t", ("a",), "?", Box.from_xywh_pixels(x, y, width, height, SIZE), 0, True)
    record = BOXES.score_one(question, Answer(0, reply), Reading(protocol, QWEN), lambda *_: SIZE)
    return float(record.iou)


if __name__ == "__main__":
    sys.exit(main())
