"""What runs in the process of the official checker. It imports nothing of Rolewise: see `serve.py`."""
