import torch
from torch import Tensor, nn

import crema_core
from crema_core.contract import Fusion, ModalitySet, Segment
from crema_core.testing import check_fusion


class Weights(nn.Module):
    """One modality's weight for every channel."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))

    def forward(self, values: Tensor) -> Tensor:
        return values * self.weight


class WeightedFusion(Fusion):
    """The major modality's tokens, then the weighted sum of the others, frame by frame."""

    starts_at_zero = True

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        self.blocks[name] = Weights(self.width, 0.0 if zero else 1 / total)

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        known = [name for name in modalities.supporting if name in self.blocks]
        if not known:
            return self.side_by_side(modalities, modalities.tokens)
        grid = modalities.grid()
        framed = {name: modalities.framed(name, grid) for name in known}  # values (B, T, Q, L), mask (B, T, Q)
        fused = torch.stack([self.blocks[name](values) for name, (values, _) in framed.items()]).sum(0)
        present = torch.stack([mask for _, mask in framed.values()]).any(0)[:, :, 0]  # (B, T)
        return self.arrange(modalities, fused, present, known)


crema_core.registry.register(WeightedFusion, kind="fusion", name="weighted")
model = crema_core.build(modalities=["video", "touch"], fusion="weighted", backbone="crema-tiny")
print([name for name, _ in model.fusion.named_parameters()])
print(check_fusion(WeightedFusion, tier="silver").findings)
