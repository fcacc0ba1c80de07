"""Prometheus exporter that answers: is our data whole?"""

__version__ = "0.1.0"
