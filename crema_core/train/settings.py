"""Everything about a training run that a person can choose, and core's presets of it.

Torch-free, so that help texts and configuration files are checked in milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from crema_core.data.unusable import MAX_SKIPPED, OnError
from crema_core.errors import did_you_mean
from crema_core.plugins.preset import Preset, find_preset
from crema_core.plugins.spec import parse_settings

MicroBatchSize = int | tuple[int, ...] | None
"""For all sub-steps of an update; for each, the last number for all further ones; everything at once."""

DecayRate = Annotated[float, Field(ge=0, lt=1)]

NOT_A_FOLDER = ("memory", "none")
"""Values of `cache` that name no folder."""


EARLY_EXIT = 0.85
"""Tau of the presets: 29 to 65% of the sub-steps of long runs are saved between 0.8 and 0.9 (docs/reproduction.md)."""


class TrainSettings(BaseModel):
    """Settings of a training run; frozen, unknown names refused.

    Where the paper and the released code differ, the default follows the paper (CREMA section 3.3); the presets "paper"
    and "released" name both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mode: Literal["sequential", "joint"] = Field(
        default="sequential", description="one update per modality in each minibatch, or one update of all modalities"
    )
    modalities: tuple[str, ...] | None = Field(
        default=None, description="modalities to train; the others keep their weights. None: all"
    )
    train_shared: bool = Field(
        default=False,
        description="with modalities: also train what belongs to no modality alone, the fusion's shared weights and a "
        "language model that is not frozen; answers without the trained modalities change then",
    )
    epochs: int = Field(default=10, ge=1, description="passes over the data")
    batch_size: int = Field(default=16, ge=1, description="samples in a minibatch")
    gradient_accumulation_steps: int = Field(
        default=1, ge=1, description="minibatches that make one update, as if they were one"
    )
    seed: int = Field(default=42, ge=0, description="of data order, modality dropout and LoRA dropout")

    lr: float = Field(default=2e-4, gt=0, description="highest learning rate")
    min_lr: float = Field(default=0.0, ge=0, description="learning rate at the end of the cosine")
    schedule: Literal["step", "epoch"] = Field(
        default="step", description="cosine by step, or by epoch index as the released code does"
    )
    warmup_steps: int | None = Field(default=None, ge=0, description="linear warm-up; None: warmup_ratio of all steps")
    warmup_ratio: float = Field(default=0.05, ge=0, lt=1, description="part of all steps, where warmup_steps is None")
    warmup_start_lr: float = Field(default=1e-8, ge=0, description="learning rate of the first warm-up step")
    weight_decay: float = Field(default=0.05, ge=0, description="of matrices; norms and biases have none")
    betas: tuple[DecayRate, DecayRate] = Field(default=(0.9, 0.999), description="AdamW's decay rates")
    max_grad_norm: float | None = Field(default=None, gt=0, description="largest gradient norm of an update; None: any")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="number format of the forward pass")
    float32_matmul: Literal["highest", "high", "medium"] | None = Field(
        default=None,
        description="how exactly matrices in float32 are multiplied, as torch.set_float32_matmul_precision takes it: "
        "'high' is TF32 on a GPU, 'medium' bf16 on a CPU with matrix units too; None: as torch is set, 'highest'",
    )

    micro_batch_size: MicroBatchSize = Field(
        default=None,
        description="samples the language model reads at once, forward and backward; the update is that of the whole "
        "minibatch. A list: one number for each sub-step, the last for all further ones, because fewer graphs wait "
        "from one to the next. None: all of it",
    )
    retained_graphs: int | None = Field(
        default=None,
        ge=0,
        description="sequential: how many modalities' graphs are built at the start of a minibatch and wait for their "
        "sub-steps; each of the others, the first one's apart, costs one more pass. None: all, which is fastest, or "
        "with accumulation none",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="compute the language model's layers again in the backward pass: less memory, slower"
    )
    compile_frozen: bool = Field(
        default=False, description="run the layers of frozen encoder and language model through torch.compile"
    )
    shard_language_model: bool = Field(
        default=False, description="keep a part of the language model in each process, for one larger than a device"
    )

    early_exit: float | None = Field(
        default=None,
        gt=0,
        description="tau: a modality exits when its gradient norm exceeds tau times its mean in earlier epochs",
    )
    early_exit_start_epoch: int | None = Field(
        default=None,
        ge=1,
        description="first epoch (from 0) that is tested; None: after a quarter of the epochs, which is the released "
        "code's 5 of 20",
    )
    early_exit_metric: Literal["lora", "adapter"] = Field(
        default="lora", description="weights whose gradient is measured: the LoRA (released) or the whole adapter"
    )
    early_exit_value: Literal["mean", "last"] = Field(
        default="mean", description="an epoch's value: mean over its updates (paper) or the last one (released)"
    )
    early_exit_reference: Literal["peak", "all"] = Field(
        default="peak",
        description="earlier epochs that are averaged: those from the highest norm on, so that a modality is not "
        "stopped while it is being discovered, or all (paper, released)",
    )
    early_exit_patience: int = Field(
        default=5, ge=1, description="least number of epochs from the peak on, with early_exit_reference='peak'"
    )
    early_exit_loss_drop: float | None = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share by which an epoch's loss must be below that of the three before it for nobody to exit: what "
        "still lowers the loss has not converged; None: the loss is not looked at (paper, released)",
    )
    modality_dropout: float = Field(
        default=0.0, ge=0, le=1, description="probability with which a supporting modality of a sample is left out"
    )
    modality_dropout_major: bool = Field(default=False, description="whether the major modality is left out too")

    cache: str = Field(
        default="memory",
        min_length=1,
        description="where features of frozen encoders are kept: a folder, 'memory', or 'none': encode every minibatch",
    )
    cache_precision: Literal["fp32", "bf16"] = Field(default="fp32", description="number format of kept features")
    cache_limit_gb: float = Field(default=8.0, gt=0, description="memory the features may take, in 10^9 bytes")
    cache_disk_limit_gb: float | None = Field(
        default=None, gt=0, description="size of the cache folder at which writing stops, in 10^9 bytes; None: no limit"
    )
    num_workers: int = Field(default=0, ge=0, description="processes that read media; 0: this one")

    on_error: OnError = Field(
        default="stop",
        description="samples whose files are missing, empty, of a kind their modality does not read or unreadable: "
        "stop before training, or skip: leave them out, which reads every source once before the first step",
    )
    max_skipped: float = Field(
        default=MAX_SKIPPED, ge=0, le=1, description="largest share of the samples of a data file that skip leaves out"
    )

    eval_every: int = Field(default=1, ge=1, description="epochs between evaluations on the validation data")
    eval_batch_size: int = Field(default=32, ge=1, description="samples in a minibatch of evaluation")
    max_new_tokens: int = Field(default=10, ge=1, description="longest open-ended answer in evaluation, in tokens")
    load_best: bool = Field(default=True, description="leave the model with its best weights when `eval_data` is given")
    log_every: int = Field(default=10, ge=1, description="updates between lines of metrics.jsonl")
    checkpoint_every: int | None = Field(
        default=None, ge=1, description="updates between checkpoints; None: at the end of every epoch"
    )
    trackers: tuple[str, ...] = Field(
        default=(), description="trackers of accelerate beside metrics.jsonl, for example 'tensorboard'"
    )

    @field_validator("micro_batch_size", mode="before")
    @classmethod
    def _numbers_of_samples(cls, size: object) -> object:
        numbers = size if isinstance(size, list | tuple) else [1 if size is None else size]
        if not numbers or any(type(number) is not int or number < 1 for number in numbers):
            raise ValueError("a number of samples from 1, or a list of such numbers, one for each sub-step, is needed")
        return tuple(size) if isinstance(size, list) else size

    @field_validator("cache")
    @classmethod
    def _not_misspelt(cls, cache: str) -> str:
        if cache not in NOT_A_FOLDER and "/" not in cache and (near := did_you_mean(cache, NOT_A_FOLDER)):
            raise ValueError(f"as a folder this is easily misread; write ./{cache} if you mean one.{near}")
        return cache

    @model_validator(mode="after")
    def _ordered_rates(self) -> TrainSettings:
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr={self.min_lr:g} is above lr={self.lr:g}")
        return self


