"""
The request log: a share of the answered requests, with their answers, in files that can be replayed.

What TF Serving's `logging_config` describes and its open-source binary refuses. A record is a PredictionLog, the form of
warm-up records and of the load tests' payloads: the files serve as either.
"""

import json
import logging
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from slipway_server.background import Background
from slipway_server.config_files import RequestLogConfig
from slipway_server.metrics import Metrics
from slipway_server.servables.loader import Call, JointCall, Tensors
from slipway_server.serving import Exchange, Protocol
from slipway_wire import inference, json_predict, messages, model_spec, predict, tfrecord, warmup_log
from slipway_wire.model_spec import ModelSpec
from slipway_wire.status import Code, WireError
from slipway_wire.warmup_log import Method

logger = logging.getLogger(__name__)

# Of requests that wait to be written: their tensors are kept until then.
_MAX_WAITING = 1000
_MAX_WAITING_BYTES = 64 * 1024 * 1024
# A full disk is told once in this time, not once a request.
_COMPLAINT_S = 60.0

_METHODS: dict[str, Method] = {
    "Predict": "predict",
    "Classify": "classify",
    "Regress": "regress",
    "MultiInference": "multi_inference",
}


@dataclass(frozen=True, slots=True)
class Observation:
    """One answered request, as it waits to be written."""

    when: float
    """Unix time in seconds."""
    config: RequestLogConfig
    protocol: Protocol
    method: Method
    spec: ModelSpec
    """The version and signature that served."""
    call: Call | JointCall
    outputs: Tensors
    request: bytes
    """The body of the request as it came."""
    response: bytes
    request_id: str = ""
    is_message: bool = False
    """Whether both are messages though they went over REST, where the path says the version."""

    @property
    def size_bytes(self) -> int:
        """About what it keeps in memory."""
        return len(self.request) + len(self.response)


