"""Which token plays which role: SHAD, the regex, and labellers that plugins add."""

from rolewise.labelling.labellers import Labeller, LabellingContext, register_labeller

__all__ = ["Labeller", "LabellingContext", "register_labeller"]
