"""What is right, and how far off an artefact is."""
