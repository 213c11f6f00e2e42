"""Reader of your own data: arrays of responses beside tables of samples, voxels and stimuli."""
