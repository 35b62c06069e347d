"""The report's sections in reading order: about a measurement, about a model, about the run."""

from collections.abc import Sequence

from slipway.records import ModelResult, Result
from slipway.report.blocks import Section
from slipway.report.content import Loads, Measurement
from slipway.report.sections.answers import answers
from slipway.report.sections.calling import calling
from slipway.report.sections.cold_start import cold_start
from slipway.report.sections.contract import contract
from slipway.report.sections.cost import cost
from slipway.report.sections.data import cells, data
from slipway.report.sections.environment import environment, wall_time
from slipway.report.sections.inside import inside
from slipway.report.sections.latency import latency
from slipway.report.sections.origin import image, provenance
from slipway.report.sections.overview import overview
from slipway.report.sections.protocols import protocols
from slipway.report.sections.scenarios import scenarios
from slipway.report.sections.throughput import throughput
from slipway.report.sections.validity import validity
from slipway.report.verdict import Verdict


def of_measurement(measurement: Measurement, verdict: Verdict, result: Result) -> tuple[Section, ...]:
    """Write how a version performs; what was not measured has no section."""
    written = (
        overview(measurement, verdict, result.command),
        protocols(measurement),
        throughput(measurement),
        latency(measurement),
        cold_start(measurement),
        inside(measurement),
        *scenarios(measurement),
        cost(measurement, result.prices),
    )
    return tuple(section for section in written if section)


def of_target(loads: Loads) -> tuple[Section, ...]:
    """Write how a server performs that somebody else runs; what was not measured has no section."""
    written = (
        protocols(loads),
        throughput(loads),
        latency(loads),
        inside(loads),
        *scenarios(loads),
        validity([loads]),
    )
    return tuple(section for section in written if section)


def of_model(model: ModelResult) -> tuple[Section, ...]:
    """Write what a model promises, whether it answers right, and what it was made from."""
    called = (calling(model),) if model.api else ()
    return (contract(model), *called, answers(model), image(model), provenance(model))


def of_run(result: Result, measured: Sequence[Measurement]) -> tuple[Section, ...]:
    """Write whether the numbers can be trusted, and where and how they were made."""
    return (
        validity(measured),
        environment(result, measured),
        *((wall_time(result),) if result.stage_times else ()),
        *((cells(measured),) if measured else ()),
        data(result, measured),
    )
