"""
Valid SavedModel -> warm-up records, replayed as proof.

INPUTS:  results/exports/{model}/{version}, its validation, the contract, golden.npz
OUTPUTS: results/warmup/{model}/{version}/
"""


rule warmup:
    """Write warm-up records for version {wildcards.version} of {wildcards.model}."""
    input:
        saved_model="results/exports/{model}/{version}",
        export="results/exports/{model}/{version}.json",
        validation="results/validation/{model}/{version}.json",
        golden="results/checkpoints/{model}/{version}/golden.npz",
        contract=contract,
    output:
        requests=ensure(
            "results/warmup/{model}/{version}/tf_serving_warmup_requests",
            non_empty=True,
        ),
        record="results/warmup/{model}/{version}/warmup.json",
    log:
        "results/logs/warmup/{model}/{version}.log",
    benchmark:
        "results/usage/warmup/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        batch_sizes=batch_sizes,
        code=code_digest("slipway.warmup"),
        tools=tool_versions("tensorflow-cpu"),
    shell:
        "slipway warmup"
        " --model {wildcards.model} --version {wildcards.version}"
        " --contract {input.contract:q}"
        " --golden {input.golden:q}"
        " --export {input.saved_model:q}"
        " --export-record {input.export:q}"
        " --batch-sizes {params.batch_sizes:q}"
        " --out {output.requests:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
