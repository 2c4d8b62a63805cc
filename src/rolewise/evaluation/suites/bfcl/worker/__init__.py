"""Code that runs in the process of the official checker. It imports nothing from Rolewise; see `serve.py`."""
