"""What a modality's code raises or returns against the contract is said with its name, its package, its file."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch

from crema_core.data import modality_calls
from crema_core.data.data_file import Record
from crema_core.data.dataset import Key, ModalityDataset, _say_nothing_of_lost_connections, load_batches
from crema_core.data.limits import MAX_SECONDS
from crema_core.data.modality_calls import Carried
from crema_core.errors import (
    AssetError,
    BuildError,
    ContractError,
    CremaError,
    MediaError,
    OptionsError,
    OutOfMemoryError,
    WorkerError,
)
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample, pad_samples
from crema_core.plugins import registry
from crema_core.plugins.spec import ModalityOptions
from tests.support.dummies import Installer, dummies, install
from tests.support.modalities import wave_spec

__all__ = ["dummies", "install"]

OWNER = "'bad_calls' (crema-dummy-bad-calls 0.3.0)"
ADVICE = (
    "This is a fault of crema-dummy-bad-calls: report it to its authors with the traceback. See what else is wrong "
    "with it: crema plugins check bad_calls. Work without it: CREMA_PLUGINS_DISABLE=bad_calls"
)
MakeModality = Callable[[str], Modality]


@pytest.fixture
def bad(install: Installer) -> MakeModality:
    """Builds the bad modality with a fault."""
    install("bad_calls")

    def make(fault: str) -> Modality:
        plugin = registry.resolve("bad_calls")
        return modality_calls.construct(plugin, plugin.spec.parse_options({"fault": fault}), BuildContext())

    return make


@pytest.fixture
def guilty(tmp_path: Path) -> Path:
    """A source that the modality fails for."""
    path = tmp_path / "guilty.txt"
    path.write_text("-1")
    return path


PREPARE = {
    "prepare raises": "prepare() raised ValueError: boom (modality.py, line {line}), reading {path}. A source that "
    "cannot be read is refused with MediaError, and nothing else is raised.",
    "prepare exits": "prepare() raised SystemExit: 0 (modality.py, line {line}), reading {path}. A source that",
    "prepare gives a dict": "prepare() returned a dict, reading {path}. Accepted is Sample({{name: tensor (T, ...)}}, "
    "times).",
    "prepare gives None": "prepare() returned None, reading {path}. Accepted is Sample",
    "prepare gives nothing": "prepare() returned a Sample without tensors, reading {path}. Accepted is Sample",
    "prepare gives an array": "prepare() returned a Sample whose 'rows' is a ndarray of shape (1, 8) and type float32, "
    "reading {path}. Accepted is Sample",
    "prepare gives meta": "prepare() returned a Sample whose 'rows' is on the device 'meta', reading {path}. Accepted "
    "are tensors on the CPU.",
    "prepare gives float64": "prepare() returned a Sample whose 'rows' is of type float64, reading {path}. Accepted "
    "are bool, whole numbers and floats of at most 32 bits: tensor.float().",
    "prepare gives gradient": "prepare() returned a Sample whose 'rows' requires a gradient, reading {path}. Accepted",
    "prepare gives nan": "prepare() returned a Sample of which 8 of 8 numbers of 'rows' are not finite, reading "
    "{path}. Accepted are finite numbers; a source that holds others is refused with MediaError. Look at the source "
    "first: it may hold NaN or infinity itself.",
    "prepare gives no step": "prepare() returned a Sample of shapes 'rows' (0, 8), reading {path}. All have the same "
    "number of steps T first, at least one.",
    "prepare gives two lengths": "prepare() returned a Sample of shapes 'rows' (1, 8), 'more' (2, 8), reading {path}.",
    "prepare gives a strange clock": "prepare() returned times that are a Tensor of shape (1, 2) and type int64, "
    "reading {path}. Accepted is None, or a tensor (1, 2) of type float32: start and end of every step in seconds.",
}


@pytest.mark.parametrize("fault", PREPARE)
def test_what_prepare_must_not_do_is_said_with_the_file(bad: MakeModality, guilty: Path, fault: str) -> None:
    with pytest.raises(ContractError) as caught:
        modality_calls.prepare(bad(fault), guilty)
    text, cause = str(caught.value), caught.value.__cause__
    line = text.partition("line ")[2].partition(")")[0]
    wanted = PREPARE[fault].format(path=repr(str(guilty)), line=line)
    assert text.startswith(f"{OWNER}: {wanted}")
    assert text.endswith(ADVICE)
    assert type(cause) is {"raises": ValueError, "exits": SystemExit}.get(fault.split()[1], type(None))


def test_innocent_sources_pass_unchanged(bad: MakeModality, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("2")
    sample = modality_calls.prepare(bad("prepare raises"), tmp_path / "two.txt")
    assert torch.equal(sample.tensors["rows"], torch.full((1, 8), 2.0))


def test_a_refusal_keeps_its_type_and_gets_its_file(bad: MakeModality, guilty: Path) -> None:
    with pytest.raises(MediaError) as caught:
        modality_calls.prepare(bad("prepare refuses without a name"), guilty)
    assert str(caught.value) == f"'{guilty}': It is no number. Accepted is one. Write it."
    guilty.write_text("x")
    with pytest.raises(MediaError, match="holds no number") as caught:
        modality_calls.prepare(bad("prepare refuses without a name"), guilty)
    assert str(caught.value) == f"'{guilty}' holds no number. Accepted is one. Write it."
    with pytest.raises(MediaError, match=r"^Byte"):  # of an array there is no file to name
        modality_calls.prepare(Refusing(ModalityOptions(), BuildContext()), torch.ones(1))


class Packing(Modality):
    """Has a vision-language model's layout: tensors that have no steps in common."""

    def prepare(self, source: object) -> Sample:
        return Sample({"patches": torch.ones(12, 4), "ids": torch.ones(5, dtype=torch.int64)}, torch.ones(2, 2))

    def collate(self, samples: Sequence[Sample]) -> Batch:
        return Batch({"patches": samples[0].tensors["patches"]}, torch.ones(1, 2, dtype=torch.bool))

    def encode(self, batch: Batch) -> Features:
        return Features(batch["patches"].view(1, 2, 6, 4), batch.mask)

    def example(self, generator: torch.Generator) -> object:
        return None


