import json
import logging

import numpy as np
import pytest

from slipway_server.access_log import AccessLog, fields_of
from slipway_server.callers import Caller, TraceParent
from slipway_server.logs import JsonFormatter
from slipway_server.servables.loader import Call
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import InvalidArgument

WAIT_S = 90.0
CALLER = Caller(
    "req-1", TraceParent("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", is_sampled=True), "ipv4:x:1"
)


@pytest.fixture
def serving(fakes):
    return fakes.make_serving({("m", 1): fakes.HalfPlusTwo()})[0]


def ask(serving, *values, caller=CALLER):
    with serving.exchange("grpc", "Predict", body=b"request", caller=caller) as exchange:
        call = Call("serving_default", {"x": np.float32(values)}, ("y",))
        exchange.answered(exchange.start(ModelSpec("m"), lambda _: call).result(WAIT_S))
        exchange.encoded(b"four")
    return exchange


def play(serving, caplog, mode, rate=1.0):
    """Send a good request, a bad one and one that hits a bug; give the records."""
    caplog.set_level(logging.INFO)
    log = AccessLog(mode, rate, dropped=lambda: None)
    serving.observers = (log,)
    ask(serving, 1.0, 2.0)
    with pytest.raises(InvalidArgument):
        ask(serving, float("nan"))
    with pytest.raises(ZeroDivisionError), serving.exchange("rest", "Regress"):
        raise ZeroDivisionError
    log.stop(WAIT_S)
    return [record for record in caplog.records if record.name == "slipway_server.access"]


def test_a_line_tells_who_asked_what_and_how_long_it_took(serving):
    fields = fields_of(ask(serving, 1.0, 2.0))

    stages = [fields.pop(name) for name in ("parse_ms", "queue_ms", "compute_ms", "encode_ms")]
    assert fields.pop("latency_ms") >= max(stages) >= min(stages) >= 0
    assert fields == {
        "protocol": "grpc",
        "method": "Predict",
        "model": "m",
        "version": 1,
        "signature": "serving_default",
        "status": "OK",
        "rows": 2,
        "request_bytes": 7,
        "response_bytes": 4,
        "request_id": "req-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "peer": "ipv4:x:1",
    }


def test_all_requests_have_a_line_and_the_servers_faults_stand_out(serving, caplog):
    good, bad, fault = play(serving, caplog, "all")

    assert "model=m version=1 signature=serving_default status=OK latency_ms=" in good.getMessage()
    assert "request_id=req-1" in good.getMessage()
    assert bad.getMessage().endswith('error="x is not a number"')
    assert (good.levelname, bad.levelname, fault.levelname) == ("INFO", "INFO", "ERROR")
    assert json.loads(JsonFormatter().format(bad))["status"] == "INVALID_ARGUMENT"


def test_errors_only(serving, caplog):
    assert [record.fields["status"] for record in play(serving, caplog, "errors")] == ["INVALID_ARGUMENT", "INTERNAL"]


def test_a_sample_leaves_out_good_answers_only(serving, caplog):
    assert len(play(serving, caplog, "all", rate=0.0)) == 2


def test_what_a_caller_sends_cannot_forge_a_line(serving, caplog):
    caplog.set_level(logging.INFO)
    log = AccessLog("all", 1.0, dropped=lambda: None)
    serving.observers = (log,)
    with pytest.raises(InvalidArgument), serving.exchange("rest", "Predict"):
        raise InvalidArgument('no"\nI forged] line')
    log.stop(WAIT_S)

    (record,) = caplog.records
    assert record.getMessage().endswith('error="no\\"\\nI forged] line"')
