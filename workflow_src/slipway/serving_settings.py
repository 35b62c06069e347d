"""
The settings of what a server makes of a model's versions: which of them it serves, and by which labels.

Names and meanings are TensorFlow Serving's (`ModelVersionPolicy`, `version_labels`). A request that names neither
version nor label is answered by the highest version that is served. Pure functions say what a rollback makes of it.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, PositiveInt, Tag

from slipway.source_settings import Section

# int64, as TF Serving reads the name of a version directory.
VersionNumber = Annotated[int, Field(ge=1, le=2**63 - 1)]
# A word of URLs: /v1/models/M/labels/LABEL:predict.
LABEL = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
Label = Annotated[str, Field(pattern=LABEL)]


class LatestVersions(Section):
    """The newest versions."""

    latest: PositiveInt = Field(description="How many of them.")


class SpecificVersions(Section):
    """These versions."""

    specific: list[VersionNumber] = Field(min_length=1, description="Their numbers.")


def _kind_of_policy(given: Any) -> str | None:
    if isinstance(given, str):
        return "name"
    keys = given.model_fields_set if isinstance(given, BaseModel) else given if isinstance(given, dict) else ()
    return next((key for key in ("latest", "specific") if key in keys), None)


VersionPolicy = Annotated[
    Annotated[Literal["all", "latest"], Tag("name")]
    | Annotated[LatestVersions, Tag("latest")]
    | Annotated[SpecificVersions, Tag("specific")],
    Discriminator(
        _kind_of_policy,
        custom_error_type="version_policy",
        custom_error_message="should be all, latest, {latest: HOW_MANY} or {specific: [VERSIONS]}",
    ),
]


class ServingSettings(Section):
    """What the server in the image serves of a model. All versions are in the image, served or not."""

    policy: VersionPolicy = Field(
        "all",
        description="Versions that are served: all; latest (the newest); {latest: 2} (the newest two); "
        "{specific: [1, 2]}. Requests that name none are answered by the highest of them.",
    )
    labels: dict[Label, VersionNumber] = Field(
        default_factory=dict, description="Label -> version, for requests such as /v1/models/M/labels/stable:predict."
    )

    def served(self, versions: Iterable[int]) -> list[int]:
        """List those of *versions* that are served, lowest first; never none, if the settings are valid."""
        there = sorted(versions)
        match self.policy:
            case LatestVersions(latest=count):
                return there[-count:]
            case SpecificVersions(specific=chosen):
                return [version for version in there if version in chosen]
            case "latest":
                return there[-1:]
            case _:
                return there

    def faults(self, versions: Iterable[int]) -> list[str]:
        """Say, one line each, what of it cannot be with the *versions* there are: a server would refuse it."""
        known, there = set(versions), ", ".join(map(str, sorted(versions)))
        if isinstance(self.policy, SpecificVersions) and (missing := sorted(set(self.policy.specific) - known)):
            return [f"serving.policy.specific: no version {missing[0]}; there are: {there}"]
        served = self.served(known)
        return [
            f"serving.labels.{label}: version {version} is not among those that are served: "
            f"{', '.join(map(str, served))}"
            for label, version in self.labels.items()
            if version not in served
        ]


class Rollback(Section):
    """One line of the log that `slipway rollback` keeps in the config. Nothing is built from it."""

    model: str
    label: Label | None = Field(None, description="The label that was moved; none: what unnamed requests get.")
    source: VersionNumber = Field(alias="from", description="Version that answered before.")
    to: VersionNumber = Field(description="Version that answers now.")
    reason: str
    by: str
    at: str = Field(description="When, in UTC.")
    was: ServingSettings = Field(description="How it was served before, for the way back.")


def rolled_back(serving: ServingSettings, versions: Iterable[int], to: int) -> ServingSettings:
    """
    Let unnamed requests be answered by version *to*, which is one of *versions*.

    What lies above it is no longer served, and labels that pointed there point to it, so that nobody who asks by
    label is refused. As many older versions as before stay where the policy counts them.
    """
    there = sorted(versions)
    upto = [version for version in there if version <= to]
    match serving.policy:
        case LatestVersions(latest=count):
            kept = upto[-count:]
        case "latest":
            kept = [to]
        case _:
            kept = [version for version in upto if version == to or version in serving.served(there)]
    labels = {label: version if version in kept else to for label, version in serving.labels.items()}
    return ServingSettings(policy=SpecificVersions(specific=kept), labels=labels)


def restored(
    serving: ServingSettings, versions: Iterable[int], to: int, log: Iterable[Rollback]
) -> ServingSettings | None:
    """
    Undo the last rollback of *log* that led away from *to*: what was served before it, and the labels that it moved.

    Args:
        serving: As it is now.
        versions: All versions of the model.
        to: The version that is to answer again.
        log: Rollbacks of this model, oldest first, without those of labels.

    Returns:
        None if there is none, or if unnamed requests would get another version than *to* (meanwhile there is a newer).
    """
    there = sorted(versions)
    for entry in reversed(list(log)):
        if entry.source == to:
            labels = {
                label: entry.was.labels.get(label, version) if version == entry.to else version
                for label, version in serving.labels.items()
            }
            found = ServingSettings(policy=entry.was.policy, labels=labels)
            fits = not found.faults(there) and found.served(there)[-1:] == [to]
            return found if fits else None
    return None


def labelled(serving: ServingSettings, versions: Iterable[int], label: str, to: int) -> ServingSettings:
    """Let *label* point to version *to*, which is served from now on if it was not."""
    served = serving.served(versions)
    policy = serving.policy if to in served else SpecificVersions(specific=sorted({*served, to}))
    return ServingSettings(policy=policy, labels={**serving.labels, label: to})
