"""Core's own fusions keep the contract."""

from __future__ import annotations

import pytest

from crema_core.testing import conformance

test_concat = pytest.mark.slow(conformance("concat", kind="fusion"))
test_individual_qformers = pytest.mark.slow(conformance("individual_qformers", kind="fusion"))
test_linear = conformance("linear", kind="fusion")
test_self_gated = conformance("self_gated", kind="fusion")
test_mixture = conformance("mixture", kind="fusion")
test_cross_attention = pytest.mark.slow(conformance("cross_attention", kind="fusion"))
test_token_mixture = pytest.mark.slow(conformance("token_mixture", kind="fusion"))
test_supporting_cross_attention = pytest.mark.slow(conformance("supporting_cross_attention", kind="fusion"))
test_ungated = pytest.mark.slow(conformance("ungated", kind="fusion"))
