"""The package against the conformance kit."""

from crema_core.testing import conformance

test_dense_video = conformance("dense_video")
test_exo_views = conformance("exo_views")
