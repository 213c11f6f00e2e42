"""Independent tasks: voxel blocks, target blocks and permutations, in this process or on a cluster."""
