"""Parts of the benchmark of the load engine, a file each."""
