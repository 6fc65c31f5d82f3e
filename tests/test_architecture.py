"""The rules of the code base that a reader cannot see in one file."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "crema_core"
DIRECTORY = json.loads((CORE / "plugins" / "directory.json").read_text(encoding="utf-8"))
NAMES = tuple(DIRECTORY["modality"])

# The built-in modality is about a particular one; the rest of core is not.
ABOUT_MODALITIES = ("video",)

ROOMS = (
    "errors contract common plugins modality tokens data datasets fusion model features saving api evaluation train "
    "report testing cli video"
).split()
"""From the ground up: a room imports rooms before it alone. `video` is built in and uses core as a package does."""


def files() -> list[Path]:
    return sorted(CORE.rglob("*.py"))


def neutral_files() -> list[Path]:
    return [path for path in files() if path.relative_to(CORE).parts[0] not in ABOUT_MODALITIES]


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def prose(module: ast.Module) -> set[int]:
    """Return the ids of string nodes that are read by people only: docstrings, and the HELP text of a verb."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(id(node.value))
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "HELP" for t in node.targets):
            found |= {id(part) for part in ast.walk(node.value)}
    return found


TERMS = re.compile(
    r"video language model|video_(llava|tower|processor|token|token_id|metadata|grid_thw|second_per_grid)"
    r"|crema_core\.video\.|crema-tiny-video|audio_token(_id)?"
)
"""A kind of model, names of transformers, a room of core and a checkpoint of it; no modality is meant."""


def library_names(module: ast.Module) -> set[int]:
    """Return the ids of nodes whose name a library chose.

    PyAV's are `container.streams.<kind>` and `decode(<kind>=0)`, chat templates' `{"type": <kind>}`, processors'
    `processor(<kind>=...)`.
    """
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "streams":
            found.add(id(node))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("decode", "processor")
        ):
            found |= {id(keyword) for keyword in node.keywords}
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            found |= {id(value) for key, value in pairs if isinstance(key, ast.Constant) and key.value == "type"}
    return found


