"""Config -> Plan: every statement of a collection, written without asking a database."""
