"""How words, numbers and times are read and written.  Imports nothing of ours."""
