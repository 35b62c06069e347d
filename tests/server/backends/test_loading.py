import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests.server.stablehlo_factory import write_half_plus_two

from slipway_server import cpus, memory
from slipway_server.backends.loading import loader_maker
from slipway_server.backends.saved_model import SavedModelServable
from slipway_server.backends.stablehlo import StableHloServable
from slipway_server.backends.tflite import TfLiteServable
from slipway_server.load_options import LoadOptions, ThreadOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call
from slipway_server.servables.warmup import as_it_is
from slipway_wire import messages, paths, predict, tfrecord, warmup_log
from slipway_wire.status import FailedPrecondition, InvalidArgument, NotFound
from slipway_wire.warmup_log import WARMUP_FILE


@pytest.fixture
def both(testdata, tmp_path):
    """A version directory that holds a SavedModel and a TFLite model."""
    directory = shutil.copytree(testdata / "saved_model_half_plus_two_cpu" / "00000123", tmp_path / "1")
    shutil.copy(testdata / "saved_model_half_plus_two_tflite" / "00000123" / "model.tflite", directory)
    return directory


def load(directory, **options):
    metrics = Metrics()
    make = loader_maker(LoadOptions(**options), metrics, lambda _directory: as_it_is)
    return make("m", 1, directory).load(), metrics


@pytest.mark.parametrize(("prefers", "kind"), [(False, SavedModelServable), (True, TfLiteServable)])
def test_the_flag_decides_where_there_is_a_choice(both, prefers, kind):
    servable, metrics = load(both, prefers_tflite=prefers)

    assert type(servable) is kind
    assert servable.run(Call("serving_default", {"x": np.float32([1.0])}, ("y",)))["y"].tolist() == [2.5]
    assert metrics.sum_of(metrics.saved_model_load_attempts, status="success") == (not prefers)
    servable.close()


def test_without_a_tflite_model_the_saved_model_is_served(testdata):
    servable, _ = load(testdata / "saved_model_half_plus_two_cpu" / "00000123", prefers_tflite=True)

    assert type(servable) is SavedModelServable
    servable.close()


def test_a_tflite_model_alone_is_told_with_the_flag_that_serves_it(testdata):
    with pytest.raises(NotFound, match=r"it holds model\.tflite, which --prefer_tflite_model serves$"):
        load(testdata / "saved_model_half_plus_two_tflite" / "00000123")


def test_warm_up_belongs_to_loading(both):
    (both / WARMUP_FILE).parent.mkdir(exist_ok=True)
    record = warmup_log.encode("predict", predict.encode_request("m", {"x": np.float64([1.0])}))
    (both / WARMUP_FILE).write_bytes(tfrecord.frame_all([record]))

    with pytest.raises(
        InvalidArgument, match=r"warm-up record 0 \(predict, signature serving_default\): Type mismatch"
    ):
        load(both)


def test_a_library_that_is_not_there_is_told_before_any_version_is_loaded():
    with pytest.raises(NotFound, match=r"^--op_library=/nowhere/ops\.so: no such file$"):
        loader_maker(LoadOptions(op_libraries=("/nowhere/ops.so",)), Metrics(), lambda _directory: as_it_is)


def test_what_ml_metadata_knows_a_version_by_is_a_label(both):
    (both / "assets.extra").mkdir(exist_ok=True)
    (both / "assets.extra" / "mlmd_uuid").write_text("3f2a-77\n")

    servable, metrics = load(both)

    assert ':tensorflow:serving:mlmd_map{model_name="m",version="1",mlmd_uuid="3f2a-77"} 1\n' in metrics.exposition()
    servable.close()


# --- a live server ---------------------------------------------------------------------------------


@pytest.fixture
def batched_flags(both, tmp_path, testdata):
    """A version with a warm-up record, batching with three allowed sizes, metrics."""
    (both / WARMUP_FILE).parent.mkdir(exist_ok=True)
    request = predict.encode_request("m", {"x": np.float32([[1.0], [2.0]])})
    (both / WARMUP_FILE).write_bytes(tfrecord.frame_all([warmup_log.encode("predict", request)]))
    (tmp_path / "batching").write_text(
        "max_batch_size { value: 8 } allowed_batch_sizes: 2 allowed_batch_sizes: 4 allowed_batch_sizes: 8"
    )
    return [
        "--model_name=m",
        f"--model_base_path={tmp_path}",
        "--enable_batching",
        f"--batching_parameters_file={tmp_path}/batching",
        f"--monitoring_config_file={testdata}/monitoring_config.txt",
        "--max_num_load_retries=0",
    ]


