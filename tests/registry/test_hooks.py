"""Hooks on real metadata: a package with a fault is left out whole, named once, and never stops the run."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from crema_core.errors import HookError
from crema_core.plugins.hooks import Command, Hooks, ReportSection, hookimpl, load_hooks
from tests.support.dummies import Installer

EVENTS = (
    "crema_build_started, crema_checkpoint_saved, crema_evaluated, crema_gradients_ready, crema_modality_built, "
    "crema_model_built, crema_register_commands, crema_report_sections, crema_step_finished, crema_tokens_ready, "
    "crema_train_started"
)
SOURCE = "crema-dummy-hook-typo 0.1.0"
PROBLEMS = [
    f"{SOURCE} (defaults): crema_step_finished gives default values to losses. pluggy releases treat them differently, "
    "so hooks take none. Remove the default values.",
    f"{SOURCE} (stranger): its hooks do not fit, so none are used: Plugin '{SOURCE} (stranger)' for hook "
    "'crema_step_finished' hookimpl definition: crema_step_finished(step: 'int', loss: 'float') -> 'None' "
    "Argument(s) {'loss'} are declared in the hookimpl but can not be found in the hookspec. "
    "Compare: python -m pydoc crema_core.plugins.hookspecs",
    f"{SOURCE} (typo): 'crema_step_finshed' is not a hook, so none of its hooks are used. Hooks: {EVENTS}. "
    "Did you mean 'crema_step_finished'?",
    f"'unimportable' ({SOURCE}) could not be imported from crema_dummy_hook_typo.unimportable: ModuleNotFoundError: No "
    "module named 'crema_dummy_nowhere'. Repair it: pip install --force-reinstall crema-dummy-hook-typo, remove it: "
    "pip uninstall crema-dummy-hook-typo, or switch it off: CREMA_PLUGINS_DISABLE=crema-dummy-hook-typo",
    f"{SOURCE} (wrapping): crema_step_finished is a wrapper. Hooks here are called one by one and cannot wrap others. "
    "Write @hookimpl without wrapper=True.",
]


def test_faulty_hooks_are_named_and_left_out(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREMA_PLUGINS", "good,crema-dummy-hook-typo")  # our own packages have hooks too
    install("hook_typo", "good")
    with pytest.warns(UserWarning) as caught:
        hooks = load_hooks()
    assert [str(warning.message) for warning in caught] == PROBLEMS
    assert hooks.problems == PROBLEMS
    assert hooks.names == ("crema-dummy-hook-typo 0.1.0 (failing)", "crema-dummy-good 0.1.0 (good)") or hooks.names == (
        "crema-dummy-good 0.1.0 (good)",
        "crema-dummy-hook-typo 0.1.0 (failing)",
    )
    assert hooks.call("crema_evaluated", trainer=None, metrics={}) == []


def test_a_failing_hook_is_reported_once_and_the_others_are_called(install: Installer) -> None:
    install("good", "hook_typo")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hooks = load_hooks()
    with pytest.warns(UserWarning, match="failed") as caught:
        for step in (1, 2):
            hooks.call("crema_step_finished", trainer=None, step=step, losses={"a": 0.5})
    assert [str(warning.message) for warning in caught] == [
        f"The hook crema_step_finished of {SOURCE} (failing) failed: RuntimeError: no room on the disk. "
        "The run continues without its result. Switch the plugin off: CREMA_PLUGINS_DISABLE=crema-dummy-hook-typo"
    ]
    from crema_dummy_good.hooks import seen

    assert seen == [(1, {"a": 0.5}), (2, {"a": 0.5})]


def test_strict_raises_what_is_a_warning_otherwise(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("hook_typo")
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    with pytest.raises(HookError) as caught:
        load_hooks()
    assert str(caught.value) == PROBLEMS[0]


def test_strict_raises_when_a_hook_fails() -> None:
    class Failing:
        @hookimpl
        def crema_evaluated(self, metrics: object) -> None:
            raise ValueError("no")

    hooks = load_hooks([Failing()], strict=True)
    with pytest.raises(HookError) as caught:
        hooks.call("crema_evaluated", trainer=None, metrics={})
    assert isinstance(caught.value.__cause__, ValueError)


def test_disabled_packages_add_no_hooks(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good", "hook_typo")
    monkeypatch.setenv("CREMA_PLUGINS", "good")
    assert load_hooks().names == ("crema-dummy-good 0.1.0 (good)",)
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema-dummy-good")
    assert load_hooks().names == ()


def test_hooks_with_returns_are_collected(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREMA_PLUGINS", "good")
    install("good")
    hooks = load_hooks()
    assert hooks.call("crema_report_sections", run=Path("runs/one")) == [[ReportSection("Good", "<p>one</p>")]]
    (commands,) = hooks.call("crema_register_commands")
    assert commands[0] == Command("greet", "say hello", "crema_dummy_good.greet")


def test_an_object_given_by_hand_must_keep_the_rules_even_when_not_strict() -> None:
    class Misspelt:
        @hookimpl
        def crema_train_begun(self, trainer: object) -> None: ...

    with pytest.raises(HookError) as caught:
        load_hooks([Misspelt()], strict=False)
    assert str(caught.value) == (
        f"Misspelt: 'crema_train_begun' is not a hook, so none of its hooks are used. Hooks: {EVENTS}. "
        "Did you mean 'crema_train_started'?"
    )


def test_managers_of_two_runs_share_nothing(install: Installer) -> None:
    class Listener:
        @hookimpl
        def crema_model_built(self, model: object) -> str:
            return "built"

    assert load_hooks([Listener()]).call("crema_model_built", model=None) == ["built"]
    assert Hooks(strict=False).call("crema_model_built", model=None) == []


def test_one_object_cannot_be_added_twice() -> None:
    class Listener:
        @hookimpl
        def crema_model_built(self, model: object) -> None: ...

    listener = Listener()
    hooks = Hooks(strict=False)
    hooks.add(listener, name="first")
    with pytest.raises(HookError, match="its hooks do not fit, so none are used: Plugin"):
        hooks.add(listener, name="second")
    assert hooks.names == ("first",)


def test_the_hooks_registered_last_are_called_first_as_everywhere_in_pluggy() -> None:
    heard: list[str] = []

    class Observer:
        def __init__(self, name: str) -> None:
            self.__name__ = name

        @hookimpl
        def crema_step_finished(self, step: int) -> None:
            heard.append(f"{self.__name__} {step}")

    hooks = load_hooks([Observer("first"), Observer("second"), Observer("third")])
    hooks.call("crema_step_finished", trainer=None, step=7, losses={})
    assert heard == ["third 7", "second 7", "first 7"]


def test_checkpoints_know_a_plugin_whatever_version_of_its_package_is_installed(
    install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Listener:
        @hookimpl
        def crema_model_built(self, model: object) -> None: ...

    monkeypatch.setenv("CREMA_PLUGINS", "good")
    install("good")
    hooks = load_hooks([Listener()])
    assert set(hooks.names) == {"crema-dummy-good 0.1.0 (good)", "Listener"}
    assert hooks.keys == {"crema-dummy-good (good)", "Listener"}


def test_hooks_tell_whether_anybody_listens_and_takes_an_argument() -> None:
    class Listener:
        @hookimpl
        def crema_gradients_ready(self, gradients: object) -> None: ...

    hooks = load_hooks([Listener()])
    assert hooks.listens("crema_gradients_ready")
    assert hooks.listens("crema_gradients_ready", "gradients")
    assert not hooks.listens("crema_gradients_ready", "norms")
    assert not hooks.listens("crema_tokens_ready")


def test_arguments_of_its_own_are_made_for_every_plugin_by_key_and_name() -> None:
    seen: list[object] = []

    class Listener:
        @hookimpl
        def crema_evaluated(self, control: object) -> None:
            seen.append(control)

    load_hooks([Listener()]).call(
        "crema_evaluated", for_plugin={"control": lambda key, name: (key, name)}, trainer=None, metrics={}
    )
    assert seen == [("Listener", "Listener")]
