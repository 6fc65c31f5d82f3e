"""The life of packages of a third party: wheels, checks, training, sharing, upgrades, faults, and an environment
without them.

Everything happens in a fresh environment, through the commands a person would type. What they print is looked at for
what a person needs of it: who is meant, which version, and what to type next.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from crema_core.testing.check import checks_up_to
from tests.support.environment import Done, User, new_user
from tests.support.foreign_packages import KINDS, MODALITIES, QUESTION, WAYS, release, write_commute, write_package

pytestmark = pytest.mark.slow

ALL = ",".join(("video", *MODALITIES))
FAST = ("--backbone", "crema-tiny", "--set", "batch_size=4", "--set", "lr=1e-3")

SHARE = """
import crema_core
model = crema_core.load("run/model")
for name in ("eeg", "events"):
    model.save_adapter(name, f"shared/{name}")
"""
RECEIVE = """
import warnings, crema_core
from crema_core.errors import CremaError
model = crema_core.build(["video"], backbone="crema-tiny")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for name in ARGUMENTS:
        try:
            model.load_adapter(f"shared/{name}")
        except CremaError as error:
            print(error)
print(*(own.message for own in caught), sep="\\n")
print(model.names)
"""
LOAD = """
import json, warnings, crema_core
with warnings.catch_warnings():
    warnings.simplefilter("error")
    model = crema_core.load("run/model", **json.loads(ARGUMENTS[0]))
