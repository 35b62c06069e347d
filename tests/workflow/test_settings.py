from copy import deepcopy
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from slipway.errors import SettingsError
from slipway.settings import cache_directory, check_files, of_its_own_models, parse_settings

ROOT = Path(__file__).parents[2]
DEFAULT = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())


def changed(*path, value):
    config = deepcopy(DEFAULT)
    *parents, last = path
    section = config
    for key in parents:
        section = section.setdefault(key, {})
    section[last] = value
    return config


def test_the_default_config_is_valid_and_measures_the_newest_version():
    settings = parse_settings(DEFAULT)

    assert settings.versions("digits") == [1, 2]
    assert settings.benchmarked("digits") == [2]


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (changed("benchmark", "rowz", value=1), "config: benchmark.rowz: unknown key"),
        (changed("benchmark", "rows", value=0), "config: benchmark.rows: should be greater than 0, got 0"),
        (changed("models", value={}), "config: models: Dictionary should have at least 1 item"),
        (
            changed("models", "Digits", value=DEFAULT["models"]["digits"]),
            "config: models.Digits: String should match pattern",
        ),
        (changed("models", "digits", "versions", 0, value={"source": {"kind": "builtin"}}), "versions.0"),
        (changed("models", "digits", "versions", 1, "source", "kind", value="magic"), "'builtin', 'keras'"),
        (
            changed("server", "batching", "max_batch_size", value=64),
            "allowed_batch_sizes must increase and end with max_batch_size",
        ),
        (
            changed("benchmark", "versions", value={"digits": [9]}),
            "benchmark.versions.digits: no version 9; there are: 1, 2",
        ),
        (changed("benchmark", "versions", value={"cats": [1]}), "benchmark.versions: no model cats; there are: digits"),
        ({"models": DEFAULT["models"]}, "config: format: Field required"),
    ],
)
def test_a_fault_names_its_key_and_what_was_expected(config, fault):
    with pytest.raises(SettingsError) as caught:
        parse_settings(config)

    assert fault in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_every_fault_is_told_at_once():
    config = changed("benchmark", "rows", value="many")
    config["launch"] = {"memory": "lots"}

    with pytest.raises(SettingsError) as caught:
        parse_settings(config)

    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["launch.memory", "benchmark.rows"]


def test_a_checkpoint_prefix_stands_for_all_its_files(tmp_path):
    for name in ("ckpt-1.index", "ckpt-1.data-00000-of-00001", "ckpt-2.index"):
        (tmp_path / name).touch()
    source = {"kind": "checkpoint", "path": str(tmp_path / "ckpt-1"), "builder": "net:build"}

    settings = parse_settings(changed("models", "digits", "versions", 1, value={"source": source}))

    names = [Path(file).name for file in settings.models["digits"].versions[1].source.files()]
    assert names == ["ckpt-1.data-00000-of-00001", "ckpt-1.index"]


@pytest.mark.parametrize("file", ["nets/digits.py", "nets/digits/__init__.py"])
def test_the_builders_module_is_one_of_the_files(file, tmp_path, monkeypatch):
    """A network that was edited is built again."""
    monkeypatch.chdir(tmp_path)
    Path(file).parent.mkdir(parents=True)
    Path(file).touch()
    source = {"kind": "weights", "path": "digits.weights.h5", "builder": "nets.digits:build"}

    settings = parse_settings(changed("models", "digits", "versions", 1, value={"source": source}))

    assert settings.models["digits"].versions[1].source.files() == ["digits.weights.h5", file]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLIPWAY_CACHE": "/c", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/slipway"),
        ({"HOME": "/h"}, "/h/.cache/slipway"),
    ],
)
def test_the_cache_is_where_the_user_or_the_xdg_specification_says(environment, expected):
    assert cache_directory(environment) == Path(expected)


