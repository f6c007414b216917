"""The panel: a page where people export, check, time and download models."""
