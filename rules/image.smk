"""
Servables of a model + our server -> an OCI image.

INPUTS:  pins and results/servables/{model}/*
OUTPUTS: results/images/{model}/
"""


rule image:
    """Assemble the image of {wildcards.model} with all its versions."""
    input:
        pins=pins,
        servables=ancient(versions_of("results/servables/{model}/{version}")),
        base=[str(settings.image.base)] if settings.image.base else [],
    output:
        layout=directory("results/images/{model}/layout"),
        record="results/images/{model}/image.json",
    log:
        "results/logs/image/{model}.log",
    benchmark:
        "results/usage/image/{model}.tsv"
    conda:
        "../deploy/env.yaml"
    threads: 2
    params:
        image=as_json(settings.image),
        server=server_settings,
        serving=serving,
        servables=by_version("results/servables/{model}/{version}"),
        records=by_version("results/manifests/{model}/{version}.json"),
        code=code_digest("slipway.image", "slipway_server", "slipway_wire"),
    shell:
        "slipway image"
        " --model {wildcards.model}"
        " --settings {params.image:q}"
        " --server-settings {params.server:q}"
        " --serving {params.serving:q}"
        " --version-dir {params.servables:q}"
        " --servable-record {params.records:q}"
        ' --cache "$SLIPWAY_CACHE"'
        " --out-layout {output.layout:q}"
        " --record {output.record:q}"
        " > {log:q} 2>&1"
