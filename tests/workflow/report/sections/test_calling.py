from tests.workflow import result_factory as factory

from slipway.report.blocks import Code, Heading, Links
from slipway.report.sections import of_model
from slipway.report.sections.calling import calling


def test_programs_are_shown_as_they_are_and_the_files_are_linked():
    section = calling(factory.model_result(api=factory.api("digits", 2)))
    kinds = [type(block) for block in section.blocks]

    assert kinds == [Heading, Code, Heading, Code, Links]
    assert section.blocks[1].text == "curl --data '<&>'\n"
    targets = [link.target for link in section.blocks[-1].links]
    assert targets == [
        *("api/digits/README.md", "api/digits/openapi.json", "api/digits/grpc_client.py"),
        "api/digits/requests/serving_default.row.json",
    ]


def test_a_run_of_an_older_slipway_has_no_such_section():
    titles = [section.title for section in of_model(factory.model_result())]

    assert "How to call it" not in titles
