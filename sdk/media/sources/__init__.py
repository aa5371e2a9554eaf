"""Sources: files, cameras, network streams, test patterns and the frames an app pushes."""
