"""Dimensions -> Grafana dashboards.  Needs the development packages; no command imports this folder."""
