"""Hours and cost of both stages on 8 x A100, 8 x H100 and 32 x H100, as a table in Markdown with its arithmetic.

python scripts/project_training.py --tokens 1400 --image-tokens 1150 --dollars A100=DOLLARS --dollars H100=DOLLARS

The anchor is the authors' rate, 0.69 samples per second and A100 (50 hours for a million samples on 8); all else is
computed, not measured. Tokens are of an average sample of the mixture: migician check prints them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from migician.training.check.settings.cost import AUTHORS_RATE, PEAK_FLOPS, PUBLISHED, QWEN2_VL_7B, operations_of

MACHINES = [(8, "A100"), (8, "H100"), (32, "H100")]
SAMPLES = {"stage 1": 1_000_000, "stage 2": 200_000}
"""As published; one epoch of each."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What a projection rests on."""

    tokens: float
    """Of an average sample, images included: `migician check` says it of a mixture."""
    image_tokens: float
    """Of them those of images."""
    mfu: float
    """Of the faster variant, 0..1."""
    scaling: float
    """The speed of a GPU among many against that among 8, 0..1; taken where there are more than 8."""

    @property
    def flop_a_sample(self) -> float:
        """Forward and backward of a Qwen2-VL-7B whose tower is frozen; recomputation not counted."""
        return operations_of(QWEN2_VL_7B, PUBLISHED, self.tokens, self.image_tokens)

    @property
    def authors_mfu(self) -> float:
        """What the authors' samples per second and A100 would be as MFU, were their samples of this length."""
        return AUTHORS_RATE * self.flop_a_sample / PEAK_FLOPS["A100"]


@dataclass(frozen=True, slots=True)
class Projection:
    """One way to train on one machine."""

    gpus: int
    gpu: str
    basis: str
    rate: float
    """Samples a second and GPU."""
    hours: dict[str, float]
    """Of each stage."""
    dollars: float | None


def project(
    machines: Sequence[tuple[int, str]], assumed: Assumptions, prices: Mapping[str, float] | None = None
) -> Iterator[Projection]:
    """Each machine (number, kind in `PEAK_FLOPS`) at the authors' MFU and at the assumed one.

    The authors' rate was measured, on 8 A100; on another kind it is taken to grow with the peak, so there the length
    of a sample does not matter. `prices` are dollars a GPU hour by kind.
    """
    for gpus, gpu in machines:
        peak = PEAK_FLOPS[gpu]
        measured = AUTHORS_RATE * peak / PEAK_FLOPS["A100"]
        rates = {
            "the authors' rate" if gpu == "A100" else "the authors' MFU": measured,
            f"{assumed.mfu:.0%} MFU": assumed.mfu * peak / assumed.flop_a_sample,
        }
        for basis, rate in rates.items():
            effective = rate * (assumed.scaling if gpus > 8 else 1.0)
            hours = {stage: samples / (effective * gpus) / 3600 for stage, samples in SAMPLES.items()}
            price = (prices or {}).get(gpu)
            dollars = None if price is None else sum(hours.values()) * gpus * price
            yield Projection(gpus, gpu, basis, effective, hours, dollars)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=float, required=True, help="of an average sample")
    parser.add_argument("--image-tokens", type=float, required=True, help="of them those of images")
    parser.add_argument("--mfu", type=float, default=0.45, help="of the faster variant (0.45: the aim)")
    parser.add_argument("--scaling", type=float, default=1.0, help="speed of a GPU among more than 8 (1: no loss)")
    parser.add_argument("--dollars", action="append", default=[], metavar="KIND=PRICE", help="per GPU hour")
    options = parser.parse_args()
    prices = {kind: float(price) for kind, _, price in (one.partition("=") for one in options.dollars)}
    if unknown := prices.keys() - PEAK_FLOPS.keys():
        parser.error(f"--dollars: {', '.join(unknown)} is none of {', '.join(PEAK_FLOPS)}")
    assumed = Assumptions(options.tokens, options.image_tokens, options.mfu, options.scaling)
    print(f"{assumed.tokens:,.0f} tokens per sample, {assumed.image_tokens:,.0f} of images:", end=" ")
    print(f"{assumed.flop_a_sample / 1e12:,.1f} TFLOP forward and backward; the authors' rate is then", end=" ")
    print(f"{AUTHORS_RATE} x {assumed.flop_a_sample / 1e12:,.1f} / 312 = {assumed.authors_mfu:.1%} MFU.")
    print(f"A GPU among more than 8 is taken at {assumed.scaling:.0%} of its speed among 8.")
    print("hours = samples / (samples per second and GPU x GPUs) / 3600; samples:", end=" ")
    print(", ".join(f"{count:,} ({stage})" for stage, count in SAMPLES.items()), end=".\n\n")
    print("| GPUs | at | samples/s per GPU | stage 1, h | stage 2, h | GPU hours | dollars |")
    print("|---|---|---|---|---|---|---|")
    for one in project(MACHINES, assumed, prices):
        spent = "no price given" if one.dollars is None else f"{one.dollars:,.0f}"
        gpu_hours = sum(one.hours.values()) * one.gpus
        print(f"| {one.gpus} x {one.gpu} | {one.basis} | {one.rate:.2f} |", end=" ")
        print(" | ".join(f"{hours:.1f}" for hours in one.hours.values()), f"| {gpu_hours:,.0f} | {spent} |")


if __name__ == "__main__":
    main()