RESUMABLE = frozenset(
    "num_workers cache cache_limit_gb cache_disk_limit_gb max_skipped eval_batch_size log_every checkpoint_every "
    "trackers gradient_checkpointing shard_language_model".split()
)
"""Settings that may differ when a run is continued: they change no number of the training."""


CHANGEABLE = frozenset(
    "lr min_lr warmup_start_lr weight_decay betas max_grad_norm precision float32_matmul micro_batch_size".split()
)
"""Settings that may be changed when a run is continued, if they are named: the numbers are others from there on, which
the run records. What decides the order of the data or the length of the schedule is not among them."""


def less_memory(settings: TrainSettings) -> str:
    """Return a sentence on what makes an update need less memory than with these settings."""
    ways = []
    if not settings.gradient_checkpointing:
        ways.append("gradient_checkpointing=True")
    size = settings.micro_batch_size or settings.batch_size
    at_once = min(max(size) if isinstance(size, tuple) else size, settings.batch_size)
    if at_once > 1:
        ways.append(f"micro_batch_size={at_once // 2}")
    if settings.batch_size % 2 == 0:
        half, twice = settings.batch_size // 2, 2 * settings.gradient_accumulation_steps
        ways.append(f"batch_size={half} with gradient_accumulation_steps={twice}, which give the same numbers")
    if settings.mode == "sequential" and settings.retained_graphs is None and settings.gradient_accumulation_steps == 1:
        ways.append("retained_graphs=0")
    if settings.precision == "fp32":
        ways.append('precision="bf16"')
    ways.append("a quantized language model")
    return f"Any of these needs less: {'; '.join(ways)}. crema plan estimates each."


