"""Ridge regression from responses to targets: choosing alpha, streaming targets, predicting without weights."""
