"""Rolewise: fine-tune language models by the role that each token plays."""

__version__ = "0.1.0"
