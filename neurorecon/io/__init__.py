"""File formats that several data sets share, and the one way in which neurorecon writes its own files."""
