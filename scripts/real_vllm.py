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
    from migician.chat.migician import Migician
    from migician.models.protocol import Request

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
    from migician.models.stand_ins.tiny import TinyShape, make_tiny

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
    from migician.chat.migician import Migician
    from migician.evaluation.ask import Plan
    from migician.models.protocol import Request

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
    """The ties by which `model` gives `reply`: each place where it left the best token for one as good.

    Empty where it says so without any. Where it cannot, one step: the first place where no token as
    good as the best continues the reply, with how far behind the best that does is.
    """
    from migician.models.pictures import load_pictures

    inputs = model.processor(
        text=[model.prompt_text(request)], images=load_pictures(request.images), return_tensors="pt"
    )
    told = model.processor.tokenizer.decode

    def others(taken: list[int], scores: Any) -> list[tuple[float, int]]:
        """(how far behind the best, token) for each other token that continues the reply, the nearest first."""
        best = scores.max()
        fitting = [token for token in range(len(scores)) if fits(model, [*taken, token], reply)]
        return sorted((float(best - scores[token]), token) for token in fitting if token != int(scores.argmax()))

    def search(taken: list[int], ties: list[Step]) -> tuple[list[Step] | None, Step | None]:
        """The ties, or else where the best tokens after `taken` leave the reply."""
        tokens, logits = continued(model, inputs, taken, request.max_new_tokens - len(taken))
        if not tokens:  # `taken` is all there may be, and is not the reply
            text = model._decoded(taken)
            return (ties, None) if readable(text) == readable(reply) else (None, None)
        so_far = [[*taken, *tokens[:at]] for at in range(len(tokens) + 1)]
        leaves = next((at for at in range(len(tokens)) if not fits(model, so_far[at + 1], reply)), len(tokens))
        if leaves == len(tokens) and readable(model._decoded(so_far[-1])) == readable(reply):
            return ties, None
        # The text does not tell the tokens: the tie may be at an earlier one, which fitted too.
        for at in range(min(leaves, len(tokens) - 1), -1, -1):
            for margin, token in others(so_far[at], logits[at]):
                if margin >= TIE:
                    break
                step = Step(len(so_far[at]), told([tokens[at]]), told([token]), margin)
                found, _ = search([*so_far[at], token], [*ties, step])
                if found is not None:
                    return found, None
        at = min(leaves, len(tokens) - 1)
        margin, token = next(iter(others(so_far[at], logits[at])), (float("inf"), None))
        said = "" if token is None else told([token])
        return None, Step(len(so_far[at]), told([tokens[at]]), said, max(margin, TIE))

    ties, left = search([], [])
    return ties if left is None and ties is not None else [left] if left else []


def continued(model: Migician, inputs: Any, taken: Sequence[int], most: int) -> tuple[list[int], list[Any]]:
    """What follows `taken` in the plain loop of transformers: tokens, and the logits at each."""
    import torch

    start, all_tokens = inputs["input_ids"].shape[1], list(range(model.model.config.text_config.vocab_size))

    def allowed(_: int, ids: Any) -> list[int]:
        at = len(ids) - start
        return [taken[at]] if at < len(taken) else all_tokens

    with torch.inference_mode():
        output = model.model.generate(
            **inputs,
            max_new_tokens=len(taken) + most,
            prefix_allowed_tokens_fn=allowed,
            output_logits=True,  # as they are, before what is not allowed is taken out
            return_dict_in_generate=True,
        )
    tokens = output.sequences[0, start:].tolist()
    return tokens[len(taken) :], [scores[0].float() for scores in output.logits[len(taken) :]]


def fits(model: Migician, tokens: list[int], reply: str) -> bool:
    """Whether a reply may have begun with these tokens, or ended with the last of them."""
    text = model._decoded(tokens)
    if tokens[-1] in model._stops:
        return readable(text) == readable(reply)
    return reply.startswith(readable(text))  # a character may be cut between two tokens


if __name__ == "__main__":
    main()
