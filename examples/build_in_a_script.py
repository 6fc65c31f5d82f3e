"""Build a model in a script, look at it, ask it, add a modality, save it.

    python examples/build_in_a_script.py

Sources may be files or arrays; here they are arrays, so nothing but the package is needed. The model is untrained: its
answers show that everything is connected, not that it knows anything.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import crema_core


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(description="Build a model in a script.")
    parser.add_argument("--backbone", default="crema-tiny", help="folder or hub id in BLIP-2 format")
    arguments = parser.parse_args()

    model = crema_core.build(
        modalities=["video", {"name": "depth", "num_frames": 2, "mmqa": {"lora_rank": 8}}],
        backbone=arguments.backbone,
    )
    print(model.describe(), end="\n\n")

    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    metres = random.uniform(1, 5, (2, 64, 64)).astype(np.float32)
    answer = model.answer("which object is nearest?", choices=["left", "middle", "right"], video=frames, depth=metres)
    print(f"{answer.text!r} from {', '.join(answer.used)}: {answer.scores}")

    before = model.answer("what is it?", video=frames, depth=metres)
    model.add_modality("audio")
    assert model.answer("what is it?", video=frames, depth=metres) == before, "a new modality changes no other answer"
    tone = np.sin(np.arange(16_000) / 6).astype(np.float32)
    print(f"with a sound: {model.answer('what is it?', video=frames, audio=tone).text!r}")

    with TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "my-model")
        again = crema_core.load(Path(folder) / "my-model")
        assert again.answer("what is it?", video=frames, depth=metres) == before
    print(f"saved and loaded: {', '.join(again.names)}")


if __name__ == "__main__":
    main()
