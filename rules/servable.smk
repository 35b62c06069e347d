"""
SavedModel + warm-up records -> what a server loads; and the early cut-off.

results/servables/{model}/ is a TF Serving base path as it stands.

INPUTS:  results/exports/{model}/{version}, its validation, results/warmup/{model}/{version}/
OUTPUTS: results/servables/{model}/{version}, results/manifests/{model}/{version}.json,
         results/pins/{model}/{version}/{digest}.json
"""


checkpoint servable:
    """Assemble version {wildcards.version} of {wildcards.model} as a servable."""
    input:
        saved_model="results/exports/{model}/{version}",
        export="results/exports/{model}/{version}.json",
        validation="results/validation/{model}/{version}.json",
        requests="results/warmup/{model}/{version}/tf_serving_warmup_requests",
        warmup="results/warmup/{model}/{version}/warmup.json",
        checkpoint="results/checkpoints/{model}/{version}/checkpoint.json",
        stablehlo=stablehlo,
        stablehlo_record=stablehlo_record,
    output:
        servable=directory("results/servables/{model}/{version}"),
        record="results/manifests/{model}/{version}.json",
    log:
        "results/logs/servable/{model}/{version}.log",
    benchmark:
        "results/usage/servable/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    params:
        stablehlo=stablehlo_options,
        code=code_digest("slipway.servable"),
    shell:
        "slipway servable"
        " --model {wildcards.model} --version {wildcards.version}"
        " --export {input.saved_model:q}"
        " --export-record {input.export:q}"
        " --warmup {input.requests:q}"
        " --warmup-record {input.warmup:q}"
        " --checkpoint-record {input.checkpoint:q}"
        " {params.stablehlo:q}"
        " --out {output.servable:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"


rule pin:
    """Name the content of a servable by a file that is written once."""
    input:
        ancient("results/manifests/{model}/{version}.json"),
    output:
        "results/pins/{model}/{version}/{digest}.json",
    log:
        "results/logs/pin/{model}/{version}/{digest}.log",
    localrule: True
    conda:
        "../deploy/env.yaml"
    shell:
        "cp {input:q} {output:q} 2> {log:q}"
