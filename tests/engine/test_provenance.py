"""What a figure says of the machine that it was measured on."""

import pytest

from engine.provenance import command, hardware


@pytest.mark.parametrize(
    ("instructions", "told"),
    [
        ({"instructions": "AVX512-BF16"}, "2 threads of AMD EPYC"),
        ({"instructions": "AVX2"}, "2 threads of AMD EPYC (AVX2)"),
        ({"instructions": "AVX2", "held": True}, "2 threads of AMD EPYC, held to AVX2"),
        ({}, "2 threads of AMD EPYC"),  # as kept before instructions were
    ],
)
def test_processors_of_one_name_are_told_apart_by_the_instructions_that_decide_how_weights_are_read(instructions, told):
    assert hardware({"processor": "AMD EPYC", "threads": 2, "gpu": None, **instructions}) == told


def test_a_command_names_the_settings_that_change_the_arithmetic_wherever_they_were_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["engine", "--preset", "tiny"])
    assert command("engine") == "python -m engine --preset tiny"
    (tmp_path / ".env").write_text("CITER_CPU_WEIGHTS=int8\n")
    assert command("engine") == "CITER_CPU_WEIGHTS=int8 python -m engine --preset tiny"
    monkeypatch.setenv("CITER_CPU_WEIGHTS", "auto")  # the default
    assert command("engine") == "python -m engine --preset tiny"
