"""What one run is made of: `RunSettings` is the one table of options, for both command lines and the UI's form."""

from selectllm.settings.aim import AimSettings
from selectllm.settings.base import Settings, flag
from selectllm.settings.data import (
    ROLES,
    ColumnSettings,
    EmbeddingModelSettings,
    EmbeddingSettings,
    QualitySettings,
)
from selectllm.settings.ranking import BATCH_PRICE, Composition, QuerySettings, RankingSettings
from selectllm.settings.run import RunSettings
from selectllm.settings.selector import SCRIPTED_RULES, check_batch, check_selector

__all__ = [
    "BATCH_PRICE",
    "ROLES",
    "SCRIPTED_RULES",
    "AimSettings",
    "ColumnSettings",
    "Composition",
    "EmbeddingModelSettings",
    "EmbeddingSettings",
    "QualitySettings",
    "QuerySettings",
    "RankingSettings",
    "RunSettings",
    "Settings",
    "check_batch",
    "check_selector",
    "flag",
]
