"""Reader of BIDS derivatives as fMRIPrep writes them: volumes, surfaces, grayordinates, with events and confounds."""
