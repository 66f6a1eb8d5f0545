"""`cluster/Dockerfile`: hadolint where it is installed, and the properties that it has to have."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "cluster/Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """(word, rest) of each, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    parts = [line.split(maxsplit=1) for line in whole.splitlines() if line.strip()]
    return [(word, " ".join(rest.split())) for word, rest in parts]


def all_of(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def test_hadolint_finds_nothing() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("there is no `hadolint` here: see github.com/hadolint/hadolint")
    done = subprocess.run(
        ["hadolint", "--config", ".hadolint.yaml", str(DOCKERFILE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout + done.stderr == ""


def test_the_base_is_one_cuda_runtime_by_its_full_version() -> None:
    (base,) = all_of("FROM")
    assert re.fullmatch(r"nvidia/cuda:\d+\.\d+\.\d+-runtime-ubuntu\d\d\.\d\d", base)


def test_it_ends_as_an_ordinary_user() -> None:
    assert all_of("USER") == ["insetgan"]
    words = [word for word, _ in instructions()]
    assert "RUN" in words[words.index("USER") :]
    (made,) = [run for run in all_of("RUN") if "useradd" in run]
    assert "--uid 1000" in made


IMAGE, TESTS = "cluster/requirements.txt", "tests/requirements.txt"


def locked(lock: str = IMAGE) -> dict[str, str]:
    """package → version, of what the image, or `make test`, installs."""
    lines = (ROOT / lock).read_text().splitlines()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", "\n".join(lines), re.MULTILINE))


def test_what_is_installed_is_locked_to_what_the_package_wants() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tested = project["dependencies"] + project["optional-dependencies"]["test"]
    for lock, wanted in ((IMAGE, project["dependencies"]), (TESTS, tested)):
        found = locked(lock)
        for requirement in map(Requirement, wanted):
            assert found[canonicalize_name(requirement.name)] in requirement.specifier
    # What is tested is what is shipped.
    assert locked(IMAGE).items() <= locked(TESTS).items()


@pytest.mark.parametrize("lock", [IMAGE, TESTS])
def test_every_file_has_to_have_a_hash_and_no_index_is_named(lock: str) -> None:
    text = (ROOT / lock).read_text()
    for entry in re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)):
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"://|--(extra-)?index-url|--find-links", text)
    first, second = [run for run in all_of("RUN") if "pip install" in run]
    assert "--require-hashes --requirement requirements.txt" in first
    assert "--no-deps --no-build-isolation ./source" in second


def test_only_the_package_is_copied_and_no_weights() -> None:
    sources = [source for copied in all_of("COPY") for source in copied.split()[1:-1]]
    assert sources == [
        "cluster/requirements.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "insetgan_batch",
    ]
    assert all_of("ADD") == []
    everything = " ".join(all_of("RUN"))
    assert not re.search(r"s3://|https?://|\.pkl|\.pth|weights", everything)


def test_it_has_what_the_launcher_needs_inside_of_the_container() -> None:
    (install,) = [run for run in all_of("RUN") if "apt-get install" in run]
    assert {"rsync", "openssh-client", "python3-venv"} <= set(install.split())


def test_a_login_shell_finds_the_package() -> None:
    """Else the launcher's commands find no `ray`: Ubuntu's profile resets the path."""
    (venv,) = [env for env in all_of("ENV") if "PATH=" in env]
    folder = venv.split("PATH=")[1].split(":")[0]
    assert any(".bash_profile" in run and folder in run for run in all_of("RUN"))


def test_layers_keep_no_caches() -> None:
    for run in all_of("RUN"):
        assert "pip install" not in run or "--no-cache-dir" in run
        assert "apt-get install" not in run or "rm -rf /var/lib/apt/lists/*" in run