def identifiers(module: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(module):
        for field in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield node, value


def room_of(name: str) -> str:
    """Return the room of a module, "" for the package itself, which holds the version."""
    return [*name.split("."), ""][1]


def annotations_only(module: ast.Module) -> set[int]:
    """Return the ids of nodes below `if TYPE_CHECKING`: nothing is imported there when the program runs."""
    blocks = [
        node for node in ast.walk(module) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    ]
    return {id(part) for block in blocks for part in ast.walk(block)}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_rooms_below_it_alone(room: str) -> None:
    below, arrows = {"", *ROOMS[: ROOMS.index(room) + 1]}, []
    for path in files():
        if path.relative_to(CORE).with_suffix("").parts[0] != room:
            continue
        ignored = annotations_only(tree(path))
        for node, name in imported_modules(tree(path)):
            if name.partition(".")[0] == "crema_core" and id(node) not in ignored and room_of(name) not in below:
                arrows.append(f"{place(path, node)} imports {name}")
    assert arrows == [], f"'{room}' may import {', '.join(sorted(below - {''}))}"


PACKAGES = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_imports_the_contract_of_core_and_no_other_package(package: Path) -> None:
    from crema_core.contract import EXTENSIONS, TOOLS

    own = package.name.replace("-", "_")
    hits = []
    for path in sorted((package / own).rglob("*.py")):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                hits += [
                    f"{place(path, node)}: import {one.name}" for one in node.names if one.name.startswith("crema_")
                ]
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("crema_"):
                continue
            module = str(node.module)
            allowed = {*EXTENSIONS.get(module, ()), *TOOLS.get(module, ())}
            if module.partition(".")[0] == own or module == "crema_core.contract":
                continue
            if module == "crema_core":  # the public names, and modules of the contract
                import crema_core

                modules = {one.removeprefix("crema_core.") for one in {*EXTENSIONS, *TOOLS}}
                allowed = {*crema_core.__all__, *modules}
            hits += [f"{place(path, node)}: {module}.{one.name}" for one in node.names if one.name not in allowed]
    assert hits == []


def test_all_installs_every_package() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["all"] == [package.name for package in PACKAGES]


def test_every_name_of_the_contract_exists() -> None:
    from crema_core import contract

    for part in (contract.EXTENSIONS, contract.TOOLS):
        for module, names in part.items():
            found = importlib.import_module(module)
            assert [name for name in names if not hasattr(found, name)] == [], module
    assert contract.MediaError is importlib.import_module("crema_core.errors").MediaError
    with pytest.raises(AttributeError, match=r"'MediaErorr' is not part of the contract. Did you mean 'MediaError'?"):
        contract.MediaErorr  # noqa: B018 - the access is what is tested


def test_every_room_is_in_the_order() -> None:
    found = {path.relative_to(CORE).with_suffix("").parts[0] for path in files()} - {"__init__"}
    assert found == set(ROOMS)


@pytest.mark.parametrize("path", neutral_files(), ids=lambda path: str(path.relative_to(CORE)))
def test_core_names_no_modality(path: Path) -> None:
    module = tree(path)
    ignored = prose(module) | library_names(module)
    word = re.compile(rf"(?<![A-Za-z0-9])({'|'.join(NAMES)})(?![A-Za-z0-9])")
    hits = [
        f"{place(path, node)}: {name}"
        for node, name in identifiers(module)
        if id(node) not in ignored and not isinstance(node, ast.alias) and name in NAMES
    ]
    hits += [
        f"{place(path, node)}: {node.value!r}"
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in ignored
        if word.search(TERMS.sub("", node.value))
    ]
    assert hits == []


def imported_modules(module: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = node.module == "crema_core"  # its rooms are what is imported then
            yield from ((node, f"crema_core.{alias.name}" if whole else node.module) for alias in node.names)


ONLY_IMPORTERS = {
    "importlib_metadata": ("plugins/_metadata.py",),
    "importlib.metadata": (),
    "pkg_resources": (),
    "pluggy": ("plugins/hooks.py", "plugins/hookspecs.py"),
}


@pytest.mark.parametrize("library", ONLY_IMPORTERS)
def test_a_library_is_touched_in_its_one_place(library: str) -> None:
    found = {
        str(path.relative_to(CORE))
        for path in files()
        for _, name in imported_modules(tree(path))
        if name == library or name.startswith(library + ".")
    }
    assert found <= set(ONLY_IMPORTERS[library])


def test_no_private_module_is_imported_from_another_room() -> None:
    hits = [
        f"{place(path, node)}: {name}"
        for path in files()
        for node, name in imported_modules(tree(path))
        if name.startswith("crema_core.") and "._" in name
        if path.parent != CORE.parent.joinpath(*name.split(".")[:-1])
    ]
    assert hits == []


def test_files_and_folders_are_renamed_in_one_module() -> None:
    hits = set()
    for path in [*files(), *sorted(ROOT.glob("plugins/crema-*/crema_*/**/*.py"))]:
        for node in ast.walk(tree(path)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            of_a_path = node.func.attr == "rename" or (
                node.func.attr == "replace" and len(node.args) == 1 and not node.keywords  # a text's has two arguments
            )
            if of_a_path or (owner, node.func.attr) in (("os", "replace"), ("os", "renames"), ("shutil", "move")):
                hits.add(place(path, node).partition(":")[0])
    assert hits == {"crema_core/common/atomic.py"}


def test_requires_grad_is_set_in_one_module() -> None:
    hits = set()
    for path in files():
        for node in ast.walk(tree(path)):
            targets = node.targets if isinstance(node, ast.Assign) else []
            sets = any(isinstance(target, ast.Attribute) and target.attr == "requires_grad" for target in targets)
            if sets or (isinstance(node, ast.Attribute) and node.attr == "requires_grad_"):
                hits.add(str(path.relative_to(CORE)))
    assert hits <= {"model/trainable.py"}


def test_no_remote_code_and_no_unsafe_pickle() -> None:
    hits = []
    for path in [*files(), *sorted(ROOT.glob("plugins/crema-*/crema_*/**/*.py"))]:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            trust = keywords.get("trust_remote_code")
            if trust is not None and not (isinstance(trust, ast.Constant) and trust.value is False):
                hits.append(place(path, node))
            # Left out, transformers asks at a terminal whether to run the code of a checkpoint.
            called = ast.unparse(node.func)
            if re.fullmatch(r"(Auto\w+|\w+_class)\.from_pretrained", called) and trust is None:
                hits.append(f"{place(path, node)}: {called} without trust_remote_code=False")
            is_torch_load = (
                isinstance(node.func, ast.Attribute)
                and node.func.attr == "load"
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id == "torch"
            )
            safe = keywords.get("weights_only")
            if is_torch_load and not (isinstance(safe, ast.Constant) and safe.value is True):
                hits.append(place(path, node))
    assert hits == []


def test_nothing_exits_prints_a_bare_except_or_evaluates_text() -> None:
    hits = []
    for path in files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                hits.append(f"{place(path, node)}: bare except")
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id in ("exit", "eval", "exec")
            ):
                hits.append(f"{place(path, node)}: {node.func.id}()")
            if isinstance(node, ast.ExceptHandler) and [type(part) for part in node.body] == [ast.Pass]:
                hits.append(f"{place(path, node)}: except ...: pass")
    assert hits == []


# Filled in while something runs; all other dataclasses are values, which may be shared, compared and used as keys.
FILLED_IN = {"BuildContext", "EarlyExit", "FusionWatch", "PluginUnderTest", "FusionUnderTest", "Prompt"}


def test_dataclasses_are_frozen_unless_they_are_filled_in_while_something_runs() -> None:
    changeable = set()
    for path in [*files(), *sorted(ROOT.glob("plugins/crema-*/crema_*/**/*.py"))]:
        for node in ast.walk(tree(path)):
            for decorator in node.decorator_list if isinstance(node, ast.ClassDef) else ():
                text = ast.unparse(decorator)
                if text.split("(")[0].split(".")[-1] == "dataclass" and "frozen=True" not in text:
                    changeable.add(node.name)
    assert changeable == FILLED_IN


def test_every_public_function_and_class_is_documented() -> None:
    hits = [
        f"{place(path, node)}: {node.name}"
        for path in files()
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if ast.get_docstring(node) is None
    ]
    hits += [str(path.relative_to(ROOT)) for path in files() if ast.get_docstring(tree(path)) is None]
    assert hits == []


def test_every_error_is_in_the_tree() -> None:
    hits = [
        f"{place(path, node)}: {node.name}"
        for path in files()
        if path.name != "errors.py"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any(
            isinstance(base, ast.Name) and base.id in ("Exception", "ValueError", "KeyError") for base in node.bases
        )
    ]
    assert hits == []


LIGHT = {
    "import": "import crema_core",
    "dir": "import crema_core; dir(crema_core)",
    "spec": "from crema_core import ModalitySpec, ModalityOptions, API_VERSION",
    "list": "import crema_core; crema_core.list_modalities()",
    "describe": "import crema_core; crema_core.describe('video')",
    "describe of each": "import crema_core; [crema_core.describe(r.name) for r in crema_core.list_modalities()]",
    "hooks": "from crema_core.plugins.hooks import load_hooks; load_hooks()",
}


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT)
def test_light_paths_import_nothing_heavy(code: str) -> None:
    check = "import sys; print([m for m in ('torch', 'transformers', 'peft', 'numpy', 'av') if m in sys.modules])"
    command = [sys.executable, "-c", f"{code}\n{check}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_importing_the_package_imports_no_plugin_and_no_pydantic() -> None:
    code = "import sys, crema_core; print(sorted(m for m in sys.modules if m.startswith(('crema_', 'pydantic'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['crema_core']\n"


def test_every_public_name_exists() -> None:
    import crema_core

    assert all(getattr(crema_core, name) is not None for name in crema_core.__all__)
    assert set(crema_core.__all__) <= set(dir(crema_core))


def test_a_misspelt_public_name_is_explained() -> None:
    import crema_core

    with pytest.raises(AttributeError) as caught:
        crema_core.list_modality  # noqa: B018 - the access is what is tested
    assert str(caught.value) == (
        "'list_modality' is not a public name of crema_core. Public: build, load, fit, evaluate, CremaModel, "
        "list_modalities, describe, registry, Modality, ModalitySpec, ModalityOptions, Sample, Batch, Features, "
        "BuildContext, API_VERSION, __version__. Did you mean 'list_modalities'?"
    )


def test_no_first_party_package_pins_an_upper_bound_on_the_torch_stack() -> None:
    import tomllib

    from packaging.requirements import Requirement

    hits = []
    for path in [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for text in project["dependencies"]:
            requirement = Requirement(text)
            upper = [part for part in requirement.specifier if part.operator in ("<", "<=", "==", "~=")]
            if upper and not requirement.name.startswith("crema-"):
                hits.append(f"{project['name']}: {text}")
    assert hits == []
