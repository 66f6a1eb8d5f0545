"""The command line. Torch and Ray are imported by the commands that need them: `--help` is quick.

Exit codes: 0 every item is committed; 1 some are quarantined; 2 the command, a file or the
configuration is wrong, or the store refuses; 3 the run stopped before its end (the same command
resumes it).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import math
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TextIO, TypeVar

import typer

from insetgan_batch import logs, stopping
from insetgan_batch.errors import (
    CheckpointError,
    ConfigError,
    DamagedError,
    InsetGanError,
    ManifestError,
    MissingPackageError,
    NotFoundError,
    RefusedError,
    without_secrets,
)
from insetgan_batch.methods.insetgan import demos
from insetgan_batch.screen import clock, open_screen
from insetgan_batch.text import printable

if TYPE_CHECKING:
    from insetgan_batch.config import RunConfig
    from insetgan_batch.data.commits import RunStore
    from insetgan_batch.data.damage import Checked

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
manifests = typer.Typer(no_args_is_help=True, help="Make manifests.")
app.add_typer(manifests, name="manifest")
_NEWS_EVERY_S = 2.0
_SHOWN_REASONS = 5
_LOOK_EVERY_S = 5.0
_AGES_S = {"h": 3600.0, "d": 24 * 3600.0}
_METRICS_ADDRESS = "127.0.0.1:9464"  # as telemetry.DEFAULT_ADDRESS, which is heavier to import
_P = ParamSpec("_P")
_T = TypeVar("_T")
_WRONG_INPUT = (
    ConfigError,
    ManifestError,
    CheckpointError,
    MissingPackageError,
    NotFoundError,
    DamagedError,
    RefusedError,
)

Out = Annotated[str, typer.Option(help="Where the run lives: a directory or s3://bucket/prefix.")]
Where = Annotated[str, typer.Argument(help="Where the run lives.")]
ConfigFile = Annotated[Path, typer.Argument(help="The run configuration, YAML.")]
Manifest = Annotated[str | None, typer.Option(help="The Parquet manifest: a path or URI.")]
Seeds = Annotated[
    str | None,
    typer.Option(
        help="Instead of a manifest: 0-999 bodies; or 'canvas=0-9 face=0-99' for all pairs."
    ),
]
Faces = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER", help="Instead of a manifest: photographs, whose faces become rows."
    ),
]
Bodies = Annotated[int, typer.Option(min=1, metavar="K", help="With --faces: rows for each face.")]
ConsentNote = Annotated[
    str | None,
    typer.Option(help="Who agreed to what; kept with every result, see docs/faces.md."),
]
RecipeName = Annotated[str, typer.Option(help="The recipe of a configuration that names none.")]
Film = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Keep every N-th step of each item as film.webp."),
]
MetricsAddress = Annotated[
    str,
    typer.Option(metavar="HOST:PORT", help="Where Prometheus finds the run's metrics, or off."),
]
JsonLines = Annotated[
    bool, typer.Option("--json", help="JSON lines on the output: steps, items, progress, summary.")
]

_OF_A_JOB = "of the demo, or of a configuration that names none; default: %(default)s"


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script; arguments: None for the process' own."""
    stopping.listen()
    code: str | int | None = 0
    try:
        app(arguments)
    except SystemExit as ended:
        code = ended.code
    except Exception:  # noqa: BLE001 - the last door: a bug must not look like exit code 1
        code = stopping.EXIT_CODE
        said = stopping.SAYING if stopping.is_asked() else traceback.format_exc()
        with contextlib.suppress(OSError):  # nobody hears of it where the terminal has gone
            print(without_secrets(said), file=sys.stderr)
    if stopping.is_asked():
        stopping.leave(code if isinstance(code, int) else stopping.EXIT_CODE)
    sys.exit(code)


