"""The ablation benchmark: every variant is trained, scored and summed up, and a finished run is not trained again."""

import json

import pytest

from benchmarks.ablations import VARIANTS, main, summary
from facemodels import InputError
from facemodels.methods.registry import METHODS
from facemodels.training.config import configured

TINY = [
    word
    for s in (
        "steps=2",
        "batch=2",
        "cache=4",
        "held_out=2",
        "warmup=0",
        "precision=float32",
        "device=cpu",
        "validate_every=2",
    )
    for word in ("--set", s)
]


@pytest.mark.slow
def test_variants_are_trained_once_and_summed_up(tmp_path, capsys):
    arguments = [
        "e2far",
        "--seeds",
        "2",
        "--output",
        str(tmp_path / "runs"),
        "--json",
        str(tmp_path / "out.json"),
        *TINY,
    ]
    result = main(arguments)
    assert [(r["variant"], r["seed"]) for r in result["runs"]] == [
        ("top layer", 0),
        ("fusion", 0),
        ("top layer", 1),
        ("fusion", 1),
    ]
    config = json.loads((tmp_path / "runs" / "top-layer-1" / "config.json").read_text())
    assert config["fusion"] is False and config["seed"] == 1 and config["steps"] == 2
    assert "± " in capsys.readouterr().out
    weights = tmp_path / "runs" / "fusion-0" / "checkpoints" / "step-000000002" / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    again = main(arguments)
    assert weights.stat().st_mtime_ns == before
    assert [r["neutral_mm"] for r in again["runs"]] == [r["neutral_mm"] for r in result["runs"]]
    assert json.loads((tmp_path / "out.json").read_text())["summary"] == again["summary"]


def test_the_summary_is_mean_and_deviation_over_seeds():
    runs = [{"variant": "a", "seed": k, "seconds": 1.0, "error": v} for k, v in enumerate((1.0, 2.0, 6.0))] + [
        {"variant": "b", "seed": 0, "seconds": 1.0, "error": 4.0}
    ]
    found = summary(runs)
    assert (
        found["a"]["error"] == [3.0, pytest.approx(7**0.5)]
        and found["b"]["error"] == [4.0, 0.0]
        and "seconds" not in found["a"]
    )


def test_settings_of_all_variants_exist():
    from facemodels.methods.registry import method_class

    for name, variants in VARIANTS.items():
        assert name in METHODS
        for changes in variants.values():
            configured(method_class(name).config_class, method_class(name).PRESETS["ablation"] | changes)


def test_a_variant_of_another_method_is_refused():
    with pytest.raises(InputError, match="--only fusion: the variants of dasl are none"):
        main(["dasl", "--only", "fusion"])
