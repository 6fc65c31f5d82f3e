"""The package against the conformance kit."""

from crema_core.testing import conformance

test_conformance = conformance("touch")
