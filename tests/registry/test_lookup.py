"""What names mean, on real metadata, and the whole text of every refusal."""

from __future__ import annotations

import sys

import pytest

from crema_core.errors import (
    BuildError,
    ContractError,
    DuplicateModalityError,
    IncompatiblePluginError,
    MissingRequirementError,
    OptionsError,
    PluginDisabledError,
    PluginLoadError,
    PluginVersionWarning,
    UnknownModalityError,
)
from crema_core.modality import load_modality_class
from crema_core.plugins import groups, registry
from crema_core.plugins.spec import ModalitySpec
from tests.support.dummies import Installer


def spec(name: str = "handmade", *, factory: str = "handmade.modality:Handmade", **fields: object) -> ModalitySpec:
    return ModalitySpec(
        name=name, summary="By hand.", factory=factory, encoder="own", feature_dim=4, prefix="", **fields
    )


def installed() -> str:
    return ", ".join(registry.installed_names())


def test_an_installed_package_is_found_by_its_bare_name(install: Installer) -> None:
    install("good")
    plugin = registry.resolve("good")
    assert (plugin.distribution, plugin.version) == ("crema-dummy-good", "0.1.0")
    assert plugin.reference == "crema_dummy_good.plugin:SPEC"
    assert plugin.options.model_dump() == {"frames": 2}


def test_a_dictionary_gives_options(install: Installer) -> None:
    install("good")
    assert registry.resolve({"name": "good", "frames": 5}).options.model_dump() == {"frames": 5}


def test_asking_for_one_modality_imports_no_other(install: Installer) -> None:
    install("good", "duplicate_a")
    registry.resolve("good")
    assert "crema_dummy_good.plugin" in sys.modules
    assert "crema_dummy_duplicate_a" not in sys.modules


def test_unknown_option(install: Installer) -> None:
    install("good")
    with pytest.raises(OptionsError) as caught:
        registry.resolve({"name": "good", "frame": 5})
    assert str(caught.value) == "good: unknown option 'frame'. Accepted: frames. Did you mean 'frames'?"


def test_near_name(install: Installer) -> None:
    install("good")
    with pytest.raises(UnknownModalityError) as caught:
        registry.resolve("goood")
    assert str(caught.value) == (
        f"'goood' is not an installed modality. Installed: {installed()}. Did you mean 'good'?"
    )


def test_name_like_nothing(install: Installer) -> None:
    with pytest.raises(UnknownModalityError) as caught:
        registry.resolve("zzzzzz")
    assert str(caught.value) == (
        f"'zzzzzz' is not an installed modality. Installed: {installed()}. See what is there: crema plugins list"
    )


def test_known_name_that_is_not_installed_says_which_package_has_it(
    install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "directory", lambda: {"modality": {"radar": "crema-radar"}})
    with pytest.raises(UnknownModalityError) as caught:
        registry.resolve("radar")
    assert str(caught.value) == (
        f"'radar' is not an installed modality. Installed: {installed()}. It is provided by crema-radar. "
        "Run: pip install crema-radar"
    )


def test_two_packages_with_one_name_need_a_choice(install: Installer) -> None:
    install("duplicate_a", "duplicate_b")
    with pytest.raises(DuplicateModalityError) as caught:
        registry.resolve("twin")
    assert str(caught.value) == (
        "2 installed packages provide 'twin': crema-dummy-duplicate-a 0.1.0, crema-dummy-duplicate-b 0.2.0. "
        "Name the one you mean, for example 'crema-dummy-duplicate-a:twin'"
    )
    assert registry.resolve("crema-dummy-duplicate-b:twin").version == "0.2.0"
    assert registry.resolve("Crema_Dummy.Duplicate_A:twin").version == "0.1.0"


def test_distribution_that_does_not_provide_the_name(install: Installer) -> None:
    install("duplicate_a", "good")
    with pytest.raises(UnknownModalityError) as caught:
        registry.resolve("crema-dummy-good:twin")
    assert str(caught.value) == (
        "'crema-dummy-good' does not provide 'twin'. Provided by: crema-dummy-duplicate-a 0.1.0. "
        "Write: 'crema-dummy-duplicate-a:twin' or just 'twin'"
    )