def launch(*recipes: str) -> None:
    """What a file of `jobs/` does: the demo of a recipe, or a run by it; the first by default."""
    parser = argparse.ArgumentParser(description=f"The demo: {demos.find(recipes[0]).about}.")
    parser.add_argument("--config", help="run configuration, YAML")
    parser.add_argument("--manifest", help="Parquet manifest: path or URI")
    parser.add_argument("--seeds", help="instead of a manifest, like 0-999")
    parser.add_argument("--out", help="where the run lives: directory or s3://bucket/prefix")
    parser.add_argument("--run-id", help="a name for the run")
    parser.add_argument("--max-actors", help="so that several runs can share a cluster")
    parser.add_argument("--film", help="keep every so many steps of each item as film.webp")
    parser.add_argument("--recipe", choices=recipes, default=recipes[0], help=_OF_A_JOB)
    parser.add_argument("--foreground", action="store_true", help="right here, not as a job of Ray")
    given = {name: value for name, value in vars(parser.parse_args()).items() if value}
    foreground = given.pop("foreground", False)
    if given.keys() <= {"out", "film", "recipe"}:
        command = ["demo"]
        given.setdefault("out", _demo_out(given["recipe"]))
    elif {"config", "out"} <= given.keys() and ("manifest" in given) != ("seeds" in given):
        command = ["run", given.pop("config")]
    else:
        parser.error(
            "give --config, --out and either --manifest or --seeds, or none of them for the demo"
        )
    for name, value in given.items():
        command += [f"--{name.replace('_', '-')}", value]
    _hand_over(command, given, foreground=foreground)
    main(command)


def _demo_out(recipe: str) -> str:
    """Where the demo's run lives unless somebody says it; a cluster's machines say s3://..."""
    name = "demo" if recipe == "montage" else f"demo-{recipe}"
    return f"{os.environ.get('INSETGAN_BATCH_OUT', 'out').rstrip('/')}/{name}"


def _hand_over(command: list[str], given: dict[str, str], *, foreground: bool) -> None:
    """Where there is a cluster, let it do the command as a job, and leave with its exit code."""
    from insetgan_batch.runtime import submit

    address = submit.find_cluster()
    if address is None:
        return
    os.environ["RAY_ADDRESS"] = address
    if foreground:
        return
    try:
        name = submit.name_of(given.get("run_id"), given["out"])
        entrypoint = submit.entrypoint_of(command)
        write = functools.partial(print, end="", flush=True)
        sys.exit(submit.hand_over(submit.connect(address), name, entrypoint, write))
    except InsetGanError as err:
        print(f"insetgan-batch: {err}", file=sys.stderr)
        sys.exit(2)


@app.callback()
def _options(
    log_level: Annotated[
        logs.Level, typer.Option(help="What is logged on the standard error; info: every item.")
    ] = "warning",
    log_format: Annotated[
        logs.Format, typer.Option(help="json: an object a line, with run, item and attempt.")
    ] = "text",
) -> None:
    """InsetGAN as a batch job: faces sewn into bodies by the million."""
    logs.configure(log_level, log_format)


