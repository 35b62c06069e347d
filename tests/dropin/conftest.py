"""The servers and clients that the black-box tests share: all processes start at once, each is waited for when needed."""

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.dropin import saved_models, warm_up
from tests.dropin.processes import WAIT_S, BareServer, Process, Server, wait_for

from slipway.servers import free_ports
from slipway_wire import messages, paths, predict

TESTDATA = Path(__file__).parents[1] / "testdata"


class OfficialClient:
    """`tensorflow-serving-api` in its own process."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("official_client.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
            text=True,
        )

    def ask(self, **command):
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def call(self, server, method, request, **options):
        return self.ask(target=f"127.0.0.1:{server.grpc_port}", method=method, request=request, **options)

    def close(self):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def model_config(name, base_path, more=""):
    """Write one `config { … }` of a ModelServerConfig."""
    return f'config {{ name: "{name}" base_path: "{base_path}" model_platform: "tensorflow" {more} }}\n'


class Fleet:
    """Everything that runs beside the tests; a process starts when somebody first asks for it."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.models = directory / "models"
        for make in (saved_models.every_type, saved_models.labelled, saved_models.gated):
            make(self.models / make.__name__ / "1")
        warm_up.write_warmed(self.models / "warmed", TESTDATA / "saved_model_counter" / "00000123")
        self._started = []

    def _keep(self, process):
        self._started.append(process)
        return process

    @functools.cached_property
    def official(self):
        """TF Serving's own client."""
        return self._keep(OfficialClient())

    @functools.cached_property
    def plain(self):
        """See `_plain`."""
        return self._keep(self._plain())

    @functools.cached_property
    def batched(self):
        """See `_batched`."""
        return self._keep(self._batched())

    @functools.cached_property
    def moving(self):
        """See `_moving`."""
        return self._keep(self._moving())

    @functools.cached_property
    def bare(self):
        """See `_bare`."""
        return self._keep(self._bare())

    @functools.cached_property
    def rich(self):
        """See `_rich`."""
        return self._keep(self._rich())

    @functools.cached_property
    def reloaded(self):
        """See `_reloaded`."""
        return self._keep(self._reloaded())

    @functools.cached_property
    def late(self):
        """See `_late`."""
        return self._late()

    @functools.cached_property
    def broken(self):
        """See `_broken`."""
        return self._broken()

    def start(self, *flags, **options):
        """Start one more process, for what cannot share a server."""
        return self._keep(Process(self.directory / f"extra{len(self._started)}", *flags, **options))

    def close(self):
        for one in self._started:
            one.close()

    def write(self, name, content):
        """Write a file for a flag and return its path."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def _plain(self):
        """All that needs no batching and no change: most of REST, JSON and gRPC."""
        self.socket = self.write("plain.sock", "of an earlier server")
        two = TESTDATA / "saved_model_half_plus_two_2_versions"
        config = self.write(
            "plain.config",
            "model_config_list {\n"
            + model_config(
                "half_plus_two",
                two,
                "model_version_policy { specific { versions: 123 versions: 124 versions: 999 } } "
                'version_labels { key: "stable" value: 123 } version_labels { key: "canary" value: 124 } '
                'version_labels { key: "also stable" value: 123 }',
            )
            + model_config("tf2", TESTDATA / "saved_model_half_plus_two_tf2_cpu")
            + model_config("half_plus_three", TESTDATA / "saved_model_half_plus_three")
            + model_config("counter", TESTDATA / "saved_model_counter")
            + model_config(
                "matrix",
                TESTDATA / "matrix_half_plus_two",
                f'logging_config {{ log_collector_config {{ type: "tfrecord" filename_prefix: "{self.directory}/log" }} '
                "sampling_config { sampling_rate: 1.0 } }",
            )
            + model_config("types", self.models / "every_type")
            + model_config("labelled", self.models / "labelled")
            + model_config("gated", self.models / "gated")
            + model_config("a name/with:all", TESTDATA / "saved_model_half_plus_two_cpu")
            + self._static_versions()
            + "}",
        )
        monitoring = TESTDATA / "monitoring_config.txt"
        return Server(
            self.directory / "plain",
            f"--model_config_file={config}",
            f"--monitoring_config_file={monitoring}",
            "--rest_api_enable_cors_support",
            "--enable_grpc_healthcheck_service=true",
            f"--grpc_socket_path={self.socket}",
            "--rest_api_timeout_in_ms=4000",
            "--max_num_load_retries=0",
            "--num_request_iterations_for_warmup=3",
        )

    def _static_versions(self):
        """Versions of all sorts, good and bad, and such with warm-up files."""
        odd = self.models / "odd"
        for name, constant in (("00000007", 2.0), ("0", 1.0), ("20170111173521", 3.0)):
            saved_models.half_plus(constant).write(odd / name)
        for name in ("8x", "12.5", "latest", "1e3"):
            (odd / name).mkdir()
        failing = self.models / "failing"
        saved_models.half_plus(1.0).write(failing / "1")
        saved_models.half_plus(1.0, tag="other").write(failing / "2")
        unknown = saved_models.half_plus(1.0)
        unknown.node("NoSuchOp", "nobody")
        unknown.write(failing / "3")
        shutil.copytree(TESTDATA / "saved_model_half_plus_two_cpu" / "00000123", failing / "4")
        shutil.rmtree(failing / "4" / "variables")
        warm_up.write_examples(self.models / "warmed_examples", TESTDATA / "saved_model_half_plus_two_cpu" / "00000123")
        warm_up.write_failing(self.models / "badly_warmed")
        every = "model_version_policy { all {} }"
        return (
            model_config("odd", odd, every)
            + model_config("odd_default", odd)
            + model_config("odd_none", odd, "model_version_policy { latest { num_versions: 0 } }")
            + model_config("odd_latest", odd, "model_version_policy { latest { num_versions: 2 } }")
            + model_config("failing", failing, every)
            + model_config("warmed", self.models / "warmed")
            + model_config("warmed_examples", self.models / "warmed_examples")
            + model_config("badly_warmed", self.models / "badly_warmed", every)
            + f"config: {{ name: 'quoted', base_path: '{self.models / 'every_type'}', model_platform: 'tensorflow', }},"
        )

    def _batched(self):
        """Small batches with padding, answers in tensor_content."""
        parameters = self.write(
            "batching.config",
            "max_batch_size { value: 8 } batch_timeout_micros { value: 1000 } max_enqueued_batches { value: 2 } "
            "num_batch_threads { value: 2 } allowed_batch_sizes: 4 allowed_batch_sizes: 8 "
            'thread_pool_name { value: "pool" }',
        )
        config = self.write(
            "batched.config",
            "model_config_list {\n"
            + model_config("half_plus_two", TESTDATA / "saved_model_half_plus_two_cpu")
            + model_config("half_plus_three", TESTDATA / "saved_model_half_plus_three")
            + model_config("types", self.models / "every_type")
            + model_config("labelled", self.models / "labelled")
            + model_config("gated", self.models / "gated")
            + "}",
        )
        return Server(
            self.directory / "batched",
            f"--model_config_file={config}",
            "--enable_batching",
            f"--batching_parameters_file={parameters}",
            f"--monitoring_config_file={TESTDATA / 'monitoring_config.txt'}",
            "--enable_serialization_as_tensor_content",
            "--rest_api_timeout_in_ms=4000",
        )

    def _moving(self):
        """Models, versions and labels that change while it runs."""
        names = ("rolling", "failing_later", "vanishing", "witness", "unhindered", "polled", "labelled_early")
        self.rolling = self.models / "rolling"
        for name in names:
            saved_models.half_plus(1.0).write(self.models / name / "1")
        saved_models.gated(self.models / "held" / "1")
        self.moving_config = self.write(
            "moving.config",
            "model_config_list {\n"
            + "".join(model_config(name, self.models / name) for name in (*names[:-1], "held", "warmed"))
            + model_config(names[-1], self.models / names[-1], 'version_labels { key: "next" value: 2 }')
            + "}",
        )
        return Server(
            self.directory / "moving",
            f"--model_config_file={self.moving_config}",
            f"--monitoring_config_file={TESTDATA / 'monitoring_config.txt'}",
            "--max_num_load_retries=1",
            "--load_retry_interval_micros=1000",
            "--enable_model_warmup=false",
            "--model_config_file_poll_wait_seconds=1",
            "--grpc_max_threads=2",
            "--allow_version_labels_for_unavailable_models",
            # Every version here is moved to its place at once. That the pause is kept, servers with the default show.
            "--version_settle_s=0.2",
        )

    def _reloaded(self):
        """No model at first; `--model_name` and `--model_base_path` must not count beside a file."""
        for name, constants in (("a", (1.0, 2.0)), ("b", (5.0,))):
            for version, constant in enumerate(constants, 1):
                saved_models.half_plus(constant).write(self.models / name / str(version))
        self.reloaded_config = self.write("reloaded.config", "model_config_list {}")
        platform = self.write(
            "platform.config",
            'platform_configs { key: "tensorflow" value { source_adapter_config { '
            "[type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] { "
            "legacy_config { session_config { intra_op_parallelism_threads: 1 } } } } } }",
        )
        return Server(
            self.directory / "reloaded",
            f"--model_config_file={self.reloaded_config}",
            "--model_name=ignored",
            f"--model_base_path={self.models / 'a'}",
            f"--platform_config_file={platform}",
            "--enable_batching",
            "--max_num_load_retries=0",
        )

    def _rich(self):
        """TFLite models, and batching that each model sets for itself."""
        types = saved_models.every_type(self.models / "own_parameters" / "1")
        (types / "batching_params.pbtxt").write_text(
            "max_batch_size { value: 64 } max_execution_batch_size { value: 16 } enable_large_batch_splitting { value: true } "
            "pad_variable_length_inputs: true max_enqueued_batches { value: 10 } batch_timeout_micros { value: 1000 }"
        )
        gated = saved_models.gated(self.models / "own_parameters_gated" / "1")
        (gated / "batching_params.pbtxt").write_text("max_batch_size { value: 4 }")
        one_thread = self.write("rich.batching", "num_batch_threads { value: 1 }")
        session = self.write("session.config", "intra_op_parallelism_threads: 1 inter_op_parallelism_threads: 1")
        config = self.write(
            "rich.config",
            "model_config_list {\n"
            + model_config("half_plus_two", TESTDATA / "saved_model_half_plus_two_cpu")
            + model_config("types", types.parent)
            + model_config("gated", gated.parent)
            + model_config("lite", TESTDATA / "saved_model_half_plus_two_tflite")
            + model_config("lite_with_signatures", TESTDATA / "saved_model_half_plus_two_tflite_with_sigdef")
            + "}",
        )
        return Server(
            self.directory / "rich",
            f"--model_config_file={config}",
            "--prefer_tflite_model",
            "--enable_batching",
            "--enable_per_model_batching_parameters",
            f"--batching_parameters_file={one_thread}",
            f"--tensorflow_session_config_file={session}",
            f"--monitoring_config_file={TESTDATA / 'monitoring_config.txt'}",
        )

    def _bare(self):
        """Nothing but TF Serving's own flags, as a script writes them; one model, every flag that may be ignored."""
        base_path = self.models / "bare"
        saved_models.write(base_path / "1", saved_models.half_plus(1.0), saved_models.half_plus(2.0, tag="other"))
        return BareServer(
            self.directory / "bare",
            "--model_name=overridden",
            "--model_name=bare",
            f"--model_base_path={base_path}",
            "--saved_model_tags=other",
            "--no_such_flag=1",
            "--file_system_poll_wait_seconds=0",
            *IGNORED_FLAGS,
        )

    def _late(self):
        """
        Start what a client watches: one model whose version comes later, gRPC and REST on the same port.

        TF Serving's suite sends its first real request at once when `Servable` is no longer in an error.
        """
        (port,) = free_ports(1)
        empty = self.models / "late"
        empty.mkdir(parents=True)
        ready = self.models / "not_late"
        saved_models.half_plus(3.0).write(ready / "1")
        config = self.write(
            "late.config", "model_config_list {\n" + model_config("late", empty) + model_config("not_late", ready) + "}"
        )
        process = self.start(f"--port={port}", f"--rest_api_port={port}", f"--model_config_file={config}")
        process.port, process.base_path = port, empty
        return process

    def _broken(self):
        """Start what ends by itself: its only version cannot be loaded."""
        base_path = self.models / "broken"
        (base_path / "1").mkdir(parents=True)
        (base_path / "1" / "saved_model.pb").write_bytes(b"no SavedModel")
        return self.start(
            "--model_name=broken", f"--model_base_path={base_path}", "--max_num_load_retries=1", "--port=0",
            f"--grpc_socket_path={self.directory}/broken.sock", "--load_retry_interval_micros=-1",
        )  # fmt: skip


