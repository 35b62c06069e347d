"""
Checkpoint -> SavedModel.

INPUTS:  results/checkpoints/{model}/{version}/source, the contract
OUTPUTS: results/exports/{model}/{version}
"""


rule export:
    """Export version {wildcards.version} of {wildcards.model} with the signatures of its contract."""
    input:
        source="results/checkpoints/{model}/{version}/source",
        checkpoint="results/checkpoints/{model}/{version}/checkpoint.json",
        contract=contract,
        words=word_files,
    output:
        saved_model=directory("results/exports/{model}/{version}"),
        record="results/exports/{model}/{version}.json",
    log:
        "results/logs/export/{model}/{version}.log",
    benchmark:
        "results/usage/export/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        spec=source,
        code=code_digest("slipway.export"),
        tools=tool_versions("tensorflow-cpu", "keras"),
    shell:
        "slipway export"
        " --model {wildcards.model} --version {wildcards.version}"
        " --source {params.spec:q}"
        " --from {input.source:q}"
        " --checkpoint-record {input.checkpoint:q}"
        " --contract {input.contract:q}"
        " --out {output.saved_model:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