def test_a_live_server_serves_tflite_warmed_at_every_allowed_size(start_server, batched_flags, both):
    server = start_server(*batched_flags, "--prefer_tflite_model", "--num_tflite_pools=1").wait_until_ready()

    answer = server.rest.post("/v1/models/m:predict", content=b'{"instances": [1.0, 2.0, 5.0]}')
    assert answer.json() == {"predictions": [2.5, 3.0, 4.5]}
    grpc_answer = server.channel.unary_unary(paths.GRPC_PREDICT)(
        predict.encode_request("m", {"x": np.float32([[3.0]])}), timeout=90.0
    )
    assert predict.decode_response(grpc_answer)[1]["y"].tolist() == [[3.5]]
    metadata = server.rest.get("/v1/models/m/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert metadata["serving_default"]["inputs"]["x"]["name"] == "x"
    # Two rows are the record's own size; four and eight are nobody's.
    assert server.metric('slipway_warmup_requests_total{model="m",version="1",source="record",status="OK"}') == 1
    assert server.metric('slipway_warmup_requests_total{model="m",version="1",source="batch_size",status="OK"}') == 2
    labels = f'{{model_path="{both}",status="OK"}}'
    assert server.metric(f":tensorflow:serving:model_warmup_records_read{labels}") == 1
    assert server.metric(f":tensorflow:serving:model_warmup_latency_count{labels}") == 1
    assert "warm-up record 0 (predict, signature serving_default) took" in server.log()


def test_a_live_server_takes_every_loading_flag_at_once(start_server, batched_flags, both):
    """Each is shown by itself elsewhere; together they must not stand in each other's way."""
    (both.parent / "session").write_text("graph_options { infer_shapes: true }")

    server = start_server(
        *batched_flags,
        f"--tensorflow_session_config_file={both.parent}/session",
        "--tensorflow_session_parallelism=2",
        "--per_process_gpu_memory_fraction=0.5",
        "--gpu_memory_growth",
        "--xla_cpu_compilation_enabled",
        "--mixed_precision=bfloat16",
        "--freeze_variables",
        "--num_model_warmup_threads=2",
    ).wait_until_ready()

    answer = server.rest.post("/v1/models/m:predict", content=b'{"instances": [1.0, 2.0]}')
    assert answer.json() == {"predictions": [2.5, 3.0]}
    assert "its variables are constants now" in server.log()
    attempts = server.metric(f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{both}",status="success"}}')
    assert attempts == 1


def test_a_live_server_measures_with_the_records_of_a_version(start_server, batched_flags, both, testdata):
    """Whatever it finds: it is told, and the answers are the same."""
    server = start_server(*batched_flags, "--thread_plan_limit_s=60").wait_until_ready()

    (told,) = [line for line in server.log().splitlines() if "thread plan" in line]
    expected = "there is one CPU" if cpus.count() == 1 else "too little to be shared out|next to one_batch"
    assert re.search(expected, told)
    assert server.metric('slipway_thread_plan{model="m",version="1",plan="') == 1
    assert server.rest.post("/v1/models/m:predict", content=b'{"instances": [1.0]}').json() == {"predictions": [2.5]}
    assert server.metric(f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{both}",status="success"}}') == 1


@pytest.mark.parametrize(("plan", "found"), [("one_batch", None), ("auto", "1")])
def test_sessions_share_threads_where_no_plan_can_differ(monkeypatch, plan, found):
    name = "TF_OVERRIDE_GLOBAL_THREADPOOL"
    # Set first, so that it is taken away again afterwards, too.
    monkeypatch.setenv(name, "")
    monkeypatch.delenv(name)
    monkeypatch.setattr(cpus, "count", lambda: 6)
    monkeypatch.setattr(cpus, "has_gpu", lambda: False)

    loader_maker(LoadOptions(threads=ThreadOptions(plan)), Metrics(), lambda _directory: as_it_is)

    assert os.environ.get(name) == found


_COUNT_THREADS = """
import os, sys
from pathlib import Path
from slipway_server import cpus
from slipway_server.backends.loading import loader_maker
from slipway_server.load_options import ThreadOptions, LoadOptions
from slipway_server.metrics import Metrics
cpus.count = lambda: 6
threads = ThreadOptions("one_batch", {"narrow": "batch_per_core"})
make = loader_maker(LoadOptions(threads=threads), Metrics(), lambda directory: None)
kept = []
for model in ("first", "wide", "narrow", "wide too"):
    before = len(os.listdir("/proc/self/task"))
    kept.append(make(model, 1, Path(sys.argv[1])).load())
    print(len(os.listdir("/proc/self/task")) - before)
"""


def test_each_model_has_the_threads_of_its_plan(testdata):
    """TensorFlow would give all sessions of a process the threads of the first, whatever they ask for."""
    directory = testdata / "saved_model_half_plus_two_tf2_cpu" / "00000123"
    command = [sys.executable, "-c", _COUNT_THREADS, str(directory)]

    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    # What else a session starts is the same for all but the first of them.
    _, wide, narrow, wide_too = map(int, made)
    assert (wide - narrow, wide_too) == (6 - 1, wide)


_LOAD = """
import sys
from slipway_server import cpus
from slipway_server.backends.loading import loader_maker
from slipway_server.load_options import LoadOptions
from slipway_server.metrics import Metrics
sys.path.insert(0, sys.argv[1])
loader_maker(LoadOptions(modules=tuple(sys.argv[2:])), Metrics(), lambda directory: None)
print("keras" in sys.modules, "sklearn" in sys.modules)
"""


def test_keras_is_imported_for_modules_alone(tmp_path):
    """It takes a fifth of TensorFlow's own import, and no SavedModel needs it; a module of ops may."""
    (tmp_path / "with_keras.py").write_text("from tensorflow.keras import layers\nlayers.Dense\n")

    def found(*modules):
        command = [sys.executable, "-c", _LOAD, str(tmp_path), *modules]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()

    assert found() == ["False", "False"]
    assert found("with_keras")[0] == "True"


# --- StableHLO -------------------------------------------------------------------------------------


def test_stablehlo_is_preferred_where_there_is_any(both):
    write_half_plus_two(both)

    servable, _ = load(both, prefers_stablehlo=True)
    assert type(servable) is StableHloServable
    servable.close()
    servable, _ = load(both)
    assert type(servable) is SavedModelServable
    servable.close()


def test_without_stablehlo_tensorflow_serves_the_saved_model(both, caplog, monkeypatch):
    """And what comes with TensorFlow, which was not there when the server settled, is kept from the collector, too."""
    settled = []
    monkeypatch.setattr(memory, "settle", lambda: settled.append(sys.modules["tensorflow"]))

    servable, _ = load(both, prefers_stablehlo=True)

    assert len(settled) == 1
    assert type(servable) is SavedModelServable
    assert "no StableHLO; importing TensorFlow, which serves its SavedModel" in caplog.text
    servable.close()


def test_stablehlo_alone_is_told_with_the_flag_that_serves_it(tmp_path):
    with pytest.raises(NotFound, match=r"it holds stablehlo/manifest\.json, which --prefer_stablehlo serves$"):
        load(write_half_plus_two(tmp_path))


def _without(monkeypatch, name):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked: None if asked == name else found(asked))


def test_what_is_not_installed_is_told(both, monkeypatch):
    _without(monkeypatch, "tensorflow")
    with pytest.raises(
        FailedPrecondition, match=r"/1: no stablehlo/manifest\.json, and TensorFlow, which serves a Saved"
    ):
        load(both, prefers_stablehlo=True)
    _without(monkeypatch, "jaxlib")
    with pytest.raises(
        FailedPrecondition, match=r"^--prefer_stablehlo: jaxlib, which runs .* 'slipway\[server-stablehlo\]'$"
    ):
        load(both, prefers_stablehlo=True)


def test_flags_reach_the_runtime_or_are_told_to_have_no_effect(both, monkeypatch, caplog):
    """The environment is all that the runtime reads; what an operator has put there stays."""
    names = ("NPROC", "XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_PYTHON_CLIENT_MEM_FRACTION")
    for name in names[:2]:
        # Set first, so that it is taken away again afterwards, too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv(names[2], "0.9")
    config = messages.ConfigProto(intra_op_parallelism_threads=3)
    config.gpu_options.allow_growth = True
    config.gpu_options.per_process_gpu_memory_fraction = 0.5
    write_half_plus_two(both)

    servable, _ = load(
        both, prefers_stablehlo=True, has_frozen_variables=True, session_config=config.SerializeToString()
    )

    servable.close()
    assert [os.environ.get(name) for name in names] == ["3", "false", "0.9"]
    assert (
        "--freeze_variables, --thread_plan: no effect on versions with StableHLO, which XLA always compiles whole"
        in caplog.text
    )


def test_a_live_server_answers_without_tensorflow(start_server, batched_flags, both):
    """Warm-up, batching, metrics, metadata and errors as with a SavedModel; no SavedModel is there, either."""
    shutil.rmtree(both / "variables", ignore_errors=True)
    (both / "saved_model.pb").unlink()
    (both / "model.tflite").unlink()
    write_half_plus_two(both, sizes=(2, 4, 8))
    record = warmup_log.encode("predict", predict.encode_request("m", {"x": np.float32([1.0, 2.0])}))
    (both / WARMUP_FILE).write_bytes(tfrecord.frame_all([record]))

    server = start_server(
        *batched_flags, "--prefer_stablehlo", "--tensorflow_intra_op_parallelism=1"
    ).wait_until_ready()

    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "jaxlib" in maps
    assert "tensorflow" not in maps
    assert server.rest.post("/v1/models/m:predict", content=b'{"instances": [1.0, 2.0, 5.0]}').json() == {
        "predictions": [2.5, 3.0, 4.5]
    }
    predict_grpc = server.channel.unary_unary(paths.GRPC_PREDICT)
    answer = predict_grpc(predict.encode_request("m", {"x": np.float32([3.0])}), timeout=20.0)
    assert predict.decode_response(answer)[1]["y"].tolist() == [3.5]
    with pytest.raises(grpc.RpcError) as refused:
        predict_grpc(predict.encode_request("m", {"x": np.float64([3.0])}), timeout=20.0)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    metadata = server.rest.get("/v1/models/m/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert metadata["serving_default"]["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "name": "x:0",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
    }
    assert server.metric('slipway_warmup_requests_total{model="m",version="1",source="batch_size",status="OK"}') == 2
    attempts = server.metric(f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{both}",status="success"}}')
    assert attempts == 1
    assert "3 programs of 1 signatures compiled for cpu" in server.log()