def train_settings(preset: str | None = None, values: Mapping[str, object] | None = None) -> TrainSettings:
    """Return the settings of a preset with single values replaced.

    Args:
        preset: name of an installed preset, for example "tiny" or "nextqa-vfdn"; None: the defaults.
        values: settings by name.

    Raises:
        OptionsError: for an unknown preset, unknown names or bad values, each with what is accepted.

    Example:
        >>> train_settings("tiny", {"epochs": 2}).lr
        0.002
    """
    return parse_settings(TrainSettings, preset_settings(preset) | dict(values or {}), title="fit")


def preset_settings(preset: str | None) -> dict[str, Any]:
    """Return the settings a preset names, an empty mapping for None.

    Raises:
        OptionsError: for an unknown preset.
    """
    return {} if preset is None else dict(find_preset(preset).settings)


# Settings by name, for any model and data; each is an entry point of the group `crema.presets`.

# A few minutes on two cores with the embedded backbone.
TINY = Preset(
    "tiny",
    settings={
        "epochs": 8,
        "batch_size": 32,
        "lr": 2e-3,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "early_exit": EARLY_EXIT,
    },
)
# One GPU with 24 GB and a BLIP-2 FlanT5-XL backbone.
SMALL = Preset(
    "small",
    settings={"epochs": 10, "batch_size": 4, "gradient_accumulation_steps": 4, "precision": "bf16", "num_workers": 4},
)
# CREMA section 4.1 and appendix A; the warm-up, which the paper leaves open, from its scripts, and the exit rule from
# docs/reproduction.md.
PAPER = Preset(
    "paper",
    settings={
        "epochs": 20,
        "batch_size": 16,
        "lr": 2e-4,
        "warmup_steps": 1000,
        "early_exit": EARLY_EXIT,
        "precision": "bf16",
        "num_workers": 4,
    },
)
# CREMA appendix A.3: one modality alone, before it is used beside others without further training (A.5).
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
        "early_exit_reference": "all",
        "early_exit_loss_drop": None,
        "precision": "bf16",
        "num_workers": 4,
    },
)