class NoReader:
    """Stands for the reader of a vision-language model."""

    def prepare(self, frames_TCHW: torch.Tensor, times_T2: torch.Tensor | None = None) -> Sample:
        raise NotImplementedError

    def collate(self, samples: Sequence[Sample]) -> Batch:
        raise NotImplementedError


def test_what_a_vision_language_model_prepares_needs_no_common_number_of_steps() -> None:
    Packing.spec = wave_spec(feature_dim=None)
    with pytest.raises(ContractError, match=r"a Sample of shapes 'patches' \(12, 4\), 'ids' \(5,\)"):
        modality_calls.prepare(Packing(ModalityOptions(), BuildContext(vision_dim=4)), None)
    modality = Packing(ModalityOptions(), BuildContext(vision_dim=4, reader=NoReader()))
    sample = modality_calls.prepare(modality, None)
    batch = modality_calls.collate(modality, [sample])
    assert modality_calls.encode(modality, batch).values.shape == (1, 2, 6, 4)


class Refusing(Modality):
    """Has no spec, and refuses everything."""

    def prepare(self, source: object) -> Sample:
        raise MediaError("Byte 1 is wrong. Accepted are digits. Write one.")

    def encode(self, batch: object) -> Features:
        return self.forgotten  # type: ignore[return-value]

    def example(self, generator: torch.Generator) -> object:
        return None


def test_a_class_without_package_and_spec_is_named_by_itself() -> None:
    batch = pad_samples([Sample({"rows": torch.ones(1, 8)})])
    with pytest.raises(ContractError) as caught:
        modality_calls.encode(Refusing(ModalityOptions(), BuildContext()), batch)
    assert str(caught.value).startswith("Refusing: encode() raised AttributeError: 'Refusing' object has no attribute")
    assert str(caught.value).endswith("Correct Refusing; crema_core.testing.check_modality(SPEC) finds such faults.")


