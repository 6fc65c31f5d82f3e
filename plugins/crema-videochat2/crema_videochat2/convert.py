"""`crema convert-videochat2`: released VideoChat2 files to a folder that `backbone=` takes."""

from __future__ import annotations

import argparse
from pathlib import Path

MISTRAL, BERT = "mistralai/Mistral-7B-Instruct-v0.2", "google-bert/bert-base-uncased"

HELP = f"""\
Turn released files of VideoChat2 with Mistral into a folder in safetensors format, which backbone=FOLDER takes.

CHECKPOINT is videochat2_mistral_7b_stage3.pth, which is enough, or the file of stage 2 with --stage-1
umt_l16_qformer.pth, which it takes the Q-Former's text parts from. Files are read without executing code, and no weight
is dropped: keys that have no place are refused, those that only stage 1 uses are counted. The frozen language model is
in none of the files: its place is recorded, and its weights are read from there ({MISTRAL}).

Example:
  crema convert-videochat2 videochat2_mistral_7b_stage3.pth --out videochat2
  crema convert-videochat2 videochat2_mistral_7b_stage2.pth --stage-1 umt_l16_qformer.pth --out stage2"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the files, what they do not say of themselves, and where to write."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="released file of stage 3, or of stage 2")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new folder")
    parser.add_argument("--stage-1", metavar="FILE", help="umt_l16_qformer.pth, beside a file of stage 2")
    parser.add_argument("--language-model", default=MISTRAL, metavar="PLACE", help=f"hub id or folder; {MISTRAL}")
    parser.add_argument("--language-revision", metavar="REVISION", help="hub revision of it; the latest")
    parser.add_argument("--qformer-tokenizer", default=BERT, metavar="PLACE", help=f"hub id or folder; {BERT}")
    parser.add_argument(
        "--merge", action="store_true", help="add the LoRA to the language model's weights and write those too (29 GB)"
    )
    parser.add_argument(
        "--unwrap-lora", action="store_true", help="take LoRA names that were wrapped more than once as wrapped once"
    )
    parser.add_argument("--lora-alpha", type=float, metavar="A", help="scale of the LoRA; twice its rank")
    parser.add_argument(
        "--training-begin",
        choices=("constant", "embedding"),
        default="constant",
        help="position 0 in training: the constant of released training, or the begin token's embedding as at test",
    )
    parser.add_argument(
        "--image-statistics",
        choices=("clip", "imagenet"),
        default="clip",
        help="normalisation of pictures: as in released tests, or as in released training",
    )
    for name, default, what in (
        ("vision-heads", 16, "attention heads of the vision encoder"),
        ("qformer-heads", 12, "attention heads of the Q-Former"),
        ("image-size", 224, "side of the pictures in pixels"),
        ("trained-image-size", 224, "side of the pictures the position table was made for"),
        ("num-frames", 16, "frames of a clip where nothing else is said"),
        ("max-instruction-tokens", 512, "longest instruction"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what}; {default}")


def run(arguments: argparse.Namespace) -> int:
    """Convert."""
    from crema_core.common.atomic import refuse_foreign
    from crema_videochat2.checkpoint import Sizes, write_checkpoint
    from crema_videochat2.released import convert_state, read_file

    out = Path(arguments.out)
    refuse_foreign(out)
    weights = convert_state(
        read_file(arguments.checkpoint),
        stage_1=None if arguments.stage_1 is None else read_file(arguments.stage_1),
        unwrap_lora=arguments.unwrap_lora,
    )
    sizes = Sizes(
        vision_heads=arguments.vision_heads,
        qformer_heads=arguments.qformer_heads,
        image_size=arguments.image_size,
        trained_image_size=arguments.trained_image_size,
        lora_alpha=arguments.lora_alpha,
        num_frames=arguments.num_frames,
        max_instruction_tokens=arguments.max_instruction_tokens,
    )
    write_checkpoint(
        out,
        weights,
        language_model=arguments.language_model,
        language_revision=arguments.language_revision,
        qformer_tokenizer=arguments.qformer_tokenizer,
        sizes=sizes,
        lora="merged" if arguments.merge else "frozen",
        training_begin=arguments.training_begin,
        image_statistics=arguments.image_statistics,
    )
    print(
        f"{len(weights.trunk)} tensors before the language model and {len(weights.lora)} of its LoRA converted, "
        f"{len(weights.aside)} left aside that no stage after the first uses"
    )
    print(f"backbone: {out}")
    return 0
