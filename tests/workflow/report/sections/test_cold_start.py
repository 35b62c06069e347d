from tests.workflow import result_factory as factory

from slipway.report.sections.cold_start import cold_start


def test_it_says_what_warm_up_saves_and_what_it_costs(measurement):
    section = cold_start(measurement)
    first, ready = section.blocks[0].blocks

    assert first.title.startswith("Warm-up takes the first gRPC answer from 1")
    assert "before the server is ready" in section.lead
    assert [row[0].text for row in ready.table.rows] == [
        "REST, warmed",
        "REST, not warmed",
        "gRPC, warmed",
        "gRPC, not warmed",
    ]


def test_starts_of_one_kind_alone_make_no_claim(measured):
    record = factory.benchmark("digits", 2)
    warmed = record.model_copy(update={"cold_starts": [s for s in record.cold_starts if s.warmed]})
    section = cold_start(measured(warmed))

    assert section.blocks[0].blocks[0].title == "First requests after start"


def test_without_starts_there_is_no_section(measured):
    assert cold_start(measured(factory.benchmark("digits", 2, cold_starts=0))) is None
