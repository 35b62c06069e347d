"""
Image -> proof that it starts, answers as the checkpoint does, and stops.

INPUTS:  results/images/{model}/, golden answers, the contract
OUTPUTS: results/launch/{model}.json
"""


rule launch:
    """Start the image of {wildcards.model} and compare its answers with the checkpoint's."""
    input:
        pins=pins,
        layout="results/images/{model}/layout",
        image="results/images/{model}/image.json",
        golden=versions_of("results/checkpoints/{model}/{version}/golden.npz"),
        checkpoints=versions_of("results/checkpoints/{model}/{version}/checkpoint.json"),
        contract=contract,
        words=word_files,
    output:
        record="results/launch/{model}.json",
    log:
        "results/logs/launch/{model}.log",
    benchmark:
        "results/usage/launch/{model}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        settings=as_json(settings.launch),
        servables="results/servables/{model}",
        golden=by_version("results/checkpoints/{model}/{version}/golden.npz"),
        checkpoints=by_version("results/checkpoints/{model}/{version}/checkpoint.json"),
        code=code_digest("slipway.launch"),
    shell:
        "slipway launch"
        " --model {wildcards.model}"
        " --settings {params.settings:q}"
        " --image-layout {input.layout:q}"
        " --image-record {input.image:q}"
        " --servable-root {params.servables:q}"
        " --contract {input.contract:q}"
        " --golden {params.golden:q}"
        " --checkpoint-record {params.checkpoints:q}"
        " --out {output.record:q}"
        " > {log:q} 2>&1"
