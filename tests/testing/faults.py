"""One fault per check of the conformance kit: an edit of the specimen that exactly that check must find.

Each faulty package is a real distribution: files, metadata and entry points on a path of its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

SPECIMEN = Path(__file__).with_name("specimen")
PACKAGE, METADATA = "crema_specimen", "crema_specimen-0.1.0.dist-info"
SPEC, CODE = f"{PACKAGE}/plugin.py", f"{PACKAGE}/modality.py"


class Edit(NamedTuple):
    """Replace `old` by `new` in a file; without `old` the file is removed."""

    file: str
    old: str = ""
    new: str = ""


SPEC_TOP = Edit(SPEC, "from pydantic import Field\n")
CODE_TOP = Edit(CODE, "from pathlib import Path\n")


def on_top(top: Edit, text: str) -> Edit:
    return Edit(top.file, top.old, f"{top.old}{text}\n")


ROWS = "rows = source[: self.options.rows].clone()"
SAMPLE = 'Sample({"rows": rows}, '
VALUES = "values = torch.tanh(rows @ self.weight) * self.options.gain"
FEATURES = "Features(values[:, :, None], batch.mask, batch.times)"
SEED = "generator = torch.Generator().manual_seed(0)"
WEIGHT = "self.weight = nn.Parameter(torch.randn(3, 8, generator=generator))"
NOISE = "1e-3 * random.SystemRandom().random()"

BRONZE: dict[str, tuple[Edit, ...]] = {
    "entry_point_names_a_spec": (Edit(f"{METADATA}/entry_points.txt", ":SPEC", ":SPECS"),),
    "name_is_no_placeholder": (
        Edit(f"{METADATA}/entry_points.txt", "specimen =", "my_modality ="),
        Edit(SPEC, 'name="specimen"', 'name="my_modality"'),
    ),
    "declaration_is_json": (
        on_top(SPEC_TOP, "from collections.abc import Callable"),
        Edit(
            SPEC,
            "    gain:",
            '    shape: Callable[[float], float] = Field(default=abs, description="shape")\n    gain:',
        ),
    ),
    "inputs_are_declared": (Edit(SPEC, ', description="(T, 3) float")', ")"),),
    "width_is_declared": (
        Edit(SPEC, "    feature_dim=8,\n"),
        Edit(
            CODE,
            "    def example",
            "    @property\n    def feature_dim(self) -> int:\n        return 8\n\n    def example",
        ),
    ),
    "options_are_described": (Edit(SPEC, ', description="factor of every feature"', ""),),
    "options_are_strict": (
        Edit(SPEC, '    """How recordings are read."""\n', '    model_config = {"extra": "ignore", "frozen": True}\n'),
    ),
    "test_options_are_given": (Edit(SPEC, "    test_options=(SpecimenOptions(gain=2.0),),\n"),),
    "declaration_is_light": (on_top(SPEC_TOP, "import numpy"),),
    "declaration_is_quick": (on_top(SPEC_TOP, "import time\n\ntime.sleep(0.4)"),),
    "import_prints_nothing": (on_top(SPEC_TOP, "print('specimen is here')"),),
    "package_init_imports_nothing": (
        Edit(f"{PACKAGE}/__init__.py", '."""\n', f'."""\n\nfrom {PACKAGE}.plugin import SPEC as SPEC\n'),
    ),
    "requirements_are_met": (
        Edit(SPEC, "    feature_dim=8,\n", '    feature_dim=8,\n    requires=("no-such-thing>1",),\n'),
    ),
    "core_is_bounded": (Edit(f"{METADATA}/METADATA", "crema-core<1,>=0.1", "crema-core>=0.1"),),
    "torch_stack_is_not_pinned": (Edit(f"{METADATA}/METADATA", "torch>=2.11", "torch<3,>=2.11"),),
    "readme_and_licence_are_there": (Edit(f"{METADATA}/METADATA", "License-Expression: Apache-2.0\n"),),
    "types_are_shipped": (Edit(f"{PACKAGE}/py.typed"),),
}

SILVER: dict[str, tuple[Edit, ...]] = {
    "class_keeps_the_contract": (
        Edit(CODE, "def encode(self, batch: Batch)", "def encode(self, batch: Batch, more: int)"),
    ),
    "class_import_changes_nothing": (on_top(CODE_TOP, "import os\n\nos.environ['SPECIMEN'] = 'here'"),),
    "building_is_offline": (
        on_top(CODE_TOP, "import socket"),
        Edit(CODE, SEED, f'socket.create_connection(("127.0.0.1", 9))\n        {SEED}'),
    ),
    "prepare_gives_cpu_tensors": (Edit(CODE, SAMPLE, 'Sample({"rows": rows, "first": rows[:1]}, '),),
    "clock_is_declared": (Edit(SPEC, "timestamps=True", "timestamps=False"),),
    "examples_differ": (Edit(CODE, "torch.randn(5, 3, generator=generator)\n", "torch.ones(5, 3)\n"),),
    "prepare_is_deterministic": (on_top(CODE_TOP, "import random"), Edit(CODE, ROWS, f"{ROWS} + {NOISE}")),
    "prepare_leaves_the_source": (Edit(CODE, ROWS, f"source[0] = 1\n        {ROWS}"),),
    "samples_pickle": (
        on_top(CODE_TOP, "from collections import defaultdict"),
        Edit(CODE, SAMPLE, "Sample(defaultdict(lambda: rows, rows=rows), "),
    ),
    "modality_pickles": (Edit(CODE, WEIGHT, f"{WEIGHT}\n        self.square = lambda value: value * value"),),
    "prepare_works_in_a_fresh_process": (
        on_top(CODE_TOP, "\nSCALES = {}\n"),
        Edit(CODE, WEIGHT, f'{WEIGHT}\n        SCALES["rows"] = 1.0'),
        Edit(CODE, ROWS, f'{ROWS} * SCALES["rows"]'),
    ),
    "running_is_offline": (
        on_top(CODE_TOP, "import socket"),
        Edit(
            CODE,
            ROWS,
            f'try:\n            socket.create_connection(("127.0.0.1", 9))\n        except OSError:\n'
            f"            {ROWS}",
        ),
    ),
    "process_state_is_untouched": (Edit(CODE, ROWS, f"torch.manual_seed(0)\n        {ROWS}"),),
    "encode_keeps_the_contract": (Edit(CODE, FEATURES, FEATURES.replace("[:, :, None]", "[:, :, None, :7]")),),
    "encode_is_deterministic": (on_top(CODE_TOP, "import random"), Edit(CODE, VALUES, f"{VALUES} + {NOISE}")),
    "features_ignore_the_other_samples": (Edit(CODE, VALUES, f"{VALUES}\n        values = values - values.mean(0)"),),
    "encode_keeps_the_clock": (Edit(CODE, FEATURES, FEATURES.replace(", batch.times", "")),),
    "padding_is_masked": (Edit(CODE, FEATURES, FEATURES.replace("batch.mask", "torch.ones_like(batch.mask)")),),
    "small_batches_work": (Edit(CODE, VALUES, f"{VALUES}\n        values = values.squeeze(1)"),),
    "encoder_stays_in_eval_mode": (
        Edit(
            CODE,
            "    def example",
            "    def train(self, mode=True):\n        return nn.Module.train(self, mode)\n\n    def example",
        ),
    ),
    "wrong_sources_are_refused": (Edit(CODE, 'raise MediaError(f"{source!r}', 'raise TypeError(f"{source!r}'),),
    "missing_files_are_named": (Edit(CODE, 'MediaError(f"{source} cannot', 'MediaError(f"It cannot'),),
    "damaged_files_are_refused": (
        Edit(
            CODE,
            "        if isinstance(source, str | Path):",
            "        if isinstance(source, str | Path) and Path(source).is_file():\n"
            "            source = torch.ones(2, 3)\n        if isinstance(source, str | Path):",
        ),
    ),
}

GOLD: dict[str, tuple[Edit, ...]] = {
    "building_is_reproducible": (Edit(CODE, SEED, "generator = torch.Generator()\n        generator.seed()"),),
    "encoder_is_frozen": (
        Edit(CODE, WEIGHT, f'{WEIGHT}\n        self.register_buffer("calls", torch.zeros(()))'),
        Edit(CODE, VALUES, f"{VALUES}\n        self.calls += 1"),
    ),
    "gradients_stay_in_the_adapter": (
        Edit(CODE, "    def encode", "    @torch.enable_grad()\n    def encode"),
        Edit(CODE, VALUES, f"self.weight.requires_grad = True\n        {VALUES}"),
    ),
    "loss_falls": (Edit(CODE, VALUES, f"{VALUES}\n        values = torch.ones_like(values)"),),
    "bf16_autocast_works": (
        Edit(
            CODE,
            VALUES,
            "values = rows.new_zeros(*rows.shape[:2], 8)\n"
            "        values[batch.mask] = (rows @ self.weight)[batch.mask] * self.options.gain",
        ),
    ),
    "saved_and_loaded_it_answers_the_same": (Edit(SPEC, "default=1.0, desc", "default=1.0, exclude=True, desc"),),
    "other_modalities_stay_bit_identical": (
        Edit(
            CODE,
            WEIGHT,
            f'{WEIGHT}\n        backbone = getattr(context.vision, "__self__", None)\n'
            "        if backbone is not None:\n            next(backbone.qformer.parameters()).data.mul_(1.5)",
        ),
    ),
}

FAULTS = {"bronze": BRONZE, "silver": SILVER, "gold": GOLD}


def write_specimen(place: Path, name: str, edits: tuple[Edit, ...]) -> Path:
    """Write the specimen with its edits as a distribution whose package is called after the fault."""
    shutil.copytree(SPECIMEN, place, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        path = place / edit.file
        text = path.read_text(encoding="utf-8")
        if not edit.old:
            path.unlink()
            continue
        assert text.count(edit.old) == 1, f"{edit.file} has {text.count(edit.old)} times {edit.old!r}"
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    for path in [*place.glob("*/*.py"), place / METADATA / "entry_points.txt"]:
        path.write_text(path.read_text(encoding="utf-8").replace(PACKAGE, f"{PACKAGE}_{name}"), encoding="utf-8")
    (place / PACKAGE).rename(place / f"{PACKAGE}_{name}")
    return place
