"""
SavedModel + contract + golden answers -> the verdict of the validation.

INPUTS:  results/exports/{model}/{version}, the contract, golden.npz; the contract before, if the config names it
OUTPUTS: results/validation/{model}/{version}.json; if it fails, {version}.failed.json stays
"""


rule validate:
    """Check version {wildcards.version} of {wildcards.model} against its contract."""
    input:
        saved_model="results/exports/{model}/{version}",
        export="results/exports/{model}/{version}.json",
        golden="results/checkpoints/{model}/{version}/golden.npz",
        contract=contract,
        words=word_files,
        baseline=baseline,
        baseline_words=baseline_words,
    output:
        record="results/validation/{model}/{version}.json",
    log:
        "results/logs/validate/{model}/{version}.log",
    benchmark:
        "results/usage/validate/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        callers=callers,
        code=code_digest("slipway.validate"),
        tools=tool_versions("tensorflow-cpu"),
    shell:
        "slipway validate"
        " --model {wildcards.model} --version {wildcards.version}"
        " --contract {input.contract:q}"
        " --golden {input.golden:q}"
        " --export {input.saved_model:q}"
        " --export-record {input.export:q}"
        " {params.callers:q}"
        " --out {output.record:q}"
        " > {log:q} 2>&1"
