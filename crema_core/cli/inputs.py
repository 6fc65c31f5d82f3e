"""What several verbs read from the command line: lists of names, `key=value` settings, places of saved models."""

from __future__ import annotations

import argparse
import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from crema_core.common.reading import parse_yaml, shown
from crema_core.errors import OptionsError, ReadError, did_you_mean
from crema_core.plugins.spec import MMQASpec, parse_settings

if TYPE_CHECKING:
    import torch

    from crema_core.api.model import CremaModel
    from crema_core.evaluation.settings import EvaluationSettings

CONFIG = "crema.json"
PRESET_HELP = "a name, for example tiny or nextqa-vfdn; all of them: crema plugins list --kind preset"
"""Help of the option --preset."""
_SIZES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
_DURATIONS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Parser(argparse.ArgumentParser):
    """Reads the words of a verb, and says of an unknown option what `explain` knows.

    Attributes:
        explain: from the name of an option that does not exist, without dashes, to a sentence about it.
    """

    explain: Callable[[str], str] | None = None

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and end with code 2, as argparse does."""
        unknown = re.search(r"^unrecognized arguments: .*?--([\w-]+)", message)
        super().error(f"{message}\n{self.explain(unknown[1])}" if unknown and self.explain else message)


def help_text(verb: str, **values: str) -> str:
    """Return the help of a verb of core, which lies in the folder `help`, with the values it leaves open."""
    text = Path(__file__).with_name("help").joinpath(f"{verb}.txt").read_text(encoding="utf-8")
    return string.Template(text.rstrip("\n")).substitute(values)


def names(text: str) -> list[str]:
    """Split `a,b` into names; used as the type of an option.

    >>> names("video, audio")
    ['video', 'audio']
    """
    return [name.strip() for name in text.split(",") if name.strip()]


def assignments(items: Iterable[str]) -> dict[str, Any]:
    """Read `key=value` items; values are written as in YAML.

    Raises:
        OptionsError: for an item without `=` or with a value that is not YAML.

    >>> assignments(["epochs=3", "max_grad_norm=null", "modalities=[a, b]"])
    {'epochs': 3, 'max_grad_norm': None, 'modalities': ['a', 'b']}
    """

    found = {}
    for item in items:
        key, sign, value = item.partition("=")
        if not sign or not key.strip():
            raise OptionsError(f"{shown(item)} sets nothing. Accepted: key=value. Write --set epochs=3, for example.")
        try:
            found[key.strip()] = yaml_value(value)
        except ReadError as error:
            raise OptionsError(
                f"The value of {shown(item)} cannot be read. Values are written as in YAML: 3, 0.001, true, null, "
                "[a, b]. Put the item in quotes if it has brackets or spaces."
            ) from error
    return found


def qformer(text: str) -> str | dict[str, Any]:
    """Read which Q-Former is meant: a place, or sizes; used as the type of an option.

    Raises:
        OptionsError: for what is neither.

    >>> qformer("layers=2, width=128")
    {'layers': 2, 'width': 128}
    """
    if "=" not in text:
        return text
    parts = [part.strip() for part in text.split(",")]
    if not all("=" in part for part in parts):
        raise OptionsError(
            f"--qformer {text} is neither a place nor sizes. Accepted: folder or hub id of a BLIP-2 checkpoint, or "
            "sizes as name=number with commas between. Write --qformer layers=2,width=512, for example."
        )
    return assignments(parts)


def yaml_value(text: str) -> Any:
    """Read one YAML value; `2e-3` is a number here, which YAML 1.1 takes for a text."""

    value = parse_yaml(text)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def with_options(modalities: Sequence[Any], values: Mapping[str, Any]) -> list[Any]:
    """Put values of `modality.option` and `modality.mmqa.size` into the requests of `build`, names or mappings.

    Raises:
        OptionsError: for a key whose first part is no modality of the list.
    """
    requests = [dict(item) if isinstance(item, Mapping) else {"name": item} for item in modalities]
    by_name = {str(request["name"]).rpartition(":")[2]: request for request in requests}
    for key, value in values.items():
        name, _, option = key.partition(".")
        if name not in by_name:
            raise OptionsError(
                f"'{key}' is an option of '{name}', which is not among the modalities: {', '.join(by_name)}."
                f"{did_you_mean(name, by_name)} Add the modality, or leave the option out."
            )
        group, _, size = option.partition(".")
        if group == "mmqa" and size:
            if size not in MMQASpec.model_fields:
                raise OptionsError(
                    f"'{key}': unknown adapter size '{size}'. Accepted: {', '.join(MMQASpec.model_fields)}."
                    f"{did_you_mean(size, MMQASpec.model_fields)}"
                )
            by_name[name].setdefault("mmqa", {})[size] = value
        else:
            by_name[name][option] = value
    return [request["name"] if len(request) == 1 else request for request in requests]


def num_bytes(text: str) -> int:
    """Read a size, in powers of ten.

    Raises:
        OptionsError: for anything but a number with a unit.

    >>> num_bytes("1.5GB")
    1500000000
    """
    return int(_amount(text, _SIZES, what="a size", example="20GB"))


def duration_s(text: str) -> float:
    """Read a duration, in seconds.

    Raises:
        OptionsError: for anything but a number with a unit.

    >>> duration_s("2h")
    7200.0
    """
    return _amount(text, _DURATIONS, what="a duration", example="30d")


def _amount(text: str, units: Mapping[str, float], *, what: str, example: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    if found is None or found[2].lower() not in units:
        raise OptionsError(
            f"'{text}' is not {what}. Accepted: a number and one of {', '.join(units)}. Write {example}, for example. "
            "Nothing was changed."
        )
    return float(found[1]) * units[found[2].lower()]


_SHARED: Mapping[str, Mapping[str, Any]] = {
    "modalities": {"type": names, "metavar": "A,B", "help": "modalities in order; default: those in the data"},
    "backbone": {"metavar": "PLACE", "help": "vision-language model, folder or hub id; default: crema-tiny"},
    "qformer": {
        "type": qformer,
        "metavar": "PLACE|SIZES",
        "help": "Q-Former on a vision-language model: folder or hub id of a BLIP-2, or sizes of a new one; default: "
        "layers=2,width=512",
    },
    "language-model": {"metavar": "PLACE", "help": "another language model, folder or hub id"},
    "image-size": {"type": int, "metavar": "PIXELS", "help": "side of square pictures, where a backbone takes any"},
    "fusion": {"metavar": "NAME", "help": "fusion strategy; default: self_gated"},
    "preset": {"metavar": "NAME", "help": PRESET_HELP},
    "set": {"metavar": "MODALITY.OPTION=VALUE", "help": "option of a modality; may be repeated"},
    "json": {"action": "store_true", "help": "print JSON"},
}


def add_shared(parser: argparse.ArgumentParser, *options: str, **changes: Any) -> None:
    """Add options that several verbs have; `changes` replace what argparse is told about each of them."""
    for name in options:
        fixed = {"action": "append", "default": []} if name == "set" else {}
        parser.add_argument(f"--{name}", **{**fixed, **_SHARED[name], **changes})


ON_ERROR = ("on_error", "max_skipped")
"""What the options of `add_on_error` are called as settings."""


def add_on_error(parser: argparse.ArgumentParser) -> None:
    """Add what is done about samples whose files cannot be used."""
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        help="samples whose files cannot be used: stop before the work (default), or skip: leave them out",
    )
    parser.add_argument(
        "--max-skipped", type=float, metavar="SHARE", help="of skip: largest share of the samples; default: 0.1"
    )


def given(arguments: argparse.Namespace, *options: str) -> dict[str, Any]:
    """Return the values of those options that were given, by name."""
    return {name: value for name in options if (value := getattr(arguments, name)) is not None}


def print_result(facts: object, text: object, *, as_json: bool) -> None:
    """Print what a verb found: as JSON, or for people."""
    print(json.dumps(facts, indent=2) if as_json else text)


def add_saved_model(parser: argparse.ArgumentParser, *, device: str = "for example cuda") -> None:
    """Add the options by which a saved model is found and placed; `device` is the help of --device."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or run directory of crema fit")
    parser.add_argument("--backbone", metavar="PLACE", help="where the backbone is now, if it moved")
    parser.add_argument("--language-model", metavar="PLACE", help="where the model's other language model is now")
    parser.add_argument(
        "--without",
        type=names,
        default=[],
        metavar="A,B",
        help="modalities to open the model without, for example where their packages are not installed",
    )
    parser.add_argument("--device", help=device)


