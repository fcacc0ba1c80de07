"""Reading and writing of words, numbers and times.  Imports nothing else of the exporter."""
