"""One frozen dataclass a command; a field carries its type, default, help and limits."""

from .alignment import AlignConfig
from .answers import AnswerFormat, GenerateConfig, JudgeConfig
from .comparison import CompareConfig, PairTrainingConfig, PairwiseConfig, SetName
from .evaluation import EvaluateConfig
from .improvement import ImproveConfig
from .options.flat import configured
from .options.recording import command_words, recorded_options
from .preferences import PairsConfig
from .reading import ExplainConfig, ExportConfig, ExportFormat, ReportConfig, StatusConfig
from .reasoning import BpcConfig, CheckConfig, CheckerName, CheckRules, SolveConfig, Strategy
from .reflection import ReflectConfig, Schedule
from .selection import RankBy, SelectConfig
from .shared.inputs import InputConfig
from .shared.models import EngineName, ModelConfig, Role
from .shared.scoring import (
    Dtype,
    DtypeOption,
    ScoreConfig,
    ScoringConfig,
    TemplateName,
    TokenizationName,
)
from .shared.training import FinetuneConfig
from .synthesis import SynthesisMethod, SynthesizeConfig
from .whole import DemoConfig, RunConfig

__all__ = [
    "AlignConfig",
    "AnswerFormat",
    "BpcConfig",
    "CheckConfig",
    "CheckRules",
    "CheckerName",
    "CompareConfig",
    "DemoConfig",
    "Dtype",
    "DtypeOption",
    "EngineName",
    "EvaluateConfig",
    "ExplainConfig",
    "ExportConfig",
    "ExportFormat",
    "FinetuneConfig",
    "GenerateConfig",
    "ImproveConfig",
    "InputConfig",
    "JudgeConfig",
    "ModelConfig",
    "PairTrainingConfig",
    "PairsConfig",
    "PairwiseConfig",
    "RankBy",
    "ReflectConfig",
    "ReportConfig",
    "Role",
    "RunConfig",
    "Schedule",
    "ScoreConfig",
    "ScoringConfig",
    "SelectConfig",
    "SetName",
    "SolveConfig",
    "StatusConfig",
    "Strategy",
    "SynthesisMethod",
    "SynthesizeConfig",
    "TemplateName",
    "TokenizationName",
    "command_words",
    "configured",
    "recorded_options",
]
