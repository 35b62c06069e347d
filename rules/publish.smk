"""
The report -> kept under its run id, beside all earlier ones.

INPUTS:  results/report/, results/benchmarks/*/*/samples
OUTPUTS: published/
"""


rule publish:
    """Keep the report and its data, and list it in the index of all runs."""
    input:
        report="results/report",
        samples=per_benchmark("results/benchmarks/{model}/{version}/samples"),
    output:
        update(published_index),
    log:
        "results/logs/publish.log",
    localrule: True
    conda:
        "../deploy/env.yaml"
    params:
        directory=folder_of_output,
        code=code_digest("slipway.publish"),
    shell:
        "slipway publish"
        " --report {input.report:q}"
        " --samples {input.samples:q}"
        " --directory {params.directory:q}"
        " > {log:q} 2>&1"