def test_broken_import_keeps_its_cause(install: Installer) -> None:
    install("broken_import")
    for _ in range(2):
        with pytest.raises(PluginLoadError) as caught:
            registry.resolve("broken")
        assert str(caught.value) == (
            "'broken' (crema-dummy-broken-import 0.1.0) could not be imported from "
            "crema_dummy_broken_import.plugin:SPEC: ModuleNotFoundError: No module named 'crema_dummy_nowhere'. "
            "Repair it: pip install --force-reinstall crema-dummy-broken-import, "
            "remove it: pip uninstall crema-dummy-broken-import, "
            "or switch it off: CREMA_PLUGINS_DISABLE=crema-dummy-broken-import"
        )
        assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("name", "version", "upgrade"), [("future", "2.0", "crema-core"), ("ancient", "0.9", "crema-dummy-wrong-api")]
)
def test_other_major_version_of_the_contract_is_refused(
    install: Installer, name: str, version: str, upgrade: str
) -> None:
    install("wrong_api")
    with pytest.raises(IncompatiblePluginError) as caught:
        registry.resolve(name)
    assert str(caught.value) == (
        f"'{name}' (crema-dummy-wrong-api 0.1.0) was written for plugin API {version}, this crema-core speaks 1.0; "
        f"the major versions must be equal. Upgrade the older side: pip install -U {upgrade}"
    )


def test_newer_minor_version_of_the_contract_warns_once(install: Installer) -> None:
    install("wrong_api")
    with pytest.warns(PluginVersionWarning) as caught:
        assert registry.resolve("newer").spec.api_version == "1.9"
        registry.resolve("newer")
    assert [str(warning.message) for warning in caught] == [
        "'newer' (crema-dummy-wrong-api 0.1.0) was written for plugin API 1.9, this crema-core speaks 1.0. "
        "It may use what is not there yet. Upgrade: pip install -U crema-core"
    ]


CONTRACT = {
    "not_a_spec": (
        "'not_a_spec' (crema-dummy-bad-contract 0.1.0): crema_dummy_bad_contract.plugin:NOT_A_SPEC is of type dict. "
        'The entry point must name a ModalitySpec object. Write: not_a_spec = "crema_dummy_bad_contract.plugin:SPEC"'
    ),
    "misnamed": (
        "'misnamed' (crema-dummy-bad-contract 0.1.0): the entry point is called 'misnamed', its spec 'other_name'. "
        'The two names must be equal. Write: other_name = "crema_dummy_bad_contract.plugin:MISNAMED"'
    ),
    "illegal": (
        "'illegal' (crema-dummy-bad-contract 0.1.0): crema_dummy_bad_contract.illegal:SPEC declares what a spec does "
        "not allow: name: Value error, 'Illegal-Name' is not a legal modality name. Names match "
        "^[a-z][a-z0-9_]{1,31}$, for example 'radar'.; colour: Extra inputs are not permitted. Correct the ModalitySpec"
    ),
}


@pytest.mark.parametrize("name", CONTRACT)
def test_declaration_that_breaks_the_contract(install: Installer, name: str) -> None:
    install("bad_contract")
    with pytest.raises(ContractError) as caught:
        registry.resolve(name)
    assert str(caught.value) == CONTRACT[name]


CLASSES = {
    "incomplete": (
        "'incomplete' (crema-dummy-bad-contract 0.1.0): crema_dummy_bad_contract.modality:Incomplete lacks encode, "
        "example. A modality has prepare, encode and example. Define: encode, example"
    ),
    "not_a_modality": (
        "'not_a_modality' (crema-dummy-bad-contract 0.1.0): crema_dummy_bad_contract.modality:NotAModality is not a "
        "subclass of Modality. The factory must name one. Write: class NotAModality(crema_core.Modality)"
    ),
    "wrong_signature": (
        "'wrong_signature' (crema-dummy-bad-contract 0.1.0): crema_dummy_bad_contract.signature:WrongSignature breaks "
        "the contract: WrongSignature.prepare takes (self, source, frames). The contract's is (self, source). "
        "Write: def prepare(self, source)."
    ),
}


@pytest.mark.parametrize("name", CLASSES)
def test_class_that_breaks_the_contract(install: Installer, name: str) -> None:
    install("bad_contract")
    with pytest.raises(ContractError) as caught:
        load_modality_class(registry.resolve(name))
    assert str(caught.value) == CLASSES[name]


