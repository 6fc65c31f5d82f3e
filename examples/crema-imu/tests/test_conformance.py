from crema_core.testing import conformance

test_conformance = conformance("imu")
