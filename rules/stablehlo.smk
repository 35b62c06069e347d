"""
Valid SavedModel -> StableHLO, for models whose server runs without TensorFlow (server.backend: stablehlo).

INPUTS:  results/exports/{model}/{version}, its validation, the contract, golden.npz
OUTPUTS: results/stablehlo/{model}/{version}
"""


rule stablehlo:
    """Compile version {wildcards.version} of {wildcards.model} as far as StableHLO, and let a server answer with it."""
    input:
        saved_model="results/exports/{model}/{version}",
        export="results/exports/{model}/{version}.json",
        validation="results/validation/{model}/{version}.json",
        golden="results/checkpoints/{model}/{version}/golden.npz",
        contract=contract,
        words=word_files,
    output:
        programs=directory("results/stablehlo/{model}/{version}"),
        record="results/stablehlo/{model}/{version}.json",
    log:
        "results/logs/stablehlo/{model}/{version}.log",
    benchmark:
        "results/usage/stablehlo/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        batch_sizes=compiled_batch_sizes,
        ready_timeout_s=settings.launch.ready_timeout_s,
        code=code_digest("slipway.stablehlo", "slipway_server"),
        tools=tool_versions("tensorflow-cpu", "jax", "jaxlib"),
    shell:
        "slipway stablehlo"
        " --model {wildcards.model} --version {wildcards.version}"
        " --contract {input.contract:q}"
        " --golden {input.golden:q}"
        " --export {input.saved_model:q}"
        " --export-record {input.export:q}"
        " --batch-sizes {params.batch_sizes:q}"
        " --ready-timeout-s {params.ready_timeout_s}"
        " --out {output.programs:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
