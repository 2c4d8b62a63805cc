"""Labellers by name: Rolewise's own, and those that plugins register. Imports nothing heavy."""

from typing import Any

from rolewise.core.components import Components

LABELLERS: Components[Any] = Components("method", "rolewise.labelling.settings")
"""Makers of a labeller that reads the samples, or of the settings of one that tunes a model (`TunedLossesConfig`)."""
