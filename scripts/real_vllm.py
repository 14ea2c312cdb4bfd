"""The steps of scripts/real_vllm.sh that need more than a command.

    python scripts/real_vllm.py make FOLDER             200 questions of the miniature world, a model that vLLM takes
    python scripts/real_vllm.py port                    a free port of this machine
    python scripts/real_vllm.py compare FOLDER NAME...  runs FOLDER/NAME against FOLDER/ours, token by token

The model is random, with weights so wide that its replies have nothing in common: ends, box tokens and broken
characters at any place. A model trained for minutes says a dozen different boxes, and would hide a difference.

`compare` walks along each reply that differs with this project's own model in float32: every token must be the best
one at its place, or tie with it. Two tokens tie where their logits are nearer than TIE. Any other difference is a
failure, and ends it with status 1.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from migician.models import Request
    from migician.models.qwen2_vl import Migician

TIE = 1e-4
"""Logits nearer to each other than this are equal within the error of float32; benchmark_eval.py's."""
FEWEST_KINDS = 190
"""Of 200 replies: a model that says the same to every question would make any two engines look equal."""
RELEASED = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.1, "top_k": 1, "top_p": 0.001}
"""As in generation_config.json of Qwen2.5-VL: an evaluation must not take these over."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("make").add_argument("folder", type=Path)
    steps.add_parser("port")
    compared = steps.add_parser("compare")
    compared.add_argument("folder", type=Path)
    compared.add_argument("names", nargs="+")
    given = parser.parse_args()
    if given.step == "make":
        make(given.folder)
    elif given.step == "port":
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            print(free.getsockname()[1])
    else:
        sys.exit(compare(given.folder, given.names))


def make(folder: Path) -> None:
    """`folder/world` and `folder/model`; the model last, so that its being there says that all is."""
    from migician.miniature import Amounts, make_world
    from migician.models.tiny import TinyShape, make_tiny

    shutil.rmtree(folder / "world", ignore_errors=True)
    make_world(folder / "world", 0, Amounts(held_out=20))  # of each of ten tasks
    # Heads of width 32, two to a head of keys and values: the attention of vLLM on a CPU takes none of width 16.
    shutil.rmtree(folder / "model.part", ignore_errors=True)
    made = make_tiny(folder / "model.part", seed=0, shape=TinyShape(heads=4, key_value_heads=2, spread=0.36))
    config = made / "generation_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | RELEASED, indent=2))
    made.rename(folder / "model")


@dataclass(frozen=True, slots=True)
class Step:
    """Where a reply left the best token."""

    at: int
    """Of the reply's tokens, from 0."""
    best: str
    taken: str
    margin: float
    """How much higher the best token's logit is; infinite where no token continues the reply."""


def compare(folder: Path, names: Sequence[str]) -> int:
    """Print the comparison; gives the exit status."""
    from migician.benchmarks import mig_bench
    from migician.benchmarks.images import resolve_images
    from migician.evaluation import Plan
    from migician.models import Request
    from migician.models.qwen2_vl import Migician

    world = folder / "world"
    questions = {one.index: one for one in mig_bench.load(world / "MIG-Bench" / "MIG_data.json").questions}
    ours = replies_of(folder / "ours")
    model = Migician.from_pretrained(folder / "model", dtype="float32", device="cpu")
    longest = json.loads((folder / "ours" / "run.json").read_text())["plan"]["max_new_tokens"]
    kinds = len(set(ours.values()))
    print(f"{len(ours)} replies, {kinds} kinds")
    failures = 0 if kinds >= FEWEST_KINDS else 1
    for name in names:
        theirs = replies_of(folder / name)
        if theirs.keys() != ours.keys():
            sys.exit(f"{name}: {len(theirs)} replies where ours are {len(ours)}")
        cut = sum(readable(theirs[index]) == readable(ours[index]) != ours[index] for index in ours)
        different = [index for index in ours if readable(theirs[index]) != readable(ours[index])]
        print(f"{name}: {len(ours) - len(different)} of {len(ours)} replies equal ours in float32", end="; ")
        print(f"{cut} of these end in a piece of a character, which only one of the two writes")
        for index in different:
            question = questions[index]
            prompt = mig_bench.prompt(question, Plan().wording)
            steps = walk(model, Request(tuple(resolve_images(question, world)), prompt, longest), theirs[index])
            for step in steps:
                kind = "a tie" if step.margin < TIE else "NOT a tie"
                print(
                    f"  row {index}, token {step.at}: {step.taken!r} for {step.best!r}, {step.margin:.2g} apart: {kind}"
                )
            if not steps or steps[-1].margin >= TIE:
                failures += 1
                print(f"    ours:   {ours[index]!r}\n    {name}: {theirs[index]!r}")
    print("equal but for ties" if not failures else f"FAILED: {failures} differences that are no ties")
    return min(failures, 1)


