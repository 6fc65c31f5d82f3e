"""The Modality-specific Multi-Query Adapter: one modality's way through the shared Q-Former, which holds its LoRA.

CREMA section 3.2: projection FC where widths differ (or interpolation, Table 21), learnable queries, and a linear map
of the Q-Former's output into the language model's space. As in the released code the LayerNorm follows the FC, which
is what the paper's counts of 3.96 M (visual) and 5.04 M (with FC) parameters contain.

The paper's baseline of individual Q-Formers is the same way through a Q-Former of the modality's own, trained whole.

Shape letters: R samples that have the modality, T steps, M steps of all samples, N tokens of a step, D feature width, E
width the Q-Former attends to, Q queries, H Q-Former width, L language-model width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crema_core.errors import OptionsError
from crema_core.fusion.connector import Connector, QFormerText
from crema_core.model.qformer import QFormer
from crema_core.plugins.spec import MMQASpec, OutputStart
from crema_core.tokens import ModalityFeatures, ModalityTokens

AUTO_START: dict[bool, OutputStart] = {True: "copied", False: "copied"}
"""What `output_start="auto"` is for a supporting modality that sees with the backbone's vision encoder (True), and for
one of another encoder (False)."""


class Interpolate(nn.Module):
    """Change the feature width by linear interpolation: the parameter-free replacement of the FC (Table 21)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features_MND: Tensor) -> Tensor:
        """Return `(M, N, width)`."""
        return F.interpolate(features_MND, size=self.width, mode="linear", align_corners=True)


def input_projection(feature_dim: int, width: int, kind: str) -> nn.Module:
    """Return the module that brings features to the width the Q-Former attends to.

    Args:
        feature_dim: width D of the features.
        width: width E of the Q-Former's keys and values.
        kind: `MMQASpec.projection`.

    Raises:
        OptionsError: when "never" is asked for and the widths differ.
    """
    if kind == "never" and feature_dim != width:
        raise OptionsError(
            f"projection='never' needs features as wide as the Q-Former expects: they are {feature_dim} wide, "
            f"it expects {width}. Use projection='auto' or 'interpolate'."
        )
    if feature_dim == width and kind != "always":
        return nn.Identity()
    return Interpolate(width) if kind == "interpolate" else nn.Linear(feature_dim, width)


def chosen_start(spec: MMQASpec, backbones: nn.Linear | None, *, major: bool, sees: bool) -> OutputStart:
    """Return with which weights a modality's output projection starts.

    Args:
        spec: its sizes.
        backbones: the backbone's own output projection; None where another language model replaces its own, and of a
            vision-language model.
        major: whether it is the major modality, which `auto` always gives the backbone's projection.
        sees: whether it sees with the backbone's vision encoder.

    Raises:
        OptionsError: when "copied" is asked for and there is nothing to copy.
    """
    asked = spec.output_start
    if asked == "copied" and backbones is None:
        raise OptionsError(
            "output_start='copied' starts from the backbone's own output projection, and this one has none into its "
            "language model. Accepted here: 'fresh', 'zero', 'auto'. Leave output_start out."
        )
    if asked == "auto":
        asked = "copied" if major else AUTO_START[sees]
    return "fresh" if asked == "copied" and backbones is None else asked


