"""Hours and cost of both stages on machines that are not here, from stated assumptions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from migician.training.check.settings.cost import AUTHORS_RATE, PEAK_FLOPS, PUBLISHED, QWEN2_VL_7B, operations_of

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
        """What the authors' samples a second and A100 would be as MFU, were their samples of this length."""
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