def test_memory_that_is_lacking_stays_lacking_memory(bad: MakeModality, guilty: Path) -> None:
    with pytest.raises(OutOfMemoryError) as caught:
        modality_calls.prepare(bad("prepare needs memory"), guilty)
    assert str(caught.value).startswith(
        f"{OWNER}: prepare() needs more memory than there is (Unable to allocate 3 TiB), reading '{guilty}'. "
    )
    modality = Refusing(ModalityOptions(), BuildContext())
    for error in (
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        modality.encode = lambda batch, error=error: (_ for _ in ()).throw(error)  # type: ignore[method-assign]
        with pytest.raises(type(error)) as raw:
            modality_calls.encode(modality, pad_samples([Sample({"rows": torch.ones(1, 8)})]))
        assert raw.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("DataLoader worker (pid 7) is killed by signal")])
def test_what_is_nobodys_fault_passes(error: BaseException) -> None:
    modality = Refusing(ModalityOptions(), BuildContext())
    modality.encode = lambda batch: (_ for _ in ()).throw(error)  # type: ignore[method-assign]
    with pytest.raises(type(error)) as caught:
        modality_calls.encode(modality, pad_samples([Sample({"rows": torch.ones(1, 8)})]))
    assert caught.value is error


FOR = ", for sample 'a', 'a.txt'; sample 'b', 'b.txt'"
ENCODE = {
    "encode raises": f"encode() raised ValueError: boom (modality.py, line {{line}}){FOR}. encode() returns Features "
    "for every batch that collate() returned.",
    "encode exits": f"encode() raised SystemExit: 0 (modality.py, line {{line}}){FOR}.",
    "encode gives None": f"encode() returned None{FOR}. The contract is Features(values, mask), values (2, steps, "
    "tokens, 8) floats on the batch's device; feature_dim is 8.",
    "encode gives a tensor": f"encode() returned a Tensor of shape (2, 1, 1, 8) and type float32{FOR}. The contract",
    "encode gives int64": f"encode() returned features of type int64{FOR}. Accepted are floats: values.float().",
    "encode gives nan": "encode() returned features of which 8 of 16 numbers are not finite (float32), for sample 'b', "
    "'b.txt'. Accepted are finite numbers, in padded places too.",
    "encode gives another width": f"encode() returned features of shape (2, 1, 1, 7) for 2 samples{FOR}. The contract "
    "is (samples, steps, tokens, 8); feature_dim is 8. Correct encode() or feature_dim.",
    "encode gives another batch": f"encode() returned features of shape (1, 1, 1, 8) for 2 samples{FOR}.",
    "encode gives a long mask": f"encode() returned a torch.bool mask of shape (2, 2){FOR}. The contract is a bool "
    "mask of shape (2, 1) or (2, 1, 1): Features(values, batch.mask).",
    "encode gives a float mask": f"encode() returned a torch.float32 mask of shape (2, 1){FOR}.",
    "encode gives meta": f"encode() returned features on 'meta' with a mask on 'meta'{FOR}. Accepted is the device of "
    "the batch, 'cpu'.",
    "encode masks all": "encode() returned features that masked away every step of a sample, for sample 'b', 'b.txt'. "
    "A present modality has at least one real step. Refuse empty sources in prepare() with a MediaError.",
    "encode gives strange times": f"encode() returned times that are a Tensor of shape (2, 1) and type float32{FOR}.",
    "encode gives strange extras": f"encode() returned extras of another kind{FOR}. Accepted are tensors (2, ...)",
}