def _explained(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn our own errors into one line and an exit code."""

    @functools.wraps(command)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            with stopping.interruptible():
                return command(*args, **kwargs)
        except InsetGanError as err:
            print(f"insetgan-batch: {printable(err)}", file=sys.stderr)
            raise typer.Exit(2 if isinstance(err, _WRONG_INPUT) else 3) from err
        except OSError as err:
            print(f"insetgan-batch: {printable(without_secrets(str(err)))}", file=sys.stderr)
            raise typer.Exit(3) from err
        except KeyboardInterrupt as err:
            print(stopping.SAYING, file=sys.stderr)
            raise typer.Exit(stopping.EXIT_CODE) from err

    return wrapper


@app.command()
@_explained
def demo(
    recipe: Annotated[str, typer.Option(help=f"One of {', '.join(demos.DEMOS)}.")] = "montage",
    out: Annotated[
        str | None,
        typer.Option(help="Where the run lives.", show_default="out/demo, or out/demo-RECIPE"),
    ] = None,
    items: Annotated[
        int | None, typer.Option(min=1, help="Only so many of the results.", show_default="all")
    ] = None,
    film: Film = None,
    metrics_address: MetricsAddress = _METRICS_ADDRESS,
    as_json: JsonLines = False,
) -> None:
    """Show what a recipe does with the demo generators, and make a page of it."""
    from insetgan_batch.config import parse
    from insetgan_batch.data import manifest
    from insetgan_batch.methods.insetgan.sources import schema

    chosen = demos.find(recipe)
    out = out or _demo_out(recipe)
    config = parse({"recipe": recipe, **chosen.fields}, f"demo of {recipe}")
    rows = chosen.items[:items]
    manifest_uri = f"{out.rstrip('/')}/manifest-{len(rows)}.parquet"
    manifest.write(manifest_uri, rows, schema(chosen.insets))
    _run(
        _with_film(config, film),
        manifest_uri,
        out,
        None,
        metrics_address=metrics_address,
        as_json=as_json,
    )


@app.command()
@_explained
def run(
    config: ConfigFile,
    out: Out,
    manifest: Manifest = None,
    seeds: Seeds = None,
    faces: Faces = None,
    bodies: Bodies = 1,
    consent_note: ConsentNote = None,
    run_id: Annotated[str | None, typer.Option(help="A name for the run.")] = None,
    recipe: RecipeName = "montage",
    film: Film = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.")
    ] = None,
    sample: Annotated[
        bool,
        typer.Option("--sample", help="With --limit: N rows drawn at random."),
    ] = False,
    max_actors: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So that several runs can share a cluster."),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Show the plan first, and start without asking.")
    ] = False,
    metrics_address: MetricsAddress = _METRICS_ADDRESS,
    as_json: JsonLines = False,
) -> None:
    """Do everything in a manifest. The same command again resumes, and finds everything done."""
    from insetgan_batch.config import load

    if sample and limit is None:
        raise ConfigError("--sample draws as many rows as --limit says: give --limit N too")
    chosen = _with_film(load(config, recipe), film)
    if faces is None:
        if bodies > 1 or consent_note is not None:
            raise ConfigError("--bodies and --consent-note are for --faces: give --faces FOLDER")
        rows = _manifest(manifest, seeds)
    elif manifest is not None or seeds is not None:
        raise ConfigError("give one of --manifest, --seeds and --faces")
    else:
        rows = _faces_in(chosen, out, faces, bodies, consent_note)
    if max_actors is not None:
        chosen = dataclasses.replace(chosen, max_actors=max_actors)
    if yes:
        _show_plan(chosen, rows, out, None, as_json=False)
    some = None if limit is None else (limit, sample)
    _run(chosen, rows, out, run_id, some, metrics_address=metrics_address, as_json=as_json)


@app.command()
@_explained
def plan(
    config: ConfigFile,
    out: Out,
    manifest: Manifest = None,
    seeds: Seeds = None,
    recipe: RecipeName = "montage",
    price: Annotated[
        float | None,
        typer.Option("--price-per-gpu-hour", min=0, help="Of one GPU, or actor: adds the cost."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Check the whole manifest and the weights, try a few items, and say what a run will take."""
    from insetgan_batch.config import load

    _show_plan(load(config, recipe), _manifest(manifest, seeds), out, price, as_json=as_json)


@app.command()
@_explained
def retry(
    uri: Where,
    quarantined: Annotated[
        bool, typer.Option("--quarantined", help="All items in quarantine.")
    ] = False,
    failed: Annotated[
        str | None, typer.Option(metavar="REASON", help="Those of one reason, like no_face.")
    ] = None,
    damaged: Annotated[
        bool,
        typer.Option(
            "--damaged",
            help="Items of which a file or a record is not what was written; reads every file.",
        ),
    ] = False,
) -> None:
    """Let items be tried again; the run's command, given again, tries them."""
    if quarantined + damaged + (failed is not None) != 1:
        raise ConfigError("give one of --quarantined, --failed REASON and --damaged")
    from insetgan_batch.data import cleaning
    from insetgan_batch.methods import names
    from insetgan_batch.runtime.failures import REASONS

    store = _store(uri)
    reasons = REASONS | names.of_run(store.read_run()).REASONS.keys()
    if failed is not None and failed not in reasons:
        raise ConfigError(f"--failed {failed!r}: expected one of {', '.join(sorted(reasons))}")
    if damaged:
        _retry_damaged(store)
        return
    print(f"{cleaning.retry(store, failed)} items will be tried again by the run's own command")


def _retry_damaged(store: RunStore) -> None:
    """Move what is damaged out of the way, and say what that was."""
    from insetgan_batch.data import damage
    from insetgan_batch.data.commits import VOIDED

    with open_screen() as screen:
        hashed = _Hashed(screen.say)
        seen: list[str] = []

        def hear(checked: damage.Checked) -> None:
            hashed.count(checked)
            seen.extend(checked.differences)

        mended = damage.mend(store, hear)
    _print_lines(seen)
    others = f", and {mended.others} other records" if mended.others else ""
    print(
        f"{mended.commits} damaged items{others} moved to {store.storage.uri}/{VOIDED};"
        " the run's own command does these items again"
    )


@app.command()
@_explained
def clean(
    uri: Where,
    older_than: Annotated[
        str,
        typer.Option(
            metavar="AGE", help="Of what no commit names yet, at least: 12h, 3d; 1h or more."
        ),
    ] = "3d",
) -> None:
    """Remove attempts that were beaten, what dead processes left long ago, and used states."""
    from insetgan_batch.data import cleaning

    age_s = _parse_age(older_than)
    store = _store(uri)
    store.read_run()
    cleaned = cleaning.clean(store, age_s)
    print(
        f"removed {cleaned.files} files of {cleaned.attempts} attempts, {cleaned.checkpoints} saved"
        f" states and {cleaned.leftovers} leftovers of processes that died"
    )


@app.command()
@_explained
def pack(
    uri: Where,
    file_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="parquet, webdataset, jsonl; again for several.",
            show_default="parquet",
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only items of which this holds, like 'seam_after < 0.2'.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="Shares, drawn by the item's id: train=0.9,test=0.1.")
    ] = "train=1",
    losses_every: Annotated[
        int, typer.Option(min=1, metavar="N", help="Keep the losses of every N-th step.")
    ] = 1,
    licence: Annotated[
        str, typer.Option("--license", help="For the card, like cc-by-4.0.")
    ] = "unknown",
) -> None:
    """Make a dataset of what is committed: images, results, losses, and a card."""
    from insetgan_batch.data import shards
    from insetgan_batch.data.where import Where as Condition

    formats = shards.parse_formats(file_format or ["parquet"])
    condition = None if where is None else Condition(where)
    settings = shards.PackSettings(formats, condition, shards.parse_splits(split), losses_every)
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.runtime import pack as packing

        say = _now_and_then(screen.say)
        packed = packing.pack(uri, settings, licence=licence, on_step=say)
    splits = ", ".join(f"{name} {count}" for name, count in packed.splits.items())
    print(
        f"{sum(packed.splits.values())} items packed ({splits}), {packed.left_out} left out,"
        f" {packed.quarantined} quarantined: {packed.files} files, {packed.bytes / 1e6:.1f} MB"
    )
    print(f"dataset: {packed.uri}")
    _leave_if_damaged(uri, list(packed.damaged.values()))


