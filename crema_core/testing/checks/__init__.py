"""The checks, one file per group; `crema_core.testing.check.MODULES` has their order."""
