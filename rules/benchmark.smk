"""
Image -> REST and gRPC measured under load. One job owns one server, and the machine.

INPUTS:  results/images/{model}/ (proven by results/launch/{model}.json), golden answers
OUTPUTS: results/benchmarks/{model}/{version}/; cut short, its benchmark.failed.json stays, and results/unfinished/ is the report of it
"""


rule benchmark:
    """Measure version {wildcards.version} of {wildcards.model} over REST and gRPC."""
    input:
        pins=pins,
        launch=ancient("results/launch/{model}.json"),
        layout="results/images/{model}/layout",
        image="results/images/{model}/image.json",
        servable=ancient("results/manifests/{model}/{version}.json"),
        golden="results/checkpoints/{model}/{version}/golden.npz",
        goldens=ancient(other_goldens),
        contract=ancient(contract),
        words=ancient(word_files),
    output:
        record="results/benchmarks/{model}/{version}/benchmark.json",
        samples=directory("results/benchmarks/{model}/{version}/samples"),
    log:
        "results/logs/benchmark/{model}/{version}.log",
    benchmark:
        "results/usage/benchmark/{model}/{version}.tsv"
    conda:
        "../deploy/env.yaml"
    threads: all_cores
    resources:
        bench_slot=1,
    params:
        settings=as_json(settings.benchmark),
        launch=as_json(settings.launch),
        server=server_settings,
        servables="results/servables/{model}",
        golden=golden_part,
        goldens=other_goldens_by_version,
        code=code_digest("slipway.benchmark", "slipway_loadtests"),
        tools=tool_versions("locust", "gevent"),
    shell:
        "slipway benchmark"
        " --model {wildcards.model} --version {wildcards.version}"
        " --settings {params.settings:q}"
        " --launch-settings {params.launch:q}"
        " --server-settings {params.server:q}"
        " --image-layout {input.layout:q}"
        " --image-record {input.image:q}"
        " --servable-root {params.servables:q}"
        " --servable-record {input.servable:q}"
        " --contract {input.contract:q}"
        " --golden {input.golden:q}"
        " --version-golden {params.goldens:q}"
        " --threads {threads}"
        " --out {output.record:q}"
        " --samples {output.samples:q}"
        " > {log:q} 2>&1"
