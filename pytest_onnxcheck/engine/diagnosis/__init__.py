"""Why a check failed."""
