import shutil

import numpy as np
import pytest

from slipway_server.backends.loading import loader_maker
from slipway_server.backends.saved_model import SavedModelServable
from slipway_server.backends.tflite import TfLiteServable
from slipway_server.load_options import LoadOptions
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call
from slipway_server.servables.warmup import as_it_is
from slipway_wire import predict, tfrecord, warmup_log
from slipway_wire.status import InvalidArgument, NotFound
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
