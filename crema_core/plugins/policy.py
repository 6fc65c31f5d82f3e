"""Which installed plugins may be used: the environment variables, read in one place.

- `CREMA_PLUGINS`: allowlist of distributions or names, separated by commas; set and empty means none.
- `CREMA_PLUGINS_DISABLE`: the opposite list; it wins over the first.
- `CREMA_PLUGINS_STRICT=1`: a broken installed plugin is an error even when unused, for continuous integration.

What core itself provides is not an installed plugin to the allowlist; only `CREMA_PLUGINS_DISABLE` switches it off.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from crema_core.errors import did_you_mean
from crema_core.plugins._metadata import InstalledEntryPoint, same_distribution

ALLOW = "CREMA_PLUGINS"
DISABLE = "CREMA_PLUGINS_DISABLE"
STRICT = "CREMA_PLUGINS_STRICT"
CORE_DISTRIBUTION = "crema-core"


@dataclass(frozen=True)
class Policy:
    """What may be used.

    Attributes:
        allow: names or distributions, or None when everything installed is allowed.
        disable: names or distributions that are off.
        strict: broken installed plugins are errors.
    """

    allow: tuple[str, ...] | None = None
    disable: tuple[str, ...] = ()
    strict: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Policy:
        """Read the three variables."""
        allow = environment.get(ALLOW)
        return cls(
            allow=None if allow is None else _words(allow),
            disable=_words(environment.get(DISABLE, "")),
            strict=environment.get(STRICT, "") not in ("", "0"),
        )

    def refusal(self, entry: InstalledEntryPoint) -> str | None:
        """Return why an entry point may not be used, ending with what to change, or None when it may."""
        subject = f"'{entry.name}' is installed ({entry.provider})"
        if any(_matches(word, entry) for word in self.disable):
            return f"{subject} but disabled by {DISABLE}={','.join(self.disable)}. Take it out of {DISABLE} to use it."
        if self.allow is None or same_distribution(entry.distribution, CORE_DISTRIBUTION):
            return None
        if any(_matches(word, entry) for word in self.allow):
            return None
        return f"{subject} but not listed in {ALLOW}='{','.join(self.allow)}'. Add '{entry.name}' to {ALLOW} to use it."

    def warn_about_strangers(self, entries: Iterable[InstalledEntryPoint]) -> None:
        """Warn for words of the variables that match no installed plugin: a typing error would be silent otherwise."""
        entries = tuple(entries)
        packages = sorted({entry.distribution for entry in entries})
        known = {word for entry in entries for word in (entry.name, entry.distribution)}
        for variable, words in ((ALLOW, self.allow or ()), (DISABLE, self.disable)):
            for word in words:
                if not any(_matches(word, entry) for entry in entries):
                    warnings.warn(
                        f"'{word}' in {variable} matches no installed plugin. "
                        f"Known: {', '.join(packages)}, and each name they provide.{did_you_mean(word, known)}",
                        stacklevel=3,
                    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _matches(word: str, entry: InstalledEntryPoint) -> bool:
    return word == entry.name or same_distribution(word, entry.distribution)
