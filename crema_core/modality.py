"""The class a modality plugin subclasses: raw media -> CPU tensors -> features.

A plugin writes three methods (`prepare`, `encode`, `example`). Core owns the rest of the modality: the adapter (norm,
projection, queries, LoRA, output projection), its prefix in the prompt, fusion, training and saving. An abstract base
class and not a `runtime_checkable` protocol, because the latter accepts methods with wrong signatures.

Shape letters: B samples, T steps in time, N tokens of one step, D feature width, M images.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from crema_core.errors import ContractError, PluginExitError, PluginLoadError
from crema_core.plugins.fence import fault_text, fenced, switch_off
from crema_core.plugins.loading import ResolvedPlugin, check_requirements
from crema_core.plugins.spec import ModalityOptions, ModalitySpec


@dataclass(frozen=True)
class Sample:
    """One prepared source, on the CPU; it travels from DataLoader workers, so it must pickle.

    Attributes:
        tensors: named tensors whose first dimension is time, `(T, ...)`; T is 1 for a modality without time.
        times: `(T, 2)` float32, start and end of every step in seconds, or None when the source has no clock.
    """

    tensors: dict[str, Tensor]
    times: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples of one modality, padded to common sizes.

    Attributes:
        tensors: named tensors `(B, T, ...)`, zero where padded.
        mask: `(B, T)` bool, True for real steps.
        sizes: for every tensor `(B, dims)` int64, the shape each sample had before padding.
        times: `(B, T, 2)` seconds, NaN where a sample has no clock; None when no sample has one.
    """

    tensors: dict[str, Tensor]
    mask: Tensor
    sizes: dict[str, Tensor] = field(default_factory=dict)
    times: Tensor | None = None

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def to(self, device: torch.device) -> Batch:
        """Return the batch with every tensor on `device`."""
        return Batch(
            {name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors.items()},
            self.mask.to(device),
            {name: size.to(device) for name, size in self.sizes.items()},
            None if self.times is None else self.times.to(device),
        )

    def select(self, index: Tensor) -> Batch:
        """Return the samples at the positions `index` `(S,)`, in that order."""
        return Batch(
            {name: tensor[index] for name, tensor in self.tensors.items()},
            self.mask[index],
            {name: size[index] for name, size in self.sizes.items()},
            None if self.times is None else self.times[index],
        )


class Features(NamedTuple):
    """What an encoder returns.

    Attributes:
        values: `(B, T, N, D)` float, D equals `Modality.feature_dim`.
        mask: `(B, T)` bool for real steps, or `(B, T, N)` where tokens inside a step are padded too.
        times: `(B, T, 2)` seconds, or None.
        extras: small tensors `(B, ...)` that belong to them, by name, whole numbers padded with -1 and others with
            NaN; kept with them in caches and handed on with the tokens (`ModalityTokens.extras`).
    """

    values: Tensor
    mask: Tensor
    times: Tensor | None = None
    extras: Mapping[str, Tensor] = {}


