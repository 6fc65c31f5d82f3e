"""The registry serves every kind of extension alike: found, chosen, switched off, loaded, registered, refused."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import pytest

from crema_core.errors import (
    ContractError,
    DatasetError,
    DuplicatePluginError,
    OptionsError,
    PluginDisabledError,
    PluginLoadError,
)
from crema_core.fusion.base import Fusion
from crema_core.fusion.strategies import ConcatFusion
from crema_core.plugins import _metadata, groups, registry
from crema_core.plugins._metadata import InstalledEntryPoint
from crema_core.plugins.groups import KINDS, kind_of

Add = Callable[..., None]


class Mixed(ConcatFusion):
    """A strategy of somebody else."""


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Adds an entry point of another package: kind, name, reference, distribution."""
    module = types.ModuleType("crema_parts")
    module.Mixed, module.number = Mixed, 7  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "crema_parts", module)
    entries = list(_metadata.scan())
    monkeypatch.setattr(_metadata, "scan", lambda: tuple(entries))
    monkeypatch.setattr(registry, "_outcomes", {})

    def install(kind: str, name: str, reference: str = "crema_parts:Mixed", package: str = "crema-parts") -> None:
        entries.append(InstalledEntryPoint(kind_of(kind).group, name, reference, package, "2.0"))

    return install


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.base], ids=lambda kind: kind.name)
def test_the_class_a_kind_needs_exists(kind: groups.Kind) -> None:
    assert kind.load_base()
    assert all(isinstance(one, type) for one in kind.load_base())


def test_a_kind_is_found_by_its_name_and_by_its_group() -> None:
    assert kind_of("fusion") is kind_of("crema.fusions") is KINDS["fusion"]
    with pytest.raises(OptionsError) as caught:
        kind_of("fusions")
    assert str(caught.value) == (
        "'fusions' is not a kind of plugin. Kinds: modality, fusion, backbone, encoder, dataset, metric, preset, hook. "
        "Did you mean 'fusion'? Name one of them."
    )


def test_a_thing_of_another_package_is_loaded_and_names_its_package(add: Add) -> None:
    add("fusion", "mixed")
    assert registry.load("fusion", "mixed") is registry.load("fusion", "Crema_Parts:mixed") is Mixed
    found = registry.find("fusion", "mixed")
    assert (found.distribution, found.version, found.provider) == ("crema-parts", "2.0", "crema-parts 2.0")


def test_listing_imports_nothing_of_other_kinds_than_modalities(add: Add) -> None:
    add("fusion", "absent", "crema_nowhere:Absent")
    (record,) = [record for record in registry.list_plugins("fusion") if record.name == "absent"]
    assert (record.status, record.kind, record.reference) == ("ok", "fusion", "crema_nowhere:Absent")
    kinds = [record.kind for record in registry.list_plugins()]
    assert kinds == sorted(kinds, key=list(KINDS).index)
    assert {"modality", "fusion", "backbone", "metric", "preset"} <= set(kinds)


def test_a_package_that_cannot_be_imported_breaks_itself_alone(add: Add) -> None:
    add("fusion", "absent", "crema_nowhere:Absent")
    add("fusion", "mixed")
    for _ in range(2):
        with pytest.raises(PluginLoadError) as caught:
            registry.load("fusion", "absent")
        assert str(caught.value) == (
            "'absent' (crema-parts 2.0) could not be imported from crema_nowhere:Absent: ModuleNotFoundError: No "
            "module named 'crema_nowhere'. Repair it: pip install --force-reinstall crema-parts, remove it: "
            "pip uninstall crema-parts, or switch it off: CREMA_PLUGINS_DISABLE=crema-parts"
        )
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert registry.load("fusion", "mixed") is Mixed


