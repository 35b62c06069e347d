from tests.workflow import result_factory as factory

from slipway.report.sections.origin import image, provenance


def test_the_image_is_told_layer_by_layer():
    figure, facts = image(factory.model_result()).blocks[0].blocks

    assert figure.title == "The image weighs 335 MB"
    assert [row[0].text for row in figure.table.rows][:2] == ["base", "tensorflow"]
    assert dict(facts.items)["Not run by docker"] == "not installed"


def test_the_chain_leads_from_the_checkpoint_to_the_image_with_full_digests():
    model = factory.model_result()
    _, chain, *_, folded = provenance(model).blocks

    assert [link.name for link in chain.links] == ["Checkpoint", "SavedModel", "Warm-up records", "Servable", "Image"]
    assert chain.links[0].full == model.versions[0].checkpoint.tree.digest
    assert chain.links[-1].full == model.image.image_id
    digests = {row[0].text: row[1].text for row in folded.blocks[0].rows}
    assert digests["Image (manifest)"] == model.image.manifest_digest
