"""From a checkpoint to a published report. `snakemake --cores all` runs the whole line."""

from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


include: "rules/common.smk"
include: "rules/train.smk"
include: "rules/checkpoint.smk"
include: "rules/export.smk"
include: "rules/validate.smk"
include: "rules/stablehlo.smk"
include: "rules/warmup.smk"
include: "rules/servable.smk"
include: "rules/image.smk"
include: "rules/launch.smk"
include: "rules/benchmark.smk"
include: "rules/api.smk"
include: "rules/report.smk"
include: "rules/publish.smk"


wildcard_constraints:
    model="[a-z][a-z0-9_-]*",
    version="[1-9][0-9]*",
    digest="[0-9a-f]{16}",


onstart:
    with plainly():
        claim_working_directory()
        # Ours alone now: whatever is half-written in it was left by a run that was killed.
        remove_partials(Path("results"), deep=True)
        shutil.rmtree("results/unfinished", ignore_errors=True)


onerror:
    print_errors()
    draw_what_was_measured()


rule all:
    default_target: True
    input:
        published_index,
        "results/report",
    localrule: True


rule servables:
    """Everything up to the directories that a server can load."""
    input:
        per_version("results/manifests/{model}/{version}.json"),
    localrule: True


rule images:
    """Everything up to images that have been started and have answered right."""
    input:
        per_model("results/launch/{model}.json"),
    localrule: True
