"""Where training examples come from: pictures on disk, latents in memory, in a cache or in shards."""
