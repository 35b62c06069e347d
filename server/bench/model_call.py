"""
What one call of a model costs, in CPU µs of the calling thread, by every way into TensorFlow there is.

    python server/bench/model_call.py [VERSION_DIRECTORY] [--rows=1] [--rounds=30]

Without a directory, the half_plus_two of the tests. All ways run in one process, in turn, round by round; the ratios are
what counts. `servable` is what a request costs; the difference to `callable` is Python of ours.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HALF_PLUS_TWO = Path(__file__).parents[2] / "tests/testdata/saved_model_half_plus_two_tf2_cpu/00000123"


def ways(directory: Path, rows: int) -> dict[str, Callable[[], Any]]:
    """Load *directory* once for each way in, and return name -> one call."""
    import tensorflow as tf  # noqa: PLC0415
    from tensorflow.core.protobuf import config_pb2  # noqa: PLC0415

    from slipway_server.backends.saved_model import SavedModelLoader  # noqa: PLC0415
    from slipway_server.load_options import LoadOptions, from_settings  # noqa: PLC0415
    from slipway_server.servables import synthesis  # noqa: PLC0415
    from slipway_server.servables.loader import Call  # noqa: PLC0415
    from slipway_server.settings import Settings  # noqa: PLC0415

    def session(**flags: Any) -> tuple[Any, Any]:
        servable: Any = SavedModelLoader(directory, from_settings(Settings(**flags))).load()
        servable.run(call)
        return servable, next(iter(servable._runners.values()))  # noqa: SLF001  # what is measured is not public

    loaded: Any = SavedModelLoader(directory, LoadOptions()).load()
    signature = loaded.signatures["serving_default"]
    inputs = synthesis.inputs(signature, rows=rows)
    if inputs is None:
        raise SystemExit(f"{directory}: no request can be made up for serving_default")
    loaded.close()
    call = Call("serving_default", inputs, tuple(signature.outputs))
    feeds = tuple(inputs.values())
    servable, runner = session()
    _, pooled = session(tensorflow_inter_op_parallelism=2)
    _, frozen = session(freeze_variables=True)
    found: dict[str, Callable[[], Any]] = {
        "servable": lambda: servable.run(call),
        "callable": lambda: runner(*feeds),
        "callable, threads between ops": lambda: pooled(*feeds),
        "callable, frozen": lambda: frozen(*feeds),
    }
    config = config_pb2.ConfigProto(use_per_session_threads=True)
    config.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
    single: Any = SavedModelLoader(directory, LoadOptions(session_config=config.SerializeToString())).load()
    single.run(call)
    alone = next(iter(single._runners.values()))  # noqa: SLF001
    found["callable, single-threaded executor"] = lambda: alone(*feeds)
    function = tf.saved_model.load(str(directory)).signatures["serving_default"]
    found["signature function"] = lambda: {
        alias: value.numpy() for alias, value in function(**{k: tf.constant(v) for k, v in inputs.items()}).items()
    }
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=HALF_PLUS_TWO)
    parser.add_argument("--rows", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    calls = ways(arguments.directory, arguments.rows)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            began, count = time.thread_time(), 0
            while count < 20 or time.thread_time() - began < 0.005:
                call()
                count += 1
            times[name].append((time.thread_time() - began) / count * 1e6)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print("| way in | CPU µs a call, of the calling thread | to `callable` |\n|---|---|---|")  # noqa: T201
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['callable']:.2f} |")  # noqa: T201


if __name__ == "__main__":
    main()
