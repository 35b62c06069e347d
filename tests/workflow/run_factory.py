"""Made-up published runs, one a day."""

from tests.workflow import result_factory as factory

from slipway.records import Result
from slipway.report.runs import KeyNumbers, MeasuredVersion, RunEntry, run_entry


def made(day: int, cpu: str = "AMD EPYC 7B13", **more) -> Result:
    where = factory.environment().model_copy(update={"cpu": cpu})
    return factory.result(
        [factory.model_result(repetitions=6, concurrency=(1, 4), cold_starts=0, **more)],
        run_id=f"2031050{day}T071200Z-0000000{day}",
        created=f"2031-05-0{day}T07:12:00Z",
        environment=where,
    )


def entry(result: Result) -> RunEntry:
    return run_entry(result, result.run_id, factory.digest(result.run_id))


def drawn_up(
    number: int, rate: float | None, *, model="digits", version=1, commit="c0", ready_s=5.0, **facts
) -> RunEntry:
    """An entry without a result behind it: REST at *rate* predictions per second, gRPC at twice that."""
    numbers = [
        KeyNumbers(
            protocol=protocol,
            predictions_per_s=rate and rate * times,
            server_cpu_us=rate and 1e6 / rate / times,
            p50_us=500.0,
            p99_us=None,
        )
        for protocol, times in (("rest", 1), ("grpc", 2))
    ]
    measured = MeasuredVersion(
        model=model,
        version=version,
        facts={"CPU": "one", "kernel": "6"} | facts,
        origin={"commit": commit, "Slipway": "0.1.0"},
        numbers=numbers,
        image_bytes=300_000_000,
        ready_s=ready_s,
        resident_bytes=None,
    )
    return RunEntry(
        run_id=f"run-{number:04}",
        created=f"2031-01-01T00:{number // 60:02}:{number % 60:02}Z",
        title="Digits",
        state="proven",
        headline="gRPC is ahead",
        machine=str(measured.facts["CPU"]),
        commit=commit,
        result_digest=factory.digest(str(number)),
        measured=[measured],
    )


def history(rates, *, first=0, **more) -> list[RunEntry]:
    """Runs of *rates*, oldest first, as entries, newest first."""
    return [drawn_up(first + number, rate, **more) for number, rate in enumerate(rates)][::-1]


def noisy(level: float, count: int, seed: int = 0) -> list[float]:
    """Rates around *level* that spread by about 1 %."""
    return [level * (1 + 0.01 * ((7 * (place + seed)) % 5 - 2)) for place in range(count)]
