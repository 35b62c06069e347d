"""One-line lookups from the settings, for the rules; and what holds for every job."""

import functools
import gc
import inspect
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from slipway.baseline import word_files as word_files_of_baseline
from slipway.contract import read_contract
from slipway.contract.backends import check_backend
from slipway.contract.batching import check_batching
from slipway.files import remove_partials
from slipway.locks import claim_working_directory
from slipway.logs import BEGAN, plainly, print_errors
from slipway.provenance import code_digest, tool_versions
from slipway.records import ServableRecord
from slipway.settings import cache_directory, of_its_own_models, parse_settings
from slipway.sheet import check_files, with_sheet
from slipway.source_settings import located, training_of

# Another workflow that uses this one as a module may give it a config of its own, and no file is read here.
given = {} if workflow.modifier.skip_configfile else workflow.config_settings.overwrite_config
with plainly():
    settings = parse_settings(with_sheet(of_its_own_models(config, given)))
    check_files(settings)
# A graph of thousands of jobs lives until the end: looking through it for garbage again and again took a fifth of the
# time of a dry run. What is young is collected as ever.
gc.set_threshold(100_000, 50, 1_000)

published_index = str(settings.publish.directory / "index.html")

# The command that was installed beside this Snakemake, whatever PATH says; bash with its safe settings. What stands
# here is no part of a job's provenance: another cache directory rebuilds nothing.
shell.prefix(
    "set -euo pipefail; "
    f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH PYTHONHASHSEED=0"
    f" SLIPWAY_CACHE={shlex.quote(str(cache_directory(os.environ)))}; "
)


def as_json(section):
    """Give one section of the settings to a command."""
    return json.dumps(section.model_dump(mode="json"), sort_keys=True)


def with_signature(function):
    """Tell Snakemake a function's parameters once; it looks them up at each call, 80,000 times for 1,000 models."""
    function.__signature__ = inspect.signature(function)
    return function


def draw_what_was_measured():
    """Draw the report of a benchmark of this run that was cut short, if one was."""
    from slipway.report.unfinished import draw_unfinished

    models = {m: settings.versions(m) for m in settings.models}
    draw_unfinished(models, {m: settings.benchmarked(m) for m in models}, settings.report.title, BEGAN)


def per_version(pattern):
    """Fill *pattern* for every version of every model."""
    return [pattern.format(model=m, version=v) for m in settings.models for v in settings.versions(m)]


def per_model(pattern):
    """Fill *pattern* for every model."""
    return [pattern.format(model=m) for m in settings.models]


def per_benchmark(pattern):
    """Fill *pattern* for every version that is measured."""
    return [pattern.format(model=m, version=v) for m in settings.models for v in settings.benchmarked(m)]


def versions_of(pattern):
    """Fill *pattern* for every version of the job's model."""
    return with_signature(
        lambda wildcards: [pattern.format(model=wildcards.model, version=v) for v in settings.versions(wildcards.model)]
    )


def by_version(pattern):
    """Make `V=path` arguments, one for each version of the job's model."""
    return with_signature(
        lambda wildcards: [
            f"{v}={pattern.format(model=wildcards.model, version=v)}" for v in settings.versions(wildcards.model)
        ]
    )


def other_versions(wildcards):
    """List the versions of the job's model beside its own."""
    return [v for v in settings.versions(wildcards.model) if v != int(wildcards.version)]


def other_goldens(wildcards):
    """The golden data of the other versions: what ab_versions holds their answers against."""
    return [f"results/checkpoints/{wildcards.model}/{v}/golden.npz" for v in other_versions(wildcards)]


def other_goldens_by_version(wildcards):
    """Make `V=path` arguments of them."""
    return [f"{v}={path}" for v, path in zip(other_versions(wildcards), other_goldens(wildcards), strict=True)]


def version_source(wildcards):
    """What the settings say that the version is made from."""
    return settings.models[wildcards.model].versions[int(wildcards.version)].source


def training(wildcards):
    """How the version's source is trained, as JSON."""
    return as_json(training_of(version_source(wildcards)))


def training_files(wildcards):
    """The script that makes the version's source, what it imports, and its inputs."""
    return training_of(version_source(wildcards)).files()


def training_threads(wildcards):
    """Threads that the script computes with."""
    return training_of(version_source(wildcards)).threads


def training_gpus(wildcards):
    """GPUs that the script needs."""
    return int(training_of(version_source(wildcards)).gpu)


def trained(wildcards):
    """The folder that the training leaves; nothing for a version that has none."""
    found = f"results/training/{wildcards.model}/{wildcards.version}"
    return [found] if training_of(version_source(wildcards)) else []


def training_record(wildcards):
    """The record of the training; nothing for a version that has none."""
    return [f"{folder}.json" for folder in trained(wildcards)]


def newest_version(pattern):
    """Fill *pattern* for the newest version of the job's model."""
    return lambda wildcards: pattern.format(model=wildcards.model, version=max(settings.versions(wildcards.model)))


def shown_signature(wildcards):
    """The signature that the report shows how to call, if the settings name one: what is measured, if the model is."""
    return (settings.benchmarked(wildcards.model) and settings.benchmark.signature) or ""


