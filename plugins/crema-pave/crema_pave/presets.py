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
# The baseline of Table 4 on ScanQA. Its language model is trained as a whole; what else it was trained with is not
# stated, so that the settings are those of the patch it is compared with.
INTERLEAVE = Preset(
    "pave-interleave",
    config={
        "modalities": ["video", {"name": "pointcloud", "encoder": "views"}],
        "backbone": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        "fusion": {"name": "pave_interleave"},
        "tuning": "full",
        "template": {},
        "precision": "bf16",
    },
    settings=PAVE.settings,
    notes={
        "data": "ScanQA (`crema data prepare scanqa` makes the questions), with 3D features of 32 views of a room",
        "modalities": "paper: 3D features of views",
        "backbone": "the 0.5B model, whose 71.4 TFLOP the paper prints",
        "fusion": "the map of side tokens is not described: two linear layers, as LLaVA's",
        "tuning": "paper: fine-tuned; {'rank': 64, 'alpha': 16} trains the LoRA of PAVE's own runs in its place",
        "template": "not stated; the default",
        "epochs": "paper, ScanQA: 1; the released script of PAVE has 2",
        "batch_size": "paper: 32 an update; 4 per device with accumulation as in the released scripts",
        "lr": "not stated for the baseline; that of PAVE's released configuration",
        "early_exit": "off, as released",
    },
)