def load_saved(arguments: argparse.Namespace, *, device: str | torch.device | None = None) -> CremaModel:
    """Load the saved model that the options of `add_saved_model` name; `device` goes before the option."""
    from crema_core.api.load import load

    return load(
        model_folder(arguments.model),
        backbone=arguments.backbone,
        language_model=arguments.language_model,
        device=device or arguments.device,
        without=arguments.without,
    )


_EVALUATION: Mapping[str, Mapping[str, Any]] = {
    "modalities": {"type": names, "metavar": "A,B", "help": "modalities that take part; '' for none"},
    "shuffle": {"metavar": "MODALITY", "help": "exchange this modality's sources between samples"},
    "seed": {"type": int, "help": "of exchanged sources"},
    "batch_size": {"type": int, "help": "questions per pass"},
    "max_new_tokens": {"type": int, "help": "longest open-ended answer"},
    "num_beams": {"type": int, "help": "beams of the search for open-ended answers"},
    "scorer": {"metavar": "NAME", "help": "rule for open-ended answers; default: the data set's, or exact"},
    "measures": {"type": names, "metavar": "A,B", "help": "further measures; default: the data set's"},
    "prompts": {"choices": ("model", "dataset"), "help": "whose wording of questions; default: model"},
    "fusion": {"action": "store_const", "const": "concat", "help": "bypass the fusion"},
}


def add_evaluation(parser: argparse.ArgumentParser, *fields: str) -> None:
    """Add options for fields of `EvaluationSettings`, each called as its field; fusion is called --concat."""
    for name in fields:
        flag = "concat" if name == "fusion" else name.replace("_", "-")
        parser.add_argument(f"--{flag}", dest=f"evaluation_{name}", **_EVALUATION[name])


def evaluation_settings(arguments: argparse.Namespace, **fixed: object) -> EvaluationSettings:
    """Return the settings of the options of `add_evaluation` that were given, and of `fixed` fields beside them.

    Raises:
        OptionsError: for a value a field cannot have.
    """
    from crema_core.evaluation.settings import EvaluationSettings

    every = {key: getattr(arguments, f"evaluation_{key}", None) for key in _EVALUATION}
    every |= {key: getattr(arguments, key, None) for key in ON_ERROR}
    values = {key: value for key, value in every.items() if value is not None}
    return parse_settings(EvaluationSettings, {**values, **fixed}, title="evaluation")


def model_folder(place: str) -> Path:
    """Return the folder of a saved model; a run directory means the model inside it."""
    folder = Path(place)
    inside = folder / "model"
    return inside if not (folder / CONFIG).is_file() and (inside / CONFIG).is_file() else folder
