"""
Contract + golden answers -> how the model is called: OpenAPI, request bodies, ready programs.

INPUTS:  the contract, golden.npz of the newest version
OUTPUTS: results/api/{model}/, results/api/{model}.json
"""


rule api:
    """Write how {wildcards.model} is called."""
    input:
        golden=newest_version("results/checkpoints/{model}/{version}/golden.npz"),
        contract=contract,
        words=word_files,
    output:
        files=directory("results/api/{model}"),
        record="results/api/{model}.json",
    log:
        "results/logs/api/{model}.log",
    benchmark:
        "results/usage/api/{model}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        version=newest_version("{version}"),
        signature=shown_signature,
        code=code_digest("slipway.api"),
    shell:
        "slipway api"
        " --model {wildcards.model} --version {params.version}"
        " --contract {input.contract:q}"
        " --golden {input.golden:q}"
        " --signature {params.signature:q}"
        " --out {output.files:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