@app.command()
@_explained
def verify(
    uri: Where,
    redo: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Also make N random items again, on this machine."),
    ] = 0,
) -> None:
    """Hash every committed file and the latest dataset again; a line for each difference."""
    from insetgan_batch.runtime import verify as verifying

    store = _store(uri)
    differences = 0
    with open_screen() as screen:
        hashed = _Hashed(screen.say)
        for checked in verifying.check(store):
            hashed.count(checked)
            differences += len(checked.differences)
            _print_lines(checked.differences)
        if redo:
            again = verifying.redo(store, redo, on_step=_now_and_then(screen.say))
            differences += len(again)
            _print_lines(again)
    print(f"{hashed.files} files, {hashed.bytes / 1e6:.1f} MB, {redo} items made again: ", end="")
    print("all as it was" if not differences else f"{differences} differences")
    if differences:
        raise typer.Exit(1)


@manifests.command("faces")
@_explained
def manifest_faces(
    folder: Annotated[str, typer.Argument(help="A folder or s3://bucket/prefix of photographs.")],
    out: Annotated[str, typer.Option(help="The manifest to write: a path or URI, NAME.parquet.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="The generator that will paint them: cut out as its own faces, at its size.",
            show_default="as FFHQ, 1024 px",
        ),
    ] = None,
    which: Annotated[
        Literal["all", "largest"], typer.Option("--faces", help="Of each photograph.")
    ] = "all",
    bodies: Annotated[int, typer.Option(min=1, metavar="K", help="Rows for each face.")] = 1,
    landmarks: Annotated[
        str | None,
        typer.Option(help="Your own: Parquet with `image` and `landmarks`, 10 numbers each."),
    ] = None,
    consent_note: ConsentNote = None,
) -> None:
    """Make a manifest of the faces in photographs: found, cut out as a generator's own, shown."""
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.data import landmarks as given
        from insetgan_batch.methods.insetgan import faces

        order = faces.FaceSelection(
            which=which,
            bodies=bodies,
            landmarks={} if landmarks is None else given.read(landmarks),
            consent_note=consent_note,
        )
        cut = faces.FaceCrop() if model is None else faces.cut_for(model)
        made = faces.make_manifest(folder, out, cut, order, _now_and_then(screen.say))
    print(f"{made.faces} faces in {made.pictures} pictures, {made.rows} rows: {made.manifest}")
    if made.skipped:
        print(f"{len(made.skipped)} pictures skipped, for example:")
        _print_lines([f"  {why}" for why in list(made.skipped.values())[:_SHOWN_REASONS]])
    print(f"look: {made.preview}")


