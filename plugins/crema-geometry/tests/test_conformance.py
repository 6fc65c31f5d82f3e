"""The package against the conformance kit."""

from crema_core.testing import conformance

test_depth = conformance("depth")
test_flow = conformance("flow")
test_normals = conformance("normals")
