"""The released PAVE training as settings by name."""

from __future__ import annotations

from crema_core.plugins.preset import Preset

# Released training configuration: 32 samples an update; its language model's LoRA is
# build(tuning={"rank": 64, "alpha": 16}). One epoch, as for AVSD and dense video; other data sets take two.
PAVE = Preset(
    "pave",
    settings={
        "mode": "joint",
        "epochs": 1,
        "batch_size": 4,
        "gradient_accumulation_steps": 8,
        "lr": 2e-5,
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
        "max_grad_norm": 0.1,
        "precision": "bf16",
        "gradient_checkpointing": True,
        "num_workers": 4,
    },
)
