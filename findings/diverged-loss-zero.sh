#!/usr/bin/env bash
# A training whose losses are NaN is logged with a loss of exactly 0.
#
# transformers' Trainer leaves losses that are no numbers out of what it logs (`logging_nan_inf_filter`, true by default):
# documented is that the mean of the window stands in their place. Where every loss of a window is NaN that mean is 0.0, so that
# a run that has diverged looks like a perfect one: "loss": 0.0, line after line, with a grad_norm of NaN beside it, and its end is
# reported as a success with a small train_loss. Here: `migician train progress`, `curves` and `watch` take a loss of exactly 0 as diverged.
#
# Seen with transformers 5.5.4, accelerate 1.11.0, torch 2.11.0. Takes some 2 GB and two minutes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  python3 -m venv "$folder/venv"
  python="$folder/venv/bin/python"
  "$python" -m pip install --quiet --disable-pip-version-check transformers==5.5.4 accelerate==1.11.0 torch==2.11.0
fi
cd "$folder"
CUDA_VISIBLE_DEVICES="" "$python" - << 'END'
import torch
from transformers import Trainer, TrainingArguments


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels):
        return {"loss": ((self.weight * x - labels) ** 2).mean()}


def logged(filtered):
    torch.manual_seed(0)
    rows = [{"x": torch.tensor([1.0 + n]), "labels": torch.tensor([2.0])} for n in range(64)]
    settings = TrainingArguments(
        output_dir="out", learning_rate=1e30, per_device_train_batch_size=8, num_train_epochs=1, logging_steps=1,
        save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, logging_nan_inf_filter=filtered, optim="sgd",
    )
    trainer = Trainer(Line(), settings, train_dataset=rows)
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


shown, true = logged(True), logged(False)
print("filtered, the default:", shown)
print("not filtered:         ", true)
assert all(value != value for value in true[2:]), "the losses are numbers: this run no longer diverges"
assert set(shown[2:]) == {0.0}, "changed: a diverged training is no longer logged as 0.0"
END