def test_a_module_that_ends_the_program_is_a_broken_package(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    class Leaving(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise SystemExit(3)

    monkeypatch.setitem(sys.modules, "crema_leaving", Leaving("crema_leaving"))
    add("metric", "leaving", "crema_leaving:Metric")
    with pytest.raises(PluginLoadError, match="SystemExit: 3"):
        registry.load("metric", "leaving")


def test_an_entry_that_names_something_else_is_refused(add: Add) -> None:
    add("fusion", "seven", "crema_parts:number")
    with pytest.raises(ContractError) as caught:
        registry.load("fusion", "seven")
    assert str(caught.value) == (
        "'seven' (crema-parts 2.0): crema_parts:number is not a subclass of Fusion. The entry point must name one. "
        "Write: class ...(crema_core.fusion.base.Fusion)"
    )


def test_two_packages_with_one_name_need_a_choice(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    add("encoder", "mixed", "crema_parts:number")
    for kind in ("fusion", "backbone"):
        add(kind, "mixed")
        add(kind, "mixed", package="crema-others")
    with pytest.raises(DuplicatePluginError) as caught:
        registry.find("fusion", "mixed")
    assert str(caught.value) == (
        "2 installed packages provide 'mixed': crema-parts 2.0, crema-others 2.0. Name the one you mean, for example "
        "'crema-parts:mixed'"
    )
    assert registry.find("fusion", "crema-others:mixed").distribution == "crema-others"
    with pytest.raises(DuplicatePluginError) as caught:
        registry.find("backbone", "mixed")
    assert str(caught.value) == (
        "2 installed packages provide 'mixed': crema-parts 2.0, crema-others 2.0. Switch one off, for example "
        "CREMA_PLUGINS_DISABLE=crema-parts"
    )
    errors = [record.error for record in registry.list_plugins("backbone") if record.name == "mixed"]
    assert errors == [
        "2 packages provide it. Switch one off, for example CREMA_PLUGINS_DISABLE=crema-others",
        "2 packages provide it. Switch one off, for example CREMA_PLUGINS_DISABLE=crema-parts",
    ]
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema-parts")
    assert registry.find("backbone", "mixed").distribution == "crema-others"


def test_several_packages_may_have_hooks_of_one_name(add: Add) -> None:
    add("hook", "logging")
    add("hook", "logging", package="crema-others")
    assert {record.status for record in registry.list_plugins("hook") if record.name == "logging"} == {"ok"}


def test_the_environment_switches_off_every_kind(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    add("fusion", "mixed")
    monkeypatch.setenv("CREMA_PLUGINS", "")
    with pytest.raises(PluginDisabledError) as caught:
        registry.load("fusion", "mixed")
    assert str(caught.value) == (
        "'mixed' is installed (crema-parts 2.0) but not listed in CREMA_PLUGINS=''. Add 'mixed' to CREMA_PLUGINS to "
        "use it."
    )
    assert "mixed" in registry.installed_names("fusion")
    assert "mixed" not in registry.usable_names("fusion")
    assert {r.status for r in registry.list_plugins("fusion") if r.name == "mixed"} == {"disabled"}


def test_an_unknown_name_says_what_is_near_or_what_to_install(add: Add, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "directory", lambda: {"fusion": {"woven": "crema-woven"}})
    add("fusion", "mixed")
    installed = ", ".join(registry.installed_names("fusion"))
    for name, rest in (
        ("woven", " It is provided by crema-woven. Run: pip install crema-woven"),
        ("wovenn", " Did you mean 'woven'?"),
        ("mixd", " Did you mean 'mixed'?"),
        ("zzzz", " See what is there: crema plugins list --kind fusion"),
    ):
        with pytest.raises(OptionsError) as caught:
            registry.load("fusion", name)
        assert str(caught.value) == f"'{name}' is not an installed fusion. Installed: {installed}.{rest}"
    with pytest.raises(DatasetError, match="is not an installed data set"):
        registry.load("dataset", "zzzz")
    with pytest.raises(OptionsError) as caught:
        registry.load("fusion", "crema-core:mixed")
    assert str(caught.value) == (
        "'crema-core' does not provide 'mixed'. Provided by: crema-parts 2.0. Write: 'crema-parts:mixed' or just "
        "'mixed'"
    )


def test_a_class_is_registered_in_a_notebook_and_defined_again() -> None:
    def cell() -> type[Fusion]:
        class Woven(ConcatFusion):
            """Defined anew by each call, as a cell that is run again does."""

        return Woven

    registry.register(cell(), kind="fusion", name="woven")
    again = cell()
    registry.register(again, kind="fusion", name="woven")
    assert registry.load("fusion", "woven") is again
    assert registry.find("fusion", "woven").provider == "given in this process"
    assert [record.status for record in registry.list_plugins("fusion") if record.name == "woven"] == ["ok"]
    with pytest.raises(DuplicatePluginError) as caught:
        registry.register(Mixed, kind="fusion", name="woven")
    assert str(caught.value).startswith("'woven' is already provided by a registered fusion (")
    assert registry.load("fusion", "woven") is again
    registry.register(Mixed, kind="fusion", name="woven", replace=True)
    assert registry.load("fusion", "woven") is Mixed


def test_what_is_registered_is_checked_and_needs_a_name(add: Add) -> None:
    with pytest.raises(ContractError, match="given in this process"):
        registry.register(dict, kind="fusion", name="woven")
    with pytest.raises(OptionsError) as caught:
        registry.register(Mixed, kind="fusion")
    assert str(caught.value) == (
        "A fusion is registered without a name. It is found by one. Write: registry.register(..., kind='fusion', "
        "name='...')"
    )
    add("fusion", "mixed")
    with pytest.raises(DuplicatePluginError) as taken:
        registry.register(Mixed, kind="fusion", name="mixed")
    assert str(taken.value) == (
        "'mixed' is already provided by crema-parts 2.0. A name has one provider; nothing was changed. Give the fusion "
        "another name, or pass replace=True"
    )


def test_registrations_of_a_block_are_forgotten() -> None:
    with registry.temporary_registrations():
        registry.register(Mixed, kind="fusion", name="woven")
    assert "woven" not in registry.installed_names("fusion")