@app.command("spot-watch")
@_explained
def spot_watch() -> None:
    """Wait for the cloud's notice that this machine goes away, and drain its Ray node then."""
    from insetgan_batch.runtime import spot

    left_s = spot.watch(spot.drain_this_node)
    print(f"drained: this machine will be gone in {left_s:.0f} s")


@app.command()
@_explained
def report(uri: Where) -> None:
    """Make the page of a run anew."""
    from insetgan_batch.report import page

    written = page.write(_store(uri))
    print(written.uri)
    _leave_if_damaged(uri, written.damaged)


@app.command()
@_explained
def status(
    uri: Where,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="A line every few seconds, until nothing is left.")
    ] = False,
) -> None:
    """Say what of a run is done, failed and left: from storage alone, on any machine."""
    from insetgan_batch.runtime.status import Watcher

    watcher = Watcher(_store(uri))
    while True:
        found = watcher.poll()
        fields = dataclasses.asdict(found) | {"damaged": len(found.damaged)}
        if watch:
            fields |= dataclasses.asdict(watcher.pace)
        _say_status(fields, as_json=as_json)
        if not watch or not found.left:
            break
        time.sleep(_LOOK_EVERY_S)
    _leave_if_damaged(uri, list(found.damaged.values()))


def _say_status(fields: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(fields), flush=True)
    elif "seconds_left" in fields:
        left_s = fields["seconds_left"]
        print(
            f"{fields['items'] - fields['left']}/{fields['items']} items,"
            f" {fields['quarantined']} quarantined, {fields['damaged']} damaged,"
            f" {fields['left']} left, {fields['items_per_minute']} items/min,"
            f" {'nothing ended lately' if left_s is None else f'about {clock(left_s)} to go'}",
            flush=True,
        )
    else:
        print("\n".join(f"{key:12} {printable(value)}" for key, value in fields.items()))


