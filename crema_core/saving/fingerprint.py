"""A fingerprint of the features of a modality: a few numbers that another device leaves alone and another encode does
not.

An upgraded package may make other features with the same options, and an adapter that was trained on the former ones
answers from the latter without an error. So saved models, adapters and runs record what the modality made of one
source, its own `example()` with a fixed seed, and loading compares:

- The features are summed up, with random signs, in a few groups (a count sketch): the sketches of two tensors are as
  far apart as the tensors, relative to their length, and any change of any number moves them.
- What counts as equal follows from the arithmetic, see `TOLERANCES`.
- The backbone never runs: its weights have an identity of their own. A modality that sees through the backbone's
  vision encoder gets a small fixed stand-in; of one whose tokens the backbone makes itself, what `prepare` returns is
  compared. So the price is that of one source through the modality's own encoder, once in a process.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crema_core.data import modality_calls
from crema_core.data.limits import require_bounds
from crema_core.errors import first_line
from crema_core.modality import Batch, Features, Modality
from crema_core.tokens import ModalityBatch

SEED = 0
NUM_GROUPS = 16
GRID = 4
"""Side of the grid of patches of the stand-in for a vision encoder."""

TOLERANCES = {"float32": 2**-10, "float16": 2**-6, "bfloat16": 2**-4}
"""Largest distance of equal features, relative to their length, by the coarser arithmetic of the two sides: 8 or 16
times the step of bfloat16 and float16, for what a deep encoder makes of rounding; for float32 one step of TF32. What a
GPU computes in float32 counts as float16, see `_arithmetic`: its convolutions are in TF32, which has the same step."""

WHOLE_NUMBERS = 2**-7
"""The same for prepared whole numbers: another decoder rounds pixels otherwise, by one."""

_known: weakref.WeakKeyDictionary[Modality, dict[str, Any]] = weakref.WeakKeyDictionary()


def feature_fingerprint(modality: Modality) -> dict[str, Any]:
    """Return what is recorded of a modality's features, JSON data; computed once for a modality that is frozen.

    Returns:
        `feature_dim`, and for a deterministic modality that has weights `arithmetic` and `prepared` or `encoded`: by
        name of a tensor its shape, type, length and sketch. Where `example`, `prepare` or `encode` fails, `failed` says
        how in their place.
    """
    trained = modality.trainable or any(parameter.requires_grad for parameter in modality.parameters())
    if trained or modality not in _known:
        mode = modality.training  # a trainable encoder may be in the middle of its training
        modality.eval()
        try:
            _known[modality] = _computed(modality)
        finally:
            modality.train(mode)
    return _known[modality]


def feature_changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Return in which way features differ from those that were recorded, for the middle of a sentence, or None.

    Args:
        saved, now: what `feature_fingerprint` returned there and here.
    """
    if "failed" in saved or not saved.keys() - {"feature_dim"}:
        return None
    if "failed" in now:
        return f"cannot be compared, its example fails ({now['failed']})"
    part = next((part for part in ("encoded", "prepared") if part in saved and part in now), None)
    if part is None:
        return None
    every = [_change(name, saved[part].get(name), now[part].get(name), saved, now) for name in saved[part] | now[part]]
    found = [change for change in every if change is not None]
    if not found:
        return None
    return f"{'differ' if part == 'encoded' else 'are prepared otherwise'} {'; '.join(found)}"


def _change(
    name: str,
    was: Mapping[str, Any] | None,
    now: Mapping[str, Any] | None,
    saved: Mapping[str, Any],
    today: Mapping[str, Any],
) -> str | None:
    title = "" if name == "values" else f" ('{name}')"
    if was is None or now is None:
        return f"by '{name}', which is {'new' if was is None else 'gone'}"
    if was["shape"] != now["shape"]:
        return f"in shape{title}: {_shape(was)} -> {_shape(now)}"
    length = max(was["length"], now["length"])
    if not length:
        return None
    difference = np.linalg.norm(np.subtract(was["sketch"], now["sketch"])) / length
    # Masks and whole numbers are exact whatever the encoder computes in.
    exact = {was["type"], now["type"]} <= {"bool", "int64", "int32"}
    tolerance = max(TOLERANCES[own["arithmetic"]] for own in (saved, today))
    if exact or "uint8" in (was["type"], now["type"]):
        tolerance = WHOLE_NUMBERS
    return None if difference <= tolerance else f"by {difference:.1%}{title}"


def _shape(sketch: Mapping[str, Any]) -> str:
    return "x".join(map(str, sketch["shape"]))


