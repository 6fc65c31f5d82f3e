"""Silver: the class can be imported and built, and does no more than that."""

from __future__ import annotations

import torch

from crema_core.modality import BuildContext
from crema_core.testing.bench import IMAGE_SIZE, VISION_DIM, class_of, vision
from crema_core.testing.check import check, require
from crema_core.testing.offline import offline
from crema_core.testing.probing import heavy_import
from crema_core.testing.subject import Subject

LOADED = ("entry_point_names_a_spec", "requirements_are_met")


@check("silver", needs=LOADED)
def class_import_changes_nothing(subject: Subject) -> None:
    """Importing the class's module leaves the process as it was: random generators, defaults, environment, logging.

    Why: a model of other senses would train differently as soon as this package is imported; a model type registered
    with transformers clashes on the day transformers adopts the name.
    Fix: set such things inside a function, restore them, or leave them to the user.
    """
    # Before the class is imported here: a second import in a child that inherits the changes would find none. A module
    # that cannot be imported at all is what class_keeps_the_contract reports.
    changed = ", ".join(heavy_import(subject.spec.factory.partition(":")[0])["changes"])
    require(
        not changed,
        f"Importing {subject.spec.factory.partition(':')[0]} changes {changed}. An import leaves the process as it "
        "was. Move it into a function that restores what it changes.",
    )


@check("silver", needs=LOADED)
def class_keeps_the_contract(subject: Subject) -> None:
    """`factory` names a subclass of `Modality` with `prepare`, `encode` and `example`, arguments as in the contract.

    Why: core calls these three and nothing else of your class.
    Fix: the message says which member is missing or has other arguments.
    """
    class_of(subject)


@check("silver", needs=("class_keeps_the_contract",))
def building_is_offline(subject: Subject) -> None:
    """`__init__` opens no connection and touches no GPU, with every set of test options.

    Why: listing sizes, planning and worker processes build senses where there is no network and no device.
    Fix: load weights in `load_assets`; create tensors on the CPU; choose test options that need no download.
    """
    device_was_used = torch.cuda.is_initialized()
    for options in subject.cases:
        with offline() as tried:
            fault: Exception | None = None
            try:
                class_of(subject)(options, BuildContext(vision=vision, vision_dim=VISION_DIM, image_size=IMAGE_SIZE))
            except OSError as error:
                fault = error
        require(
            not tried,
            f"__init__ asks the network for {', '.join(tried)} with {options!r}. Building is offline. Load weights in "
            "load_assets().",
        )
        if fault is not None:
            raise fault
    require(
        torch.cuda.is_initialized() == device_was_used,
        "__init__ touches the GPU. Building happens on the CPU; core moves the model later. Create tensors without "
        "device.",
    )
