"""Bronze: options a user can set without reading code."""

from __future__ import annotations

from crema_core.errors import OptionsError
from crema_core.testing.check import check, require
from crema_core.testing.subject import Subject

NO_OPTION = "no_option_has_this_name"


@check("bronze", needs=("entry_point_names_a_spec",))
def options_are_described(subject: Subject) -> None:
    """Every option has a description.

    Why: `crema plugins show` prints it, and it is all a user sees of the option.
    Fix: `Field(default=8, ge=1, description="sweeps read from a recording")`.
    """
    silent = [name for name, field in subject.spec.options.model_fields.items() if not field.description]
    require(
        not silent,
        f"The options {', '.join(silent)} have no description. Users see nothing else of them. Write "
        "Field(..., description='...').",
    )


@check("bronze", needs=("entry_point_names_a_spec",))
def options_are_strict(subject: Subject) -> None:
    """An option that does not exist is refused.

    Why: a misspelt option would be ignored without a word, and an experiment would not be what its settings say.
    Fix: subclass `ModalityOptions` and leave its `model_config` as it is.
    """
    required = {name: None for name, field in subject.spec.options.model_fields.items() if field.is_required()}
    try:
        subject.spec.parse_options({**required, NO_OPTION: 1})
    except OptionsError as error:
        refused = NO_OPTION in str(error)
    else:
        refused = False
    require(
        refused,
        "The options accept a name that does not exist. Misspelt options must be refused. Leave model_config of "
        "ModalityOptions as it is (extra='forbid').",
    )


@check("bronze", needs=("entry_point_names_a_spec",))
def test_options_are_given(subject: Subject) -> None:
    """`test_options` has at least one set of options: small, quick, and needing no download.

    Why: the checks, core's tests and the documentation build the sense with them on any machine.
    Fix: `test_options=(RadarOptions(num_sweeps=2),)`; add one set per encoder or mode the sense has.
    """
    require(
        bool(subject.spec.test_options),
        "test_options is empty. Checks build the sense with small, quick options. Give SPEC "
        "test_options=(YourOptions(...),).",
    )
