"""What people and programs reach over HTTP: jobs, the API, the panel."""
