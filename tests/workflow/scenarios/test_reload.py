"""Versions of a running slipway_server leave and come back, under load and without; commands that fail are told."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.dropin import processes
from tests.workflow.undisturbed import undisturb

from slipway import servers
from slipway.errors import ServerError
from slipway.load_generator import load_generator
from slipway.measuring import Machine
from slipway.progress import Steps
from slipway.scenario_settings import HotReload
from slipway.scenarios.bench import Bench
from slipway.scenarios.reload import CommandReload, VersionsReload, hot_reload
from slipway.scenarios.taking import Taking
from slipway.scenarios.versions import Versions
from slipway.settings import BenchmarkSettings
from slipway.windows import Windows
from slipway_wire import messages, payloads, text_config
from slipway_wire.tolerances import Tolerances

TESTDATA = Path(__file__).parents[2] / "testdata"
# They add another number to the half, so that an answer tells who gave it.
ADDED = {1: 2.0, 2: 3.0}
MODELS = {
    1: TESTDATA / "saved_model_half_plus_two_2_versions/00000123",
    2: TESTDATA / "saved_model_half_plus_three/00000123",
}


class Serving:
    """A server with both versions, and what a load has to know of it."""

    def __init__(self, directory):
        for version, model in MODELS.items():
            shutil.copytree(model, directory / f"m/{version}")
        text = (
            'model_config_list { config { name: "m" base_path: "PLACE" model_platform: "tensorflow" '
            'model_version_policy { all {} } version_labels { key: "old" value: 1 } '
            'version_labels { key: "stable" value: 2 } } }'
        ).replace("PLACE", str(directory / "m"))
        (directory / "models.config").write_text(text)
        self.directory = directory
        self.config = text_config.parse(messages.ModelServerConfig, text.encode())
        self.process = processes.Server(directory / "server", f"--model_config_file={directory}/models.config")

    def addresses(self):
        return {"rest": (servers.HOST, self.process.rest_port), "grpc": (servers.HOST, self.process.grpc_port)}

    def protection(self):
        return {}

    def pids(self):
        return [self.process.process.pid]

    def check_alive(self):
        assert self.process.process.poll() is None

    def states(self):
        return servers.version_states(servers.HOST, self.process.rest_port, "m")

    def reload(self, kind=VersionsReload):
        return kind(
            host=servers.HOST,
            rest_port=self.process.rest_port,
            grpc_port=self.process.grpc_port,
            model="m",
            served=(1, 2),
            config=self.config,
        )


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    made = Serving(tmp_path_factory.mktemp("serving"))
    try:
        made.process.wait_until_ready()
        yield made
    finally:
        made.process.close()


def make(version, rows):
    x = np.arange(rows, dtype=np.float32)
    return [payloads.make("m", {"x": x + n}, {"y": (x + n) / 2 + ADDED[version]}, version=version) for n in (0, 1, 2)]


@pytest.fixture(scope="module")
def bench(serving, tmp_path_factory):
    directory = tmp_path_factory.mktemp("samples")
    (directory / "payloads.tfrecord").write_bytes(payloads.encode(make(2, 1)))
    settings = BenchmarkSettings(window_s=0.2, warmup_s=0.05, concurrency=[2])

    def start_generator():
        return load_generator(directory / "payloads.tfrecord", Tolerances(), log=directory / "generator.log")

    with pytest.MonkeyPatch.context() as patch, start_generator() as generator:
        undisturb(patch)
        yield Bench(
            windows=Windows("m", "m", generator, Machine([0]), directory, settings, ("rest", "grpc")),
            server=serving,
            told=Steps(0.0, 0, None),
            make_payloads=lambda rows: make(2, rows),
            start_generator=start_generator,
            log=directory / "null_server.log",
            versions=Versions(2, (1, 2), {}, make, lambda _: "arithmetic", Tolerances()),
        )


def taken(bench, reload, **given):
    """Run the scenario; give what it took down."""
    settings = HotReload(slo_ms=60_000, share=0.1, **given)
    bench.reload = reload
    # Shares of a peak that is far below what any machine does.
    bench._peaks.update(rest=500.0, grpc=500.0)
    with Taking.of(bench, "hot_reload", settings) as taking:
        hot_reload(settings, taking)
    return bench.records[-1]


def values(record, protocol):
    return {(v.key, v.label): v.value for v in record.values if v.protocol in (protocol, None)}


def test_unnamed_requests_go_over_to_the_version_before_and_back_without_a_fault(bench, serving):
    """The switch that users fear, under load: nothing fails, and no version answers before its time or after it."""
    record = taken(bench, serving.reload(), window_s=2.0)

    assert record.faults == []
    assert serving.states() == {1: "AVAILABLE", 2: "AVAILABLE"}
    for protocol in ("rest", "grpc"):
        found = values(record, protocol)
        assert found["wrong_version", ""] == 0
        assert found["failed", ""] == found["late_changing", ""] == 0
        assert found["answered", "version 2"] > 0
        assert found["answered", "version 1"] > 0
        assert {key for key, _ in found} >= {"roll_back", "roll_out", "beside", "silence_changing"}


def test_answers_of_a_version_whose_time_is_over_are_counted_and_told(bench, serving):
    """Here a reload claims that versions change, and none does."""

    class Idle(VersionsReload):
        def serve(self, version):
            pass

        def serve_all(self):
            pass

    record = taken(bench, serving.reload(Idle), window_s=0.6, protocols=["grpc"])
    found = values(record, "grpc")

    assert found["wrong_version", ""] > 0
    assert found["answered", "version 1"] == 0
    (fault,) = record.faults
    assert "longer, or not yet, the newest; the first, of version 2, to a request of second 0." in fault


def test_what_a_command_leaves_unchecked_is_said(bench):
    record = taken(bench, CommandReload(f"{sys.executable} -c pass"), window_s=0.3, protocols=["grpc"])

    (note,) = record.notes
    assert "so an answer of the wrong version would not be found" in note
    assert "wrong_version" not in {value.key for value in record.values}
    pinned = CommandReload("reload", is_pinned=True)
    assert "whether those that name none go over to another one is not tried" in pinned.told


def test_a_load_that_ends_before_its_changes_does_not_count(bench):
    slow = CommandReload(f'{sys.executable} -c "import time; time.sleep(0.5)"')
    record = taken(bench, slow, window_s=0.2, protocols=["grpc"])

    assert record.invalid == ["gRPC: the load was over before the last change was: set hot_reload.window_s to more"]


def test_a_command_has_changed_something_once_the_server_says_so(serving):
    copy = f"import shutil; shutil.copytree('{MODELS[1]}', '{serving.directory}/m/3')"
    CommandReload(f'{sys.executable} -c "{copy}"', (servers.HOST, serving.process.rest_port), "m").change()

    assert serving.states()[3] == "AVAILABLE"


def test_a_command_that_fails_is_told_with_its_last_line():
    CommandReload(f"{sys.executable} -c pass").change()
    with pytest.raises(ServerError, match=r"^--reload-command: exit code 3: no such version$"):
        CommandReload(
            f"""{sys.executable} -c "import sys; sys.stderr.write('x\\nno such version\\n'); sys.exit(3)" """
        ).change()
    with pytest.raises(ServerError, match=r"^--reload-command: .*No such file"):
        CommandReload("/nowhere/at/all").change()
