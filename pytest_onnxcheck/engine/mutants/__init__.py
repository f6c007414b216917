"""Faulty copies of an artefact."""