class MMQA(Connector):
    """Adapter of one modality around the shared Q-Former, with a LoRA of the modality's name inside it.

    Args:
        name: the modality.
        spec: sizes; `num_queries` must be set.
        qformer: shared and frozen, not a part of this module; it gets the LoRA.
        individual: whether the modality gets a copy of the Q-Former instead, a part of this module that is trained
            whole and has no LoRA. Its dropout acts while it is trained.
        feature_dim: D, width of the modality's features.
        output_dim: L, width of the language model.
        norm_eps: of the LayerNorm on the features.
    """

    passes_qformer = True

    def __init__(
        self,
        name: str,
        spec: MMQASpec,
        qformer: QFormer,
        *,
        feature_dim: int,
        output_dim: int,
        norm_eps: float = 1e-5,
        individual: bool = False,
    ) -> None:
        super().__init__()
        assert spec.num_queries is not None, "build() fills in the backbone's number of queries"
        width, hidden = qformer.encoder_width, qformer.hidden_size
        self.name, self.width, self.num_tokens = name, output_dim, spec.num_queries
        self.reads_text = qformer.tokenizer is not None
        self.projection = input_projection(feature_dim, width, spec.projection)
        self.norm = nn.LayerNorm(width, eps=norm_eps) if spec.norm else nn.Identity()
        self.queries = nn.Parameter(torch.empty(1, spec.num_queries, hidden).normal_(std=0.02))
        self.output = nn.Linear(hidden, output_dim)
        self.own_qformer: QFormer | None = None
        if individual:
            self.own_qformer = qformer = qformer.individual(name)
            self.passes_qformer = False
        else:
            qformer.add_lora(name, spec)
        self._used = (qformer,)  # in a tuple: torch would make an attribute a child

    @property
    def qformer(self) -> QFormer:
        """The shared Q-Former, or its own."""
        return self._used[0]

    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Turn features `(R, T, N, D)` into language-model tokens `(R, T, Q, L)`.

        Only real steps pass the Q-Former; padded ones are zero. With `text`, the questions of all samples, each step
        is read with its own sample's question.
        """
        values, mask, times, _ = features.features
        steps_RT = features.steps
        token_mask = None if mask.dim() == 2 else mask[steps_RT]
        if token_mask is not None and bool(token_mask.all()):
            token_mask = None
        keys_MNE = self.inputs(values[steps_RT])
        asked = None if text is None else text.rows(features.rows[steps_RT.nonzero()[:, 0]])
        hidden_MQH = self.qformer(self.name, self.queries, keys_MNE, token_mask, asked)
        tokens_MQL = self.output(hidden_MQH)
        if not bool(steps_RT.all()):
            empty = tokens_MQL.new_zeros(*steps_RT.shape, *tokens_MQL.shape[1:])
            tokens_RTQL = empty.index_put((steps_RT.nonzero(as_tuple=True)), tokens_MQL)
        else:
            tokens_RTQL = tokens_MQL.unflatten(0, steps_RT.shape)
        return ModalityTokens(tokens_RTQL, steps_RT, features.rows, times)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return queries, maps and norm as `mmqa.*`, the LoRA as `lora.*`, a trained Q-Former's as `qformer.*`."""
        inside = "own_qformer."
        own = {f"mmqa.{key}": own for key, own in self.named_parameters() if not key.startswith(inside)}
        own |= {f"lora.{key}": parameter for key, parameter in self.lora().items()}
        if self.qformer.owner == self.name:
            own |= {f"qformer.{key}": parameter for key, parameter in self.qformer.own_parameters().items()}
        return own

    def lora(self) -> dict[str, nn.Parameter]:
        """Return this modality's matrices inside the Q-Former, keyed `<layer>.<query|value>.<A|B>`."""
        return self.qformer.lora_parameters(self.name)

    def counted(self) -> Iterable[nn.Module]:
        """Return the maps and the low-rank layers inside the Q-Former, or the Q-Former of its own."""
        lora = {id(parameter) for parameter in self.lora().values()}
        low_rank = [module for module in self.qformer.modules() if id(getattr(module, "weight", None)) in lora]
        inside = low_rank if self.own_qformer is None else [self.own_qformer]
        return [self.projection, self.norm, self.output, *inside]

    def inputs(self, features_MND: Tensor) -> Tensor:
        """Return `(M, N, E)`: what the Q-Former cross-attends to."""
        keys: Tensor = self.norm(self.projection(features_MND.to(self.output.weight.dtype)))
        return keys

    @torch.no_grad()
    def start_from(self, *, queries: Tensor, output: nn.Linear | None, norm: nn.LayerNorm | None) -> None:
        """Copy the backbone's own queries, output projection and vision LayerNorm where the shapes agree.

        Args:
            queries: `(1, Q, H)`; copied when Q is this adapter's number of queries.
            output: the backbone's projection into its own language model; None: the projection stays as drawn.
            norm: the LayerNorm after the vision encoder; None for features of another encoder.
        """
        if queries.shape == self.queries.shape:
            self.queries.copy_(queries)
        if output is not None and output.weight.shape == self.output.weight.shape:
            self.output.load_state_dict(output.state_dict())
        if norm is not None and isinstance(self.norm, nn.LayerNorm) and norm.weight.shape == self.norm.weight.shape:
            self.norm.load_state_dict(norm.state_dict())

    @torch.no_grad()
    def zero_output(self) -> None:
        """Let every token be zero until the output projection is trained; the rest follows it one update later."""
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def is_zero(self) -> bool:
        """Whether every token is zero, whatever the features are."""
        return not bool(self.output.weight.any() or self.output.bias.any())
