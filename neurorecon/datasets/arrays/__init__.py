"""Reader of one's own data: arrays of responses beside tables of samples, voxels and stimuli."""
