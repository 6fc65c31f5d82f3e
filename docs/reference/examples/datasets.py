import json
from collections.abc import Iterator
from pathlib import Path

import crema_core
from crema_core.contract import AnnotationFile, DatasetSpec, Media, Place, prepare

CLIP = Media(modality="video", path="clips/<clip>.mp4")


def read(place: Place) -> Iterator[dict[str, object]]:
    """Yield one question per row of a table; an absent column becomes an error that names file and line."""
    for entry in place.table(f"labels-{place.split}.csv"):
        yield {
            "id": entry["clip"],
            "question": "Which bird sings?",
            "answer": entry["bird"],
            "video": CLIP.of(place.split, clip=entry["clip"]),
        }


SPEC = DatasetSpec(
    name="birdsong",
    summary="Which bird sings.",
    source="https://example.org/birdsong",
    license="CC0-1.0",
    splits=("train", "test"),
    files=(AnnotationFile(path="labels-{split}.csv"),),
    media=(CLIP,),
    read=read,
)
crema_core.registry.register(SPEC, kind="dataset")

# The official files, as a user has them.
Path("birds/clips").mkdir(parents=True)
Path("birds/clips/7.mp4").touch()
Path("birds/labels-train.csv").write_text("clip,bird\n7,wren\n")
done = prepare("birdsong", root="birds", split="train", out="train.jsonl")
print(done.num_lines, json.loads(done.path.read_text())["video"])
