"""File formats that several data sets share; nothing here knows a data set."""
