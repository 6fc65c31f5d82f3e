"""Make a world on the disk: clips in every modality, a data file of questions and a file of dense captions.

OUT/data.jsonl      one question per line, with the paths of its clip's files
OUT/captions.jsonl      one line per clip that spells all facts, for dense supervision
OUT/clips/000012.*      the files of clip 12, see `files`
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crema_core.common.atomic import fresh_folder
from crema_core.common.workers import worker_processes
from crema_core.errors import did_you_mean
from crema_world.errors import WorldError
from crema_world.files import SUFFIX_OF_MODALITY, write_clip
from crema_world.questions import caption_of, deal_answers, majority_by_type, questions_of
from crema_world.scene import SPLITS, Scene, Split, draw_scene


@dataclass(frozen=True)
class WorldSummary:
    """What was written.

    Attributes:
        data_file: path of the questions.
        captions: path of the dense captions.
        num_clips: clips written.
        num_questions: lines of the data file.
        counts: questions by type.
        majority: accuracy in 0..1 by type of whoever sees only the question and knows all answers' frequencies.
    """

    data_file: Path
    captions: Path
    num_clips: int
    num_questions: int
    counts: dict[str, int]
    majority: dict[str, float]


def make_world(
    out: str | os.PathLike[str], *, num_clips: int, seed: int, split: Split, processes: int | None = None
) -> WorldSummary:
    """Write a world; the same arguments give the same scenes and answers.

    Args:
        out: a new or empty folder. It appears complete or not at all.
        num_clips: how many clips, each with one question of every type.
        seed: at least 0; different splits share no arrangement of things under any seed.
        split: `"train"`, `"valid"` or `"test"`.
        processes: how many to use; None: one, which writes about 70 clips a second.

    Raises:
        WorldError: when `out` is not empty, or a value is out of range. Nothing is written then.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> make_world(Path(mkdtemp()) / "train", num_clips=2, seed=0, split="train").num_questions
        18
    """
    out = Path(out)
    _refuse(out, num_clips=num_clips, seed=seed, split=split, processes=processes)
    scenes = draw_scenes(num_clips=num_clips, seed=seed, split=split)
    with fresh_folder(out, flush=False) as scratch:
        _write_clips(scenes, scratch / "clips", processes=processes or 1)
        _write_lines(scenes, scratch)
    questions = [question for scene in scenes for question in questions_of(scene)]
    return WorldSummary(
        data_file=out / "data.jsonl",
        captions=out / "captions.jsonl",
        num_clips=num_clips,
        num_questions=len(questions),
        counts=dict(Counter(question.type for question in questions)),
        majority=majority_by_type(questions),
    )


def draw_scenes(*, num_clips: int, seed: int, split: Split) -> list[Scene]:
    """Draw the scenes of a world without writing anything."""
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    return [draw_scene(answers, split, generator) for answers in deal_answers(num_clips, generator)]


def _refuse(out: Path, *, num_clips: int, seed: int, split: str, processes: int | None) -> None:
    if split not in SPLITS:
        raise WorldError(
            f"'{split}' is not a split of a world. Splits: {', '.join(SPLITS)}. "
            f'Write split="train", for example.{did_you_mean(split, SPLITS)}'
        )
    for name, value, least in (("num_clips", num_clips, 1), ("seed", seed, 0), ("processes", processes or 1, 1)):
        if value < least:
            raise WorldError(f"{name} is {value}. It must be at least {least}. Write {name}={least} or more.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder. A world is written only into a new or empty folder, so that no "
            "file of another one stays in it. Choose another folder, or delete this one first. Nothing was changed."
        )


def _write_clips(scenes: Sequence[Scene], folder: Path, *, processes: int) -> None:
    folder.mkdir()
    work = [(scene, folder / f"{number:06d}") for number, scene in enumerate(scenes)]
    if processes == 1:
        for scene, stem in work:
            write_clip(scene, stem)
        return
    try:
        with worker_processes(min(processes, len(work))) as submit:
            for written in [submit(write_clip, scene, stem) for scene, stem in work]:
                written.result()
    except BrokenProcessPool as error:
        raise WorldError(
            f"One of {processes} processes that draw clips was ended from outside, most often for lack of memory. Each "
            "needs about as much as one process alone. Run the command again with fewer --processes. Nothing was "
            "written."
        ) from error


def _write_lines(scenes: Sequence[Scene], folder: Path) -> None:
    lines, captions = [], []
    for number, scene in enumerate(scenes):
        files = {modality: f"clips/{number:06d}{suffix}" for modality, suffix in SUFFIX_OF_MODALITY.items()}
        for question in questions_of(scene):
            line = {"id": f"{number:06d}-{question.type}", "question": question.text, "answer": question.answer}
            lines.append({**line, "type": question.type, **files})
        line = {"id": f"{number:06d}-describe", "question": "describe everything.", "answer": caption_of(scene)}
        captions.append({**line, "type": "describe", **files})
    for name, rows in (("data.jsonl", lines), ("captions.jsonl", captions)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
