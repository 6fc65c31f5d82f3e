"""Specs and objects that break the contract, one way each."""

from __future__ import annotations

from crema_core.plugins.spec import ModalitySpec

NOT_A_SPEC = {"name": "not_a_spec"}

MISNAMED = ModalitySpec(
    name="other_name",
    summary="A modality.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="other_name: ",
)

WRONG_SIGNATURE = ModalitySpec(
    name="wrong_signature",
    summary="A modality.",
    factory="crema_dummy_bad_contract.signature:WrongSignature",
    encoder="own",
    feature_dim=8,
    prefix="wrong_signature: ",
)

INCOMPLETE = ModalitySpec(
    name="incomplete",
    summary="A modality.",
    factory="crema_dummy_bad_contract.modality:Incomplete",
    encoder="own",
    feature_dim=8,
    prefix="incomplete: ",
)

NOT_A_MODALITY = ModalitySpec(
    name="not_a_modality",
    summary="A modality.",
    factory="crema_dummy_bad_contract.modality:NotAModality",
    encoder="own",
    feature_dim=8,
    prefix="not_a_modality: ",
)

FIRST_OWNER = ModalitySpec(
    name="first_owner",
    summary="A modality.",
    factory="crema_dummy_bad_contract.modality:Shared",
    encoder="own",
    feature_dim=8,
    prefix="first_owner: ",
)

SECOND_OWNER = ModalitySpec(
    name="second_owner",
    summary="A modality.",
    factory="crema_dummy_bad_contract.modality:Shared",
    encoder="own",
    feature_dim=8,
    prefix="second_owner: ",
)

BROKEN_FACTORY = ModalitySpec(
    name="broken_factory",
    summary="A modality.",
    factory="crema_dummy_bad_contract.nowhere:Missing",
    encoder="own",
    feature_dim=8,
    prefix="broken_factory: ",
)

NEEDY = ModalitySpec(
    name="needy",
    summary="A modality.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="needy: ",
    requires=("numpy>=99", "crema-dummy-nowhere>=1.0", "pydantic>=2", "nothing; python_version < '3'"),
)
