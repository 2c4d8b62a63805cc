"""Ways to run a model: in this process, or on any server that speaks OpenAI's protocol. Token ids in and out."""

from rolewise.engines.base import Completion, Engine, EngineError, Sample, Sampling

__all__ = ["Completion", "Engine", "EngineError", "Sample", "Sampling"]