class TestModelsOfItsOwn:
    """What the command line says of models replaces the default's; anything else is merged by Snakemake."""

    MERGED: ClassVar = {
        "models": {"digits": 1, "mine": 2},
        "benchmark": {"rows": 2, "versions": {"digits": [1]}},
        "report": {},
    }

    def test_models_that_are_given_are_the_only_ones_and_so_are_their_measured_versions(self):
        config = of_its_own_models(self.MERGED, {"models": {"mine": 2}, "benchmark": {"rows": 2}})

        assert config == {"models": {"mine": 2}, "benchmark": {"rows": 2}, "report": {}}

    def test_versions_to_measure_that_are_given_stay(self):
        given = {"models": {"mine": 2}, "benchmark": {"versions": {"mine": [7]}}}

        assert of_its_own_models(self.MERGED, given)["benchmark"] == {"rows": 2, "versions": {"mine": [7]}}

    @pytest.mark.parametrize("given", [{}, {"benchmark": {"rows": 2}}, {"models": None}])
    def test_without_any_all_is_as_it_was_merged(self, given):
        assert of_its_own_models(self.MERGED, given) == self.MERGED

    def test_a_config_that_is_not_yet_checked_may_hold_anything(self):
        assert of_its_own_models({"models": 3, "benchmark": 4}, {"models": {"a": 1}}) == {
            "models": {"a": 1},
            "benchmark": 4,
        }


# --- warm-up -----------------------------------------------------------------------------------------


def with_warmup(warmup, /, **of_model):
    config = deepcopy(DEFAULT)
    config["models"]["digits"] |= of_model
    return parse_settings(config | {"warmup": warmup})


def test_a_model_may_be_warmed_in_its_own_way(tmp_path):
    logs = tmp_path / "logs"
    logs.mkdir()
    for name in ("b", "a", ".hidden"):
        (logs / name).touch()
    recorded = {"source": "recorded", "recorded": {"path": str(logs)}}

    settings = with_warmup({"source": "synthetic", "seed": 3}, warmup=recorded)

    assert settings.warmup.files() == []
    assert settings.warmup_of("digits").files() == [str(logs / "a"), str(logs / "b")]
    assert with_warmup({}).warmup_of("digits").source == "golden"


def test_a_model_may_have_a_server_of_its_own():
    config = changed("models", "digits", "server", value={"batching": None})

    settings = parse_settings(config)

    assert settings.server_of("digits").batching is None
    assert settings.server.batching is not None
    assert parse_settings(DEFAULT).server_of("digits") == settings.server


@pytest.mark.parametrize(
    ("warmup", "said"),
    [
        ({"source": "recorded"}, "config: warmup: `source: recorded` and `recorded: {path: …}` go together"),
        ({"recorded": {"path": "log"}}, "config: warmup: `source: recorded` and `recorded: {path: …}` go together"),
        ({"max_bytes": 2**31}, "config: warmup.max_bytes: should be less than or equal to 2147483647, got 2147483648"),
    ],
)
def test_faults_of_the_warm_up_are_told(warmup, said):
    with pytest.raises(SettingsError) as caught:
        with_warmup(warmup)

    assert str(caught.value) == said


def test_a_log_that_is_not_there_is_told():
    missing = {"source": "recorded", "recorded": {"path": "gone"}}

    with pytest.raises(SettingsError, match=r"config: warmup\.recorded\.path: nothing at gone; looked in "):
        check_files(with_warmup(missing))
    with pytest.raises(
        SettingsError, match=r"config: models\.digits\.warmup\.recorded\.path: nothing at gone; looked in "
    ):
        check_files(with_warmup({}, warmup=missing))


def test_the_sizes_to_compile_are_said_or_those_of_batches_or_powers_of_two():
    from slipway.settings import BatchingSettings, ServerSettings

    own = ServerSettings(backend="stablehlo", compiled_batch_sizes=[3, 9])
    loose = BatchingSettings(max_batch_size=24, allowed_batch_sizes=[])
    assert own.sizes_to_compile() == [3, 9]
    assert ServerSettings(backend="stablehlo").sizes_to_compile() == [1, 2, 4, 8, 16, 32]
    assert ServerSettings(backend="stablehlo", batching=loose).sizes_to_compile() == [1, 2, 4, 8, 16, 24]
    assert ServerSettings(backend="stablehlo", batching=None).sizes_to_compile() == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"compiled_batch_sizes": [1]}, "compiled_batch_sizes is for `backend: stablehlo`"),
        ({"backend": "stablehlo", "compiled_batch_sizes": [4, 1]}, r"compiled_batch_sizes must increase, got \[4, 1\]"),
        ({"backend": "tflite"}, "saved_model"),
    ],
)
def test_a_backend_that_is_none_or_sizes_that_fit_none_are_refused(given, said):
    from slipway.settings import ServerSettings

    with pytest.raises(ValueError, match=said):
        ServerSettings.model_validate(given)