def test_class_module_that_cannot_be_imported(install: Installer) -> None:
    install("bad_contract")
    with pytest.raises(PluginLoadError) as caught:
        load_modality_class(registry.resolve("broken_factory"))
    assert str(caught.value) == (
        "'broken_factory' (crema-dummy-bad-contract 0.1.0): crema_dummy_bad_contract.nowhere:Missing could not be "
        "imported: ModuleNotFoundError: No module named 'crema_dummy_bad_contract.nowhere'. "
        'See the whole traceback: python -c "import crema_dummy_bad_contract.nowhere", or switch the package off: '
        "CREMA_PLUGINS_DISABLE=crema-dummy-bad-contract"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_one_class_cannot_serve_two_specs(install: Installer) -> None:
    install("bad_contract")
    assert load_modality_class(registry.resolve("first_owner")).spec.name == "first_owner"
    with pytest.raises(ContractError) as caught:
        load_modality_class(registry.resolve("second_owner"))
    assert str(caught.value) == (
        "'second_owner' (crema-dummy-bad-contract 0.1.0): crema_dummy_bad_contract.modality:Shared already belongs to "
        "'first_owner'. One class serves one spec. Write a subclass of it for 'second_owner'"
    )


def test_the_class_gets_its_spec(install: Installer) -> None:
    install("good")
    plugin = registry.resolve("good")
    assert load_modality_class(plugin).spec is plugin.spec


def test_requirements_are_compared_with_metadata(install: Installer) -> None:
    from importlib_metadata import version

    install("bad_contract")
    with pytest.raises(MissingRequirementError) as caught:
        load_modality_class(registry.resolve("needy"))
    assert str(caught.value) == (
        f"'needy' (crema-dummy-bad-contract 0.1.0) needs numpy>=99 (found {version('numpy')}), "
        "crema-dummy-nowhere>=1.0 (it is not installed). Run: pip install 'numpy>=99' 'crema-dummy-nowhere>=1.0'"
    )


def test_all_problems_of_a_build_are_reported_together(install: Installer) -> None:
    install("good", "broken_import", "duplicate_a", "duplicate_b", "bad_contract")
    items = ["good", "goood", "broken", "twin", "needy", {"name": "good", "frames": 0}, {"frames": 3}, "good"]
    with pytest.raises(BuildError) as caught:
        registry.resolve_all(items)
    kinds = [type(problem).__name__ for problem in caught.value.problems]
    assert kinds == [
        "UnknownModalityError",
        "PluginLoadError",
        "DuplicateModalityError",
        "MissingRequirementError",
        "OptionsError",
        "OptionsError",
        "OptionsError",
    ]
    lines = str(caught.value).splitlines()
    assert lines[0] == "7 problems:"
    assert lines[5] == (
        "- good.frames: input should be greater than or equal to 1, got 0. Give another value, for example the default."
    )
    assert lines[6] == (
        "- {'frames': 3} does not name a modality. Accepted: 'name', 'distribution:name', "
        "{'name': ..., option: value} or a ModalitySpec. Write for example: modalities=[{'name': 'radar', 'frames': 4}]"
    )
    assert lines[7] == "- 'good' is given 3 times. A model has one modality of a name. Remove the others."


def test_a_single_text_instead_of_a_list() -> None:
    with pytest.raises(OptionsError) as caught:
        registry.resolve_all("good")
    assert str(caught.value) == "modalities is one item, 'good'. Accepted is a list of items. Write: modalities=[...]"


def test_order_of_the_items_is_kept(install: Installer) -> None:
    install("good", "duplicate_a")
    assert [plugin.spec.name for plugin in registry.resolve_all(["twin", "good"])] == ["twin", "good"]


def test_a_spec_given_by_hand_needs_no_package() -> None:
    plugin = registry.resolve(spec())
    assert (plugin.distribution, plugin.version, plugin.reference) == ("", "", "handmade.modality:Handmade")


def test_a_spec_given_by_hand_of_another_major_version() -> None:
    with pytest.raises(IncompatiblePluginError) as caught:
        registry.resolve(spec(api_version="3.0"))
    assert str(caught.value) == (
        "'handmade' (given in this process) was written for plugin API 3.0, this crema-core speaks 1.0; "
        "the major versions must be equal. Upgrade the older side: pip install -U crema-core"
    )


def test_a_spec_imported_from_an_installed_package_keeps_its_provenance(install: Installer) -> None:
    install("good")
    from crema_dummy_good.plugin import SPEC

    assert registry.resolve(SPEC).distribution == "crema-dummy-good"


def test_a_registered_spec_is_found_by_name(install: Installer) -> None:
    registry.register(spec())
    registry.register(spec())
    assert registry.resolve("handmade").reference == "handmade.modality:Handmade"
    assert "handmade" in registry.installed_names()
    assert [record.status for record in registry.list_modalities() if record.name == "handmade"] == ["ok"]


def test_registering_a_name_that_is_taken(install: Installer) -> None:
    install("good")
    registry.register(spec())
    for taken, owner in (
        (spec("good"), "crema-dummy-good 0.1.0"),
        (spec(factory="other.place:Handmade"), "a registered spec (handmade.modality:Handmade)"),
    ):
        with pytest.raises(DuplicateModalityError) as caught:
            registry.register(taken)
        assert str(caught.value) == (
            f"'{taken.name}' is already provided by {owner}. A name has one provider; nothing was changed. "
            "Give the spec another name, or pass replace=True"
        )
    registry.register(spec("good"), replace=True)
    assert registry.resolve("good").distribution == ""
    assert registry.resolve("crema-dummy-good:good").distribution == "crema-dummy-good"


def test_describe_is_json_with_provenance(install: Installer) -> None:
    import json

    install("good")
    facts = json.loads(json.dumps(registry.describe("good")))
    assert facts["options"]["properties"]["frames"]["default"] == 2
    assert (facts["distribution"], facts["version"], facts["status"]) == ("crema-dummy-good", "0.1.0", "ok")


def test_refresh_sees_a_package_installed_later(install: Installer) -> None:
    assert "good" not in registry.installed_names()
    install("good")
    assert "good" in registry.installed_names()


def test_disabled_by_name(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good")
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "good")
    with pytest.raises(PluginDisabledError) as caught:
        registry.resolve("good")
    assert str(caught.value) == (
        "'good' is installed (crema-dummy-good 0.1.0) but disabled by CREMA_PLUGINS_DISABLE=good. "
        "Take it out of CREMA_PLUGINS_DISABLE to use it."
    )
    assert "crema_dummy_good" not in sys.modules


@pytest.mark.parametrize("allowed", ["", "crema-dummy-broken-import"])
def test_not_in_the_allowlist(install: Installer, monkeypatch: pytest.MonkeyPatch, allowed: str) -> None:
    install("good", "broken_import")
    monkeypatch.setenv("CREMA_PLUGINS", allowed)
    with pytest.raises(PluginDisabledError) as caught:
        registry.resolve("good")
    assert str(caught.value) == (
        f"'good' is installed (crema-dummy-good 0.1.0) but not listed in CREMA_PLUGINS='{allowed}'. "
        "Add 'good' to CREMA_PLUGINS to use it."
    )


def test_disabling_one_of_two_packages_chooses_the_other(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("duplicate_a", "duplicate_b")
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema_dummy_duplicate_a")
    assert registry.resolve("twin").distribution == "crema-dummy-duplicate-b"


def test_core_s_own_modality_needs_no_place_in_the_allowlist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREMA_PLUGINS", "")
    own = [record for record in registry.list_modalities() if record.distribution == "crema-core"]
    assert [record.status for record in own] == ["ok"]


def test_a_word_that_matches_nothing_is_reported(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good")
    monkeypatch.setenv("CREMA_PLUGINS", "good,crema-dummy-god")
    with pytest.warns(UserWarning, match="matches no installed plugin") as caught:
        registry.resolve_all(["good"])
    (message,) = [str(warning.message) for warning in caught]
    assert message.startswith("'crema-dummy-god' in CREMA_PLUGINS matches no installed plugin. Known: ")
    assert message.endswith(" Did you mean 'crema-dummy-good'?")


def test_strict_makes_an_unused_broken_package_an_error(install: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good", "broken_import")
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    with pytest.raises(PluginLoadError) as caught:
        registry.resolve_all(["good"])
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 installed plugin(s) cannot be used, which CREMA_PLUGINS_STRICT=1 makes an error:"
    assert lines[1].startswith("- 'broken' (crema-dummy-broken-import 0.1.0) could not be imported from ")
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "0")
    assert len(registry.resolve_all(["good"])) == 1


def test_resolved_plugins_pickle_into_worker_processes(install: Installer) -> None:
    import pickle

    install("good")
    plugin = registry.resolve({"name": "good", "frames": 4})
    assert pickle.loads(pickle.dumps(plugin)) == plugin