# Taken, whatever they do.
IGNORED_FLAGS = (
    "--rest_api_num_threads=3",
    "--flush_filesystem_caches=false",
    "--remove_unused_fields_from_bundle_metagraph=false",
    "--num_tflite_pools=2",
    "--num_tflite_interpreters_per_pool=2",
    "--thread_pool_factory_config_file=",
    "--skip_initialize_tpu=true",
    "--xla_cpu_compilation_enabled=false",
    "--xla_gpu_compilation_enabled=false",
    "--mixed_precision=unheard_of",
    "--per_process_gpu_memory_fraction=0.5",
    "--tensorflow_intra_op_parallelism=1",
    "--tensorflow_inter_op_parallelism=1",
    "--num_load_threads=2",
    "--num_unload_threads=2",
    "--grpc_channel_arguments=grpc.max_receive_message_length=100000,grpc.no.such=a",
)


# Fixture -> the process it waits for.
PROCESSES = {
    "server": "plain",
    "batched": "batched",
    "moving": "moving",
    "rich": "rich",
    "reloaded": "reloaded",
    "bare": "bare",
    "official": "official",
    "late": "late",
    "broken": "broken",
}


@pytest.fixture(scope="session")
def fleet(request, tmp_path_factory):
    """All processes that the chosen tests need: started at once, waited for when their turn comes."""
    fleet = Fleet(tmp_path_factory.mktemp("dropin"))
    needed = {name for item in request.session.items for name in item.fixturenames}
    for fixture, process in PROCESSES.items():
        if fixture in needed:
            getattr(fleet, process)
    yield fleet
    fleet.close()


