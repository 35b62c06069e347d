"""
A version's source -> the checkpoint and its golden answers.

INPUTS:  the source's files, if it is not built in; or what its training left, results/training/{model}/{version}
OUTPUTS: results/checkpoints/{model}/{version}/
"""


rule make_checkpoint:
    """Train or read version {wildcards.version} of {wildcards.model} and keep its golden answers."""
    input:
        source_files,
        trained=trained,
        training=training_record,
    output:
        source=directory("results/checkpoints/{model}/{version}/source"),
        golden="results/checkpoints/{model}/{version}/golden.npz",
        record="results/checkpoints/{model}/{version}/checkpoint.json",
    log:
        "results/logs/checkpoint/{model}/{version}.log",
    benchmark:
        "results/usage/checkpoint/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        spec=source,
        digest=recorded_digest,
        contract=contract,
        golden=golden_part,
        code=code_digest("slipway.checkpoint"),
        tools=tool_versions("tensorflow-cpu", "keras", "scikit-learn"),
    shell:
        "slipway checkpoint"
        " --model {wildcards.model} --version {wildcards.version}"
        " --source {params.spec:q}"
        " --digest {params.digest:q}"
        " --trained {input.trained:q}"
        " --train-record {input.training:q}"
        " --contract {params.contract:q}"
        " --out-source {output.source:q}"
        " --golden {output.golden:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
