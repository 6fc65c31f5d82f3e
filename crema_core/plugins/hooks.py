"""Broadcast to plugins: the hooks of one run.

pluggy checks names and arguments; loading and calling are done here one implementation at a time, because pluggy's own
loader stops at the first broken package and its own call stops at the first exception. A hook that fails, also one that
calls `sys.exit`, is reported once and the run continues; with `CREMA_PLUGINS_STRICT=1` it stops the run. What hooks of
packages print goes to standard error; objects given by hand belong to the caller and print where they like.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import pluggy

from crema_core.errors import HookError, PluginError, PluginExitError, did_you_mean
from crema_core.plugins import hookspecs, registry
from crema_core.plugins.fence import fault_text, fenced, switch_off
from crema_core.plugins.hookspecs import PROJECT, Command, ReportSection, hookimpl
from crema_core.plugins.loading import Policy

__all__ = ["Command", "Hooks", "Offered", "ReportSection", "hookimpl", "load_hooks"]

Item = TypeVar("Item", Command, ReportSection)


class Offered(NamedTuple):
    """One item of what a hook returned, and whose it is."""

    provider: str  # `distribution version`; the name of an object given by hand
    item: Any


class Hooks:
    """The hook implementations of one run; `strict` raises where a hook cannot be used or fails, instead of a warning.

    Example:
        >>> hooks = Hooks(strict=False)
        >>> hooks.call("crema_evaluated", trainer=None, metrics={"accuracy": 0.5})
        []
    """

    def __init__(self, *, strict: bool) -> None:
        self.strict = strict
        self.problems: list[str] = []  # what was reported so far
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._providers: dict[str, str] = {}  # name of a package's plugin -> `distribution version`

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the registered plugins, in the order of registration."""
        return tuple(name for name, _ in self._manager.list_name_plugin())

    def add(self, plugin: object, *, name: str, provider: str | None = None) -> None:
        """Register a module or object with `@hookimpl` functions, all of them or none.

        Args:
            plugin: the module or object.
            name: what messages call it.
            provider: `distribution version` of the package it belongs to, whose code is fenced; None: given by hand.

        Raises:
            HookError: a misspelt name, an argument the hook does not have, default values, or a wrapper.
        """
        try:
            self._manager.register(plugin, name=name)
            self._check(plugin, name)
        except (pluggy.PluginValidationError, ValueError, HookError) as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise error if isinstance(error, HookError) else HookError(_rejected(name, error)) from error
        if provider is not None:
            self._providers[name] = provider

    @property
    def keys(self) -> frozenset[str]:
        """What tells the registered plugins apart in checkpoints, the same for all versions of a package."""
        return frozenset(self._key(name) for name in self.names)

    def listens(self, event: str, argument: str | None = None) -> bool:
        """Return whether any plugin implements a hook and, where `argument` is given, takes that argument of it."""
        found = getattr(self._manager.hook, event).get_hookimpls()
        return any(argument is None or argument in own.argnames for own in found)

    def call(
        self,
        event: str,
        *,
        for_plugin: Mapping[str, Callable[[str, str], object]] | None = None,
        guard: Callable[[], object] | None = None,
        **arguments: Any,
    ) -> list[Any]:
        """Give all arguments of a hook to its implementations and return their results, without None.

        A failure stays inside its plugin.

        Args:
            event: name of the hook.
            for_plugin: arguments that every plugin has its own of, by name; called with key and name of the plugin.
            guard: returns something that is equal before and after an implementation unless it changed what it was
                given to read.
            **arguments: the others, the same for all.

        Raises:
            HookError: when strict, with the plugin's exception as its cause; always when `guard` found a change.
        """
        return [result for _, result in self._results(event, arguments, for_plugin or {}, guard)]

    def collect(self, event: str, kind: type[Item], **arguments: Any) -> list[Offered]:
        """Call a hook that returns a sequence of items, and return those that are what the hook asks for.

        Args:
            event: name of the hook.
            kind: what an item is, a named tuple of texts; a plugin that returns anything else is reported.
            **arguments: as for `call`.

        Raises:
            HookError: only when strict.
        """
        offered: list[Offered] = []
        for name, result in self._results(event, arguments):
            items = result if isinstance(result, list | tuple) and not isinstance(result, kind) else [result]
            wrong = [own for own in items if not (isinstance(own, kind) and all(isinstance(part, str) for part in own))]
            if wrong:
                self.report(
                    f"The hook {event} of {name} returned {wrong[0]!r}. Accepted is a list of {kind.__name__}"
                    f"({', '.join(kind._fields)}), all texts. The run continues without its result. {self._cure(name)}"
                )
            else:
                offered += [Offered(self._providers.get(name, name), item) for item in items]
        return offered

    def _results(
        self,
        event: str,
        arguments: Mapping[str, Any],
        for_plugin: Mapping[str, Callable[[str, str], object]] | None = None,
        guard: Callable[[], object] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Yield the name of every plugin with what it returned, without None; failures are reported."""
        for implementation in reversed(getattr(self._manager.hook, event).get_hookimpls()):
            name, result = implementation.plugin_name, None
            own = {given: make(self._key(name), name) for given, make in (for_plugin or {}).items()}
            before = guard() if guard is not None else None
            try:
                given = [
                    own[argument] if argument in own else arguments[argument] for argument in implementation.argnames
                ]
                result = self._fenced_call(event, name, implementation.function, given)
            except Exception as error:  # noqa: BLE001 - a fault of foreign code must not stop the run
                self.report(
                    f"The hook {event} of {name} failed: {fault_text(error)}. "
                    f"The run continues without its result. {self._cure(name)}",
                    cause=error.__cause__ if isinstance(error, PluginExitError) else error,
                )
            if guard is not None and guard() != before:
                raise HookError(
                    f"The hook {event} of {name} changed a tensor it was given to read, so the run would continue with "
                    f"other numbers. Work on a copy (tensor.clone()) in the hook. {self._cure(name)}"
                )
            if result is not None:
                yield name, result

    def _fenced_call(self, event: str, name: str, function: Callable[..., Any], given: Sequence[Any]) -> Any:
        provider = self._providers.get(name)
        if provider is None:
            return function(*given)
        with fenced(f"running its hook {event}", provider=provider):
            return function(*given)

    def _key(self, name: str) -> str:
        provider = self._providers.get(name)
        return name if provider is None else provider.partition(" ")[0] + name.removeprefix(provider)

    def _cure(self, name: str) -> str:
        return f"Switch the plugin off: {switch_off(name.partition(' ')[0])}"

    def report(self, problem: str, *, cause: BaseException | None = None) -> None:
        """Warn about a problem once, or raise it when strict."""
        if self.strict:
            raise HookError(problem) from cause
        if problem not in self.problems:
            self.problems.append(problem)
            warnings.warn(problem, stacklevel=3)

    def _check(self, plugin: object, name: str) -> None:
        for caller in self._manager.get_hookcallers(plugin) or []:
            if not caller.has_spec():
                known = sorted(event for event in vars(hookspecs) if event.startswith("crema_"))
                raise HookError(
                    f"{name}: '{caller.name}' is not a hook, so none of its hooks are used. "
                    f"Hooks: {', '.join(known)}.{did_you_mean(caller.name, known)}"
                )
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin:
                    _check_implementation(implementation, caller.name, name)
        self._manager.check_pending()


def load_hooks(plugins: Sequence[object] = (), *, strict: bool | None = None) -> Hooks:
    """Make the hooks of one run from the installed packages and from modules or objects given by hand.

    Raises:
        HookError: for a fault in `plugins`, or when strict (None reads `CREMA_PLUGINS_STRICT`) in a package.
    """
    policy = Policy.from_environment()
    hooks = Hooks(strict=policy.strict if strict is None else strict)
    for found in registry.providers("hook"):
        if found.refusal is not None:
            continue
        try:
            provider = found.provider if found.entry is not None else None  # registered by hand: the caller's own
            hooks.add(found.load(), name=f"{found.provider} ({found.name})", provider=provider)
        except PluginError as error:  # it cannot be imported, or its hooks do not fit
            hooks.report(str(error), cause=error)
    for plugin in plugins:
        hooks.add(plugin, name=getattr(plugin, "__name__", type(plugin).__name__))
    return hooks


def _check_implementation(implementation: Any, event: str, name: str) -> None:
    if implementation.hookwrapper or implementation.wrapper:
        raise HookError(
            f"{name}: {event} is a wrapper. Hooks here are called one by one and cannot wrap others. "
            "Write @hookimpl without wrapper=True."
        )
    defaults = [
        parameter.name
        for parameter in inspect.signature(implementation.function).parameters.values()
        if parameter.default is not parameter.empty
    ]
    if defaults:
        raise HookError(
            f"{name}: {event} gives default values to {', '.join(defaults)}. pluggy releases treat them "
            "differently, so hooks take none. Remove the default values."
        )


def _rejected(name: str, error: Exception) -> str:
    detail = " ".join(str(error).split())
    return f"{name}: its hooks do not fit, so none are used: {detail}. Compare: python -m pydoc {hookspecs.__name__}"
