import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.data.data_file import Record
from crema_core.errors import OptionsError
from crema_core.evaluation.run import shuffle_modality


def records(sources: list[int | None]) -> list[Record]:
    return [
        Record(str(i), "?", "x", {"main": f"m{i}"} | ({} if source is None else {"radar": f"r{source}"}))
        for i, source in enumerate(sources)
    ]


@given(st.lists(st.none() | st.integers(0, 6), min_size=2), st.integers(0, 5))
def test_nobody_keeps_its_own_source_and_shared_sources_stay_shared(sources: list[int | None], seed: int) -> None:
    before = records(sources)
    if len({source for source in sources if source is not None}) < 2:
        return
    after = shuffle_modality(before, "radar", seed=seed)
    exchanged = {}
    for old, new in zip(before, after, strict=True):
        assert old.sources["main"] == new.sources["main"]
        assert ("radar" in old.sources) == ("radar" in new.sources)
        if "radar" in old.sources:
            assert old.sources["radar"] != new.sources["radar"]
            assert exchanged.setdefault(old.sources["radar"], new.sources["radar"]) == new.sources["radar"]
    assert set(exchanged) == set(exchanged.values())


def test_one_source_cannot_be_exchanged() -> None:
    with pytest.raises(OptionsError) as error:
        shuffle_modality(records([1, 1, None]), "radar")
    assert str(error.value) == (
        "shuffle='radar' cannot be done: the data have 1 different sources of it. Exchanging needs at least two. "
        "Use more data, or leave shuffle out."
    )
