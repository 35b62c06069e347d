"""
All records -> the report.

INPUTS:  every stage's record
OUTPUTS: results/report/
"""


rule report:
    """Draw the report of everything that was measured."""
    input:
        per_version("results/checkpoints/{model}/{version}/checkpoint.json"),
        per_version("results/exports/{model}/{version}.json"),
        per_version("results/validation/{model}/{version}.json"),
        per_version("results/warmup/{model}/{version}/warmup.json"),
        per_version("results/manifests/{model}/{version}.json"),
        per_model("results/images/{model}/image.json"),
        per_model("results/launch/{model}.json"),
        per_benchmark("results/benchmarks/{model}/{version}/benchmark.json"),
        per_model("results/api/{model}.json"),
        per_model("results/api/{model}"),
    output:
        directory("results/report"),
    log:
        "results/logs/report.log",
    localrule: True
    conda:
        "../deploy/env.yaml"
    params:
        title=settings.report.title,
        models=[f"{m}={','.join(map(str, settings.versions(m)))}" for m in settings.models],
        benchmarked=per_benchmark("{model}={version}"),
        prices=as_json(settings.report.prices) if settings.report.prices else "null",
        code=code_digest("slipway.report"),
    shell:
        "slipway report"
        " --title {params.title:q}"
        " --records results"
        " --model {params.models:q}"
        " --benchmarked {params.benchmarked:q}"
        " --usage results/usage"
        " --prices {params.prices:q}"
        " --out {output:q}"
        " > {log:q} 2>&1"