@pytest.mark.parametrize("fault", ENCODE)
def test_what_encode_must_not_do_is_said_with_its_samples(bad: MakeModality, fault: str) -> None:
    batch = pad_samples([Sample({"rows": torch.ones(1, 8)}), Sample({"rows": -torch.ones(1, 8)})])
    with pytest.raises(ContractError) as caught:
        modality_calls.encode(bad(fault), batch, ("sample 'a', 'a.txt'", "sample 'b', 'b.txt'"))
    text = str(caught.value)
    line = text.partition("line ")[2].partition(")")[0]
    assert text.startswith(f"{OWNER}: {ENCODE[fault].format(line=line)}")
    assert text.endswith(ADVICE)


def test_features_whose_sum_alone_overflows_pass(bad: MakeModality) -> None:
    batch = pad_samples([Sample({"rows": torch.full((4, 8), 3e38)})])
    assert float(modality_calls.encode(bad(""), batch).values.max()) == pytest.approx(3e38)


def test_of_many_samples_three_are_named(bad: MakeModality) -> None:
    batch = pad_samples([Sample({"rows": -torch.ones(1, 8)})] * 1_005)
    labels = tuple(f"sample '{number}'" for number in range(1_005))
    with pytest.raises(ContractError, match="for sample '0'; sample '1'; sample '2' and 1,002 more"):
        modality_calls.encode(bad("encode gives None"), batch, labels)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("collate raises", "collate() raised IndexError: boom (modality.py, line "),
        ("collate gives tensors", "collate() returned a dict, for sample 'a'. Accepted is Batch(tensors, mask, "),
        ("collate drops samples", "collate() returned a Batch whose mask is a Tensor of shape (0, 1) and type bool"),
    ],
)
def test_what_collate_must_not_do_is_said(bad: MakeModality, fault: str, said: str) -> None:
    with pytest.raises(ContractError) as caught:
        modality_calls.collate(bad(fault), [Sample({"rows": torch.ones(1, 8)})], ("sample 'a'",))
    assert str(caught.value).startswith(f"{OWNER}: {said}")


def test_what_core_finds_in_a_modalitys_samples_gets_its_name(bad: MakeModality) -> None:
    samples = [Sample({"rows": torch.ones(1, 8)}), Sample({"others": torch.ones(1, 8)})]
    with pytest.raises(ContractError) as caught:
        modality_calls.collate(bad(""), samples)
    assert str(caught.value).startswith(f"{OWNER}: Samples of one batch have different tensors: others; rows.")


def test_building_loading_showing_and_examples_are_behind_the_border_too(bad: MakeModality, guilty: Path) -> None:
    with pytest.raises(ContractError, match=r"__init__\(\) raised KeyError: 'boom'"):
        bad("init raises")
    with pytest.raises(ContractError, match=r"load_assets\(\) raised RuntimeError: boom"):
        modality_calls.load_assets(bad("load_assets raises"))
    with pytest.raises(AssetError, match=r"load_assets\(\) raised FileNotFoundError: weights.bin"):
        modality_calls.load_assets(bad("load_assets finds no file"))
    with pytest.raises(ContractError, match=r"example\(\) raised ValueError: boom"):
        modality_calls.example(bad("example raises"), torch.Generator())
    with pytest.raises(ContractError, match=r"show\(\) raised ValueError: boom"):
        modality_calls.show(bad("show raises"), guilty)
    with pytest.raises(ContractError, match=r"show\(\) returned a Tensor of shape \(4, 4, 3\) and type float32"):
        modality_calls.show(bad(""), guilty)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ("prepare raises", ContractError, f"Sample 's1' (line 2): {OWNER}: prepare() raised ValueError: boom ("),
        ("prepare exits", ContractError, f"Sample 's1' (line 2): {OWNER}: prepare() raised SystemExit: 0 ("),
        ("prepare gives None", ContractError, f"Sample 's1' (line 2): {OWNER}: prepare() returned None, reading "),
        ("prepare needs memory", OutOfMemoryError, f"Sample 's1' (line 2): {OWNER}: prepare() needs more memory "),
        ("prepare refuses oddly", MediaError, "Sample 's1' (line 2): '{path}': Byte 7 is wrong."),
        ("collate raises", ContractError, f"{OWNER}: collate() raised IndexError: boom ("),
    ],
)
def test_faults_come_out_of_worker_processes_as_they_are(
    bad: MakeModality, guilty: Path, num_workers: int, fault: str, kind: type[CremaError], said: str
) -> None:
    (good := guilty.with_name("good.txt")).write_text("1")
    records = [
        Record(f"s{row}", "?", "x", {"bad_calls": str(path)}, line=row + 1) for row, path in enumerate((good, guilty))
    ]
    dataset = ModalityDataset(records, {"bad_calls": bad(fault)}, major="bad_calls")
    before = set(multiprocessing.active_children())
    with pytest.raises(kind) as caught:
        list(load_batches(dataset, [[Key(0, 0), Key(0, 1)]], num_workers=num_workers))
    require_no_more_than(before)
    assert str(caught.value).startswith(said.format(path=guilty))
    if num_workers:
        assert isinstance(caught.value.__cause__, WorkerError)
        assert "modality.py" in str(caught.value.__cause__) or fault == "prepare gives None"


