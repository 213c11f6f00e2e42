"""Systems that reconstruct stimuli from responses: one file each, which reads like a paper's method section."""
