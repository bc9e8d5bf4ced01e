"""From a seed to the bundled models; needs the extra `train` and is imported by nothing else."""
