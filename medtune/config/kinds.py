"""The two kinds of what a sweep trains: trials, and pretrainings, whose file has `pretrain:` in the place of `trial:`.

In memory `SweepConfig.trial` is the space of either. It has what the file says below `data.labels`, too: a swept
number of labels is a dimension like any other.
"""

from collections.abc import Mapping
from typing import Any

from medtune.config.pretrain import PretrainConfig
from medtune.config.trial import TrialConfig

TRIAL, PRETRAIN = "trial", "pretrain"
Settings = TrialConfig | PretrainConfig
KINDS: dict[str, type[TrialConfig] | type[PretrainConfig]] = {TRIAL: TrialConfig, PRETRAIN: PretrainConfig}
LABELS = "labels"  # a key of either kind, which stands below `data` in the file


def section_of(space: Mapping[str, Any]) -> str:
    """The section of the file that a filled-in space, or the plain tree of one point of it, is of: only a pretraining
    has a method."""
    return PRETRAIN if "method" in space else TRIAL


def verb_of(space: Mapping[str, Any]) -> str:
    """The verb that runs it."""
    return {TRIAL: "sweep", PRETRAIN: "pretrain"}[section_of(space)]


def kind_of(space: Mapping[str, Any]) -> type[TrialConfig] | type[PretrainConfig]:
    return KINDS[section_of(space)]


def settings_of(tree: Mapping[str, Any]) -> Settings:
    """The configuration of a plain tree."""
    return kind_of(tree).model_validate(tree)