@torch.no_grad()
def _computed(modality: Modality) -> dict[str, Any]:
    require_bounds()  # else a variable that is no number would read as a package that has changed
    record: dict[str, Any] = {"feature_dim": modality.feature_dim}
    state = [*modality.parameters(), *modality.buffers()]
    device = state[0].device if state else torch.device("cpu")
    if not modality.spec.capabilities.deterministic or any(own.is_meta for own in state):
        return record
    record["arithmetic"] = "float32"
    try:
        with _own_random_numbers(), torch.autocast(device.type, enabled=False):
            source = modality_calls.example(modality, torch.Generator().manual_seed(SEED))
            sample = modality_calls.prepare(modality, source)
            tensors = dict(sample.tensors)
            if sample.times is not None:
                tensors["times"] = sample.times
            record["prepared"] = {name: _sketch(tensor) for name, tensor in tensors.items()}
            if _backbone_encodes(modality):
                return record
            collated = modality_calls.collate(modality, [sample])
            batch = ModalityBatch(collated, torch.zeros(1, dtype=torch.int64)).to(device).batch
            features = _encoded(modality, batch)
        record["arithmetic"] = _arithmetic(modality, features, device)
        del record["prepared"]  # a package may move work between prepare and encode
        record["encoded"] = _sketches(features)
    except Exception as error:  # noqa: BLE001 - a fault of foreign code is recorded, and must not lose a trained model
        fault = error.__cause__ or error
        return {"feature_dim": record["feature_dim"], "failed": f"{type(fault).__name__}: {first_line(fault)}"}
    return record


def _backbone_encodes(modality: Modality) -> bool:
    """Return whether the backbone makes the tokens: a vision-language model's own, or those of one that hears."""
    return modality.own_tokens or (modality.uses_backbone and modality.spec.encoder != "vision")


def _encoded(modality: Modality, batch: Batch) -> Features:
    context, vision = modality.context, modality.context.vision
    if vision is not None:
        context.vision = _StandIn(context.vision_dim, context.dtype, whole_clips=context.whole_clips)
    try:
        return modality_calls.encode(modality, batch)
    finally:
        context.vision = vision


class _StandIn:
    """In place of the backbone's vision encoder: `(M, 3, H, W)` -> `(M, 1 + 16, D)`, or whole clips.

    Every token is a fixed linear map of a patch's mean colour and of the same with fixed signs of pixels, so that no
    pixel can change unseen.
    """

    def __init__(self, dim: int, dtype: torch.dtype, *, whole_clips: bool) -> None:
        self.dim, self.dtype, self.whole_clips = dim, dtype, whole_clips

    def __call__(self, pixels: Tensor) -> Tensor:
        if self.whole_clips:  # (M, T, 3, H, W) -> (M, T * 17, D)
            tokens: Tensor = self._frames(pixels.flatten(0, 1)).unflatten(0, tuple(pixels.shape[:2]))
            return tokens.flatten(1, 2)
        return self._frames(pixels)

    def _frames(self, pixels_MCHW: Tensor) -> Tensor:
        pixels = pixels_MCHW.float()
        signs = torch.from_numpy(_signs(pixels.shape[-2] * pixels.shape[-1])).to(pixels).view(pixels.shape[-2:])
        scale = (signs.numel() ** 0.5) / GRID  # a mean with random signs is this much smaller
        both = torch.cat([pixels, pixels * signs * scale], dim=1)
        cells_MP6 = torch.nn.functional.adaptive_avg_pool2d(both, GRID).flatten(2).transpose(1, 2)
        tokens_MN6 = torch.cat([cells_MP6.mean(1, keepdim=True), cells_MP6], dim=1)
        mixing_6D = torch.from_numpy(np.random.RandomState(SEED).standard_normal((6, self.dim))).to(tokens_MN6)
        tokens_MND: Tensor = (tokens_MN6 @ mixing_6D).to(self.dtype)
        return tokens_MND


def _arithmetic(modality: Modality, features: Features, device: torch.device) -> str:
    """Return the coarsest format the features were computed in."""
    formats = {features.values.dtype} | {own.dtype for own in modality.parameters() if own.is_floating_point()}
    if modality.uses_backbone:
        formats.add(modality.context.dtype)
    if torch.bfloat16 in formats:
        return "bfloat16"
    # A GPU may compute float32 in TF32, whose numbers have as many digits as those of float16.
    return "float16" if torch.float16 in formats or device.type != "cpu" else "float32"


def _sketches(features: Features) -> dict[str, Any]:
    mask = features.mask if features.mask.dim() == 3 else features.mask[:, :, None]
    real = features.values * mask[..., None]  # what is padded may hold anything
    tensors = {"values": real, "mask": features.mask, **features.extras}
    if features.times is not None:
        tensors["times"] = features.times
    return {name: _sketch(tensor) for name, tensor in tensors.items()}


def _sketch(tensor: Tensor) -> dict[str, Any]:
    """Return shape, type, length and the sums of `NUM_GROUPS` groups of the numbers with random signs."""
    values = tensor.detach().cpu().double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).flatten().numpy()
    codes = _codes(len(values))
    sums = np.bincount(codes % NUM_GROUPS, weights=values * _signs(len(values)), minlength=NUM_GROUPS)
    return {
        "shape": list(tensor.shape),
        "type": str(tensor.dtype).removeprefix("torch."),
        "length": float(f"{np.linalg.norm(values):.8g}"),
        "sketch": [float(f"{own:.8g}") for own in sums],
    }


def _codes(count: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    # The one generator of numpy whose numbers never change from version to version.
    return np.frombuffer(np.random.RandomState(SEED).bytes(count), dtype=np.uint8)


def _signs(count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.where(_codes(count) // NUM_GROUPS % 2, -1.0, 1.0)


@contextmanager
def _own_random_numbers() -> Iterator[None]:
    """Leave torch's generator of the CPU as it was: a fingerprint changes no run. Seeding all would touch GPUs'."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        yield