def source(wildcards):
    """What the version is made from, as JSON; files that its training makes are where that leaves them."""
    folder = Path("results/training", wildcards.model, wildcards.version)
    return as_json(located(version_source(wildcards), folder))


def source_files(wildcards):
    """The files that the version is made from, beside those of its training; none for a built-in model."""
    chosen = version_source(wildcards)
    known = set(training_files(wildcards)) if training_of(chosen) else set()
    return [file for file in chosen.files() if file not in known]


def recorded_digest(wildcards):
    """The content that the version's source must have, if the config says so; what is trained here has it later."""
    found = settings.models[wildcards.model].versions[int(wildcards.version)]
    return (not training_of(found.source) and found.digest) or ""


def serving(wildcards):
    """What is served of the model's versions, as JSON."""
    return as_json(settings.models[wildcards.model].serving)


def contract(wildcards):
    """The contract's file."""
    return str(settings.models[wildcards.model].contract)


def word_files(wildcards):
    """The text files that the contract names: class names and vocabularies."""
    with plainly():
        return [str(path) for path in contract_at(settings.models[wildcards.model].contract).word_files()]


def baseline(wildcards):
    """The contract that callers know, where the config names it."""
    named = settings.models[wildcards.model].contract_baseline
    return [str(named)] if named else []


def baseline_words(wildcards):
    """The text files that it names, if any; one that is published names none."""
    return [str(path) for file in baseline(wildcards) for path in word_files_of_baseline(Path(file))]


def callers(wildcards):
    """
    Whom the contract must not break: the one before, or where the last one was published; and whether it may.

    What lies in that directory is no input: a report that is published makes no validation run again.
    """
    why = settings.models[wildcards.model].allow_breaking
    known = [f"--baseline={file}" for file in baseline(wildcards)] or [f"--published={settings.publish.directory}"]
    return [*known, *([f"--allow-breaking={why}"] if why else [])]


@functools.cache
def contract_at(path):
    """Many versions, and many models, may have one contract; each file is read once."""
    return read_contract(path)


@functools.cache
def golden_part_of(model):
    """
    What of the contract of *model* golden data depend on: a changed tolerance must not train again.

    It is asked for every version before anything runs: a contract that the server's batching breaks, or its backend cannot run, stops here.
    """
    with plainly():
        found = contract_at(settings.models[model].contract)
        own = settings.models[model].server is not None
        section = f"models.{model}.server" if own else "server"
        check_batching(model, found, settings.server_of(model), section)
        check_backend(model, found, settings.server_of(model), section)
        return found.golden_part()


def golden_part(wildcards):
    """The same, for the job's model."""
    return golden_part_of(wildcards.model)


def warmup_settings(wildcards):
    """What records the model's versions are warmed with, as JSON."""
    return as_json(settings.warmup_of(wildcards.model))


def server_settings(wildcards):
    """How the server runs in the model's image, as JSON."""
    return as_json(settings.server_of(wildcards.model))


def logged_requests(wildcards):
    """The logs of requests that the model's records are made from, if any."""
    return settings.warmup_of(wildcards.model).files()


def batch_sizes(wildcards):
    """The batch sizes to warm."""
    batching = settings.server_of(wildcards.model).batching
    return ",".join(map(str, batching.allowed_batch_sizes if batching and batching.allowed_batch_sizes else [1]))


def stablehlo(wildcards):
    """The version as StableHLO, where the model's server runs that."""
    folder = f"results/stablehlo/{wildcards.model}/{wildcards.version}"
    return [folder] if settings.server_of(wildcards.model).backend == "stablehlo" else []


def stablehlo_record(wildcards):
    """The record of it, if any."""
    return [f"{folder}.json" for folder in stablehlo(wildcards)]


def stablehlo_options(wildcards):
    """The options that name both, if any."""
    return [f"--stablehlo={folder}" for folder in stablehlo(wildcards)] + [
        f"--stablehlo-record={record}" for record in stablehlo_record(wildcards)
    ]


def compiled_batch_sizes(wildcards):
    """The numbers of rows that StableHLO is made for."""
    return ",".join(map(str, settings.server_of(wildcards.model).sizes_to_compile()))


def pin_of(model, version):
    """
    The pin of a servable's present content.

    Waits for the checkpoint: what lies behind it is decided after the content is known, so that an
    export with the same bytes reruns no image and no benchmark.
    """
    record = Path(checkpoints.servable.get(model=model, version=version).output.record)
    with plainly():
        digest = ServableRecord.read(record).tree.digest.removeprefix("sha256:")[:16]
    return f"results/pins/{model}/{version}/{digest}.json"


def pins(wildcards):
    """
    The pins of all versions of the job's model.

    Whatever lies behind an image asks for them itself: Snakemake decides anew, once the contents are known, only
    for jobs whose own inputs waited for them.
    """
    return [pin_of(wildcards.model, version) for version in settings.versions(wildcards.model)]


def all_cores(wildcards):
    """Every core of a local run, so that nothing runs beside a measurement; on a cluster, what the settings say."""
    return workflow.resource_settings.cores or settings.benchmark.cluster_threads


def folder_of_output(wildcards, output):
    """The folder that the job's output lies in."""
    return str(Path(output[0]).parent)


for function in list(globals().values()):
    if inspect.isfunction(function) and function.__code__.co_varnames[:1] == ("wildcards",):
        with_signature(function)
