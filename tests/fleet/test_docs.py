"""The commands of docs/cluster.md, as they stand there, on this machine.

Those for AWS and Kubernetes need machines that there are not: Ray's own command line takes them
apart, and what they name has to be there.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click import UsageError
from ray.scripts.scripts import cli

from tests.fleet import apart, launcher

PAGE = apart.ROOT / "docs/cluster.md"
PAGES = {
    "docs/cluster.md": ["ray_cluster.yaml", "cluster/local.yaml"],
    "docs/kubernetes.md": ["cluster/kuberay/rayjob.yaml", "cluster/kuberay/podmonitor.yaml"],
}
# What a user has to change.
_PLACEHOLDER = re.compile(
    r"registry\.example\.org/[\w-]+:[\w.]+|ami-0+|(?<![\w-])my-[\w-]+|(?<=::)\d{12}"
)


def commands(page: str) -> list[list[str]]:
    """Every line of a page that is a command of ray, kubectl or ours, by its words."""
    lines = [line.strip() for line in (apart.ROOT / page).read_text().splitlines()]
    found = [line.partition(" > ")[0] for line in lines if line.startswith(("ray ", "kubectl "))]
    return [shlex.split(line) for line in found]


@pytest.mark.parametrize("page", PAGES)
def test_ray_knows_every_command_of_a_page_and_its_options(page: str) -> None:
    rays = [words[1:] for words in commands(page) if words[0] == "ray"]
    assert len(rays) > 10 or page != "docs/cluster.md"
    for name, *arguments in rays:
        command: Any = cli.commands[name]
        if name == "job":
            name, *arguments = arguments
            command = command.commands[name]
        command.make_context(name, arguments)


def test_ray_refuses_an_option_that_there_is_not() -> None:
    """So the test above is one."""
    with pytest.raises(UsageError):
        cli.commands["up"].make_context("up", ["--yess", "ray_cluster.yaml"])


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_command_names_is_there(page: str) -> None:
    named = [w for words in commands(page) for w in words if re.search(r"/\w+\.(py|yaml)$", w)]
    assert named
    for name in named:
        assert (apart.ROOT / name).exists() or name.startswith("s3://")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_of_everything_that_has_to_be_changed(page: str) -> None:
    text = (apart.ROOT / page).read_text()
    for name in PAGES[page]:
        found = set(_PLACEHOLDER.findall((apart.ROOT / name).read_text()))
        missing = {one for one in found if one not in text and f"my-{one}" not in text}
        assert missing <= {"my-head", "my-user", "my-worker-1", "my-worker-2"}


@pytest.mark.ray
def test_two_nodes_on_one_machine_do_a_run_each_way(place: Path, clone: Path) -> None:
    said = apart.run(apart.blocks(PAGE)["two-nodes"], place, clone)
    for run in ("two-nodes", "submitted"):
        assert (clone / "out" / run / "report/index.html").exists(), said[-6000:]
    assert said.count("left         0") == 2
    assert "has started; Ctrl-C leaves it alone" in said


@pytest.mark.ray
@pytest.mark.parametrize("way", ["sshd", "stand-ins"])
def test_the_launcher_starts_a_head_submits_a_job_and_takes_it_down(
    place: Path, clone: Path, way: str
) -> None:
    missing = launcher.missing()
    if way == "sshd" and missing:
        pytest.skip(f"no {', '.join(missing)} here: install openssh-server, rsync and netcat")
    if way == "stand-ins" and not missing:
        pytest.skip("sshd is here: the real way is tested")
    is_real = way == "sshd"
    written = launcher.for_this_machine(apart.user(), place, is_real=is_real)
    (clone / "cluster/local.yaml").write_text(written)
    before = launcher.start_sshd(place) if is_real else ""
    path = "" if is_real else launcher.write_stand_ins(place)
    said = apart.run(before + apart.blocks(PAGE)["local"], place, clone, path)
    # A lone file in the home directory of the head, and a run beside it.
    assert (place / "home/generate.py").exists(), said[-6000:]
    assert (place / "home/out/demo-generate/report/index.html").exists(), said[-6000:]
    assert (place / "home/out/first/report/index.html").exists(), said[-6000:]
    assert "job demo-generate-" in said
    assert "job first-1 has started" in said
    assert "Active:" in said
