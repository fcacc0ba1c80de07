"""An earlier moment -> the Baseline that a report compares with."""
