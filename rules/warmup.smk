"""
Valid SavedModel -> warm-up records, replayed by a server as proof.

INPUTS:  results/exports/{model}/{version}, its validation, the contract, golden.npz, logged requests if settings name some
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
        words=word_files,
        logged=logged_requests,
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
        settings=warmup_settings,
        batch_sizes=batch_sizes,
        ready_timeout_s=settings.launch.ready_timeout_s,
        code=code_digest("slipway.warmup", "slipway_server"),
        tools=tool_versions("tensorflow-cpu"),
    shell:
        "slipway warmup"
        " --model {wildcards.model} --version {wildcards.version}"
        " --contract {input.contract:q}"
        " --golden {input.golden:q}"
        " --export {input.saved_model:q}"
        " --export-record {input.export:q}"
        " --settings {params.settings:q}"
        " --batch-sizes {params.batch_sizes:q}"
        " --ready-timeout-s {params.ready_timeout_s}"
        " --out {output.requests:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
