"""The stages of the MERV paper by name."""

from __future__ import annotations

from crema_core.plugins.preset import find_preset
from crema_core.train.settings import train_settings


def test_stages_of_merv() -> None:
    found = {
        name: (
            settings.lr,
            settings.batch_size * settings.gradient_accumulation_steps,
            settings.weight_decay,
            preset.config.get("tuning"),
        )
        for name in ("merv-align", "merv-full-align", "merv-finetune", "merv-frozen")
        for settings, preset in [(train_settings(name), find_preset(name))]
    }
    assert found == {
        "merv-align": (1e-3, 256, 0.0, None),
        "merv-full-align": (1e-4, 256, 0.0, "full"),
        "merv-finetune": (2e-5, 128, 0.1, "full"),
        "merv-frozen": (2e-5, 128, 0.1, "full"),
    }
    aligned, frozen = find_preset("merv-align"), find_preset("merv-frozen")
    assert (aligned.config["precision"], frozen.config["precision"]) == ("bf16", "fp32")  # what is trained is in fp32
    settings = train_settings("merv-frozen")
    assert (settings.epochs, settings.warmup_ratio, settings.max_grad_norm, settings.seed) == (1, 0.03, 1.0, 7)
