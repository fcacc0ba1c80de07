"""Config -> Plan: every statement of a collection, without a connection."""
