"""The servers and clients that the black-box tests share: all processes start at once, each is waited for when needed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.dropin import saved_models
from tests.dropin.processes import WAIT_S, BareServer, Process, Server, wait_for

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
    """Everything that runs beside the tests."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.models = directory / "models"
        for make in (saved_models.every_type, saved_models.labelled, saved_models.gated):
            make(self.models / make.__name__ / "1")
        self.official = OfficialClient()
        self.plain = self._plain()
        self.batched = self._batched()
        self.moving = self._moving()
        self.bare = self._bare()
        self._extra = []

    def start(self, *flags, **options):
        """Start one more process, for what cannot share a server."""
        self._extra.append(Process(self.directory / f"extra{len(self._extra)}", *flags, **options))
        return self._extra[-1]

    def start_server(self, *flags, **options):
        """Start one more server on free ports."""
        self._extra.append(Server(self.directory / f"extra{len(self._extra)}", *flags, **options))
        return self._extra[-1]

    def close(self):
        for one in (self.official, self.plain, self.batched, self.moving, self.bare, *self._extra):
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
            + model_config("matrix", TESTDATA / "matrix_half_plus_two")
            + model_config("types", self.models / "every_type")
            + model_config("labelled", self.models / "labelled")
            + model_config("gated", self.models / "gated")
            + model_config("a name/with:all", TESTDATA / "saved_model_half_plus_two_cpu")
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
            "--rest_api_timeout_in_ms=1000",
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
            "--rest_api_timeout_in_ms=1500",
        )

    def _moving(self):
        """Models, versions and labels that change while it runs."""
        self.rolling = self.models / "rolling"
        saved_models.half_plus(1.0).write(self.rolling / "1")
        config = self.write(
            "moving.config",
            "model_config_list {\n"
            + model_config("rolling", self.rolling)
            + model_config("gated", self.models / "gated")
            + "}",
        )
        self.moving_config = config
        return Server(
            self.directory / "moving",
            f"--model_config_file={config}",
            f"--monitoring_config_file={TESTDATA / 'monitoring_config.txt'}",
            "--max_num_load_retries=1",
            "--load_retry_interval_micros=1000",
            "--allow_version_labels_for_unavailable_models",
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
            *IGNORED_FLAGS,
        )


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
    "--grpc_max_threads=8",
    "--grpc_channel_arguments=grpc.max_receive_message_length=100000,grpc.no.such=a",
)


@pytest.fixture(scope="session")
def fleet(tmp_path_factory):
    """All processes, started, not waited for."""
    fleet = Fleet(tmp_path_factory.mktemp("dropin"))
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
def bare(fleet):
    """The server with nothing but TF Serving's flags."""
    return fleet.bare.wait_until_ready()


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
