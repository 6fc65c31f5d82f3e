"""What a data set declares; imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from crema_core.datasets.read import Place

Line = dict[str, Any]
"""One line of a data file before its paths are made relative to it: sources are relative to the data set's folder."""


class _Declaration(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class AnnotationFile(_Declaration):
    """A file with questions or answers that must be there.

    Attributes:
        path: below the data set's folder; "{split}" stands for the split.
        split: the split it belongs to; None: every one.
    """

    path: str
    split: str | None = None


class Media(_Declaration):
    """Where the sources of one modality lie.

    Attributes:
        modality: name of the modality.
        path: layout below the data set's folder, with the changing parts in angle brackets: "videos/<video>.mp4".
        splits: another layout for a split.
        derived: made from other media by the user, not part of the official release.
    """

    modality: str
    path: str
    splits: dict[str, str] = Field(default_factory=dict)
    derived: bool = False

    def folder(self, split: str) -> str:
        """Return the fixed beginning of the path."""
        return self.splits.get(split, self.path).partition("<")[0].rpartition("/")[0]

    def of(self, split: str, **parts: object) -> str:
        """Return the path of one source.

        Example:
            >>> Media(modality="video", path="videos/<video>.mp4").of("train", video=7)
            'videos/7.mp4'
        """
        path = self.splits.get(split, self.path)
        for name, value in parts.items():
            path = path.replace(f"<{name}>", str(value))
        return path


def sources(media: Iterable[Media], split: str, **parts: object) -> dict[str, str]:
    """Return the source of every modality of one sample, see `Media.of`.

    Example:
        >>> sources([Media(modality="touch", path="touch/<take>.png")], "train", take=7)
        {'touch': 'touch/7.png'}
    """
    return {own.modality: own.of(split, **parts) for own in media}


class Wording(_Declaration):
    """How questions are put to the language model, as fields of the model's template.

    Attributes:
        open_ended: text of questions without choices.
        multiple_choice: text of questions with choices.
        source: where the wording comes from.
    """

    open_ended: str | None = None
    multiple_choice: str | None = None
    source: str = ""

    @property
    def template(self) -> dict[str, str]:
        """The settings of `PromptTemplate` that this wording replaces."""
        return {key: value for key in ("open_ended", "multiple_choice") if (value := getattr(self, key)) is not None}


class Column(_Declaration):
    """A column of the papers' tables that holds several question types.

    Attributes:
        name: its heading.
        types: the question types it pools.
    """

    name: str
    types: tuple[str, ...] = Field(min_length=1)


class DatasetSpec(_Declaration):
    """A data set.

    Attributes:
        name: as in `crema data prepare NAME`; equal to the entry point's name.
        summary: one sentence.
        source: the official page.
        license: of annotations and media, as their owners name it.
        splits: those with public answers.
        files: annotation files needed.
        media: sources of every modality a sample can have.
        read: reads the annotations of one split and yields lines.
        wording: the papers' prompt.
        scorer: how a free answer is judged, the name of a metric (`crema plugins list --kind metric`); of several
            choices the best-scored one counts.
        measures: further measures reported beside accuracy.
        columns: columns of the papers' tables.
        average: how the total is formed: over questions, or as the mean of the question types.
        notes: what a user must know, one sentence each.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,31}$")
    summary: str
    source: str
    license: str
    splits: tuple[str, ...] = Field(min_length=1)
    files: tuple[AnnotationFile, ...] = Field(min_length=1)
    media: tuple[Media, ...] = Field(min_length=1)
    read: Callable[[Place], Iterator[Line]] = Field(exclude=True)
    wording: Wording = Wording()
    scorer: str = "exact"
    measures: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    average: Literal["questions", "types"] = "questions"
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _splits_exist(self) -> DatasetSpec:
        unknown = sorted({file.split for file in self.files if file.split is not None} - set(self.splits))
        if unknown:
            raise ValueError(f"files name splits that are not declared: {', '.join(unknown)}")
        return self

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities a sample can have."""
        return tuple(media.modality for media in self.media)

    def files_of(self, split: str) -> tuple[str, ...]:
        """Return the annotation files one split needs."""
        return tuple(file.path.format(split=split) for file in self.files if file.split in (None, split))

    def describe(self) -> dict[str, Any]:
        """Return the declaration as JSON data."""
        return {**self.model_dump(mode="json"), "modalities": list(self.modalities)}
