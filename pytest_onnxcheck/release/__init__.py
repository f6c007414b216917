"""What passed leaves the gate as a bundle: a folder with its files, their hashes, and why."""