def replies_of(run: Path) -> dict[int, str]:
    """Row -> reply, of a finished run."""
    lines = (run / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["index"]: row["response"] for row in map(json.loads, lines)}


def readable(reply: str) -> str:
    """A reply without the pieces of a character at its end: vLLM leaves them out, transformers writes U+FFFD."""
    return reply.rstrip("\ufffd")


def walk(model: Migician, request: Request, reply: str) -> list[Step]:
    """Each place where `reply` left the token that `model` finds best, up to the first that is no tie.

    Empty where the reply is what the model says, or nothing that it could say by choosing tokens.
    """
    from migician.models.pictures import load_pictures

    inputs = model.processor(
        text=[model.prompt_text(request)], images=load_pictures(request.images), return_tensors="pt"
    )
    taken: list[int] = []
    steps: list[Step] = []
    while len(taken) < request.max_new_tokens:
        tokens, logits = continued(model, inputs, taken, request.max_new_tokens - len(taken))
        for token, scores in zip(tokens, logits, strict=True):
            if fits(model, [*taken, token], reply):
                taken.append(token)
                continue
            fitting = [other for other in range(len(scores)) if fits(model, [*taken, other], reply)]
            other = max(fitting, key=lambda one: float(scores[one]), default=None)
            margin = float("inf") if other is None else float(scores[token] - scores[other])
            said = "" if other is None else model.processor.tokenizer.decode([other])
            steps.append(Step(len(taken), model.processor.tokenizer.decode([token]), said, margin))
            if other is None or margin >= TIE:
                return steps
            taken.append(other)
            break
        else:
            break
        if taken[-1] in model._stops:
            break
    return steps


def continued(model: Migician, inputs: Any, taken: Sequence[int], most: int) -> tuple[list[int], list[Any]]:
    """What follows `taken` in the plain loop of transformers: tokens, and the logits at each."""
    import torch

    more = torch.tensor([list(taken)], dtype=torch.long)
    given = dict(inputs) | {
        "input_ids": torch.cat([inputs["input_ids"], more], dim=1),
        "attention_mask": torch.cat([inputs["attention_mask"], torch.ones_like(more)], dim=1),
    }
    if "mm_token_type_ids" in inputs:
        given["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(more)], dim=1)
    with torch.inference_mode():
        output = model.model.generate(**given, max_new_tokens=most, output_logits=True, return_dict_in_generate=True)
    tokens = output.sequences[0, given["input_ids"].shape[1] :].tolist()
    return tokens, [scores[0].float() for scores in output.logits]


def fits(model: Migician, tokens: list[int], reply: str) -> bool:
    """Whether a reply may have begun with these tokens, or ended with the last of them."""
    text = model._decoded(tokens)
    if tokens[-1] in model._stops:
        return readable(text) == readable(reply)
    return reply.startswith(readable(text))  # a character may be cut between two tokens


if __name__ == "__main__":
    main()
