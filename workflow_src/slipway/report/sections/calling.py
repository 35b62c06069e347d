"""How the model is called: a program for each protocol, and where the rest is."""

from slipway.records import ApiRecord, ModelResult
from slipway.report.blocks import Block, Code, Heading, Link, Links, Section
from slipway.report.sections.figures import model_identifier


def calling(model: ModelResult) -> Section:
    """Write programs that call the measured signature, and link all that was generated; the model has an ApiRecord."""
    assert model.api is not None  # as promised by the caller
    shown: list[Block] = []
    for snippet in model.api.snippets:
        shown += [Heading(snippet.title), Code(snippet.text)]
    return Section(
        id=model_identifier(model, "calling"),
        title="How to call it",
        short="How to call it",
        lead=f"{model.api.signature} with a golden row. The tests of Slipway run programs like these as they stand. Those that "
        "read files run in the folder of the files below; Python over gRPC needs grpc_client.py beside it, and "
        "no TensorFlow.",
        blocks=(*shown, Links(tuple(_links(model.api)))),
    )


_EXPLAINED = {
    "README.md": "every signature: its tensors, programs and answers",
    "openapi.json": "the REST API as OpenAPI 3.1, for tools and generated clients",
    "grpc_client.py": "a gRPC client in one file: grpcio, numpy and protobuf, nothing else",
}


def _links(api: ApiRecord) -> list[Link]:
    folder = f"api/{api.model}"
    links = [Link(name, f"{folder}/{name}", what) for name, what in _EXPLAINED.items()]
    signature = f"{api.signature}."
    return links + [
        Link(name, f"{folder}/{name}", "the same call as a body")
        for name in api.tree.files
        if name.startswith(f"requests/{signature}") and name.endswith((".json", ".pb"))
    ]