class RequestLog:
    """An observer of `Serving`; files are opened, written and exchanged on a thread of its own."""

    def __init__(self, metrics: Metrics, max_file_bytes: int) -> None:
        """
        Start the thread; nothing is logged before `configure`.

        Args:
            metrics: Count what is logged and what is not.
            max_file_bytes: A file that has grown so large is followed by another.
        """
        self._metrics = metrics
        self._max_file_bytes = max_file_bytes
        self._configs: Mapping[str, RequestLogConfig] = {}
        self._files: dict[RequestLogConfig, _File] = {}
        self._complained = -_COMPLAINT_S
        self._writer = Background(
            "request_log", self._write, max_items=_MAX_WAITING, max_bytes=_MAX_WAITING_BYTES, dropped=lambda: None
        )

    def configure(self, configs: Mapping[str, RequestLogConfig]) -> None:
        """Log the requests of these models from now on, and no others."""
        self._configs = dict(configs)

    def __call__(self, exchange: Exchange) -> None:
        """Take note of one request that has ended."""
        config = self._configs.get(exchange.model)
        if config is None or exchange.code is not Code.OK or exchange.call is None:
            return
        if random.random() >= config.sampling_rate:  # noqa: S311  # no secret
            return
        observation = Observation(
            when=time.time(),
            config=config,
            protocol=exchange.protocol,
            method=_METHODS[exchange.api],
            spec=exchange.spec,
            call=exchange.call,
            outputs=exchange.outputs,
            request=exchange.body,
            response=exchange.response,
            request_id=exchange.caller.request_id if exchange.caller else "",
            is_message=exchange.is_message,
        )
        if not self._writer.put(observation, observation.size_bytes):
            self._count(exchange.model, Code.RESOURCE_EXHAUSTED)
            self._metrics.dropped.of("request_log").add()

    def stop(self, timeout_s: float) -> None:
        """Write what waits and close the files."""
        if self._writer.stop(timeout_s):
            for file in self._files.values():
                file.close()
        else:
            logger.warning("The request log could not be written within %g s; its last records are lost", timeout_s)

    def _write(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            try:
                record = encode(observation)
                file = self._files.get(observation.config)
                if file is None:
                    file = self._files[observation.config] = _File(observation.config, self._max_file_bytes)
                file.append(record)
            except (OSError, WireError) as error:
                code = error.code if isinstance(error, WireError) else Code.UNKNOWN
                self._count(observation.spec.name, code)
                self._complain(observation.config, error)
            else:
                self._count(observation.spec.name, Code.OK)

    def _count(self, model: str, code: Code) -> None:
        self._metrics.request_log_count.of(model, code.name).add()

    def _complain(self, config: RequestLogConfig, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained >= _COMPLAINT_S:
            self._complained = now
            why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
            logger.error("Requests are not logged to %s*: %s", config.filename_prefix, why)


class _File:
    """The file that is being written, and the ones that follow it."""

    def __init__(self, config: RequestLogConfig, max_bytes: int) -> None:
        self._config = config
        self._max_bytes = max_bytes
        self._number = 0
        self._descriptor: int | None = None
        self._size = 0

    def append(self, record: bytes) -> None:
        """Write *record* whole, or not at all and raise OSError."""
        if self._descriptor is None or (self._size and self._size + len(record) > self._max_bytes):
            self._open_next()
        assert self._descriptor is not None
        written = 0
        try:
            while written < len(record):
                written += os.write(self._descriptor, record[written:])
        except OSError:
            # What readers see ends with a whole record, and the next one begins where it should.
            os.ftruncate(self._descriptor, self._size)
            os.lseek(self._descriptor, self._size, os.SEEK_SET)
            raise
        self._size += len(record)

    def _open_next(self) -> None:
        self.close()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        suffix = "tfrecord" if self._config.kind == "tfrecord" else "jsonl"
        path = f"{self._config.filename_prefix}-{stamp}-{os.getpid()}-{self._number:05d}.{suffix}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._number += 1
        self._size = 0
        logger.info("Requests are logged to %s", path)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


def encode(observation: Observation) -> bytes:
    """Make the bytes of one record in its file: a framed PredictionLog, or a line of JSON."""
    if observation.config.kind == "tfrecord":
        return tfrecord.frame(prediction_log(observation))
    return _json_line(observation)


def prediction_log(observation: Observation) -> bytes:
    """
    Make a serialized PredictionLog; a REST request becomes the gRPC request that says the same.

    Raises:
        InvalidArgument: It has no such form.
    """
    metadata = messages.LogMetadata(timestamp_secs=int(observation.when))
    metadata.model_spec.name = observation.spec.name
    metadata.model_spec.signature_name = observation.spec.signature_name
    if observation.spec.version is not None:
        metadata.model_spec.version.value = observation.spec.version
    metadata.sampling_config.sampling_rate = observation.config.sampling_rate
    request, response = observation.request, observation.response
    if observation.is_message:
        request = model_spec.instead(request, observation.spec)
    elif observation.protocol == "rest":
        request, response = _as_grpc(observation)
    return warmup_log.encode(observation.method, request, response, metadata.SerializeToString(deterministic=True))


def _as_grpc(observation: Observation) -> tuple[bytes, bytes]:
    spec, call, outputs = observation.spec, observation.call, observation.outputs
    named: dict[str, Any] = {"version": spec.version, "signature_name": spec.signature_name}
    if observation.method == "predict":
        return (
            predict.encode_request(spec.name, call.inputs, **named),
            predict.encode_response(spec, outputs, as_content=True),
        )
    examples = call.inputs[inference.INPUTS].tolist()
    request = inference.encode_request(spec.name, examples, **named)
    if observation.method == "classify":
        return request, inference.encode_classify_response(spec, inference.classification(outputs, len(examples)))
    return request, inference.encode_regress_response(spec, inference.regression(outputs, len(examples)))


def _json_line(observation: Observation) -> bytes:
    about: dict[str, Any] = {
        "time": observation.when,
        "protocol": observation.protocol,
        "method": observation.method,
        "model": observation.spec.name,
        "version": observation.spec.version,
        "signature": observation.spec.signature_name,
    }
    if observation.request_id:
        about["request_id"] = observation.request_id
    if observation.method == "predict":
        # Bodies of the REST API; what no JSON number says is null, so that any reader takes the line.
        request = json_predict.encode_request(observation.call.inputs, row_format=False)
        response = json_predict.encode_response(observation.outputs, row_format=False, non_finite="null")
    else:
        log = json_format.MessageToDict(
            messages.PredictionLog.FromString(prediction_log(observation)), preserving_proto_field_name=True
        )[f"{observation.method}_log"]
        request, response = json.dumps(log["request"]).encode(), json.dumps(log["response"]).encode()
    head = json.dumps(about, ensure_ascii=False)[:-1].encode()
    return b'%b, "request": %b, "response": %b}\n' % (head, request, response)
