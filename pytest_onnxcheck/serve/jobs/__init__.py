"""One queue of jobs for all who ask over HTTP, and the workers that work it off."""