print(model.names)
"""

MIGRATE = '''def migrate_options(options, version):
    """Return options of an earlier version as they are called today."""
    if version < 2 and "max_windows" in options:
        options["num_windows"] = options.pop("max_windows")
    return options


SPEC ='''


@dataclass(frozen=True)
class Walk:
    """Somebody with foreign packages, and what they type again and again.

    Attributes:
        user: their environment.
        packages: source folders of the packages by name, version 0.1.0.
        releases: where later versions are written.
        data: the official release of the data set.
    """

    user: User
    packages: dict[str, Path]
    releases: Path
    data: Path

    def question(self, *more: str, **sources: str) -> list[str]:
        """Return the words that ask the trained model about a recording of somebody who went left."""
        files = {
            "video": "videos/000.mp4",
            "eeg": "eeg/000.edf",
            "gps_track": "tracks/000.gpx",
            "events": "events/000.npy",
        }
        given = [word for name in sources for word in (f"--{name}", str(self.data / files[name]))]
        return ["answer", "run/model", QUESTION, *given, "--choices", *WAYS, "--json", *more]

    def ask(self, *names: str, more: tuple[str, ...] = ()) -> list[str]:
        """Return the same for modalities by name."""
        return self.question(*more, **dict.fromkeys(names, ""))

    def upgrade(self, name: str, version: str, edits: dict[str, str], *, file: str = "modality.py") -> Path:
        """Install a later version of a package, the first one with some texts replaced; return its source folder."""
        place = release(self.packages[name], version, edits, self.releases, file=file)
        self.user.install(place)
        return place


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    place = tmp_path_factory.mktemp("walk")
    packages = {name: write_package(name, place / "packages") for name in KINDS}
    (place / "releases").mkdir()
    write_commute(place / "data", num_takes=12)
    return Walk(new_user(place / "user", list(packages.values())), packages, place / "releases", place / "data")


def answered(done: Done, *, used: tuple[str, ...]) -> dict[str, float]:
    """Look at an answer that came, and return the scores."""
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert (facts["text"] in WAYS, facts["used"]) == (True, list(used))
    scores: dict[str, float] = facts["scores"]
    return scores


def test_the_whole_walk(walk: Walk) -> None:
    scores = train_and_answer(walk)
    upgrade_with_other_features(walk)
    rename_an_option(walk, scores)
    rename_the_modality(walk)
    break_a_package(walk)
    provide_one_name_twice(walk)
    remove_one(walk)
    remove_all(walk)


def train_and_answer(walk: Walk) -> dict[str, float]:
    """Wheels are found, reach gold, and one model is trained of the three modalities and video."""
    done = walk.user.crema("plugins", "list", "--json")
    rows = {(row["kind"], row["name"]): (row["distribution"], row["status"]) for row in json.loads(done.out)}
    kinds = {"verb": "hook"}
    for name, kind in KINDS.items():
        entry = name.replace("_", "-") if kind == "verb" else name
        assert rows[kinds.get(kind, kind), entry] == (f"crema-{name.replace('_', '-')}", "ok")
    prepared = [
        ["data", "prepare", "commute", "--root", str(walk.data), "--split", split, "--out", f"{split}.jsonl"]
        for split in ("train", "test")
    ]
    fit = ["fit", "train.jsonl", "--eval-data", "test.jsonl", "--modalities", ALL, *FAST, "--set", "epochs=3"]
    doctor, *data, looked, eeg, track, events, fitted, tested, part, whole, shared, received = walk.user.commands(
        ["plugins", "doctor"],
        *prepared,
        ["data", "check", "train.jsonl", "test.jsonl", "--deep", "--json"],
        *(["plugins", "check", name] for name in MODALITIES),
        [*fit, "--out", "run"],
        ["eval", "run/model", "test.jsonl", "--json"],
        ["eval", "run/model", "test.jsonl", "--modalities", "video,eeg", "--json"],
        walk.ask("video", *MODALITIES),
        ["python", SHARE],
        ["python", RECEIVE, "eeg", "events"],
    )
    assert (doctor.code, doctor.out.splitlines()[-1]) == (0, "Nothing to repair.")
    assert [done.out for done in data] == [
        f"{count} questions with video, eeg, gps_track, events: {split}.jsonl\n"
        for count, split in ((8, "train"), (4, "test"))
    ]
    assert (looked.code, [own["findings"] for own in json.loads(looked.out)["files"].values()]) == (0, [[], []])
    for name, done in zip(MODALITIES, (eeg, track, events), strict=True):
        number = len(checks_up_to("gold"))
        assert done.code == 0, done.out
        assert done.out.startswith(f"{name} (crema-{name.replace('_', '-')} 0.1.0)\n")
        assert done.out.endswith(f"{number} checks: {number} passed – tier gold\n")
    assert fitted.code == 0, fitted.err
    assert fitted.out.startswith("6 updates, best validation accuracy ")
    assert "cache: the encoder of events is trainable" in fitted.err
    steps = [json.loads(line) for line in (walk.user.home / "run" / "steps.jsonl").read_text().splitlines()]
    assert steps == [{"step": step, "modalities": sorted(["video", *MODALITIES])} for step in range(1, 7)]
    for done, names in ((tested, ["video", *MODALITIES]), (part, ["video", "eeg"])):
        assert (done.code, json.loads(done.out)["modalities"]) == (0, names)
    counted = walk.user.crema("step-log", "train.jsonl")
    assert counted == Done(0, "".join(f"{name}: 8 of 8\n" for name in sorted(["video", *MODALITIES])), "")
    assert (shared.code, received.out.splitlines()[-1]) == (0, "('video', 'eeg', 'events')")
    record = json.loads((walk.user.home / "shared" / "eeg" / "adapter.json").read_text())
    assert (record["distribution"], record["version"]) == ("crema-eeg", "0.1.0")
    return answered(whole, used=("video", *MODALITIES))


def upgrade_with_other_features(walk: Walk) -> None:
    """Version 0.2.0 makes other features: said with both versions, an error in strict mode, left out on request."""
    walk.upgrade("eeg", "0.2.0", {"torch.log1p(bands) / 5": "torch.log1p(bands) / 4"})
    changed = re.compile(
        r"'\S+': crema-eeg 0\.1\.0 -> 0\.2\.0: features of 'eeg' differ by \d+\.\d%\. What was trained reads other "
        r"numbers here than it learned from\. Install what it was trained with: pip install crema-eeg==0\.1\.0; or "
        r"train again, or pass check_features=False where the change is known to be harmless\."
    )
    shutil.copytree(walk.user.home / "run", walk.user.home / "copy")
    asked = walk.ask("video", "eeg")
    warned, resumed, again, strict, received, loaded = walk.user.commands(
        asked,
        ["resume", "copy"],
        [asked[0], "copy/model", *asked[2:]],
        ["CREMA_PLUGINS_STRICT=1", *asked],
        ["python", RECEIVE, "eeg"],
        ["python", LOAD, '{"check_features": false}'],
    )
    answered(warned, used=("video", "eeg"))
    assert changed.search(warned.err)
    assert resumed.code == 0
    assert changed.search(resumed.err)
    assert changed.search(again.err), "a run that was done already was trained with what it was trained with"
    assert strict.code == 1
    assert changed.search(strict.err)
    assert strict.err.endswith("It is an error because of CREMA_PLUGINS_STRICT=1. Nothing was changed.\n")
    assert changed.search(received.out)
    assert loaded.out == f"{('video', *MODALITIES)}\n"


def rename_an_option(walk: Walk, scores: dict[str, float]) -> None:
    """Version 0.3.0 calls an option otherwise, 0.4.0 says how it was called."""
    place = release(
        walk.packages["eeg"], "0.3.0", {"options.max_windows": "options.num_windows"}, walk.releases, file="modality.py"
    )
    declaration = place / "src" / "crema_eeg" / "plugin.py"
    declaration.write_text(declaration.read_text().replace("max_windows", "num_windows"))
    walk.user.install(place)
    refused, loaded = walk.user.commands(
        walk.ask("video", "eeg"),
        ["python", LOAD.replace('"error"', '"ignore"'), '{"options": {"eeg": {"num_windows": 8}}}'],
    )
    assert refused.code == 1
    assert refused.err == (
        "crema: 'run/model': crema-eeg 0.1.0 -> 0.3.0: the options of 'eeg' that were saved are not those of the "
        "installed package.\neeg: unknown option 'max_windows'. Accepted: num_channels, num_windows, window_s. Did you "
        "mean 'num_windows'?\nSaved: window_s=0.5, max_windows=8, num_channels=4. Install what it was trained with: "
        "pip install crema-eeg==0.1.0, or say what they are today: load(..., options={'eeg': {...}})\n"
    )
    assert loaded.out == f"{('video', *MODALITIES)}\n"
    migrated = Path(shutil.copytree(place, walk.releases / "migrated"))
    project = migrated / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "0.3.0"', 'version = "0.4.0"'))
    text = (migrated / "src" / "crema_eeg" / "plugin.py").read_text().replace("SPEC =", MIGRATE)
    named = "    options=EegOptions,\n    options_version=2,\n    migrate_options=migrate_options,\n"
    (migrated / "src" / "crema_eeg" / "plugin.py").write_text(text.replace("    options=EegOptions,\n", named))
    walk.user.install(migrated)
    (done,) = walk.user.commands(walk.ask("video", *MODALITIES))
    assert done.err == ""
    assert answered(done, used=("video", *MODALITIES)) == pytest.approx(scores, abs=1e-4)


def rename_the_modality(walk: Walk) -> None:
    """Version 0.5.0 provides another name: the model says so, and which version brings the name back."""
    place = release(
        walk.packages["eeg"], "0.5.0", {'name="eeg"': 'name="brain_waves"'}, walk.releases, file="plugin.py"
    )
    project = place / "pyproject.toml"
    project.write_text(project.read_text().replace("\neeg = ", "\nbrain_waves = "))
    walk.user.install(place)
    usage = walk.user.crema(*walk.ask("video", "eeg"))
    assert usage.code == 2
    assert "'eeg' is neither an option nor an installed modality. Installed: brain_waves, events, " in usage.err
    assert "the same command without --eeg names it." in usage.err
    named, fitted = walk.user.commands(
        walk.ask("video"), ["fit", "train.jsonl", "--modalities", "video,brain_waves", *FAST, "--out", "none"]
    )
    assert named.code == 1
    assert (
        "- 'run/model' was saved with: crema-eeg 0.1.0. Installed is crema-eeg 0.5.0, which provides: brain_waves. "
        "Run: pip install crema-eeg==0.1.0, or open it without: load(..., without=['eeg']), or --without eeg in a "
        "command\n"
    ) in named.err
    assert fitted.code == 1
    assert "neither a field nor an installed modality, and are ignored: 'eeg' (8 lines, first: line 1)" in fitted.err
    assert "No sample has a source of brain_waves" in fitted.err
    walk.user.install(walk.packages["eeg"])


BAD_IMPORTS = {
    "0.1.1": ("import sys\nsys.exit(0)\n", "SystemExit: 0, which would have ended the program"),
    "0.1.2": ('raise ValueError("boom")\n', "ValueError: boom"),
    "0.1.3": ("import os\nos._exit(0)\n", "the import ended the process with exit code 0"),
    "0.1.4": ("import time\ntime.sleep(600)\n", "the import was not done after 6 s"),
}
"""Version -> what is at the top of `plugin.py`, and what doctor and check say of it."""
PROVIDER = "'gps_track' (crema-gps-track {version})"
REPAIR = (
    "Repair it: pip install --force-reinstall crema-gps-track, remove it: pip uninstall crema-gps-track, or switch it "
    "off: CREMA_PLUGINS_DISABLE=crema-gps-track"
)


def break_a_package(walk: Walk) -> None:
    """One package does at import and in `prepare` what packages should not; the others work as before."""
    top = '"""What the gps_track modality declares; imports no torch."""\n'
    for version, (fault, said) in BAD_IMPORTS.items():
        walk.upgrade("gps_track", version, {top: top + fault}, file="plugin.py")
        for words in (["plugins", "doctor"], ["plugins", "check", "gps_track", "--tier", "bronze"]):
            done = walk.user.crema(*words, CREMA_PLUGINS_IMPORT_LIMIT="6")
            assert done.code == 3, (version, done)
            assert PROVIDER.format(version=version) in done.out
            assert f"{said}. " in done.out
            assert REPAIR in done.out
        off = walk.user.crema(
            "plugins", "list", "--json", "--kind", "modality", CREMA_PLUGINS_DISABLE="crema-gps-track"
        )
        assert [row["name"] for row in json.loads(off.out)] == ["eeg", "events", "video"]
        if version in ("0.1.1", "0.1.2"):
            listed = json.loads(walk.user.crema("plugins", "list", "--json", "--kind", "modality").out)
            assert {row["name"]: row["status"] for row in listed} == {
                "eeg": "ok", "events": "ok", "gps_track": "broken", "video": "ok",
            }  # fmt: skip
    hung = walk.user.crema("plugins", "list", timeout_s=15)
    assert hung == Done(
        130,
        "",
        "crema: crema-gps-track 0.1.4 has been importing crema_gps_track.plugin for 5 s. If it never ends, press "
        "Ctrl+C and switch the package off: CREMA_PLUGINS_DISABLE=crema-gps-track\ncrema: interrupted\n",
    )
    walk.upgrade("gps_track", "0.1.5", {top: top + 'print("Thank you for using gps_track!")\n'}, file="plugin.py")
    greeted = walk.user.crema("plugins", "list", "--json")
    assert (len(json.loads(greeted.out)) > 9, greeted.err) == (True, "Thank you for using gps_track!\n")
    checked = walk.user.crema("plugins", "check", "gps_track", "--tier", "bronze")
    assert checked.code == 3
    assert re.findall(r"(\w+): failed", checked.out) == ["import_prints_nothing"]
    doctor = walk.user.crema("plugins", "doctor")
    assert doctor.code == 3
    assert "1. prints: crema_gps_track.plugin of crema-gps-track 0.1.5 prints when it is imported" in doctor.out

    walk.user.install(walk.releases / "crema-gps-track-0.1.1")
    refused, opened = walk.user.commands(
        walk.ask("video", "eeg"), walk.ask("video", "eeg", more=("--without", "gps_track"))
    )
    assert refused.code == 1
    assert f"{PROVIDER.format(version='0.1.1')} could not be imported from crema_gps_track.plugin:SPEC: " in refused.err
    assert "without: load(..., without=['gps_track']), or --without gps_track in a command\n" in refused.err
    answered(opened, used=("video", "eeg"))

    walk.upgrade("gps_track", "0.1.6", {"        track = source.double()\n": "        raise SystemExit(0)\n"})
    raised, deep = walk.user.commands(
        walk.ask("video", "gps_track"), ["data", "check", "train.jsonl", "--deep", "--json"]
    )
    assert raised.code == 1
    assert "example fails (SystemExit: 0)" in raised.err
    fault = f"{PROVIDER.format(version='0.1.6')}: prepare() raised SystemExit: 0 (modality.py, line 33), reading "
    assert f"crema: {fault}'{walk.data / 'tracks' / '000.gpx'}'. " in raised.err
    assert "This is a fault of crema-gps-track: report it to its authors with the traceback." in raised.err
    (report,) = json.loads(deep.out)["files"].values()
    (finding,) = report["findings"]
    assert (deep.code, finding["kind"], finding["lines"]) == (3, "modality", list(range(1, 9)))
    assert finding["text"].startswith(f"gps_track: {fault}")
    walk.user.install(walk.packages["gps_track"])


def provide_one_name_twice(walk: Walk) -> None:
    """Two packages give one name: doctor and fit say which, a prefix chooses, and a saved model knows its own."""
    other = Path(shutil.copytree(walk.packages["events"], walk.releases / "crema-dvs"))
    for path in [path for path in other.rglob("*") if path.is_file()]:
        text = path.read_text().replace("crema_events", "crema_dvs").replace("crema-events", "crema-dvs")
        path.write_text(text)
    (other / "src" / "crema_events").rename(other / "src" / "crema_dvs")
    walk.user.install(other)
    doctor = walk.user.crema("plugins", "doctor")
    assert doctor.code == 3
    assert (
        "1. name given twice: 2 packages provide the modality 'events': crema-dvs 0.1.0, crema-events 0.1.0. The name "
        "alone is refused. Write 'crema-dvs:events' or 'crema-events:events', or switch one off: "
        "CREMA_PLUGINS_DISABLE=crema-dvs\n"
    ) in doctor.out
    refused, chosen, own = walk.user.commands(
        ["fit", "train.jsonl", "--modalities", "video,events", *FAST, "--out", "none"],
        ["fit", "train.jsonl", "--modalities", "crema-dvs:events", *FAST, "--set", "epochs=1", "--out", "dvs"],
        walk.ask("events"),
    )
    assert refused.code == 1
    assert refused.err.endswith(
        "crema: 2 installed packages provide 'events': crema-dvs 0.1.0, crema-events 0.1.0. Name the one you mean, for "
        "example 'crema-dvs:events'\n"
    )
    assert chosen.code == 0, chosen.err
    assert (
        json.loads((walk.user.home / "dvs/model/crema.json").read_text())["modalities"][0]["distribution"]
        == "crema-dvs"
    )
    answered(own, used=("events",))
    assert own.err == ""
    walk.user.pip("uninstall", "-y", "crema-dvs")


def remove_one(walk: Walk) -> None:
    """Without crema-events: what needs it says what to install, everything else goes on."""
    walk.user.pip("uninstall", "-y", "crema-events")
    asked, opened, resumed, trained, looked, received = walk.user.commands(
        walk.ask("video", "eeg"),
        walk.ask("video", "eeg", more=("--without", "events")),
        ["resume", "run"],
        ["fit", "train.jsonl", "--modalities", "video,gps_track", *FAST, "--set", "epochs=1", "--out", "fewer"],
        ["data", "check", "train.jsonl"],
        ["python", RECEIVE, "events", "eeg"],
    )
    for done, place in ((asked, "run/model"), (resumed, "run")):
        assert done.code == 1
        assert "- 'events' is not an installed modality. Installed: eeg, gps_track, video." in done.err
        assert f"- '{place}' was saved with: crema-events 0.1.0. Run: pip install crema-events" in done.err
    assert "pip install crema-events, or open it without: load(..., without=['events'])" in asked.err
    answered(opened, used=("video", "eeg"))
    assert opened.err == (
        "crema: warning: 'run/model' is opened without 'events' (crema-events 0.1.0): it takes no sources of these, "
        "and every question is answered from video, eeg, gps_track alone. What was trained of them is kept as it "
        "is, and saved again with the model.\n"
    )
    assert (trained.code, trained.out.splitlines()[0]) == (0, "2 updates")
    assert trained.err.count("'events' (8 lines, first: line 1)") == 1
    assert (looked.code, looked.out.count("'events' (8 lines, first: line 1)")) == (0, 1)
    lines = received.out.splitlines()
    assert "- 'shared/events' was saved with: crema-events 0.1.0. Run: pip install crema-events" in lines
    assert lines[-1] == "('video', 'eeg')"


def remove_all(walk: Walk) -> None:
    """Nothing is left behind, and the model still answers from what core has."""
    walk.user.pip("uninstall", "-y", *(f"crema-{name.replace('_', '-')}" for name in KINDS if name != "events"))
    unknown, prepared, checked, listed, doctor, alone = walk.user.commands(
        ["step-log", "train.jsonl"],
        ["data", "prepare", "commute", "--root", str(walk.data), "--split", "train", "--out", "again.jsonl"],
        ["plugins", "check", "eeg"],
        ["plugins", "list", "--json", "--kind", "modality"],
        ["plugins", "doctor"],
        walk.ask("video", more=("--without", ",".join(MODALITIES))),
    )
    assert (unknown.code, unknown.err.startswith("crema: 'step-log' is not a verb. Verbs: fit, ")) == (2, True)
    assert (prepared.code, checked.code) == (1, 1)
    assert prepared.err.startswith("crema: 'commute' is not an installed data set. ")
    assert checked.err.startswith("crema: 'eeg' is not an installed modality. Installed: video. ")
    assert [row["name"] for row in json.loads(listed.out)] == ["video"]
    assert (doctor.code, doctor.out.splitlines()[-1]) == (0, "Nothing to repair.")
    answered(alone, used=("video",))
    assert "opened without 'eeg' (crema-eeg 0.1.0), 'gps_track' (crema-gps-track 0.1.0), 'events' (crema-" in alone.err
