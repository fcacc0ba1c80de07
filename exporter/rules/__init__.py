"""Limits -> alerting rules and runbooks for Prometheus."""
