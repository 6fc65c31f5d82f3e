"""Hooks that cannot be imported."""

import crema_dummy_nowhere
