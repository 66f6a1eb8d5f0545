"""Whole files by attackers and by accident: one line each, nothing executed, nothing left behind.
Through the reader and through the command.
"""

from __future__ import annotations

import io
import os
import pickle
import resource
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import CliRunner

from insetgan_batch.cli.main import app
from insetgan_batch.errors import CheckpointError
from insetgan_batch.nets.foreign import convert, reader
from tests.nets.foreign import pretend
from tests.nets.foreign.attack import (
    Bomb,
    at_most,
    bombs,
    legacy_file,
    mapping,
    opcode_bombs,
    pickled,
    storage_id,
    tensor,
    text,
    zip_file,
)
from tests.nets.foreign.hostile import (
    SMALL,
    TENSORS,
    VALID,
    checked,
    contents_of,
    networks,
    read,
    refusal_of,
    saved,
    snapshot,
)
from tests.nets.foreign.nvidia_parts import nvidia_generator
from tests.nets.foreign.pretend import Network, persistent
from tests.nets.foreign.rosinality_parts import rosinality_tensors
from tests.nets.foreign.tf_parts import tf_network, tf_options, tf_variables

# Whoever hangs does so in C, where the usual timeout does not reach.
pytestmark = pytest.mark.timeout(method="thread")

EVERY = pytest.mark.parametrize("layout", VALID)


@EVERY
def test_files_that_nobody_changed_are_read(layout: str, tmp_path: Path) -> None:
    """Else the refusals below would not mean much."""
    assert read(VALID[layout], tmp_path).choose(None).build().architecture == SMALL


# Payloads


def with_source(source: object) -> Bomb:
    """A generator whose record has another source."""
    generator = nvidia_generator(SMALL, TENSORS)
    meta = {"type": "class", "version": 6, "module_src": source, "class_name": "Generator"}
    return Bomb(pretend._reconstruct_persistent_obj, meta | {"state": generator.__dict__})


def with_tf_source(source: object) -> Network:
    network = tf_network("Gs", 6, tf_options(SMALL), *tf_variables(SMALL))
    network.__dict__["build_module_src"] = source
    return network


PLACES: dict[str, Callable[[Any], bytes]] = {
    "alone": pretend.pickled,
    "beside the generator": lambda bomb: pretend.pickled(
        {"G_ema": nvidia_generator(SMALL, TENSORS), "D": bomb}
    ),
    "before the generator": lambda bomb: pretend.pickled(
        {
            "training_set_kwargs": pretend.EasyDict(path=bomb),
            "G_ema": nvidia_generator(SMALL, TENSORS),
        }
    ),
    "in an attribute": lambda bomb: snapshot(lambda g: setattr(g.synthesis.b8.conv0, "up", bomb)),
    "in the arguments": lambda bomb: snapshot(lambda g: g._init_kwargs.update(x=bomb)),
    "as a parameter": lambda bomb: snapshot(
        lambda g: g.mapping.fc0._parameters.update(weight=bomb)
    ),
    "as a module": lambda bomb: snapshot(lambda g: g._modules.update(mapping=bomb)),
    "as a hook": lambda bomb: snapshot(lambda g: g._forward_hooks.update({0: bomb})),
    "as the source": lambda bomb: pretend.pickled({"G_ema": with_source(bomb)}),
    "in TensorFlow's arguments": lambda bomb: networks(lambda s: s["static_kwargs"].update(x=bomb)),
    "as a variable": lambda bomb: networks(lambda s: s["variables"].append(("lod", bomb))),
    "as a variable's name": lambda bomb: networks(lambda s: s["variables"].append((bomb, 1.0))),
    "as a component": lambda bomb: networks(lambda s: s["components"].update(x=bomb)),
    "as TensorFlow's source": lambda bomb: pretend.pickled(with_tf_source(bomb)),
    "in a torch file": lambda bomb: saved({"g_ema": rosinality_tensors(SMALL), "args": bomb}),
    "in an older torch file": lambda bomb: saved(
        {"args": bomb, "g_ema": rosinality_tensors(SMALL)}, zipped=False
    ),
    "in a state dict": lambda bomb: saved(OrderedDict({**TENSORS, "x": bomb})),
}


