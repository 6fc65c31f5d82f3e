"""CREMA on VideoChat2, Table 6 of the paper, as settings by name.

The paper gives the backbone, its 16 frames and the numbers of trained parameters (21 M with flow, 45 M with flow and
depth), and nothing else of these runs; the rest is what it does on NExT-QA with its first backbone.
"""

from __future__ import annotations

from crema_core.plugins.preset import Preset

VIDEO_INSTRUCTION = "Watch the video and answer the question."
_NOTES = {
    "modalities": "Table 6; 16 frames a clip",
    "backbone": "to be named: the folder that crema convert-videochat2 writes",
    "fusion": "equation 3; where the paper fuses with this backbone is not stated",
    "mmqa": "section 3.2: rank 64; 96 queries are VideoChat2's own, 32 the paper's number for its first backbone",
    "template": "VideoChat2's instruction; the paper gives none",
    "lr": "that of NExT-QA with the first backbone; the paper gives none",
    "epochs": "that of NExT-QA with the first backbone; the paper gives none",
    "batch_size": "that of NExT-QA with the first backbone; the paper gives none",
    "warmup_steps": "that of NExT-QA with the first backbone; the paper gives none",
    "early_exit": "that of NExT-QA with the first backbone, chosen on SenseWorld; the paper gives none",
}


def _run(name: str, modalities: tuple[str, ...]) -> Preset:
    config = {
        "modalities": [{"name": own, "num_frames": 16} for own in modalities],
        "fusion": "self_gated",
        "mmqa": {"lora_rank": 64},
        "template": {"qformer_input": "instruction", "instruction": VIDEO_INSTRUCTION},
        "precision": "bf16",
    }
    settings = {"lr": 1e-4, "epochs": 10, "batch_size": 16, "warmup_steps": 1000, "precision": "bf16"}
    return Preset(name, "nextqa", config, settings, _NOTES)


VIDEOCHAT2_VF = _run("videochat2-nextqa-vf", ("video", "flow"))
VIDEOCHAT2_VFD = _run("videochat2-nextqa-vfd", ("video", "flow", "depth"))
