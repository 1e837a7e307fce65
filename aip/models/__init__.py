"""Models as agents, and agents that think with them."""

from .agent import ChatAnswer, ModelAgent
from .ask import AskFailed, BadArguments, Looped, StepsExhausted
from .exchange import CallLimitReached
from .failure import CutOff, Garbage, ModelFailed, RateLimited, Rejected, Unpriced, Unreachable, Unstructured
from .llm_agent import LLMAgent, LLMConfig
from .spec import ModelConfig, Prices

__all__ = [
    "AskFailed",
    "BadArguments",
    "CallLimitReached",
    "ChatAnswer",
    "CutOff",
    "Garbage",
    "LLMAgent",
    "LLMConfig",
    "Looped",
    "ModelAgent",
    "ModelConfig",
    "ModelFailed",
    "Prices",
    "RateLimited",
    "Rejected",
    "StepsExhausted",
    "Unpriced",
    "Unreachable",
    "Unstructured",
]