@pytest.fixture(scope="session")
def official(fleet):
    """TF Serving's own client."""
    return fleet.official


@pytest.fixture(scope="session")
def server(fleet):
    """The plain server."""
    return fleet.plain.wait_until_ready()


@pytest.fixture(scope="session")
def batched(fleet):
    """The server with batching."""
    return fleet.batched.wait_until_ready()


@pytest.fixture(scope="session")
def moving(fleet):
    """The server whose models change."""
    return fleet.moving.wait_until_ready()


@pytest.fixture(scope="session")
def rich(fleet):
    """The server with TFLite models and parameters of each model's own."""
    return fleet.rich.wait_until_ready()


@pytest.fixture(scope="session")
def bare(fleet):
    """The server with nothing but TF Serving's flags."""
    return fleet.bare.wait_until_ready()


@pytest.fixture(scope="session")
def late(fleet):
    """The start that waits for a version."""
    return fleet.late


@pytest.fixture(scope="session")
def broken(fleet):
    """The start that fails."""
    return fleet.broken


@pytest.fixture(scope="session")
def testdata():
    """TF Serving's own test models."""
    return TESTDATA


@pytest.fixture(scope="session")
def example():
    """`example(x=…)` gives a serialized Example."""

    def make(**features):
        message = messages.Example()
        for name, value in features.items():
            kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(value)]
            getattr(message.features.feature[name], kind).value.append(value)
        return message.SerializeToString()

    return make


