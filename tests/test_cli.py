from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageSequence
from typer.testing import CliRunner, Result

from insetgan_batch.cli.main import app
from insetgan_batch.data import manifest
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.nets.stylegan2 import Architecture
from insetgan_batch.runtime import cluster
from tests import records
from tests.nets.foreign import originals
from tests.nets.literal import assert_close
from tests.records import montage_items


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def config(tmp_path: Path, fields: dict[str, Any]) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(fields))
    return str(path)


@pytest.fixture
def two_items(tmp_path: Path) -> str:
    uri = str(tmp_path / "m.parquet")
    manifest.write(uri, montage_items([0], [1, 2]), schema(["face"]))
    return uri


@pytest.fixture(scope="module")
def _on_ray() -> Iterator[None]:
    """One Ray for the tests that do not mind, since to start it takes seconds."""
    with cluster.connected():
        yield


@pytest.mark.ray
def test_a_run_says_how_it_ended_and_status_agrees(
    config: str, two_items: str, tmp_path: Path
) -> None:
    """It starts a Ray of its own, and ends it."""
    out = str(tmp_path / "out")
    result = call("run", config, "--manifest", two_items, "--out", out, "--run-id", "mine")
    assert result.exit_code == 0, result.output
    assert "2 of 2 items are committed, 0 quarantined" in result.output
    page = next(line for line in result.output.splitlines() if line.startswith("page: "))
    assert Path(page.removeprefix("page: file://")).exists()
    answer = json.loads(call("status", out, "--json").output)
    counts = {"items": 2, "committed": 2, "quarantined": 0, "damaged": 0, "left": 0}
    assert answer == {"run_id": "mine"} | counts
    again = call("run", config, "--manifest", two_items, "--out", out)
    assert again.exit_code == 0
    assert "2 of 2" in again.output


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_a_run_tells_machines_in_json_lines(config: str, two_items: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    arguments = ("--manifest", two_items, "--out", out, "--max-actors", "3", "--json")
    result = call("run", config, *arguments)
    assert result.exit_code == 0, result.output
    told = [json.loads(line) for line in result.stdout.splitlines()]
    events = [line["event"] for line in told]
    assert events.count("item") == 2
    assert {"step", "progress"} <= set(events)
    assert events[-1] == "summary"
    assert told[-1]["committed"] == 2
    assert RunStore(open_storage(out)).read_run()["machine"]["max_actors"] == 3
    # Two items fill the slots of one.
    assert {line["workers"] for line in told if line["event"] == "progress"} == {1}


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_a_quarantined_item_gives_exit_code_1(config: str, two_items: str, tmp_path: Path) -> None:
    rows = list(manifest.read(two_items, schema(["face"])))
    store = RunStore(open_storage(str(tmp_path / "out")))
    for row in rows:
        store.quarantine(row.item_id, records.quarantined(row.item_id))
    result = call("run", config, "--manifest", two_items, "--out", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "0 of 2 items are committed, 2 quarantined" in result.output


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_some_rows_of_a_seed_list_are_done_without_a_manifest(config: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    seeds = "canvas=0-9 face=0-99"
    options = ("--seeds", seeds, "--out", out, "--limit", "2", "--sample")
    result = call("run", config, *options)
    assert result.exit_code == 0, result.output
    assert "2 of 2 items are committed" in result.output
    assert json.loads(call("status", out, "--json").output)["items"] == 1000


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_a_plan_says_what_a_run_will_take_and_writes_nothing(config: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--seeds", "canvas=0-9 face=0-99", "--out", str(out), "--price-per-gpu-hour", "2")
    result = call("plan", config, *options, "--json")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.output.splitlines()[-1])
    assert (plan["items"], plan["done"], plan["bad"], plan["tried"]) == (1000, 0, 0, 2)
    assert plan["hours"] == pytest.approx(1000 * plan["item_s"] / plan["actors"] / 3600)
    assert plan["cost"] == pytest.approx(2 * plan["hours"] * plan["actors"])
    assert 1000 < plan["item_bytes"] < 1e6
    assert not out.exists()


def test_rows_come_from_a_manifest_or_from_seeds(config: str, two_items: str) -> None:
    for options in ((), ("--manifest", two_items, "--seeds", "0-9")):
        result = call("run", config, *options, "--out", "out")
        assert result.exit_code == 2
        assert "give one of --manifest, --seeds and --faces" in result.output
    result = call("run", config, "--manifest", two_items, "--out", "out", "--sample")
    assert result.exit_code == 2
    assert "give --limit N too" in result.output


def test_items_in_quarantine_are_tried_again_when_that_is_asked_for(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert call("retry", out, "--quarantined").exit_code == 2  # there is no run yet
    store = RunStore(open_storage(out))
    store.open_run({"configuration": {"manifest": {"items": 3}}, "run_id": "r", "weights": {}})
    for item_id, reason in (("a", "no_face"), ("b", "diverged"), ("c", "no_face")):
        store.quarantine(item_id, records.quarantined(item_id, reason))
    assert call("retry", out).exit_code == 2
    unknown = call("retry", out, "--failed", "no_luck")
    assert unknown.exit_code == 2
    assert "expected one of" in unknown.output
    assert "2 items will be tried again" in call("retry", out, "--failed", "no_face").output
    assert json.loads(call("status", out, "--json").output)["quarantined"] == 1
    assert "1 items will be tried again" in call("retry", out, "--quarantined").output


def test_clean_says_what_it_has_removed(tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    store = RunStore(open_storage(out))
    store.open_run({"configuration": {"manifest": {"items": 1}}, "run_id": "r", "weights": {}})
    for attempt in ("1-1", "1-2"):
        store.storage.put(f"{store.item_prefix('a', attempt)}/image.png", b"x")
    store.commit("a", records.commit("a", "1-2"))
    store.save_checkpoint("a", b"x")
    result = call("clean", out)
    assert result.exit_code == 0, result.output
    assert "removed 1 files of 1 attempts, 1 saved states and 0 leftovers" in result.output


@pytest.mark.parametrize("age", ["", "0h", "59m", "-3d", "3", "1.5d", "soon", "999999d"])
def test_what_may_still_be_committed_is_not_old_enough_to_clean(tmp_path: Path, age: str) -> None:
    result = call("clean", str(tmp_path), "--older-than", age)
    assert result.exit_code == 2
    assert "expected hours or days, like 12h or 3d" in result.output


def test_a_wrong_configuration_gives_one_line_and_exit_code_2(
    two_items: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("slotss: 3\n")
    result = call("run", str(path), "--manifest", two_items, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "`slotss` is not a known key; did you mean `slots`?" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_a_missing_manifest_gives_exit_code_2(config: str, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere.parquet")
    result = call("run", config, "--manifest", nowhere, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "nowhere.parquet" in result.output


def commit_with_file(store: RunStore, item_id: str) -> None:
    record = records.commit(item_id)
    store.storage.put(record["files"]["image"]["key"], b"x")
    store.commit(item_id, record)


def test_status_watches_until_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(open_storage(str(tmp_path)))
    store.open_run({"run_id": "r", "configuration": {"manifest": {"items": 3}}, "weights": {}})
    commit_with_file(store, "a")
    looks = iter(["b", "c"])

    def sleep(seconds: float) -> None:
        assert seconds > 0
        commit_with_file(store, next(looks))

    monkeypatch.setattr("time.sleep", sleep)
    told = [
        json.loads(line)
        for line in call("status", str(tmp_path), "--watch", "--json").output.splitlines()
    ]
    assert [line["left"] for line in told] == [2, 1, 0]
    assert told[0]["seconds_left"] is None
    assert told[1]["items_per_minute"] > 0
    assert told[2]["seconds_left"] == 0


def test_status_of_a_place_without_a_run_says_so(tmp_path: Path) -> None:
    result = call("status", str(tmp_path))
    assert result.exit_code == 2
    assert "holds no run" in result.output


def test_generate_paints_each_seed_and_a_sheet(
    tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "pictures"
    model = str(tiny_models["canvas"])
    result = call("generate", "--model", model, "--seeds", "3-5,9", "--out", str(out))
    assert result.exit_code == 0, result.output
    names = sorted(path.name for path in out.iterdir())
    assert names == ["seed0003.png", "seed0004.png", "seed0005.png", "seed0009.png", "sheet.png"]
    with Image.open(out / "seed0003.png") as picture:
        assert picture.size == (32, 64)


def test_seeds_that_make_no_sense_are_refused(tiny_models: dict[str, Path], tmp_path: Path) -> None:
    model = str(tiny_models["canvas"])
    result = call("generate", "--model", model, "--seeds", "5-", "--out", str(tmp_path / "x"))
    assert result.exit_code == 2
    assert "5-" in result.output


TALL = Architecture((4, 2), (6, 5, 4), z_dim=7, w_dim=7, mapping_layers=2)
FOREIGN = {
    "snapshot.pkl": lambda: originals.nvidia(TALL),
    "generator.pkl": lambda: originals.nvidia(TALL, content="bare"),
    "tensorflow.pkl": lambda: originals.tensorflow(TALL),
    "rosinality.pt": lambda: originals.rosinality(TALL),
    "state.pt": lambda: originals.state_dict(TALL),
    "state.safetensors": lambda: originals.state_dict(TALL, container="safetensors"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_one_command_imports_a_checkpoint_and_the_next_paints_with_it(
    name: str, tmp_path: Path
) -> None:
    original, out = FOREIGN[name](), tmp_path / "out"
    (tmp_path / name).write_bytes(original.data)
    result = call("import", str(tmp_path / name), "--out", str(out))
    assert result.exit_code == 0, result.output
    ours = out / f"{Path(name).stem}.safetensors"
    assert f"wrote      {ours} (" in result.output
    assert "16 x 8, RGB; base 4 x 2" in result.output
    more = ("--seeds", "5", "--psi", "1", "--format", "npy", "--out", str(out))
    assert call("generate", "--model", str(ours), *more).exit_code == 0
    z = torch.from_numpy(np.random.RandomState(5).randn(1, 7)).float()
    expected = original.paint(original.map_to_w(z, None)[:, None].expand(1, 6, 7))[0]
    assert_close(torch.from_numpy(np.load(out / "seed0005.npy")), expected, 1e-4)


def test_inspect_says_what_is_in_a_file_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "people.pkl").write_bytes(originals.nvidia(TALL).data)
    result = call("import", str(tmp_path / "people.pkl"), "--inspect")
    assert result.exit_code == 0, result.output
    for text in ("generator  G\n", "generator  G_ema (the one to import)", "D: Discriminator"):
        assert text in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["people.pkl"]


@pytest.mark.parametrize("options", [(), ("--inspect", "--out", "x")])
def test_import_wants_a_directory_or_inspect(options: tuple[str, ...], tmp_path: Path) -> None:
    result = call("import", str(tmp_path / "people.pkl"), *options)
    assert result.exit_code == 2
    assert "give either --out DIR, to write there, or --inspect" in result.output


def test_import_writes_rosinalitys_layout_too(tmp_path: Path) -> None:
    (tmp_path / "people.pkl").write_bytes(originals.nvidia(TALL).data)
    result = call(
        "import", str(tmp_path / "people.pkl"), "--out", str(tmp_path), "--format", "rosinality"
    )
    assert result.exit_code == 0, result.output
    assert set(torch.load(tmp_path / "people.pt", weights_only=True)) == {"g_ema", "latent_avg"}


@pytest.mark.parametrize("psi", ["high", "0.7,", "nan", "1,1"])
def test_a_psi_that_makes_no_sense_is_refused(
    psi: str, tiny_models: dict[str, Path], tmp_path: Path
) -> None:
    model, out = str(tiny_models["face"]), tmp_path / "x"
    result = call("generate", "--model", model, "--psi", psi, "--out", str(out))
    assert result.exit_code == 2
    assert "psi" in result.output
    assert not out.exists()


def test_a_demo_that_there_is_not_is_refused_in_one_line(tmp_path: Path) -> None:
    result = call("demo", "--recipe", "motnage", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "expected one of montage, " in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.ray
@pytest.mark.usefixtures("_on_ray")
def test_a_film_is_kept_and_does_not_stand_in_the_way_of_a_resume(
    config: str, two_items: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    command = ("run", config, "--manifest", two_items, "--out", out)
    assert call(*command, "--film", "2").exit_code == 0
    films = list((tmp_path / "out").glob("items/*/*/*/film.webp"))
    assert len(films) == 2
    with Image.open(films[0]) as film:
        # Of 8 steps the first, third, fifth and seventh, then the result.
        assert len(ImageSequence.all_frames(film)) == 4 + 1
    views = (tmp_path / "out" / "report" / "folders").glob("*.js")
    assert all("film.webp" in view.read_text() for view in views)
    assert call(*command).exit_code == 0


def start_job(job: str, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a file of jobs/ as a program; returns its exit code."""
    monkeypatch.setattr("insetgan_batch.stopping.listen", lambda: None)  # they are pytest's
    monkeypatch.setattr(sys, "argv", [job, *arguments])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(f"jobs/{job}.py", run_name="__main__")
    return int(caught.value.code or 0)


JOBS = ("montage", "refine", "body_for_face", "face_for_body", "multi_inset", "generate")


@pytest.mark.parametrize("job", JOBS)
def test_a_job_runs_a_configuration_by_its_recipe_unless_that_names_one(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start_job(job, monkeypatch, "--config", "x.yaml") == 2
    assert "give --config, --out and either --manifest or --seeds" in capsys.readouterr().err

    # No generator has this inset, and the refusal names the recipe.
    rest = ("--manifest", "m.parquet", "--out", str(tmp_path / "out"))
    for preset, expected in ((None, job), ("montage", "montage")):
        fields = {"insets": {"hat": "demo:face"}, "recipe": {"preset": preset} if preset else {}}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(fields))
        assert start_job(job, monkeypatch, "--config", str(tmp_path / "run.yaml"), *rest) == 2
        assert f"recipe `{expected}`" in capsys.readouterr().err


def test_a_job_without_arguments_is_its_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that cannot begin, because its output is a file."""
    (tmp_path / "file").write_text("in the way")
    assert start_job("refine", monkeypatch, "--out", str(tmp_path / "file")) == 2
    assert "file" in capsys.readouterr().err


def test_a_store_that_refuses_gives_exit_code_2(
    config: str, two_items: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    result = call("run", config, "--manifest", two_items, "--out", str(tmp_path / "file"))
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_a_manifest_of_faces_says_what_was_found_and_what_was_not(tmp_path: Path) -> None:
    folder, out = tmp_path / "photographs", tmp_path / "faces.parquet"
    folder.mkdir()
    people = Path(__file__).parent / "data" / "people"
    Image.open(people / "face_3.png").resize((300, 300)).save(folder / "ana.jpg")
    Image.new("RGB", (64, 64)).save(folder / "dark.png")
    result = call("manifest", "faces", str(folder), "--out", str(out), "--bodies", "3")
    assert result.exit_code == 0, result.output
    assert f"1 faces in 2 pictures, 3 rows: {out}" in result.output
    assert "dark.png: no face found" in result.output
    assert len(list(manifest.read(str(out), schema(["face"])))) == 3
    with Image.open(tmp_path / "faces" / "ana.png") as face:
        assert face.size == (1024, 1024)  # as FFHQ, unless a model is named


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--faces", "photographs", "--seeds", "0-9"), "give one of --manifest, --seeds and"),
        (("--seeds", "0-9", "--bodies", "2"), "are for --faces: give --faces FOLDER"),
        (("--seeds", "0-9", "--consent-note", "x"), "are for --faces: give --faces FOLDER"),
        (("--faces", "photographs", "--recipe", "generate"), "has no inset `face`"),
    ],
)
def test_options_of_faces_that_do_not_go_together_are_refused(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("insets: {}\n" if "generate" in options else "{}\n")
    result = call("run", str(config), "--out", str(tmp_path / "out"), *options)
    assert result.exit_code == 2
    assert says in result.output
    assert not (tmp_path / "out").exists()
