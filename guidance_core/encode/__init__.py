"""From labelled images, in folders or in tar shards, to latent shards: in any number of processes, and resumable."""
