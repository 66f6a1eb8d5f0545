"""What a run asks of InsetGAN before any network is loaded."""

from __future__ import annotations

import subprocess
import sys

from insetgan_batch.methods import names
from insetgan_batch.methods.insetgan.settings import Settings

METHOD = names.find("insetgan")


def test_the_steps_of_an_item_are_those_of_all_stages() -> None:
    # 3 rounds of 20 + 20 steps, then 2 of 30 + 30.
    assert METHOD.steps(Settings.parse({"recipe": "montage"})) == 240
    assert METHOD.steps(Settings.parse({"recipe": "generate", "insets": {}})) == 0


def test_time_is_counted_by_the_generator_that_moves() -> None:
    assert list(METHOD.phases(Settings())) == ["canvas", "face"]


def test_the_rows_of_a_run_are_those_of_its_configuration() -> None:
    stored = METHOD.rows_of_run({"configuration": {"insets": {"face": "demo:face"}}})
    assert METHOD.rows(Settings()).columns == stored.columns


def test_other_names_of_models_stand_in_their_places() -> None:
    settings = Settings(perceptual="lpips.pth")
    named = {name: f"{name}.safetensors" for name in settings.models}
    assert settings.with_models(named).models == named


def test_to_know_the_method_takes_no_torch() -> None:
    program = (
        "import sys; from insetgan_batch.methods import names; names.find('insetgan');"
        " sys.exit('torch' in sys.modules or 'pyarrow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
