import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.data.order import cut, derive_seed, epoch_order, kept_modalities

NAMES = ("main", "a", "b", "c")
SUBSETS = st.lists(st.sampled_from(NAMES), unique=True)


@given(st.integers(0, 300), st.integers(0, 2**40), st.integers(0, 50))
def test_every_epoch_visits_every_sample_once_in_an_order_of_its_own(num: int, seed: int, epoch: int) -> None:
    order = epoch_order(num, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(num))
    assert order == epoch_order(num, seed=seed, epoch=epoch)
    if num > 20:
        assert order != epoch_order(num, seed=seed, epoch=epoch + 1)
        assert order != epoch_order(num, seed=seed + 1, epoch=epoch)


def test_the_order_is_the_same_on_every_machine() -> None:
    # Written down: a changed order would silently change the numbers of a resumed run.
    assert epoch_order(8, seed=42, epoch=0) == [0, 2, 5, 7, 1, 4, 6, 3]
    assert derive_seed("order", 42, 0) == 4959092572452256390


@given(st.lists(st.integers(), max_size=50), st.integers(1, 12))
def test_pieces_together_are_the_whole(order: list[int], size: int) -> None:
    pieces = cut(order, size)
    assert [entry for piece in pieces for entry in piece] == order
    assert all(len(piece) == size for piece in pieces[:-1])


@given(SUBSETS, st.integers(0, 1000), st.integers(0, 20), st.floats(0, 1), st.booleans())
def test_dropout_keeps_a_subset_in_order_and_never_nothing(
    present: list[str], index: int, epoch: int, dropout: float, drop_major: bool
) -> None:
    kept = kept_modalities(
        present, seed=1, epoch=epoch, index=index, dropout=dropout, major="main", drop_major=drop_major
    )
    assert list(kept) == [name for name in present if name in kept]
    assert bool(kept) == bool(present)
    if "main" in present and not drop_major:
        assert "main" in kept


@given(st.integers(0, 1000), st.integers(0, 20))
def test_another_modality_in_the_model_changes_no_draw(index: int, epoch: int) -> None:
    few = kept_modalities(("main", "a"), seed=3, epoch=epoch, index=index, dropout=0.5, major="main")
    more = kept_modalities(("main", "b", "a"), seed=3, epoch=epoch, index=index, dropout=0.5, major="main")
    assert ("a" in few) == ("a" in more)


def test_modalities_are_dropped_as_often_as_asked() -> None:
    kept = [kept_modalities(NAMES, seed=0, epoch=0, index=i, dropout=0.3, major="main") for i in range(4000)]
    assert sum("a" in own for own in kept) / 4000 == pytest.approx(0.7, abs=0.03)
    assert all("main" in own for own in kept)
