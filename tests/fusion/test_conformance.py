"""Core's own fusions keep the contract."""

from __future__ import annotations

from crema_core.testing import conformance

test_concat = conformance("concat", kind="fusion")
test_individual_qformers = conformance("individual_qformers", kind="fusion")
test_linear = conformance("linear", kind="fusion")
test_self_gated = conformance("self_gated", kind="fusion")
test_mixture = conformance("mixture", kind="fusion")
test_cross_attention = conformance("cross_attention", kind="fusion")
test_ungated = conformance("ungated", kind="fusion")
test_token_mixture = conformance("token_mixture", kind="fusion")
test_supporting_cross_attention = conformance("supporting_cross_attention", kind="fusion")