def require_no_more_than(before: set[BaseProcess]) -> None:
    """Check that no worker stays although the error still holds its traceback; torch does not wait for all to end."""
    until = time.monotonic() + 30
    while set(multiprocessing.active_children()) - before and time.monotonic() < until:
        time.sleep(0.05)
    assert set(multiprocessing.active_children()) <= before


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("prepare crashes", "(DataLoader worker (pid"),
        ("prepare segfaults", "is killed by signal: Segmentation fault"),
        ("prepare is killed", "is killed by signal: Killed"),
        ("prepare hangs", "It took longer than 1 s (CREMA_MAX_SOURCE_S)."),
    ],
)
@pytest.mark.parametrize("step_s", [0.5, 0.0], ids=["in a step", "while it is waited for"])
@pytest.mark.slow
def test_a_worker_that_ends_is_said_with_the_source_it_was_reading_and_no_other_stays(
    bad: MakeModality, guilty: Path, monkeypatch: pytest.MonkeyPatch, fault: str, said: str, step_s: float
) -> None:
    monkeypatch.setenv(MAX_SECONDS, "1")
    (good := guilty.with_name("good.txt")).write_text("1")
    records = [
        Record(f"s{row}", "?", "x", {"bad_calls": str(path)}, line=row + 1)
        for row, path in enumerate([good] * 6 + [guilty] + [good] * 9)
    ]
    dataset = ModalityDataset(records, {"bad_calls": bad(fault)}, major="bad_calls")
    before = set(multiprocessing.active_children())

    def train() -> None:
        for _ in load_batches(dataset, [[Key(0, row)] for row in range(len(records))], num_workers=2):
            time.sleep(step_s)

    with pytest.raises(WorkerError) as caught:
        train()
    require_no_more_than(before)
    text = str(caught.value)
    assert text.startswith(f"A worker process ended while it read '{guilty}' with 'bad_calls' for sample 's6' (line 7)")
    assert said in text
    assert "crema data check --deep FILE.jsonl" in text


def test_errors_of_every_kind_survive_the_way_from_a_worker() -> None:
    class OddError(OptionsError):
        """Of a package's own."""

        def __init__(self, *, number: int) -> None:
            super().__init__(f"number is {number}.")

    for error, kind in ((BuildError(["one", "two"]), BuildError), (OddError(number=3), OptionsError)):
        arrived = pickle.loads(pickle.dumps(Carried(error))).error
        assert (type(arrived), str(arrived)) == (kind, str(error))
        assert isinstance(arrived.__cause__, WorkerError)


def test_a_worker_whose_peer_was_killed_says_nothing_of_it_and_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: seen.append(kind))
    _say_nothing_of_lost_connections()
    for error in (ConnectionResetError("by peer"), EOFError(), BrokenPipeError(), ValueError("else")):
        sys.excepthook(type(error), error, None)
    assert seen == [ValueError]
