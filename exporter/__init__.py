"""Prometheus exporter that answers: is our data whole?"""

__version__ = "0.2.0"

APPLICATION_NAME = "session-health-exporter"
"""What the database knows us by."""