@pytest.fixture(scope="session")
def open_gate():
    """`open_gate(server)` lets everything pass that waits in the model `gated`, and one call more."""

    def left(server):
        return server.predict("gated", {}, signature_name="left")[1]["y"]

    def open_it(server):
        def is_open():
            server.predict("gated", {"x": np.float32([0])}, signature_name="open")
            return left(server) > 0

        wait_for(is_open, "the gate to open")

    return open_it


class Held:
    """A call that has begun to run and ends when released."""

    def __init__(self, server, path, model="gated", **options):
        self._path = path
        os.mkfifo(path)
        body = predict.encode_request(
            model, {"x": np.array([str(path).encode()], object)}, signature_name="hold", **options
        )
        self._call = server.channel.unary_unary(paths.GRPC_PREDICT).future(body, timeout=WAIT_S)

    def wait_until_it_runs(self):
        wait_for(lambda: self._path.with_name(f"{self._path.name}.began").exists(), "the call to run")

    def release(self):
        """Let it end, and give the version that answered."""
        reader = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return predict.decode_response(self._call.result())[0].version
        finally:
            os.close(reader)


@pytest.fixture
def hold(tmp_path):
    """`hold(server, model)` begins a call that runs until `release`."""
    held = []

    def begin(server, model="gated", **options):
        held.append(Held(server, tmp_path / f"pipe{len(held)}", model, **options))
        held[-1].wait_until_it_runs()
        return held[-1]

    return begin


@pytest.fixture
def copy_model(fleet):
    """`copy_model(source, target)` puts a version where a server sees it, all at once."""

    def copy(source, target):
        staging = fleet.directory / f"staging-{target.parent.name}-{target.name}"
        shutil.copytree(source, staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.rename(target)

    return copy