@pytest.mark.parametrize("kind", ["os.system", "nested torch file", "object array"])
@pytest.mark.parametrize("place", PLACES)
def test_a_payload_is_refused_wherever_it_is(place: str, kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    message = refusal_of(PLACES[place](bombs(marker)[kind]), tmp_path)
    assert not marker.exists()
    expected = "numpy data of type 'O8'" if kind == "object array" else "`posix.system`"
    assert expected in message


@pytest.mark.parametrize("kind", ["eval", "exec", "Popen", "partial", "nested torch zip"])
@pytest.mark.parametrize("place", ["alone", "beside the generator", "as a variable"])
def test_payloads_of_all_kinds_are_refused(place: str, kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    message = refusal_of(PLACES[place](bombs(marker)[kind]), tmp_path)
    assert not marker.exists()
    assert "found the name `" in message or "not in torch's older format" in message


@pytest.mark.parametrize("kind", opcode_bombs(Path()))
@pytest.mark.parametrize("make", [pickled, zip_file, legacy_file])
def test_payloads_in_unusual_opcodes_are_refused(
    make: Callable[[bytes], bytes], kind: str, tmp_path: Path
) -> None:
    marker = tmp_path / "executed"
    message = refusal_of(make(opcode_bombs(marker)[kind]), tmp_path)
    assert not marker.exists()
    assert "found the name `" in message or "found opcode " in message


@pytest.mark.parametrize("layout", ["nvidia", "tensorflow"])
def test_the_source_in_a_file_stays_a_text(layout: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    code = f"open({str(marker)!r}, 'w').close()\n"
    make = with_source if layout == "nvidia" else with_tf_source
    contents = read(pretend.pickled(make(code)), tmp_path)
    written = convert.write(contents, tmp_path / "out", None, "safetensors")
    assert code.encode() not in written.path.read_bytes()
    assert not marker.exists()


# Files that are something else


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "found 0 bytes, expected a checkpoint of 1 to 17,179,869,184"),
        (b"\x80", "not a whole pickle"),
        (b"x", "it starts with b'x'"),
        (b"Not Found\n", "it starts with b'Not Foun'"),
        (b"<!DOCTYPE html><html>Too many requests</html>", "it starts with b'<!DOCTYP'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it starts with b'version '"),
        (picture(), "it starts with b'\\x89PNG"),
        (b"\x1f\x8b" + bytes(50), "it starts with b'\\x1f\\x8b"),
        (b"ustar" + bytes(600), "it starts with"),
        (pickle.dumps([1, 2, 3]), "found list; expected a StyleGAN2 generator"),
        (pickle.dumps("text"), "expected a StyleGAN2 generator"),
        (pickle.dumps({}), "found no tensor at all; expected a StyleGAN2 generator"),
        (pickle.dumps(()), "found tuple; expected a StyleGAN2 generator"),
        (saved({}), "found no tensor at all"),
        (saved(torch.ones(3)), "expected a StyleGAN2 generator"),
        (saved({"weight": torch.ones(3)}), "found weight; expected a StyleGAN2 generator"),
        (safetensors.torch.save({"weight": torch.ones(3)}), "found weight; expected"),
        (pretend.pickled({"D": persistent("Discriminator")}), "found D: Discriminator; expected"),
    ],
)
def test_files_that_are_something_else(data: bytes, found: str, tmp_path: Path) -> None:
    assert found in refusal_of(data, tmp_path)


def test_a_directory_and_a_missing_file_are_named(tmp_path: Path) -> None:
    for path, found in ((tmp_path, "Is a directory"), (tmp_path / "nowhere", "No such file")):
        with pytest.raises(CheckpointError) as caught:
            reader.read(path)
        assert checked(str(caught.value), path) == f"cannot be read: {found}" + " or directory" * (
            found == "No such file"
        )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "people.pkl"
    path.write_bytes(VALID["nvidia"])
    path.chmod(0)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        reader.read(path)


@EVERY
def test_a_cut_file_is_refused(layout: str, tmp_path: Path) -> None:
    data, path = VALID[layout], tmp_path / "people.bin"
    for i in range(60):
        path.write_bytes(data[: 1 + i * (len(data) - 2) // 59])
        with pytest.raises(CheckpointError) as caught:
            reader.read(path)
        assert "expected" in checked(str(caught.value), path)


# Names that people see


@pytest.mark.parametrize(
    "name", ["a\nb", "\x1b[2J\x1b[31mred", "\ud800", "x" * 100_000, "\u202eabc"]
)
def test_names_from_a_file_do_nothing_to_the_terminal(name: str, tmp_path: Path) -> None:
    module = text(name) + text("system") + b"\x93"
    assert "found the name `" in refusal_of(pickled(module), tmp_path)
    assert "expected a StyleGAN2" in refusal_of(zip_file(mapping({name: b"N"})), tmp_path)
    storage = tensor(storage_id("0", 1), (1,), (1,))
    refusal_of(zip_file(mapping({name: storage}), {"0": bytes(4)}), tmp_path)
    refusal_of(pretend.pickled({name: persistent("D")}), tmp_path)
    generator = nvidia_generator(SMALL, TENSORS)
    path = tmp_path / "people.pkl"
    path.write_bytes(pretend.pickled({name: generator, name[:9] + "x": persistent("D")}))
    result = CliRunner().invoke(app, ["import", str(path), "--inspect"])
    assert result.exit_code == 0
    assert all(line.isprintable() and len(line) < 300 for line in result.stdout.splitlines())


def test_a_long_list_of_other_things_is_cut(tmp_path: Path) -> None:
    state = {f"G.{name}": value for name, value in TENSORS.items()}
    state |= {f"other{i}": torch.ones(1) for i in range(500)}
    others = read(safetensors.torch.save(state), tmp_path).others
    assert len(others) == 9
    assert others[-1] == "and 492 more"


# Writing


@pytest.mark.parametrize("layout", ["safetensors", "rosinality"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_disk_that_is_full_leaves_everything_as_it_was(
    layout: Any, is_there: bool, tmp_path: Path
) -> None:
    path, out = tmp_path / "people.pkl", tmp_path / "out"
    path.write_bytes(VALID["nvidia"])
    out.mkdir()
    if is_there:
        (out / "people.safetensors").write_bytes(b"before")
        (out / "people.pt").write_bytes(b"before")
    before = contents_of(tmp_path)
    command = ["import", str(path), "--out", str(out), "--format", layout]
    with at_most(resource.RLIMIT_FSIZE, 1000):
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "cannot be written: File too large" in result.stderr
    assert contents_of(tmp_path) == before


def test_a_name_that_is_too_long_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / f"{'p' * 250}.pkl"
    path.write_bytes(VALID["nvidia"])
    result = CliRunner().invoke(app, ["import", str(path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "cannot be written: File name too long" in result.stderr
    assert not contents_of(tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_named(tmp_path: Path) -> None:
    path, out = tmp_path / "people.pkl", tmp_path / "out"
    path.write_bytes(VALID["nvidia"])
    out.mkdir(mode=0o500)
    result = CliRunner().invoke(app, ["import", str(path), "--out", str(out)])
    assert result.exit_code == 2
    assert not contents_of(out)