class FeaturePart(NamedTuple):
    """One of several parts of a modality's features, such as what one of several encoders gives for a clip.

    Attributes:
        name: of the part, unique within the modality.
        steps: T, steps in time.
        rows, columns: of the patches of a step; N is their product, rows first.
        width: D.
    """

    name: str
    steps: int
    rows: int
    columns: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(T, N, D)`."""
        return self.steps, self.rows * self.columns, self.width

    @property
    def numel(self) -> int:
        """Numbers of a sample."""
        return self.steps * self.rows * self.columns * self.width


class FrameReader(Protocol):
    """What prepares frames for a vision-language model, see `crema_core.model.vlm.reader`."""

    def prepare(self, frames_TCHW: Tensor, times_T2: Tensor | None = None) -> Sample:
        """Return a picture or clip as the model's processor makes it."""

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Stack samples."""


@dataclass
class BuildContext:
    """What core hands to a modality when it is built: the only way to reach the backbone.

    Attributes:
        vision: the shared frozen vision encoder, `(M, 3, H, W)` normalised pixels -> `(M, N, vision_dim)`; not pickled.
        vision_dim: width of the vision features.
        image_size: side in pixels of the square images `vision` takes.
        image_mean, image_std: normalisation per channel of RGB values in 0..1.
        seed: seed for anything random a modality builds.
        dtype: number format of frozen encoders.
        whole_clips: whether `vision` processes all frames of a clip together, however many: `(M, T, 3, H, W)` ->
            `(M, N, vision_dim)`, N growing with T. A clip is one step then.
        usual_frames: frames of a clip the backbone was made for; None: it does not say.
        pictures: RGB frames `(T, 3, H, W)`, uint8 or float 0..1, to normalised squares as the backbone was trained on
            them; pickles. None: whole pictures are squashed into the square and normalised by `image_mean` and
            `image_std`.
        pretrained: whether the backbone learned from real pictures and texts; False for the shipped tiny ones. A
            modality may choose the default of an option by it, see `Modality.options`.
        reader: of the major modality on a vision-language model, what prepares frames as the model was trained to see
            them; None for all others.
        encode_own: returns the model's own visual tokens of what `reader` prepared, `(B, V, N, own_dim)`; not pickled.
        own_dim: width of these.
        hear: of a backbone that hears, sound `(S,)` at 16 kHz to the tokens `(N, hear_dim)` its language model would be
            given; not pickled. None for all others.
        hear_dim: width of these; 0 where it hears nothing.
        provider: package and version the modality comes from, for messages; empty where nobody said.
    """

    vision: Callable[[Tensor], Tensor] | None = None
    vision_dim: int = 0
    image_size: int = 224
    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    seed: int = 0
    dtype: torch.dtype = torch.float32
    pretrained: bool = False
    whole_clips: bool = False
    usual_frames: int | None = None
    pictures: Callable[[Tensor], Tensor] | None = None
    reader: FrameReader | None = None
    encode_own: Callable[[Batch], Features] | None = None
    own_dim: int = 0
    hear: Callable[[Tensor], Tensor] | None = None
    hear_dim: int = 0
    provider: str = ""

    def __getstate__(self) -> dict[str, Any]:
        # prepare() runs in worker processes that must not receive a copy of the backbone.
        return {**self.__dict__, "vision": None, "encode_own": None, "hear": None}

    def normalize(self, frames: Tensor) -> Tensor:
        """Normalise RGB frames for `vision`.

        Args:
            frames: `(..., 3, H, W)` float in 0..1.
        """
        mean = torch.tensor(self.image_mean).view(3, 1, 1)
        std = torch.tensor(self.image_std).view(3, 1, 1)
        return (frames - mean) / std

    def encode_frames(self, frames_BTCHW: Tensor) -> Tensor:
        """Run the shared frozen vision encoder on every frame.

        Args:
            frames_BTCHW: `(B, T, 3, H, W)` from `normalize`, each a picture of its own.

        Returns:
            `(B, T, N, vision_dim)`.
        """
        if self.vision is None:
            raise ContractError(
                "This modality asks for the shared vision encoder, but none is attached here. The encoder is there in "
                "a built model's main process only. Call encode() on a modality of crema_core.build(...)."
            )
        tokens = self.vision(frames_BTCHW.flatten(0, 1))
        tokens_BTND: Tensor = tokens.unflatten(0, tuple(frames_BTCHW.shape[:2]))
        return tokens_BTND


class Modality(nn.Module, abc.ABC):
    """A modality: reads sources, makes tensors, encodes them.

    Args:
        options: the validated options, an instance of `spec.options`.
        context: what core offers, see `BuildContext`.

    `__init__` must be cheap: nothing is downloaded, no device is touched. An option that is None, because its default
    depends on the backbone, is replaced here: `super().__init__(chosen, context)`. A saved model records `options` as
    they are then, so loading does not choose again.

    Raises:
        ContractError: when a subclass defines a method with other arguments than the contract's.
    """

    spec: ClassVar[ModalitySpec]

    def __init__(self, options: ModalityOptions, context: BuildContext) -> None:
        super().__init__()
        self.options = options
        self.context = context

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in (known for known in _CONTRACT if known in cls.__dict__):
            accepted, got = (tuple(inspect.signature(own.__dict__[name]).parameters) for own in (Modality, cls))
            if len(got) != len(accepted):
                raise ContractError(
                    f"{cls.__name__}.{name} takes ({', '.join(got)}). The contract's is ({', '.join(accepted)}). "
                    f"Write: def {name}({', '.join(accepted)})."
                )

    @property
    def feature_dim(self) -> int:
        """Width D of the features: the spec's, or the vision encoder's where the spec leaves it open."""
        return self.spec.feature_dim or self.context.vision_dim

    @property
    def feature_parts(self) -> tuple[FeaturePart, ...]:
        """The parts of features that fit no common shape; empty for all others.

        A modality with parts returns features `(B, 1, 1, P)`: the numbers `(T, N, D)` of every part, one part after
        another, P of all together. Only a strategy that mixes parts can take them (`Fusion.mixes_parts`).
        """
        return ()

    @property
    def own_tokens(self) -> bool:
        """Whether its features are the backbone's own visual tokens, which the prompt takes as they are."""
        return False

    @property
    def uses_backbone(self) -> bool:
        """Whether its features are made by the backbone, so that kept ones depend on the backbone's weights."""
        return self.spec.encoder == "vision"

    @property
    def trainable(self) -> bool:
        """Whether its encoder is trained with the adapter: as the spec declares, unless an option freezes it."""
        return self.spec.trainable

    @abc.abstractmethod
    def prepare(self, source: Any) -> Sample:
        """Read one source (path, array or tensor) into CPU tensors `(T, ...)`.

        Runs in worker processes: no CUDA, no encoder, no global state.

        Raises:
            MediaError: when the source is absent, empty, damaged or of a type the modality does not read.
        """

    @abc.abstractmethod
    def encode(self, batch: Batch) -> Features:
        """Turn a padded batch into features `(B, T, N, D)` with a mask.

        Called without gradient and in eval mode. Where `trainable`, it is called with gradient and in train mode in the
        modality's own updates: the features depend on the parameters then, and on no other state of the encoder.
        """

    @abc.abstractmethod
    def example(self, generator: torch.Generator) -> Any:
        """Return a synthetic source that `prepare` accepts, for tests and documentation."""

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Pad samples to common sizes; override only for layouts that padding cannot express."""
        return pad_samples(samples)

    def load_assets(self, folder: Path | None) -> None:
        """Load pretrained weights from `folder` (None: the options' default place). Called once, after `__init__`."""

    def load_shapes(self) -> None:
        """Build what `load_assets` would load, of the same sizes and without any weight; called in its place.

        Core calls it to count a model that has no weights, and keeps the parameters made here as shapes alone. Optional
        for encoders without pretrained weights.
        """

    def show(self, source: Any) -> Tensor:
        """Return a picture `(H, W, 3)` uint8 of what the modality makes of a source, for people; needs no weights.

        Raises:
            ContractError: when the package draws none.
            MediaError: as `prepare`.
        """
        raise ContractError(
            f"The modality '{self.spec.name}' draws no picture: {type(self).__name__} has no show(). It is optional. "
            "Ask its authors for one, or look at the file with other tools."
        )

    def train(self, mode: bool = True) -> Modality:
        """Keep a frozen encoder in eval mode whatever the caller requests (dropout, norm statistics).

        A trainable one is frozen too while none of its parameters is trained.
        """
        return super().train(mode and self.trainable and any(own.requires_grad for own in self.parameters()))


def load_modality_class(plugin: ResolvedPlugin) -> type[Modality]:
    """Import the class a spec names, check it and give it its spec.

    Raises:
        MissingRequirementError: when a requirement is not met.
        PluginLoadError: when the import fails, or would have ended the program; the cause is chained.
        ContractError: when the object is not a complete subclass of `Modality`.
    """
    check_requirements(plugin)
    spec = plugin.spec
    subject = f"'{spec.name}' ({plugin.provider}): {spec.factory}"
    module = spec.factory.partition(":")[0]
    try:
        with fence_of(plugin, f"importing {module}"):
            factory = spec.load_factory()
    except ContractError as error:
        raise ContractError(f"{subject} breaks the contract: {error}") from error
    except Exception as error:  # noqa: BLE001 - whatever foreign code raises, its package is named
        raise PluginLoadError(
            f"{subject} could not be imported: {fault_text(error)}. "
            f'See the whole traceback: python -c "import {module}"{_or_switch_off(plugin)}'
        ) from (error.__cause__ if isinstance(error, PluginExitError) else error)
    if not (isinstance(factory, type) and issubclass(factory, Modality)):
        raise ContractError(
            f"{subject} is not a subclass of Modality. The factory must name one. "
            f"Write: class {spec.factory.partition(':')[2]}(crema_core.Modality)"
        )
    if factory.__abstractmethods__:
        missing = ", ".join(sorted(factory.__abstractmethods__))
        raise ContractError(f"{subject} lacks {missing}. A modality has prepare, encode and example. Define: {missing}")
    own = factory.__dict__.get("spec")
    if own is not None and own.name != spec.name:
        raise ContractError(
            f"{subject} already belongs to '{own.name}'. One class serves one spec. "
            f"Write a subclass of it for '{spec.name}'"
        )
    factory.spec = spec
    return factory


def fence_of(plugin: ResolvedPlugin, doing: str) -> AbstractContextManager[None]:
    """Fence a package's code in; a class given in this process is the caller's own and prints where it likes."""
    return fenced(doing, provider=plugin.provider) if plugin.distribution else nullcontext()


def _or_switch_off(plugin: ResolvedPlugin) -> str:
    return f", or switch the package off: {switch_off(plugin.distribution)}" if plugin.distribution else ""


_CONTRACT = ("prepare", "encode", "example", "collate", "load_assets", "load_shapes", "show")
"""Methods that core calls: a subclass's take the arguments of the base class's."""


def pad_samples(samples: Sequence[Sample]) -> Batch:
    """Stack samples, padding every dimension with zeros to the largest.

    Args:
        samples: at least one; all with the same tensor names and numbers of dimensions.

    Raises:
        ContractError: when names or numbers of dimensions differ, or a tensor's time length is not the sample's.
    """
    names = list(samples[0].tensors)
    if any(list(sample.tensors) != names for sample in samples):
        found = sorted({", ".join(sample.tensors) for sample in samples})
        raise ContractError(
            f"Samples of one batch have different tensors: {'; '.join(found)}. All must have the same names in the "
            "same order. Return every tensor from every prepare()."
        )
    tensors = {name: _pad([sample.tensors[name] for sample in samples], name) for name in names}
    sizes = {
        name: torch.tensor([list(sample.tensors[name].shape) for sample in samples], dtype=torch.int64)
        for name in names
    }
    lengths = sizes[names[0]][:, 0]
    mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    times = None
    if any(sample.times is not None for sample in samples):  # NaN, so that no sample's clock depends on the others
        without = [torch.full((int(length), 2), torch.nan) for length in lengths]
        clocks = [own if sample.times is None else sample.times for sample, own in zip(samples, without, strict=True)]
        times = _pad(clocks, "times")
    return Batch(tensors, mask, sizes, times)


def _pad(tensors: list[Tensor], name: str) -> Tensor:
    if len({tensor.dim() for tensor in tensors}) != 1 or tensors[0].dim() == 0:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ContractError(
            f"'{name}' has shapes {shapes}. A batch needs one number of dimensions, time first. "
            "Return (T, ...) tensors from prepare()."
        )
    largest = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    out = tensors[0].new_zeros(len(tensors), *largest)
    for row, tensor in zip(out, tensors, strict=True):
        row[tuple(slice(0, size) for size in tensor.shape)] = tensor
    return out
