import crema_core
from crema_core.contract import Preset, PresetFamily
from crema_core.plugins.preset import find_preset

glance = Preset(
    "glance",
    config={"modalities": ["video"], "backbone": "crema-tiny"},
    settings={"epochs": 1, "batch_size": 2},
    notes={"epochs": "enough to see that everything runs"},
)


def find(variant: str) -> Preset | None:
    """Return the setting of a variant, here a number of epochs."""
    return Preset(f"repeat-{variant}", settings={"epochs": int(variant)}) if variant.isdigit() else None


repeat = PresetFamily("repeat", variants=("1", "5"), find=find, rule="number of epochs")
crema_core.registry.register(glance, kind="preset")
crema_core.registry.register(repeat, kind="preset")
print(find_preset("glance").settings, find_preset("repeat-12").settings)
