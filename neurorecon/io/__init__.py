"""File formats shared by several data sets, and the functions that write all of neurorecon's own files."""
