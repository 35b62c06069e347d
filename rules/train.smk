"""
A source's training script -> the source's files.

Only for versions whose source says `train`.

INPUTS:  the script, modules of the user's that it imports, its inputs
OUTPUTS: results/training/{model}/{version}, results/training/{model}/{version}.json
"""


rule train:
    """Run the training script of version {wildcards.version} of {wildcards.model}."""
    input:
        training_files,
    output:
        trained=directory("results/training/{model}/{version}"),
        record="results/training/{model}/{version}.json",
    log:
        "results/logs/train/{model}/{version}.log",
    benchmark:
        "results/usage/train/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    threads: training_threads
    resources:
        gpu=training_gpus,
    params:
        settings=training,
        code=code_digest("slipway.train"),
        tools=tool_versions("tensorflow-cpu", "keras", "tf_keras", "scikit-learn"),
    shell:
        "slipway train"
        " --model {wildcards.model} --version {wildcards.version}"
        " --settings {params.settings:q}"
        " --out {output.trained:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
