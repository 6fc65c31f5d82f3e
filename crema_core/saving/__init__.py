"""Models and adapters as folders, and released checkpoints; what is written goes through `crema_core.common.atomic`."""