@app.command()
@_explained
def generate(
    model: Annotated[str, typer.Option(help="demo:canvas, demo:face, a path or a URI.")],
    out: Annotated[Path, typer.Option(help="Directory for the images.")],
    seeds: Annotated[str, typer.Option(help="Like 0-15,20.")] = "0-15",
    psi: Annotated[
        str, typer.Option(help="Truncation: 1 none, 0 average; or one per layer: 1,1,0.7,0.5,...")
    ] = "0.7",
    label: Annotated[
        int | None, typer.Option("--class", help="The class, of a generator with classes.")
    ] = None,
    noise: Annotated[
        Literal["const", "none", "random"], typer.Option(help="What every layer adds.")
    ] = "const",
    file_format: Annotated[
        Literal["png", "webp", "npy"], typer.Option("--format", help="npy: floats [C H W], -1..1.")
    ] = "png",
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Of the highest resolutions; float32 is exact."),
    ] = "float32",
) -> None:
    """Paint the images of seeds with one generator, and a sheet of them."""
    from insetgan_batch.data.seeds import parse_seeds
    from insetgan_batch.methods.insetgan import generate as painting

    look = painting.PaintSettings(
        psi=_parse_psi(psi), label=label, noise=noise, file_format=file_format, precision=precision
    )
    for path in painting.generate(model, parse_seeds(seeds), look, out):
        print(path)


@app.command("import")
@_explained
def import_(
    file: Annotated[Path, typer.Argument(help="The checkpoint: .pkl, .pt or .safetensors.")],
    out: Annotated[Path | None, typer.Option(help="Directory for what is written.")] = None,
    inspect: Annotated[bool, typer.Option(help="Say what is in the file; write nothing.")] = False,
    network: Annotated[
        str | None, typer.Option(help="One of the file's generators, else the averaged one (EMA).")
    ] = None,
    layout: Annotated[
        Literal["safetensors", "rosinality"],
        typer.Option("--format", help="Ours, or a .pt in rosinality's layout."),
    ] = "safetensors",
) -> None:
    """Bring a StyleGAN2 checkpoint of another program in, without executing anything in it."""
    if (out is None) == (not inspect):
        raise ConfigError("give either --out DIR, to write there, or --inspect")
    from insetgan_batch.nets.foreign import convert, reader

    contents = reader.read(file)
    contents.choose(network)
    _print_lines([f"{file}: {contents.layout}", f"sha256     {contents.sha256}"])
    if contents.others:
        _print_lines([f"left       {', '.join(contents.others)}"])
    for name, found in contents.networks.items():
        is_wanted = name == (network or contents.default)
        if inspect or is_wanted:
            is_it = " (the one to import)" if inspect and is_wanted else ""
            _print_lines([f"generator  {name}{is_it}"])
            _print_lines([f"  {line}" for line in convert.describe(found)])
    if out is not None:
        written = convert.write(contents, out, network, layout)
        print(f"wrote      {written.path} ({written.size_bytes / 1e6:.1f} MB)")
        _print_lines([f"left out   {sentence}" for sentence in written.left_out])
        if layout == "safetensors":
            print(f"look       insetgan-batch generate --model {written.path} --out out/look")


def _parse_psi(text: str) -> float | list[float]:
    """One truncation, or one per layer; raises `ConfigError`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as err:
        raise ConfigError(
            f"--psi {text!r}: expected a number, or one per layer: 1,0.7,..."
        ) from err
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"--psi {text!r}: expected finite numbers")
    return values[0] if len(values) == 1 else values


def _with_film(config: RunConfig, film: int | None) -> RunConfig:
    """With what the command line says of the film, if it does."""
    return config if film is None else dataclasses.replace(config, film_every=film)


def _manifest(manifest: str | None, seeds: str | None) -> str:
    """The URI of the rows; raises `ConfigError`."""
    if (manifest is None) == (seeds is None):
        raise ConfigError("give either --manifest, or --seeds, or to `run` --faces")
    return manifest if manifest is not None else f"seeds:{seeds}"


def _faces_in(
    config: RunConfig, out: str, folder: str, bodies: int, consent_note: str | None
) -> str:
    """The URI of the manifest of a folder's faces, beside the results."""
    if "face" not in config.insets:
        raise ConfigError(f"--faces: the recipe `{config.recipe.name}` has no inset `face`")
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.methods.insetgan import faces

        order = faces.FaceSelection(bodies=bodies, consent_note=consent_note)
        return faces.manifest_in(
            out, folder, config.insets["face"], order, _now_and_then(screen.say)
        )


