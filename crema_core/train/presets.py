"""Settings of a training by name, for any model and data; each is an entry point of the group `crema.presets`."""

from __future__ import annotations

from crema_core.plugins.preset import Preset

# A few minutes on two cores with the embedded backbone.
TINY = Preset(
    "tiny",
    settings={"epochs": 8, "batch_size": 32, "lr": 2e-3, "weight_decay": 0.01, "clip_norm": 1.0, "early_exit": 1.8},
)
# One GPU with 24 GB and a BLIP-2 FlanT5-XL backbone.
SMALL = Preset(
    "small", settings={"epochs": 10, "batch_size": 4, "accumulation": 4, "precision": "bf16", "num_workers": 4}
)
# CREMA section 4.1 and appendix A; tau and warm-up, which the paper leaves open, from its scripts.
PAPER = Preset(
    "paper",
    settings={
        "epochs": 20,
        "batch_size": 16,
        "lr": 2e-4,
        "warmup_steps": 1000,
        "early_exit": 1.8,
        "precision": "bf16",
        "num_workers": 4,
    },
)
# CREMA appendix A.3: one sense alone, before it is used beside others without further training (A.5).
PRETRAIN = Preset(
    "pretrain", settings={"epochs": 1, "batch_size": 16, "lr": 1e-5, "precision": "bf16", "num_workers": 4}
)
# What the released code computes, with its early exit made to run.
RELEASED = Preset(
    "released",
    settings={
        "epochs": 20,
        "batch_size": 8,
        "lr": 2e-4,
        "min_lr": 1e-5,
        "warmup_steps": 1000,
        "schedule": "epoch",
        "early_exit": 1.8,
        "early_exit_start_epoch": 5,
        "early_exit_metric": "lora",
        "early_exit_value": "last",
        "precision": "bf16",
        "num_workers": 4,
    },
)
