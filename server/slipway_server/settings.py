"""
The command line: TF Serving's flags with its names, defaults and syntax, and a few of our own.

Source: tensorflow_serving/model_servers/main.cc.
"""

import dataclasses
import ipaddress
import math
import os
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from slipway_server.errors import UsageError
from slipway_wire.json_tensors import NonFinite
from slipway_wire.status import InvalidArgument, Unimplemented

Port = int | Literal["auto"]
"""A TCP port; 0: none; "auto": any that is free."""


# Lists: a repeated flag adds to them, where of others the last counts.
_REPEATABLE = frozenset({"op_library", "import_module"})
_VERSION_POLICIES = ("availability_preserving", "resource_preserving")

SUPPORTED, IGNORED, REFUSED = "supported", "ignored", "refused"


def _flag(default: Any, help_text: str, kind: str = SUPPORTED) -> Any:
    return dataclasses.field(default=default, metadata={"help": help_text, "kind": kind})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every flag as a value; the field names are the flags' names."""

    port: Port = _flag(8500, "TCP port for gRPC; 0: none; auto: any free one.")  # noqa: RUF009  # a frozen value
    grpc_socket_path: str = _flag("", "Also listen for gRPC on this UNIX socket.")
    rest_api_port: Port = _flag(0, "TCP port for REST; 0: none; auto: any free one.")  # noqa: RUF009  # a frozen value
    bind_address: str = _flag("0.0.0.0", "Address both ports are bound to. (not in TF Serving)")  # noqa: S104
    ready_file: str = _flag(
        "", "Write ports and process id here, as JSON, once all models are served. (not in TF Serving)"
    )
    drain_timeout_s: float = _flag(
        20.0, "On SIGTERM, wait this long (s) for requests that are being answered. (not in TF Serving)"
    )
    lame_duck_s: float = _flag(
        0.0, "On SIGTERM, say not ready for this long (s), still taking requests, before draining. (not in TF Serving)"
    )
    log_format: str = _flag("glog", "Form of log lines: glog or json. (not in TF Serving)")
    access_log: str = _flag("off", "A log line for each request: off, errors or all. (not in TF Serving)")
    access_log_sample_rate: float = _flag(
        1.0, "With --access_log=all, the share of requests answered OK that get a line. (not in TF Serving)"
    )
    make_request_ids: bool = _flag(
        False,
        "Give requests that bring no X-Request-ID one; --access_log and --otlp_endpoint do, too. (not in TF Serving)",
    )
    request_log_max_file_bytes: int = _flag(
        256 * 1024 * 1024,
        "A file of a model's request log that has this size is followed by another. (not in TF Serving)",
    )
    otlp_endpoint: str = _flag(
        "", "Send spans of requests to this OTLP/HTTP collector, such as http://localhost:4318. (not in TF Serving)"
    )
    trace_sample_rate: float = _flag(
        1.0, "Share of requests traced of those that bring no traceparent, which decides itself. (not in TF Serving)"
    )
    api_token_file: str = _flag(
        "", "File with the token that requests over gRPC and REST must bear, health excepted. (not in TF Serving)"
    )
    admin_port: Port = _flag(0, "TCP port for managing models over REST; 0: none. (not in TF Serving)")  # noqa: RUF009  # a frozen value
    admin_bind_address: str = _flag(
        "127.0.0.1",
        "Address of --admin_port; others than this machine's own need --admin_token_file. (not in TF Serving)",
    )
    admin_token_file: str = _flag(
        "", "File with the token that requests to --admin_port must bear. (not in TF Serving)"
    )
    rest_api_timeout_in_ms: int = _flag(30_000, "Timeout of a REST request; 0 or less: none.")
    rest_api_idle_timeout_s: float = _flag(
        300.0, "Close REST connections that ask nothing for so long (s); 0: never. (not in TF Serving)"
    )
    rest_api_max_connections: int = _flag(
        0, "REST connections open at once; 0: half of the file descriptors, up to 10000. (not in TF Serving)"
    )
    grpc_max_connections: int = _flag(
        0,
        "gRPC connections open at once, with --grpc_transport=slipway; 0: three eighths of the file descriptors, up to 10000. "
        "(not in TF Serving)",
    )
    rest_api_gzip_min_bytes: int = _flag(
        65536, "Compress larger REST answers for clients that accept gzip; 0: none. (not in TF Serving)"
    )
    json_non_finite: str = _flag(
        "tokens",
        "What stands for NaN and infinities in REST answers. tokens: NaN, Infinity, -Infinity, as in TF Serving; null; "
        "error: such an answer is INTERNAL. (not in TF Serving)",
    )
    rest_api_enable_cors_support: bool = _flag(False, "Add CORS headers to REST answers.")
    enable_batching: bool = _flag(False, "Put requests together into batches.")
    batching_parameters_file: str = _flag("", "Text-format BatchingParameters; needs --enable_batching.")
    enable_per_model_batching_parameters: bool = _flag(
        False,
        "Batch only models with a batching_params.pbtxt in their version directory, as it says; of "
        "--batching_parameters_file, only the threads count.",
    )
    max_enqueued_requests: int = _flag(
        10_000, "Requests of one model that may wait for a thread when they are not batched. (not in TF Serving)"
    )
    model_config_file: str = _flag("", "Text-format ModelServerConfig; --model_name and --model_base_path are ignored.")
    model_config_file_poll_wait_seconds: int = _flag(
        0, "Pause between readings of the model config file; 0: read it once."
    )
    persist_model_config: bool = _flag(
        False, "Write the model config file, whole, after every change that did not come from it. (not in TF Serving)"
    )
    model_name: str = _flag("default", "Name of the single model.")
    model_base_path: str = _flag("", "Directory that holds the single model's version directories.")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "Let a label point to a version that is not available."
    )
    num_load_threads: int = _flag(0, "Threads that load versions after the start; 0: one.")
    num_unload_threads: int = _flag(0, "Threads that free versions; 0: one.")
    max_num_load_retries: int = _flag(5, "Tries after a first failed load.")
    load_retry_interval_micros: int = _flag(60_000_000, "Pause between tries of a load; negative: none.")
    file_system_poll_wait_seconds: int = _flag(
        1, "Pause between looks for new versions; 0: look once; negative: never."
    )
    version_settle_s: float = _flag(
        2.0, "Load a new version once nothing in its directory has changed for that long (s). (not in TF Serving)"
    )
    aspired_version_policy: str = _flag(
        "availability_preserving",
        "How versions are exchanged: availability_preserving loads the new one beside the old one, "
        "resource_preserving frees the old one first. (not in TF Serving)",
    )
    start_with_available_models: bool = _flag(
        False, "Open the ports although some models have no version that can be served. (not in TF Serving)"
    )
    tensorflow_session_parallelism: int = _flag(0, "Intra-op and inter-op threads of each session; 0: automatic.")
    tensorflow_intra_op_parallelism: int = _flag(0, "Intra-op threads; 0: automatic.")
    tensorflow_inter_op_parallelism: int = _flag(0, "Inter-op threads; 0: automatic.")
    thread_plan: str = _flag(
        "auto",
        "one_batch: a batch has all CPUs; batch_per_core: each batch has one; auto: the better one, measured with a "
        "version's warm-up records. MODEL=PLAN says it of one model; separate by commas. (not in TF Serving)",
    )
    thread_plan_limit_s: float = _flag(
        2.0,
        "With --thread_plan=auto, measure only models for which this takes no longer, and five times that in all (s). "
        "(not in TF Serving)",
    )
    tensorflow_session_config_file: str = _flag("", "Text-format ConfigProto of every session; flags go over it.")
    platform_config_file: str = _flag(
        "", "Text-format PlatformConfigMap; takes the place of the flags on sessions, tags, batching and warm-up."
    )
    per_process_gpu_memory_fraction: float = _flag(0.0, "Share of GPU memory to take at start; 0: TensorFlow decides.")
    gpu_memory_growth: bool = _flag(False, "Take GPU memory as it is needed, not at start. (not in TF Serving)")
    gpu_memory_limit_mb: float = _flag(
        0.0, "Take at most this much of the GPU's memory (MiB); 0: no limit. (not in TF Serving)"
    )
    gpu_pinned_host_memory: bool = _flag(
        False,
        "Let TensorFlow keep all tensors of the CPU in page-locked memory, for copies to a GPU. (not in TF Serving)",
    )
    xla_cpu_compilation_enabled: bool = _flag(False, "Compile graphs with XLA, on CPUs and GPUs.")
    xla_gpu_compilation_enabled: bool = _flag(False, "Compile graphs with XLA, on CPUs and GPUs.")
    mixed_precision: str = _flag(
        "", "bfloat16: let oneDNN compute in bfloat16 where it may and answers stay as they are."
    )
    freeze_variables: bool = _flag(
        False, "Turn variables into constants once loaded, if the answers stay the same. (not in TF Serving)"
    )
    op_library: str = _flag(
        "", "Shared libraries with custom ops to load first; repeat it or separate by commas. (not in TF Serving)"
    )
    import_module: str = _flag(
        "",
        "Python modules that register ops, e.g. tensorflow_text; repeat it or separate by commas. (not in TF Serving)",
    )
    saved_model_tags: str = _flag("serve", "Comma-separated tags of the meta graph to load.")
    prefer_tflite_model: bool = _flag(False, "Serve model.tflite where a version has one.")
    prefer_stablehlo: bool = _flag(
        False,
        "Serve stablehlo/ where a version has it, with JAX's runtime; TensorFlow is imported when a version without it "
        "comes. (not in TF Serving)",
    )
    num_tflite_pools: int = _flag(0, "Pools of TFLite interpreters of a version; 0: one for each CPU.")
    num_tflite_interpreters_per_pool: int = _flag(1, "Interpreters in each pool.")
    ssl_config_file: str = _flag(
        "",
        "Text-format SSLConfig: TLS on the gRPC port and socket; PEM text, or paths of PEM files (not in TF Serving).",
    )
    rest_api_tls: bool = _flag(False, "TLS on the REST port, too, from --ssl_config_file. (not in TF Serving)")
    grpc_transport: str = _flag(
        "slipway", "What speaks gRPC: slipway (an HTTP/2 of our own) or grpcio. (not in TF Serving)"
    )
    grpc_channel_arguments: str = _flag("", "gRPC options, key=value,key=value.")
    grpc_max_threads: int = _flag(4 * (os.cpu_count() or 1), "Threads that run requests when they are not batched.")
    enable_model_warmup: bool = _flag(True, "Replay assets.extra/tf_serving_warmup_requests before a version serves.")
    num_request_iterations_for_warmup: int = _flag(0, "Replay each warm-up record this often; 0: once.")
    num_model_warmup_threads: int = _flag(0, "Replay this many warm-up records at once; 0: one. (not in TF Serving)")
    enable_all_batch_sizes_warmup: bool = _flag(
        True, "With batching, also run each signature of the records at every allowed batch size. (not in TF Serving)"
    )
    synthesize_warmup_requests: bool = _flag(
        False, "Make up warm-up requests from the signatures of a version that brings none. (not in TF Serving)"
    )
    monitoring_config_file: str = _flag("", "Text-format MonitoringConfig; metrics are served on the REST port.")
    enable_signature_method_name_check: bool = _flag(
        False, "Refuse requests whose method is not the one for which their signature was exported."
    )
    enable_grpc_healthcheck_service: bool = _flag(False, "Serve grpc.health.v1.Health.")
    enable_profiler: bool = _flag(True, "Serve tensorflow.ProfilerService, which writes traces where the client says.")
    enable_serialization_as_tensor_content: bool = _flag(False, "Answer Predict with tensor_content.")

    tensor_content_min_bytes: int = _flag(
        0, "Answer Predict with tensor_content where an output has this size or more; 0: never. (not in TF Serving)"
    )

    # Taken and of no effect here.
    rest_api_num_threads: int = _flag(0, "REST needs no threads of its own.", IGNORED)
    flush_filesystem_caches: bool = _flag(True, "There is no such cache.", IGNORED)
    remove_unused_fields_from_bundle_metagraph: bool = _flag(True, "They are never kept.", IGNORED)
    thread_pool_factory_config_file: str = _flag("", "Threads are set by the flags above.", IGNORED)
    skip_initialize_tpu: bool = _flag(False, "TPUs are not used.", IGNORED)

    # Known, but to go on without them would serve something other than what was asked for.
    use_alts_credentials: bool = _flag(False, "ALTS on the gRPC port; for jobs on Google's own network.", REFUSED)

    def check(self) -> None:
        """
        Raise for combinations that TF Serving refuses at start, and for what we cannot do yet.

        Raises:
            UsageError: No model was named.
            InvalidArgument: Flags contradict each other.
            Unimplemented: A flag asks for something that is not there yet.
        """
        if self.use_alts_credentials and self.ssl_config_file:
            raise InvalidArgument("only one of --use_alts_credentials and --ssl_config_file may be set")
        if self.rest_api_tls and not self.ssl_config_file:
            raise InvalidArgument("--rest_api_tls needs --ssl_config_file, which names key and certificate")
        for field in dataclasses.fields(self):
            if field.metadata["kind"] is REFUSED and getattr(self, field.name) != field.default:
                raise Unimplemented(f"--{field.name} is not supported yet; start without it")
        if self.json_non_finite not in typing.get_args(NonFinite):
            raise UsageError(f"--json_non_finite: expected tokens, null or error, got {self.json_non_finite!r}")
        if not self.model_config_file and not self.model_base_path:
            raise UsageError("one of --model_base_path and --model_config_file is required")
        if self.aspired_version_policy not in _VERSION_POLICIES:
            raise UsageError(
                f"--aspired_version_policy: expected {' or '.join(_VERSION_POLICIES)}, "
                f"got {self.aspired_version_policy!r}"
            )
        if self.persist_model_config and not self.model_config_file:
            raise UsageError("--persist_model_config requires --model_config_file")
        if self.version_settle_s < 0:
            raise UsageError(f"--version_settle_s: expected 0 or more seconds, got {self.version_settle_s:g}")
        if self.port == 0 and not self.grpc_socket_path:
            raise InvalidArgument("one of --port and --grpc_socket_path must be set")
        self._check_choice("grpc_transport", ("slipway", "grpcio"))
        self._check_choice("log_format", ("glog", "json"))
        self._check_choice("access_log", ("off", "errors", "all"))
        self._check_share("access_log_sample_rate")
        self._check_share("trace_sample_rate")
        if self.admin_port != 0 and not self.admin_token_file and not _is_loopback(self.admin_bind_address):
            raise InvalidArgument(
                f"--admin_bind_address={self.admin_bind_address} lets others than this machine manage models; "
                "it needs --admin_token_file"
            )
        if self.thread_plan_limit_s < 0:
            raise InvalidArgument(
                f"--thread_plan_limit_s: expected seconds, 0 or more, got {self.thread_plan_limit_s:g}"
            )
        if self.lame_duck_s < 0:
            raise InvalidArgument(f"--lame_duck_s: expected seconds, 0 or more, got {self.lame_duck_s:g}")
        if self.batching_parameters_file and not self.enable_batching:
            raise InvalidArgument("server_options.batching_parameters_file requires server_options.enable_batching")
        if self.tensorflow_session_parallelism > 0 and (
            self.tensorflow_intra_op_parallelism > 0 and self.tensorflow_inter_op_parallelism > 0
        ):
            raise InvalidArgument(
                "--tensorflow_session_parallelism cannot be set together with both "
                "--tensorflow_intra_op_parallelism and --tensorflow_inter_op_parallelism"
            )

    def _check_choice(self, flag: str, choices: Sequence[str]) -> None:
        if getattr(self, flag) not in choices:
            raise InvalidArgument(f"--{flag}: expected {', '.join(choices)}; got {getattr(self, flag)!r}")

    def _check_share(self, flag: str) -> None:
        if not 0.0 <= getattr(self, flag) <= 1.0:
            raise InvalidArgument(f"--{flag}: expected a share of 0 to 1, got {getattr(self, flag):g}")

    @property
    def rest_api_timeout_s(self) -> float:
        """Seconds a REST request may take; infinite if there is no limit."""
        return self.rest_api_timeout_in_ms / 1000 if self.rest_api_timeout_in_ms > 0 else math.inf


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What was asked for."""

    settings: Settings
    unknown: tuple[str, ...] = ()
    """Arguments nobody knows; TF Serving says so and goes on."""
    wants_version: bool = False
    wants_help: bool = False


def parse(arguments: Sequence[str]) -> CommandLine:
    """
    Read a command line in TF Serving's syntax: `--name=value`; a boolean also as `--name`. The last of a name counts.

    Raises:
        UsageError: A value cannot be read.

    Source: tensorflow/core/util/command_line_flags.cc.
    """
    types = typing.get_type_hints(Settings)
    values: dict[str, Any] = {}
    unknown = []
    wants = {"version": False, "help": False}
    for argument in arguments:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in types.keys() | wants.keys():
            unknown.append(argument)
        elif name in wants:
            wants[name] = _boolean(name, text) if equals else True
        elif equals and name in _REPEATABLE:
            values[name] = ",".join(filter(None, [values.get(name, ""), text]))
        elif equals:
            values[name] = _VALUE_READERS[types[name]](name, text)
        elif types[name] is bool:
            values[name] = True
        else:
            raise UsageError(f"--{name} needs a value: --{name}=VALUE")
    return CommandLine(Settings(**values), tuple(unknown), wants["version"], wants["help"])


def usage() -> str:
    """Return the list of flags with their defaults."""
    lines = ["usage: slipway-server --model_name=NAME --model_base_path=DIRECTORY [--flag=value ...]", "", "Flags:"]
    for field in dataclasses.fields(Settings):
        shown = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
        note = {SUPPORTED: "", IGNORED: " (ignored)", REFUSED: " (not supported yet)"}[field.metadata["kind"]]
        lines.append(f"  --{field.name}={shown}\n        {field.metadata['help']}{note}")
    return "\n".join([*lines, "  --version", "        Print the versions and exit.", ""])


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _boolean(name: str, text: str) -> bool:
    if text.lower() in {"true", "1"}:
        return True
    if text.lower() in {"false", "0"}:
        return False
    raise UsageError(f"--{name}: expected true, false, 1 or 0, got {text!r}")


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--{name}: expected a whole number, got {text!r}") from None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--{name}: expected a number, got {text!r}") from None


def _port(name: str, text: str) -> Port:
    if text == "auto":
        return "auto"
    port = _integer(name, text)
    if port not in range(2**16):
        raise UsageError(f"--{name}: expected a port of 0 to 65535 or auto, got {port}")
    return port


_VALUE_READERS: dict[Any, Callable[[str, str], Any]] = {
    bool: _boolean,
    int: _integer,
    float: _number,
    str: lambda _name, text: text,
    Port: _port,
}
