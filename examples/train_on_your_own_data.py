"""Train on your own data: one JSONL file, one line per question, one key per modality.

    python examples/train_on_your_own_data.py train.jsonl --eval-data valid.jsonl --out runs/mine

    {"id": "1", "question": "What barks?", "answer": "a dog", "video": "clips/1.mp4", "audio": "clips/1.wav"}

Without a file it makes some clips of the generated world and trains on those.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import crema_core
from crema_core.data.check import check_data_file
from crema_core.evaluation.run import evaluate
from crema_world import make_world


def main() -> None:
    """Check the data, build with the modalities found in it, train, evaluate with and without each modality."""
    parser = argparse.ArgumentParser(description="Train on your own data.")
    parser.add_argument("data", nargs="?", help="training data, JSONL")
    parser.add_argument("--eval-data", help="validation data, JSONL")
    parser.add_argument("--backbone", default="crema-tiny", help="folder or hub id in BLIP-2 format")
    parser.add_argument("--out", type=Path, default=Path("runs/mine"), help="a new run directory")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--clips", type=int, default=60, help="clips of the generated world when no data is given")
    arguments = parser.parse_args()

    data, valid = arguments.data, arguments.eval_data
    if data is None:
        data = make_world(arguments.out / "train", num_clips=arguments.clips, seed=0, split="train").data_file
        valid = make_world(arguments.out / "valid", num_clips=arguments.clips // 2, seed=0, split="valid").data_file

    check = check_data_file(data)
    print(f"{check.num_samples:,} samples, modalities: {', '.join(check.modalities)}")
    for finding in check.findings:
        print(f"  {finding.text}")

    model = crema_core.build(list(check.modalities), backbone=arguments.backbone, mmqa={"lora_rank": 8})
    run = crema_core.fit(
        model, data, valid, preset="tiny", epochs=arguments.epochs, modality_dropout=0.2, out=arguments.out / "run"
    )
    print(f"{run.num_steps:,} updates, exited early: {', '.join(run.exited) or 'none'}")
    model.save_pretrained(arguments.out / "model")

    if valid is not None:
        everything = evaluate(model, valid)
        print(f"all modalities: {everything.accuracy:.1%}")
        for name in model.names:
            rest = [other for other in model.names if other != name]
            without = evaluate(model, valid, modalities=rest)
            print(f"without {name}: {without.accuracy:.1%}")
    print(f"model: {arguments.out / 'model'}")


if __name__ == "__main__":
    main()
