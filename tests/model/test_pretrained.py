"""Weights of one file are those that were meant."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from crema_core.errors import AssetError, OptionsError
from crema_core.modality import BuildContext
from crema_core.model.pretrained import require_digest
from crema_core.plugins import registry
from tests.support.packages import needs_names

AUDIO, POINTCLOUD = (needs_names("modality", name) for name in ("audio", "pointcloud"))
CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.pt"
    path.write_bytes(CONTENT)
    return path


def test_the_expected_content_passes_in_either_case_of_letters(file: Path) -> None:
    require_digest(file, DIGEST)
    require_digest(file, DIGEST.upper())
    require_digest(file, None)


def test_other_content_is_refused(file: Path) -> None:
    with pytest.raises(AssetError) as caught:
        require_digest(file, 64 * "0")
    assert str(caught.value) == (
        f"'{file}' has the sha256 {DIGEST}. Expected is {64 * '0'}. Download the file again, or change the option "
        "sha256 when another file is meant."
    )


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.pt"
    with pytest.raises(AssetError) as caught:
        require_digest(path, DIGEST)
    assert str(caught.value) == (
        f"'{path}' cannot be opened: it does not exist. Its sha256 was asked for. Check the path of the weights."
    )


@pytest.mark.parametrize(
    ("modality", "encoder"),
    [pytest.param("audio", "beats", marks=AUDIO), pytest.param("pointcloud", "pointbert", marks=POINTCLOUD)],
)
def test_a_modality_compares_the_file_it_loads(modality: str, encoder: str, file: Path) -> None:
    spec = registry.resolve(modality).spec
    options = spec.parse_options({"encoder": encoder, "weights": str(file), "sha256": 64 * "0"})
    with pytest.raises(AssetError, match="Expected is 0000"):
        spec.load_factory()(options, BuildContext()).load_assets(None)


@pytest.mark.parametrize(
    ("modality", "encoder", "other"),
    [
        pytest.param("audio", "beats", "whisper", marks=AUDIO),
        pytest.param("pointcloud", "pointbert", "fourier", marks=POINTCLOUD),
    ],
)
def test_a_digest_is_not_ignored_where_it_has_no_meaning(modality: str, encoder: str, other: str) -> None:
    with pytest.raises(OptionsError) as caught:
        registry.resolve(modality).spec.parse_options({"encoder": other, "sha256": DIGEST})
    assert str(caught.value) == (
        f"{modality}: sha256 is for weights of one file, those of encoder='{encoder}', and encoder='{other}' was "
        f"chosen; a hub id is pinned by revision, got {{'encoder': '{other}', 'sha256': '{DIGEST}'}}. Give another "
        "value, for example the default."
    )
