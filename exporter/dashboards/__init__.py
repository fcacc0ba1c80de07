"""Dimensions -> Grafana dashboards.  Needs the development packages; no command imports it."""