def _store(uri: str) -> RunStore:
    from insetgan_batch.data.commits import RunStore
    from insetgan_batch.data.storage import open_storage

    return RunStore(open_storage(uri))


def _run(
    config: RunConfig,
    manifest: str,
    out: str,
    run_id: str | None,
    subset: tuple[int, bool] | None = None,
    *,
    metrics_address: str,
    as_json: bool,
) -> None:
    """Run with a screen, say how it ended, and leave with the right code."""
    with open_screen(as_json=as_json) as screen:
        screen.say("loading")
        from insetgan_batch.runtime import driver

        screen.say("starting Ray and the generators")
        summary = driver.run(
            config,
            manifest,
            out,
            run_id=run_id,
            subset=None if subset is None else driver.Subset(*subset),
            on_progress=screen.update,
            on_step=screen.say,
            metrics_address=metrics_address,
        )
    if as_json:
        print(json.dumps({"event": "summary"} | dataclasses.asdict(summary)))
    else:
        print(
            f"{summary.committed} of {summary.items} items are committed,"
            f" {summary.quarantined} quarantined ({summary.seconds:.0f} s)"
        )
        print(f"page: {printable(summary.report_uri)}")
    _leave_if_damaged(out, summary.damaged)
    if summary.committed < summary.items:
        raise typer.Exit(1)


def _show_plan(
    config: RunConfig, manifest: str, out: str, price: float | None, *, as_json: bool
) -> None:
    with open_screen() as screen:
        screen.say("loading")
        from insetgan_batch.runtime import plan as planning

        made = planning.make(config, manifest, out, price_per_hour=price, on_step=screen.say)
    if as_json:
        print(json.dumps(dataclasses.asdict(made)))
        return
    _print_lines(planning.describe(made))


class _Hashed:
    """Counts what has been read, and says it now and then."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.files = self.bytes = 0
        self._say = _now_and_then(say)

    def count(self, checked: Checked) -> None:
        """Some more."""
        self.files += checked.files
        self.bytes += checked.bytes
        self._say(f"hashing: {self.files} files, {self.bytes / 1e9:.2f} GB")


def _leave_if_damaged(uri: str, lines: Sequence[str]) -> None:
    """Say what is damaged and how it is mended, and leave with exit code 1, if anything is."""
    if not lines:
        return
    many = f"{len(lines)} items are" if len(lines) > 1 else "1 item is"
    print(f"{many} damaged and left out:", file=sys.stderr)
    _print_lines([f"  {line}" for line in lines[:_SHOWN_REASONS]], file=sys.stderr)
    if len(lines) > _SHOWN_REASONS:
        print("  and more; `insetgan-batch verify` names each", file=sys.stderr)
    print(
        f"insetgan-batch retry {shlex.quote(printable(uri))} --damaged, then the run's own command,"
        " does them again",
        file=sys.stderr,
    )
    raise typer.Exit(1)


def _print_lines(lines: Sequence[str], file: TextIO | None = None) -> None:
    """What stores and files of others say: on lines of their own, whatever is in them."""
    for line in lines:
        print(printable(line), file=file)


def _parse_age(text: str) -> float:
    """Seconds of an age like 12h or 3d; raises `ConfigError`."""
    found = re.fullmatch(r"([0-9]{1,5})([hd])", text)
    if not found or int(found[1]) == 0:
        raise ConfigError(
            f"--older-than {text!r}: expected hours or days, like 12h or 3d, and at least 1h: a"
            " result may be on its way to its commit"
        )
    return int(found[1]) * _AGES_S[found[2]]


def _now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """For what would be said a thousand times a second."""
    again_at_s = 0.0

    def say_sometimes(what: str) -> None:
        nonlocal again_at_s
        if time.monotonic() >= again_at_s:
            say(what)
            again_at_s = time.monotonic() + _NEWS_EVERY_S

    return say_sometimes
